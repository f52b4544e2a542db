"""Assigning: the tasks that put new values into the chunks of an array."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.blocks import chunk_box, largest
from darray.expr import building
from darray.expr.assignment import Assign
from darray.index_maps import IndexMap
from darray.lowering.calls import Pieces
from darray.lowering.fusion import Leaf, fuse
from darray.lowering.loads import Gather, Load
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Need
from darray.runtime.boxes import Box, box_shape, index_of
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = ["AssignPart", "Unchanged"]


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


@plans(Assign)
def plan_assignment(planner: Planner, node: Assign, indices: list[Index]) -> None:
    """Plan chunks of an array in which a part is assigned to."""
    group = fuse([node.values], node.values.shape, planner.keeping)
    target = building.view(node, node.index_map)
    # The chunk is there as it was and as it becomes.
    chunk_nbytes = math.prod(largest(node.chunks)) * max(1, node.dtype.itemsize)
    stage = planner.stage("assign", node.serial, group, target, 0, 2 * chunk_nbytes)
    base = Leaf(node.operand, IndexMap.identity(node.shape))
    planner.at_end[_reuse] = None
    for index in indices:
        box = chunk_box(node.chunks, index)
        seen = node.index_map.output_box(box)
        if seen is None:
            chunk = planner.chunk(node.operand, index)
            passed = Unchanged(chunk) if isinstance(chunk, np.ndarray) else Unchanged()
            needs: list[Need] = [] if isinstance(chunk, np.ndarray) else [chunk]
            stage.drafts.append(Draft((node, index), passed, needs))
            continue
        pieces, needs = planner.pieces(group, seen)
        written = node.index_map.source_box(seen)
        part = tuple(
            [
                slice(one.start - within.start, one.stop - within.start, one.step)
                for one, within in zip(written, box, strict=True)
            ]
        )
        shape = box_shape(box)
        fills = box_shape(part) == shape
        before = None if fills else planner.load(base, box, needs)
        call = AssignPart(before, pieces, part, node.index_map, seen, shape, node.dtype)
        stage.drafts.append(Draft((node, index), call, needs))


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
