"""Versions of arrays: chunks that tasks of a region write, seen by all others when it ends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import chunk_box, overlapping
from darray.expr import building
from darray.expr.nodes import Memory
from darray.index_maps import IndexMap
from darray.lowering import computing
from darray.lowering.advancing import note
from darray.lowering.plans import Index
from darray.lowering.rewriting import filler, with_chunks
from darray.runtime.boxes import Box, box_shape, index_of
from darray.runtime.spaces import here
from darray.runtime.versions import Filling, Written
from darray.view_steps import Part, Selection, Step

if TYPE_CHECKING:
    from darray.cell import Cell

__all__ = ["ArrayVersion", "ChunkOrigin"]

# Guards the ``writer`` of all cells; taken last, held for one update.
_claiming = threading.Lock()


class _Place(Struct, frozen=True):
    """Where in an array a chunk of a view lies: in which of its chunks, and how.

    ``local`` is a box of the chunk ``index``, whose elements the map arranges as it does `box` of
    the view; ``parts`` are parts of every element.
    """

    index: Index
    local: Box
    index_map: IndexMap
    box: Box
    parts: tuple[Part, ...]

    def of(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """What the chunk of the view shows of the chunk of the array."""
        shape = box_shape(self.box)
        if 0 in shape:
            view = np.empty(shape, chunk.dtype)
        else:
            view = self.index_map.arrange(chunk[index_of(self.local)], self.box)
        if view.shape != shape:
            view = np.broadcast_to(view, shape)
        for part in self.parts:
            view = part.of(view)
        return view


class ChunkOrigin:
    """Which chunk, of which version of which array or view of it, a ref stands for.

    Holds no array: one that nobody else holds cannot be written to.

    Parameters
    ----------
    cell : Cell
        Of the array.
    steps : tuple of Step
        From the array to the view.
    box : Box
        The chunk's place in the view.
    refusal : str or None
        Why the view cannot be written to.
    """

    __slots__ = ("_cell", "_space", "box", "number", "refusal", "steps")

    def __init__(self, cell: Cell, steps: tuple[Step, ...], box: Box, refusal: str | None) -> None:
        self._cell = weakref.ref(cell)
        self._space = here.get()
        self.number = cell.version
        self.steps = steps
        self.box = box
        self.refusal = refusal

    @property
    def whole(self) -> Cell | None:
        """The cell of the array, None once nobody holds it."""
        return self._cell()

    def begin(self) -> ArrayVersion:
        """Begin the next version of the array."""
        cell = self._cell()
        if cell is None:
            self.check(self.number)
            raise TypeError(
                "a task is to write to a chunk of an array that is gone, so that nobody could see "
                "it: keep the array, x = ..., and give the task x.blocks[...]"
            )
        self.check(cell.version)
        return ArrayVersion(cell)

    def check(self, number: int) -> None:
        """Raise why version `number` of the array cannot be written to through this."""
        if self.refusal is not None:
            raise ValueError(self.refusal)
        if here.get() != self._space:
            raise ValueError(
                f"a task on {here.get()} is to write to a chunk of an array on {self._space}: give "
                "the task the array, and take its chunk there, x.blocks[...]"
            )
        if self.number != number:
            raise ValueError(
                "a task is to write to a chunk of an array as it was before the array was changed: "
                "take the chunk as it is now, x.blocks[...]"
            )

    def place(self, cell: Cell) -> _Place | None:
        """Where in the array the chunk lies; None where in no single chunk of it."""
        shape, chunks = cell.expression.shape, cell.expression.chunks
        steps, index_map = self.steps, IndexMap.identity(shape)
        if steps and isinstance(steps[0], Selection):
            index_map, steps = steps[0].index_map, steps[1:]
        parts = tuple([step for step in steps if isinstance(step, Part)])
        if len(parts) < len(steps):
            return None
        source = index_map.source_box(self.box)
        pieces = overlapping(chunks, source)
        if not pieces:
            # Nothing is in it, so that it lies anywhere.
            return _Place((0,) * len(shape), source, index_map, self.box, parts)
        if len(pieces) > 1:
            return None
        index, local, _ = pieces[0]
        return _Place(index, local, index_map, self.box, parts)


class ArrayVersion:
    """The next version of an array, while tasks of a region write to its chunks.

    They write to arrays of their own, which become chunks of the array when the region ends. The
    chunks of an array that shares a caller's memory are that memory: it is written to at once, and
    put back if the region fails.
    """

    def __init__(self, cell: Cell) -> None:
        with _claiming:
            if cell.writer is not None:
                raise RuntimeError(
                    f"tasks of another region write to chunks of this {_described(cell)}: wait for "
                    "the end of that region first"
                )
            cell.writer = self
        self._cell = cell
        self._number = cell.version
        self._chunks: dict[Index, NDArray[Any]] = {}

    def __str__(self) -> str:
        return _described(self._cell)

    def read(self, origin: ChunkOrigin) -> Written | None:
        """What a task is given that reads a chunk; None where that was not written."""
        if origin.number != self._number:
            return None
        place = origin.place(self._cell)
        if place is None:
            self._refuse_mixed(origin)
            return None
        chunk = self._chunks.get(place.index)
        return None if chunk is None else Written(self._seen(place, chunk), place.index)

    def _refuse_mixed(self, origin: ChunkOrigin) -> None:
        """Raise for a chunk of a view which may lie in chunks that were written."""
        if self._chunks:
            raise TypeError(
                "a chunk of a view lies in no single chunk of the array that it is a view of, a "
                f"{_described(self._cell)}, and tasks of this region have written to that: give "
                "the task the chunks of the array itself, x.blocks[...], and parts of them, "
                "x.blocks[...][1:3]"
            )

    def write(self, origin: ChunkOrigin) -> Written:
        """What a task is given that writes to a chunk."""
        origin.check(self._number)
        place = origin.place(self._cell)
        if place is None:
            raise TypeError(
                "a task is to write to a chunk of a view that lies in no single chunk of the array "
                f"that it is a view of, a {_described(self._cell)}: give the task chunks of the "
                "array itself, x.blocks[...], or parts of them, x.blocks[...][1:3]"
            )
        index = place.index
        chunk = self._chunks.get(index)
        is_new = chunk is None
        filling = None
        if chunk is None:
            chunk, filling = self._begun(index)
        value = self._seen(place, chunk)
        return Written(value, index, is_new, value.nbytes == chunk.nbytes, filling)

    def _begun(self, index: Index) -> tuple[NDArray[Any], Filling | None]:
        """What is written to for a chunk from now on, and what fills it."""
        node = self._cell.expression
        box = chunk_box(node.chunks, index)
        filling = None
        if self._cell.shared is not None:
            assert isinstance(node, Memory)
            if node.is_shared:
                # What was built from the array until now keeps the values it was built from.
                computing.keep_values(node)
            chunk = np.asarray(self._cell.shared)[index_of(box)]
        else:
            # Where a task says that it writes all, and does not, there is the same each time.
            chunk = np.zeros(box_shape(box), node.dtype)
            filling = Filling(chunk, *filler(node, index))
        self._chunks[index] = chunk
        return chunk, filling

    def _seen(self, place: _Place, chunk: NDArray[Any]) -> NDArray[Any]:
        """A part of a chunk; the chunk itself, always the same object, where it is all of it."""
        is_all = place.index_map.is_identity and chunk.shape == box_shape(place.box)
        if is_all and not place.parts:
            return chunk
        return place.of(chunk)

    def forget(self, part: Hashable) -> None:
        """Leave out a chunk that no task was given."""
        del self._chunks[part]  # type: ignore[arg-type]

    def publish(self) -> None:
        """Let the array have the chunks that were written."""
        cell = self._cell
        cell.writer = None
        if cell.shared is not None:
            self._share_again()
        elif self._chunks:
            for chunk in self._chunks.values():
                chunk.flags.writeable = False
            cell.expression = with_chunks(cell.expression, self._chunks)
            note(cell)
        if self._chunks:
            cell.version += 1

    def drop(self) -> None:
        """Let the array have its old values; what was written is let go."""
        cell = self._cell
        cell.writer = None
        if cell.shared is not None:
            before = cell.expression
            assert isinstance(before, Memory)
            for index, chunk in self._chunks.items():
                chunk[...] = before.array[index_of(chunk_box(before.chunks, index))]
            self._share_again()
        self._chunks = {}

    def _share_again(self) -> None:
        cell = self._cell
        before = cell.expression
        assert cell.shared is not None
        assert isinstance(before, Memory)
        if not before.is_shared:
            cell.expression = building.shared(cell.shared, before.chunks)


def _described(cell: Cell) -> str:
    """The array in words."""
    node = cell.expression
    return f"DArray of shape {node.shape} and dtype {node.dtype}"
