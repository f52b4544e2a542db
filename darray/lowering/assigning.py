"""Assigning: the tasks that put new values into the chunks of an array."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.blocks import boundaries, chunk_box, largest
from darray.expr import building
from darray.expr.assignment import Assign
from darray.index_maps import AxisMap, IndexMap
from darray.lowering.calls import Pieces
from darray.lowering.fusion import Leaf, as_it_is, fuse
from darray.lowering.loads import Gather, Load
from darray.lowering.margins import moved
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Need
from darray.runtime.boxes import Box, box_shape, index_of, whole
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = ["AssignPart", "Unchanged", "WrittenPlaces"]


class AssignPart(Struct, frozen=True):
    """Put new values into a part of a chunk.

    Attributes
    ----------
    before : Load or None
        The chunk as it was; None where all of it is written.
    pieces : Pieces
        What computes the values.
    part : Box
        Which elements of the chunk are written.
    index_map, seen
        The view that is assigned to, and the box of it that lies in the chunk.
    reused : int or None
        Position among the task's values of the old chunk, where nothing else can see it: its
        memory is written to.
    """

    reads_parts: ClassVar[bool] = True

    before: Load | None
    pieces: Pieces
    part: Box
    index_map: IndexMap
    seen: Box
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reused: int | None = None

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The chunk with the new values."""
        (found,) = self.pieces.compute(values)
        chunk = self.chunk(values)
        target = self.index_map.arrange(chunk[index_of(self.part)], self.seen)
        target[...] = found
        return chunk

    def chunk(self, values: tuple[Any, ...]) -> NDArray[Any]:
        """The chunk as it was, to be written to."""
        if self.before is None:
            return empty(self.shape, self.dtype)
        if self.reused is not None:
            # Tasks are handed read-only views; the array that the earlier task made is below.
            value = values[self.reused]
            is_view = isinstance(value, np.ndarray) and not is_own(value)
            owner = value.base if is_view else value
            if isinstance(owner, np.ndarray) and owner.flags.writeable:
                return owner
        before = self.before(values)
        return np.array(np.broadcast_to(before, self.shape), self.dtype, order="C")


class Unchanged(Struct, frozen=True):
    """Hand on a chunk that no write touches."""

    chunk: NDArray[Any] | None = None

    def __call__(self, *values: Any) -> Any:
        """The chunk."""
        return values[0] if self.chunk is None else self.chunk


# What an assignment writes along an axis of a chunk: what the view shows there, where that lies in
# the chunk, and how long the chunk is.
_Written: TypeAlias = tuple[slice, slice, int]


class WrittenPlaces:
    """Which part of each chunk an assignment writes, found once for each place along an axis."""

    def __init__(self, node: Assign) -> None:
        index_map = node.index_map
        fixed = [AxisMap(axis, at, 1, 1) for axis, at in index_map.fixed]
        # By the axis of the array how the view lies along it.
        self._moves = {one.source: one for one in [*fixed, *index_map.axes]}
        # For each axis of the view that of the array, and what it shows where there is none.
        self._axes = [(one.source, slice(0, one.size, 1)) for one in index_map.axes]
        self._edges = list(map(boundaries, node.chunks))
        self._known: list[dict[int, _Written | None]] = [{} for _ in node.shape]

    def at(self, index: Index) -> tuple[Box, Box, tuple[int, ...]] | None:
        """What the view shows of a chunk, where that lies in it, and its shape; None if nothing."""
        found: list[_Written] = []
        for known, place in zip(self._known, index, strict=True):
            if place not in known:
                known[place] = self._along(len(found), place)
            one = known[place]
            if one is None:
                return None
            found.append(one)
        seen = tuple([every if axis < 0 else found[axis][0] for axis, every in self._axes])
        return seen, tuple([part for _, part, _ in found]), tuple([size for *_, size in found])

    def _along(self, axis: int, place: int) -> _Written | None:
        _, first, step, size = self._moves[axis]
        start, stop = self._edges[axis][place : place + 2]
        ends = (start, stop) if step > 0 else (stop, start)
        # The first element of the view that lies at, or behind, each of the ends.
        low, high = [-((first - end + (step < 0)) // step) for end in ends]
        low, high = max(low, 0), min(high, size)
        if low >= high:
            return None
        seen = slice(low, high, 1)
        return seen, moved(seen, first - start, step), stop - start


@plans(Assign)
def plan_assignment(planner: Planner, node: Assign, indices: list[Index]) -> None:
    """Plan chunks of an array in which a part is assigned to."""
    group = fuse([node.values], node.values.shape, planner.keeping)
    target = building.view(node, node.index_map)
    # The chunk is there as it was and as it becomes.
    chunk_nbytes = math.prod(largest(node.chunks)) * max(1, node.dtype.itemsize)
    stage = planner.stage("assign", node.serial, group, target, 0, 2 * chunk_nbytes)
    planner.at_end[_reuse] = None
    places = WrittenPlaces(node)
    for index in indices:
        found = places.at(index)
        if found is None:
            chunk = planner.chunk(node.operand, index)
            passed = Unchanged(chunk) if isinstance(chunk, np.ndarray) else Unchanged()
            needs: list[Need] = [] if isinstance(chunk, np.ndarray) else [chunk]
            stage.drafts.append(Draft((node, index), passed, needs))
            continue
        seen, part, shape = found
        pieces, needs = planner.pieces(group, seen)
        before: Load | None = None
        if box_shape(part) != shape:
            before = _chunk_before(planner, node, index, shape, needs)
        call = AssignPart(before, pieces, part, node.index_map, seen, shape, node.dtype)
        stage.drafts.append(Draft((node, index), call, needs))


def _chunk_before(
    planner: Planner, node: Assign, index: Index, shape: tuple[int, ...], needs: list[Need]
) -> Load:
    """How a chunk comes by what it was before the assignment; adds to `needs`."""
    below = planner.untouched(node.operand, index)
    index_map = as_it_is(node.shape)
    if not planner.is_gathered(below):
        return planner.load(Leaf(below, index_map), chunk_box(node.chunks, index), needs)
    # Cut as this is, so that it is one chunk.
    chunk = planner.chunk(below, index)
    box = whole(shape)
    if isinstance(chunk, np.ndarray):
        return Gather(((-1, box, box),), shape, node.dtype, index_map, box, (chunk,))
    needs.append(chunk)
    return Gather(((len(needs) - 1, box, box),), shape, node.dtype, index_map, box)


def _reuse(planner: Planner) -> None:
    """Let writes go into the memory of the chunk before them where only they can see it."""
    made: set[Need] = {
        draft.key
        for draft in planner.plan.drafts()
        if isinstance(draft.call, AssignPart) and draft.key[0] not in planner.keeping
    }
    # How many tasks need a chunk that a write made.
    readers: dict[Any, int] = dict.fromkeys(made, 0)
    for draft in planner.plan.drafts():
        for need in made.intersection(draft.needs):
            readers[need] += 1
    for stage in planner.plan.stages:
        for place, draft in enumerate(stage.drafts):
            call = draft.call
            if not isinstance(call, AssignPart) or not isinstance(call.before, Gather):
                continue
            pieces = call.before.pieces
            if len(pieces) != 1 or pieces[0][0] < 0:
                continue
            position = pieces[0][0]
            if readers.get(draft.needs[position]) == 1:
                stage.drafts[place] = replace(draft, call=replace(call, reused=position))
