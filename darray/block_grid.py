"""The chunks of an array by their place in the grid, as refs for any task."""

from __future__ import annotations

from operator import index as as_integer
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from darray.blocks import chunk_box, grid_shape
from darray.lowering import computing
from darray.runtime import Ref
from darray.versions import ChunkOrigin

if TYPE_CHECKING:
    from darray.handle import DArray

__all__ = ["BlocksView"]


class BlocksView:
    """The chunks of an array, by their place in the grid."""

    def __init__(self, array: DArray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return grid_shape(self._array.chunks)

    def __getitem__(self, index: Any) -> Ref[NDArray[Any]]:
        places = index if isinstance(index, tuple) else (index,)
        grid = self.shape
        if len(places) != len(grid):
            raise IndexError(
                f"blocks[{', '.join(map(str, places))}]: give one number for each of the "
                f"{len(grid)} axes; the grid is {grid}"
            )
        found = []
        for axis, (place, count) in enumerate(zip(places, grid, strict=True)):
            try:
                number = as_integer(place)
            except TypeError:
                raise TypeError(
                    f"blocks[...] takes one integer for each axis, not {place!r}; index the "
                    "array for parts of it"
                ) from None
            if not -count <= number < count:
                raise IndexError(
                    f"block {number} is out of bounds for axis {axis} with {count} blocks"
                )
            found.append(number % count)
        array, place = self._array, tuple(found)
        node = array.expression
        if not computing.has_chunk(node, place):
            # Of a view what is computed is its own, while that of which it is one goes on.
            node = computing.persist([node])[0] if array.is_view else array.persist().expression
        origin = ChunkOrigin(
            array._cell, array._steps, chunk_box(node.chunks, place), _refusal(array)
        )
        return Ref(computing.chunk_task(node, place), origin)


def _refusal(array: DArray) -> str | None:
    """Why tasks cannot write to the chunks of an array; None where they can."""
    if array.is_writeable and not array.is_scalar:
        return None
    return (
        f"a task is to write to a chunk of the {type(array).__name__} of shape {array.shape} and "
        f"dtype {array.dtype}, which is read-only: write to a copy, x.copy()"
    )
