"""Planning gathers: from the positions that are wanted to the chunks that have them.

Where each chunk of the result lies in few chunks of the source, its task reads these. Where the
source is small beside the memory limit, it is assembled in one array first, from which every chunk
is taken. Otherwise elements are exchanged: the source is computed group by group, each group
sends every chunk what it wants of it, and few chunks at a time are put together.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.blocks import Chunks, boundaries, chunk_box, chunk_count, largest
from darray.expr import gathers
from darray.expr.gathers import Gather, coarse
from darray.expr.nodes import Generated, Memory, Stored
from darray.expr.positions import piece_counts, piece_numbers, stable_order
from darray.lowering.calls import Evaluate, Pieces
from darray.lowering.exchanging import exchange
from darray.lowering.fusion import fuse
from darray.lowering.picks import (
    Assembly,
    Fetch,
    FillPart,
    JoinParts,
    Picked,
    Take,
)
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Key, Need, Stage
from darray.runtime import limits, settings
from darray.runtime.boxes import Box, box_shape, index_of, shift, whole

__all__ = ["Gathering"]

# A source of at most this share of the memory that tasks may hold is assembled in one array, and
# what an exchange holds at a time takes that share; so many times as much is assembled of a source
# whose chunks would have to be held anyway.
SHARE = 4
HELD = 2

# Where so many times more elements lie between those that are wanted, no array is assembled.
SPARSE = 8

# Parts of a source that one task reads for its chunk, where there is another way.
FEW = 4

# The place of a chunk in the grid along the axes before and after those gathered along.
Lane: TypeAlias = tuple[Index, Index]


@plans(Gather)
def plan_gather(planner: Planner, node: Gather, indices: list[Index]) -> None:
    """Plan chunks of a gather."""
    Gathering(planner, node, indices).plan()


class Gathering:
    """What is planned for one gather.

    Attributes
    ----------
    lanes : dict
        The chunks wanted, by their places along the axes that are not gathered along; of
        each its place along those of the positions.
    picked : dict
        The positions by that place.
    element : int
        Bytes that lie at one position in the largest chunk.
    """

    def __init__(self, planner: Planner, node: Gather, indices: list[Index]) -> None:
        self.planner = planner
        self.node = node
        self.first = node.first
        self.last = node.first + len(node.positions)
        self.group = fuse([node.operand], node.operand.shape)
        self.lanes: dict[Lane, list[Index]] = {}
        self.picked: dict[Index, Picked] = {}
        end = self.first + len(node.picked_shape)
        self.along = node.chunks[self.first : end]
        for index in indices:
            at = index[self.first : end]
            self.lanes.setdefault((index[: self.first], index[end:]), []).append(at)
            if at not in self.picked:
                self.picked[at] = self.positions(at)
        around = node.chunks[: self.first] + node.chunks[end:]
        self.element = math.prod(largest(around)) * max(1, node.dtype.itemsize)

    def positions(self, at: Index) -> Picked:
        """The positions of the chunks at `at`."""
        box = chunk_box(self.along, at)
        found = []
        for one in self.node.positions:
            lead = len(box) - one.ndim
            cuts = zip(box[lead:], one.shape, strict=True)
            found.append(one[tuple([part if size > 1 else slice(0, 1) for part, size in cuts])])
        return Picked(self.first, tuple(found), box_shape(box))

    def index(self, lane: Lane, at: Index) -> Index:
        """The chunk of `lane` at `at`."""
        return lane[0] + at + lane[1]

    def box(self, lane: Lane, along: Box) -> Box:
        """The box of the source that `lane` has of `along`, a box of the axes gathered along."""
        chunks = self.node.operand.chunks
        before = chunk_box(chunks[: self.first], lane[0])
        return before + along + chunk_box(chunks[self.last :], lane[1])

    def pieces(self, lane: Lane, along: Box, needs: list[Need]) -> Pieces:
        """How `lane` of a box of the source is computed; adds to `needs`."""
        return self.planner.pieces(self.group, self.box(lane, along), needs)[0]

    def stage(self, name: str, part: float, elements: int, fixed: int, reads: bool) -> Stage:
        """Add a stage, `part` of the way from what the gather reads to itself.

        Its tasks hold `fixed` bytes, and compute `elements` of the source if it `reads` that.
        """
        serial = self.node.serial - 0.9 * (1 - part)
        if reads:
            stage = self.planner.stage(name, serial, self.group, self.node.operand, 0, fixed)
            stage.elements = elements
        else:
            stage = Stage(name, serial, elements, _nothing, fixed)
            self.planner.plan.stages.append(stage)
        return stage

    def plan(self) -> None:
        """Plan all chunks, in the way that their positions ask for."""
        source = self.in_memory()
        if source is not None:
            self.take(source)
            return
        cut = self.source_cut(gathers.GRAIN)
        touched = [piece_counts(one.flat(), cut)[0] for one in self.picked.values()]
        every = np.unique(np.concatenate(touched))
        grid = np.unravel_index(every, [len(sizes) for sizes in cut])
        region = tuple([(int(one.min()), int(one.max()) + 1) for one in grid])
        spans = zip(cut, region, strict=True)
        elements = math.prod([sum(sizes[start:stop]) for sizes, (start, stop) in spans])
        wanted = sum(math.prod(one.shape) for one in self.picked.values())
        pieces = math.prod([stop - start for start, stop in region])
        is_sparse = SPARSE * wanted < elements or pieces > 2 * len(every)
        # Computing parts of the source more than once is to be paid for, reading chunks is not.
        is_cheap = self.is_loaded() or sum(map(len, touched)) <= 2 * len(every)
        if is_sparse and self.is_there():
            self.fetch(self.node.operand.chunks[self.first : self.last])
            return
        if is_cheap and max(map(len, touched)) <= FEW:
            self.fetch(cut)
            return
        room = limits.task_memory(settings.current()) // SHARE
        # Chunks that cannot be computed again would be held in an exchange, too.
        limit = room if self.is_repeatable() else HELD * room
        if elements * self.element <= limit and not is_sparse:
            self.assemble(cut, region)
        else:
            exchange(self, room)

    def source_cut(self, grain: int) -> Chunks:
        """The source's chunks along the axes gathered along, joined up to `grain` bytes."""
        chunks = self.node.operand.chunks[self.first : self.last]
        return coarse(chunks, max(1, grain // self.element))

    def is_loaded(self) -> bool:
        """Whether the source is not computed but there in chunks, or will be."""
        leaves = self.group.leaves
        return not self.group.program.instructions and not any(
            isinstance(leaf.expression, Generated | Stored) and leaf.expression.kept is None
            for leaf in leaves
        )

    def is_there(self) -> bool:
        """Whether all chunks of the source are in memory, or are being computed, as they are."""
        return not self.group.program.instructions and all(
            leaf.expression.kept is not None or isinstance(leaf.expression, Memory)
            for leaf in self.group.leaves
        )

    def is_repeatable(self) -> bool:
        """Whether the source can be computed again without holding chunks of anything."""
        return all(
            leaf.expression.kept is not None
            or isinstance(leaf.expression, Memory | Generated | Stored)
            for leaf in self.group.leaves
        )

    def in_memory(self) -> NDArray[Any] | None:
        """The source as an array, if it is one in memory, or a view of one."""
        if self.group.program.instructions:
            return None
        (leaf,) = self.group.leaves
        if not isinstance(leaf.expression, Memory) or leaf.expression.kept is not None:
            return None
        self.planner.reads_shared |= leaf.expression.is_shared
        shape = self.node.operand.shape
        box = leaf.index_map.source_box(whole(shape))
        found: NDArray[Any] = leaf.index_map.arrange(leaf.expression.array[index_of(box)], box)
        return np.broadcast_to(found, shape)

    def take(self, source: NDArray[Any]) -> None:
        """Plan to take each chunk from an array in memory."""
        most = math.prod(map(max, self.along))
        stage = self.stage("gather", 1.0, 0, most * (self.element + 16), reads=False)
        along = whole(source.shape[self.first : self.last])
        for lane, places in self.lanes.items():
            part = source[index_of(self.box(lane, along))]
            for at in places:
                call = Take(self.picked[at], along, part)
                stage.drafts.append(Draft((self.node, self.index(lane, at)), call, []))

    def fetch(self, cut: Chunks) -> None:
        """Plan tasks that each read the parts of the source that their chunk lies in."""
        parts = {at: bounds_of(picked, cut) for at, picked in self.picked.items()}
        sizes = [math.prod(box_shape(one)) for boxes in parts.values() for _, one in boxes]
        around = self.element // max(1, self.node.dtype.itemsize)
        most = math.prod(map(max, self.along))
        fixed = most * (self.element + 40)
        stage = self.stage("gather", 1.0, max(sizes) * around, fixed, reads=True)
        for lane, places in self.lanes.items():
            for at in places:
                needs: list[Need] = []
                read = [(number, self.pieces(lane, one, needs), one) for number, one in parts[at]]
                call = Fetch(self.picked[at], cut, tuple(read))
                stage.drafts.append(Draft((self.node, self.index(lane, at)), call, needs))

    def assemble(self, cut: Chunks, region: tuple[tuple[int, int], ...]) -> None:
        """Plan to put the pieces of the source in `region` together, then to take from that."""
        node = self.node
        span = [slice(start, stop) for start, stop in region]
        kept = tuple([sizes[part] for sizes, part in zip(cut, span, strict=True)])
        cuts = zip(cut, region, strict=True)
        origin = tuple([boundaries(sizes)[start] for sizes, (start, _) in cuts])
        inside = shift(whole([sum(sizes) for sizes in kept]), origin)
        largest_part = math.prod(largest(kept)) * self.element
        elements = largest_part // max(1, node.dtype.itemsize)
        filling = self.stage("gather: assemble", 0.2, elements, largest_part, reads=True)
        # A join hands on what the parts hold, so it must never wait for memory.
        joining = self.stage("gather: join", 0.5, 0, 1, reads=False)
        most = math.prod(map(max, self.along))
        taking = self.stage("gather", 1.0, 0, most * (self.element + 16), reads=False)
        grid = list(itertools.product(*(range(len(sizes)) for sizes in kept)))
        for lane, places in self.lanes.items():
            outer = self.box(lane, whole([sum(sizes) for sizes in kept]))
            shape = box_shape(outer)
            assembly = Assembly(shape, node.dtype)
            filled: list[Need] = []
            boxes: list[Box] = []
            for piece in grid:
                needs: list[Need] = []
                place = chunk_box(kept, piece)
                pieces = self.pieces(lane, shift(place, origin), needs)
                boxes.append(self.within(shape, place))
                call = FillPart(pieces, assembly, boxes[-1]) if len(grid) > 1 else Evaluate(pieces)
                key: Key = (self, (lane, piece))
                filled.append(key)
                filling.drafts.append(Draft(key, call, needs))
            if len(grid) > 1:
                joined = JoinParts(tuple(boxes), shape, node.dtype)
                joining.drafts.append(Draft((self, (lane, "all")), joined, filled))
                filled = [(self, (lane, "all"))]
            for at in places:
                take = Take(self.picked[at], inside, None)
                taking.drafts.append(Draft((node, self.index(lane, at)), take, filled))

    def within(self, shape: tuple[int, ...], along: Box) -> Box:
        """The box of a part of a lane, counted from the lane's begin."""
        return whole(shape[: self.first]) + along + whole(shape[self.last :])


def bounds_of(picked: Picked, cut: Chunks) -> list[tuple[int, Box]]:
    """The pieces that positions lie in, by number, and the smallest box around those in each."""
    positions = picked.flat()
    numbers = piece_numbers(positions, cut)
    order = stable_order(numbers, chunk_count(cut))
    numbers = numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    bounds = []
    for one in positions:
        along = one[order]
        least = np.minimum.reduceat(along, starts).tolist()
        most = np.maximum.reduceat(along, starts).tolist()
        bounds.append([slice(a, b + 1, 1) for a, b in zip(least, most, strict=True)])
    return list(zip(numbers[starts].tolist(), zip(*bounds, strict=True), strict=True))


def _nothing() -> int:
    return 0
