"""The chunks of an array by their place in the grid, as refs for any task."""

from __future__ import annotations

from operator import index as as_integer
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from darray.blocks import grid_shape
from darray.lowering import computing
from darray.runtime import Ref

if TYPE_CHECKING:
    from darray.handle import DArray

__all__ = ["BlocksView"]


_REFUSAL = (
    "a chunk of a DArray is not written to by tasks, since other arrays may be made of it; give "
    "the task the chunk to read, and assign what it returns: x[key] = value"
)


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
        self._array.persist()
        return Ref(computing.chunk_task(self._array.expression, tuple(found)), _REFUSAL)
