"""Planning: from the chunks that are wanted to the tasks that compute them."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import contains
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from darray.blocks import (
    Chunks,
    Shape,
    chunk_box,
    chunk_count,
    grid_shape,
    iterate_boxes,
    largest,
    overlapping,
)
from darray.expr.assignment import Assign, written_chunks
from darray.expr.nodes import (
    Concatenate,
    Expression,
    Generated,
    MapBlocks,
    Memory,
    Recut,
    Reduce,
    Stored,
)
from darray.index_maps import IndexMap
from darray.kernels.evaluation import STREAMED
from darray.kernels.reducing import Reducer
from darray.lowering.alike import Alike, Picks, Shelf, has_shelf
from darray.lowering.calls import (
    Evaluate,
    Fill,
    MapBlock,
    PartialReduce,
    Pieces,
)
from darray.lowering.fusion import Group, Leaf, as_it_is, fuse, has_usable_chunks, is_added
from darray.lowering.joining import fan_in_of, joined
from darray.lowering.loads import Gather, Load, Read, Ready, Within, generate
from darray.lowering.margins import Sights
from darray.lowering.plans import Draft, Index, Kept, Need, Plan, Stage
from darray.lowering.reading_ahead import reads_remote
from darray.lowering.recutting import Band, band_of, nbytes_of, reads_of
from darray.lowering.reducing import by_parts
from darray.lowering.runs import ReduceRun, run_ends, run_length, runs
from darray.lowering.sizing import itemsize_at_peak, partial_nbytes, read_nbytes
from darray.runtime import Task, limits, settings
from darray.runtime.boxes import Box, box_shape, index_of, whole

__all__ = ["READS_TOLERATED", "Bundle", "Planner", "partial_nbytes", "plans"]

# What plans the chunks of each kind of expression that has a way of its own.
_PLANNED: dict[type[Expression], Callable[[Planner, Any, list[Index]], None]] = {}


def plans(
    kind: type[Expression],
) -> Callable[[Callable[[Planner, Any, list[Index]], None]], Any]:
    """Register the decorated function as what plans wanted chunks of expressions of `kind`.

    It is called with the planner, the expression and the indices of the chunks, once all that
    is wanted of the expression is known, and adds stages to the plan.
    """

    def register(
        code: Callable[[Planner, Any, list[Index]], None],
    ) -> Callable[[Planner, Any, list[Index]], None]:
        _PLANNED[kind] = code
        return code

    return register


# Partial results of more than this share of the chunk they come from are joined one by one.
THIN = 4

# Bands take this share of the memory; arrays of so few bytes are read without them.
BAND_SHARE = 3
LARGE = 2**22

# How often a chunk of a store may be read on average before it is kept in memory instead.
READS_TOLERATED = 2


class Bundle(Struct, eq=False):
    """Reductions of one array under one mask: they share the pass over its chunks."""

    operand: Expression
    where: Expression | None
    members: list[tuple[Reduce, list[Index]]] = field(default_factory=list)


class Planner:
    """The state of planning: which chunks are wanted of what.

    Expressions are taken from the last built to the first, so that when the turn of one
    comes all that is wanted of it is known.
    """

    def __init__(self) -> None:
        self.plan = Plan()
        self.plan.ledgers.append(self.plan.ledger)
        self.wanted: dict[Any, dict[Index, None]] = {}
        # (-serial, order of arrival, what is to be planned)
        self.queue: list[tuple[float, int, Any]] = []
        self.arrivals = itertools.count()
        self.bundles: dict[tuple[int, int], Bundle] = {}
        # Stored and generated arrays that are read once, chunk by chunk, and kept in memory.
        self.read_once: set[Expression] = set()
        # What leaves are read through instead of what they show, by the identity of the leaf.
        self.bands: dict[int, Band] = {}
        # What the leaves of groups show, by the identity of the group.
        self.sights: dict[int, Sights] = {}
        # Chunks that look alike, of groups that have several.
        self.alike: dict[int, Alike] = {}
        # What stands for chunks that are gathered, by the identity of what they are of.
        self.shelves: dict[int, Shelf] = {}
        self.current: Any = None
        # Bytes of chunks that wait for their turn in products.
        self.waiting = 0
        # Arrays in which expressions are computed straight away, none of them kept.
        self.places: dict[Expression, NDArray[Any]] = {}
        # Whether tasks read the memory of an array that its owner may change.
        self.reads_shared = False
        # What `written_by` found.
        self.written: dict[Assign, tuple[range, ...]] = {}
        # What earlier computations left that this one reads, by identity.
        self.kept_used: dict[int, Kept] = {}
        # What is called with the planner once all is planned.
        self.at_end: dict[Callable[[Planner], None], None] = {}
        # Expressions whose chunks stay after the computation.
        self.keeping: set[Expression] = set()

    def want(self, node: Any, serial: float, indices: Iterable[Index]) -> None:
        """Ask for chunks of `node`."""
        if node not in self.wanted:
            self.wanted[node] = {}
            heapq.heappush(self.queue, (-serial, next(self.arrivals), node))
        self.wanted[node].update(dict.fromkeys(indices))

    def want_all(self, node: Expression) -> None:
        """Ask for every chunk of `node`, which are to be kept."""
        self.keeping.add(node)
        self.want(node, node.serial, np.ndindex(*grid_shape(node.chunks)))

    def run(self) -> Plan:
        """Plan all that was asked for."""
        while self.queue:
            node = heapq.heappop(self.queue)[2]
            indices = list(self.wanted[node])
            self.current = node
            if isinstance(node, Bundle):
                self.bundle(node)
            else:
                plan = _PLANNED.get(type(node))
                if plan is None:
                    self.evaluate(node, indices)
                else:
                    plan(self, node, indices)
        self.plan.stages.sort(key=lambda stage: stage.serial)
        for kept in self.kept_used.values():
            pending = kept.is_pending()
            for ledger in kept.ledgers:
                if (pending or not ledger.is_empty()) and ledger not in self.plan.ledgers:
                    self.plan.ledgers.append(ledger)
        for finish in self.at_end:
            finish(self)
        return self.plan

    # One kind of expression each

    def fill(self, node: Expression, out: NDArray[Any], keeps: bool = True) -> None:
        """Ask that `out` be filled with `node`, whose chunks may stay with it if `keeps`."""
        if isinstance(node, Recut) and node.operand.is_coarse:
            # Its own chunks are many more, and are copied from these.
            node = node.operand
        if not keeps and self.goes_straight(node):
            self.places[node] = out
            self.want(node, node.serial, ())
            return
        group = fuse([node], node.shape, self.keeping)
        stage = self.stage("collect", math.inf, group, node, in_place=True)
        # Not the stage, which would hold itself, and with it what it reads, until the next
        # collection of cycles.
        name = next(self.arrivals)
        for index, box in iterate_boxes(node.chunks):
            pieces, needs = self.pieces(group, box)
            stage.drafts.append(Draft((name, index), Fill(pieces, out, box), needs))

    def goes_straight(self, node: Expression) -> bool:
        """Whether `node` can be computed in its place in an array that is filled with it."""
        return node.goes_straight and node not in self.places and not has_usable_chunks(node)

    @plans(Band)
    def evaluate(self, node: Expression, indices: list[Index]) -> None:
        """Plan chunks of an expression that one program computes."""
        group = fuse([node], node.shape, self.keeping, node)
        if isinstance(node, Band):
            stage = self.stage("re-cut", node.place, group, node)
            stage.is_delayed = True
        else:
            stage = self.stage("elementwise", node.serial, group, node)
        streams = node in self.keeping and nbytes_of(node) >= STREAMED
        for index in indices:
            pieces, needs = self.pieces(group, chunk_box(node.chunks, index))
            stage.drafts.append(Draft((node, index), Evaluate(pieces, streams), needs))

    @plans(Concatenate)
    def concatenate(self, node: Concatenate, indices: list[Index]) -> None:
        """Plan chunks of arrays in a row; each chunk lies in one of them."""
        axis = node.axis
        ends = list(itertools.accumulate(part.shape[axis] for part in node.parts))
        found: dict[int, tuple[Group, Stage]] = {}
        # By the place along the axis: the part, and where that has the chunk.
        places: dict[int, tuple[int, slice]] = {}
        for index in indices:
            box = chunk_box(node.chunks, index)
            if index[axis] not in places:
                along = box[axis]
                number = next((i for i, end in enumerate(ends) if along.start < end), 0)
                offset = node.parts[number].shape[axis] - ends[number]
                places[index[axis]] = number, slice(along.start + offset, along.stop + offset, 1)
            number, along = places[index[axis]]
            if number not in found:
                part = node.parts[number]
                group = fuse([part], part.shape, self.keeping)
                found[number] = (group, self.stage("concatenate", node.serial, group, node))
            group, stage = found[number]
            pieces, needs = self.pieces(group, (*box[:axis], along, *box[axis + 1 :]))
            stage.drafts.append(Draft((node, index), Evaluate(pieces), needs))

    @plans(MapBlocks)
    def map_blocks(self, node: MapBlocks, indices: list[Index]) -> None:
        """Plan calls of a user's function on whole blocks."""
        first = node.arrays[0]
        group = fuse(node.arrays, first.shape, self.keeping)
        name = getattr(node.function, "__name__", "map_blocks")
        given = math.prod(largest(node.chunks)) * max(1, node.dtype.itemsize)
        stage = self.stage(name, node.serial, group, first, 0, given)
        for index in indices:
            pieces, needs = self.pieces(group, chunk_box(first.chunks, index))
            shape = box_shape(chunk_box(node.chunks, index))
            call = MapBlock(pieces, node.function, index, shape, node.dtype)
            stage.drafts.append(Draft((node, index), call, needs))

    @plans(Reduce)
    def reduce(self, node: Reduce, indices: list[Index]) -> None:
        """Leave a reduction to the pass over the chunks of what it reduces."""
        key = (id(node.operand), id(node.where))
        bundle = self.bundles.get(key)
        if bundle is None:
            bundle = self.bundles[key] = Bundle(node.operand, node.where)
        bundle.members.append((node, indices))
        below = max(one.serial for one in node.operands)
        for index in indices:
            # Later than all that the pass reads, earlier than any reduction in it.
            self.want(bundle, below + 0.5, _line(node, index))

    def bundle(self, bundle: Bundle) -> None:
        """Plan the pass over an array's chunks and the joining of the partial results."""
        operand = bundle.operand
        outputs = [operand] if bundle.where is None else [operand, bundle.where]
        adds_all = len(bundle.members) == 1 and is_added(bundle.members[0][0])
        group = fuse(outputs, operand.shape, self.keeping, is_added=adds_all)
        reducers = tuple(
            [Reducer(one.reduction, one.axes, one.errors, one.serial) for one, _ in bundle.members]
        )
        first = bundle.members[0][0]
        # One task does all of it where each result is that of a single chunk.
        is_whole = len(bundle.members) == 1 and all(
            len(operand.chunks[axis]) == 1 for axis in first.axes
        )
        name = "+".join(dict.fromkeys(one.reduction.name for one, _ in bundle.members))
        serial = first.serial if is_whole else max(one.serial for one in outputs) + 0.5
        sizes = [partial_nbytes(one) for one, _ in bundle.members]
        elements = math.prod(largest(operand.chunks))
        # One task holds the partial results of all, until the last of them is joined.
        is_thin = THIN * sum(sizes) > elements * max(1, operand.dtype.itemsize)
        length = 1
        if not is_whole and not is_thin and len({one.axes for one, _ in bundle.members}) == 1:
            length = run_length(group, elements, chunk_count(operand.chunks))
        fixed = (1 + length) * sum(sizes)
        stage = self.stage(name, serial, group, operand, 8, fixed, in_place=True)
        lines = [_line(one, index) for one, wanted in bundle.members for index in wanted]
        # In the order in which partial results can be joined and let go.
        ends = run_ends(len(lines))
        in_runs = [run for line in lines for some in runs(line, length, ends) for run in some]
        # Of all chunks, unless few are wanted.
        is_most = 2 * sum(map(len, lines)) > chunk_count(operand.chunks)
        known = dict(iterate_boxes(operand.chunks)) if is_most else {}
        for run in dict.fromkeys(in_runs):
            boxes = [known.get(index) or chunk_box(operand.chunks, index) for index in run]
            key = (first, _line_index(first, run[0])) if is_whole else (bundle, run[0])
            if length > 1:
                call = ReduceRun.of(group, reducers, boxes, operand.shape, self.plan.ledger)
                self.reads_shared |= call.is_shared
                stage.drafts.append(Draft(key, call, []))
                continue
            pieces, needs = self.pieces(group, boxes[0])
            alone = PartialReduce(pieces, reducers, boxes[0], operand.shape, is_whole)
            stage.drafts.append(Draft(key, by_parts(alone), needs))
        if is_whole:
            return
        for number, (node, wanted) in enumerate(bundle.members):
            # A join lets go of more than it makes, so it must never wait for memory.
            joins = Stage(f"{node.reduction.name} of chunks", node.serial, 1, lambda: 1)
            self.plan.stages.append(joins)
            fan_in = fan_in_of(sizes[number], is_thin)
            for index in wanted:
                given = [
                    [((bundle, run[0]), number) for run in some]
                    for some in runs(_line(node, index), length, ends)
                ]
                joins.drafts += joined(
                    node, index, given, reducers[number], self.plan.ledger, fan_in
                )

    # What they share

    def stage(
        self,
        name: str,
        serial: float,
        group: Group,
        node: Expression,
        scratch: int = 0,
        fixed: int = 0,
        in_place: bool = False,
    ) -> Stage:
        """Add a stage whose tasks run the program of `group` on chunks of `node`.

        `scratch` are bytes an element that the tasks need besides, `fixed` bytes in all. With
        `in_place` what the program gives takes no room of its own.
        """
        chunk_shape = largest(node.chunks)
        most = partial(itemsize_at_peak, group, math.prod(chunk_shape), scratch, in_place)
        fixed += sum(map(read_nbytes, group.leaves))
        fixed += sum([self.passed_over_nbytes(leaf, chunk_shape) for leaf in group.leaves])
        stage = Stage(name, serial, math.prod(chunk_shape), most, fixed)
        self.plan.stages.append(stage)
        for leaf in group.leaves:
            if isinstance(leaf.expression, Stored) and leaf.expression is not node:
                self.plan_reading(leaf, node.chunks)
        if not isinstance(node, Band):
            self.plan_bands(group, node)
        return stage

    def plan_bands(self, group: Group, node: Expression) -> None:
        """Decide which leaves of `group` are read through bands for the chunks of `node`.

        Those of arrays that are on disk, or will be, since they do not fit in half of the memory.
        """
        large = [
            leaf
            for leaf in group.leaves
            if nbytes_of(leaf.expression) > LARGE
            and leaf.expression is not node
            and not self.is_in_memory(leaf.expression)
        ]
        if not large or group.repeats:
            return
        room = limits.task_memory(settings.current())
        for leaf in large:
            if 2 * nbytes_of(leaf.expression) > room:
                is_decoded = not self.is_gathered(leaf.expression)
                if is_decoded and reads_of(leaf, node.chunks) <= READS_TOLERATED:
                    continue
                band = band_of(leaf, node.chunks, room // (BAND_SHARE * len(large)), is_decoded)
                if band is not None:
                    # The leaf is in the group, which the plan has.
                    self.bands[id(leaf)] = band

    def is_in_memory(self, node: Expression) -> bool:
        """Whether boxes of `node` are views, or made."""
        return isinstance(node, Memory | Generated) and not self.is_gathered(node)

    def passed_over_nbytes(self, leaf: Leaf, shape: Shape) -> int:
        """Bytes of what a function of boxes makes between the elements of a strided view of it."""
        node = leaf.expression
        if not isinstance(node, Generated) or self.is_gathered(node):
            return 0
        box = leaf.index_map.source_box(whole(shape))
        made: int = math.prod([part.stop - part.start for part in box])
        return (made - math.prod(box_shape(box))) * max(1, int(node.dtype.itemsize))

    def group_nbytes(self, group: Group, elements: int) -> int:
        """Bytes that running the program of `group` on so many elements holds at its peak."""
        return elements * itemsize_at_peak(group, elements, 0) + sum(map(read_nbytes, group.leaves))

    def plan_reading(self, leaf: Leaf, chunks: Chunks, uses: int = 1) -> None:
        """Decide how the stored array of `leaf` is read for the pieces `chunks`, each `uses` times.

        Where its chunks would be read, and decoded, several times over, as for a cut across
        the store's, they are kept in memory instead, provided that they fit in half of it.
        """
        stored = leaf.expression
        times = uses * reads_of(leaf, chunks)
        room = limits.task_memory(settings.current())
        nbytes = math.prod(stored.shape) * stored.dtype.itemsize
        if times > READS_TOLERATED and 2 * nbytes < room:
            self.read_once.add(stored)

    def pieces(
        self, group: Group, box: Box, needs: list[Need] | None = None
    ) -> tuple[Pieces, list[Need]]:
        """How the program of `group` comes by its inputs for `box`, and what that needs.

        That is added to `needs`, if these are given.
        """
        needs = [] if needs is None else needs
        alike = self.alike.get(id(group))
        if alike is None:
            # Many groups are for a single chunk, which is not worth a look at what others read.
            sights = self.sights.get(id(group))
            if sights is None:
                sights = self.sights[id(group)] = Sights(group)
                return self.pieces_apart(sights, box, needs), needs
            gathered = list(map(self.gathered, group.leaves))
            if not gathered or not all([has_shelf(self, one) for one in gathered]):
                return self.pieces_apart(sights, box, needs), needs
            alike = self.alike[id(group)] = Alike(sights, gathered)
        return alike.pieces(self, box, needs), needs

    def pieces_apart(
        self, sights: Sights, box: Box, needs: list[Need], picks: Picks | None = None
    ) -> Pieces:
        """The same without a look at other chunks; which are gathered is added to `picks`."""
        group = sights.group
        boxes = sights.boxes(box)
        together: dict[int, Load] = {}
        for number, (places, margins) in enumerate(sights.margins):
            node = group.leaves[places[0]].expression
            found = margins.at(box) if self.is_gathered(node) else None
            if found is not None:
                hull, parts, wanted = found
                whole = self.gather(node, hull, wanted, as_it_is(node.shape), needs)
                if picks is not None:
                    picks.append((number, [index for index, _, _ in wanted]))
                for place, part in zip(places, parts, strict=True):
                    index_map = group.leaves[place].index_map
                    together[place] = Within(whole, part, index_map, boxes[place])
        loads = []
        for place, (leaf, source) in enumerate(zip(group.leaves, boxes, strict=True)):
            if place in together:
                loads.append(together[place])
                continue
            loads.append(self.load_box(leaf, source, needs))
            if picks is not None and (seen := self.gathered(leaf)) is not None:
                touched = [index for index, _, _ in overlapping(seen.chunks, source)]
                picks.append((sights.mover(place), touched))
        waits = self.plan.reads_remote and reads_remote(loads)
        return Pieces(group, tuple(loads), box_shape(box), self.plan.ledger, waits)

    def gathered(self, leaf: Leaf) -> Expression | None:
        """What boxes of `leaf` are put together from chunks of; None where they are not."""
        band = self.bands.get(id(leaf))
        if band is not None:
            return band
        return leaf.expression if self.is_gathered(leaf.expression) else None

    def is_gathered(self, node: Expression) -> bool:
        """Whether boxes of `node` are put together from chunks."""
        if node.kept is not None:
            return True
        if isinstance(node, Stored | Generated):
            return node in self.read_once and node is not self.current
        return not isinstance(node, Memory)

    def load(self, leaf: Leaf, box: Box, needs: list[Need]) -> Load:
        """How to come by what `leaf` shows in `box`; adds to `needs`."""
        return self.load_box(leaf, leaf.index_map.source_box(box), needs)

    def load_box(self, leaf: Leaf, source: Box, needs: list[Need]) -> Load:
        """How to come by what `leaf` shows in the box `source` of its array; adds to `needs`."""
        node, index_map = leaf.expression, leaf.index_map
        if self.bands and (band := self.bands.get(id(leaf))) is not None:
            return self.gather(band, source, overlapping(band.chunks, source), index_map, needs)
        if type(node) is Memory and node.kept is None:
            self.reads_shared |= node.is_shared
            piece = node.array[index_of(source)]
            return Ready(piece if index_map.is_identity else index_map.arrange(piece, source))
        if node.kept is not None:
            return self.gather(node, source, overlapping(node.chunks, source), index_map, needs)
        if not self.is_gathered(node):
            if isinstance(node, Generated):
                return generate(node.function, source, index_map)
            assert isinstance(node, Stored)
            self.plan.nbytes += math.prod(box_shape(source)) * node.dtype.itemsize
            self.plan.reads_remote |= node.is_remote
            return Read(node.source, source, index_map, node.is_remote)
        wanted = overlapping(node.chunks, source)
        if isinstance(node, Assign):
            first = self.untouched(node, wanted[0][0]) if wanted else node.operand
            if first is not node and all(self.untouched(node, one[0]) is first for one in wanted):
                return self.load_box(Leaf(first, index_map), source, needs)
        return self.gather(node, source, wanted, index_map, needs)

    def gather(
        self,
        node: Expression,
        source: Box,
        wanted: Sequence[tuple[Index, Box, Box]],
        index_map: IndexMap,
        needs: list[Need],
    ) -> Gather:
        """How to put the box `source` of `node` together from the chunks `wanted`."""
        pieces: list[tuple[int, Box, Box]] = []
        ready: list[NDArray[Any]] = []
        kept: Kept | None = node.kept
        if kept is not None:
            self.kept_used[id(kept)] = kept
        for index, part, place in wanted:
            chunk = self.chunk(node, index) if kept is None else kept.chunks[index]
            if isinstance(chunk, np.ndarray):
                pieces.append((~len(ready), part, place))
                ready.append(chunk)
            else:
                pieces.append((len(needs), part, place))
                needs.append(chunk)
        shape = box_shape(source)
        return Gather(tuple(pieces), shape, node.dtype, index_map, source, tuple(ready))

    def chunk(self, node: Expression, index: Index) -> Need | NDArray[Any]:
        """What stands for a chunk of `node`: itself where it is there, or what makes it."""
        node = self.untouched(node, index)
        kept: Kept | None = node.kept
        if kept is not None:
            self.kept_used[id(kept)] = kept
            chunk: Task[Any] | NDArray[Any] = kept.chunks[index]
            return chunk
        if isinstance(node, Memory):
            self.reads_shared |= node.is_shared
            piece: NDArray[Any] = node.array[index_of(chunk_box(node.chunks, index))]
            return piece
        self.want(node, node.place if isinstance(node, Band) else node.serial, [index])
        return node, index

    def untouched(self, node: Expression, index: Index) -> Expression:
        """The first expression below `node` that has the same chunk and is not its last write."""
        while isinstance(node, Assign) and node.kept is None:
            if all(map(contains, self.written_by(node), index)):
                break
            node = node.operand
        return node

    def written_by(self, node: Assign) -> tuple[range, ...]:
        """The chunks that a write touches: their places along each axis."""
        written = self.written.get(node)
        if written is None:
            has_usable_chunks(node.operand)
            written = self.written[node] = written_chunks(node)
        return written


def _line(node: Reduce, index: Index) -> list[Index]:
    """The chunks of the operand that make chunk `index` of a reduction, in C order."""
    ranges = [
        range(len(sizes)) if axis in node.axes else [index[axis]]
        for axis, sizes in enumerate(node.operand.chunks)
    ]
    return list(itertools.product(*ranges))


def _line_index(node: Reduce, index: Index) -> Index:
    """The chunk of a reduction that chunk `index` of the operand is a part of."""
    return tuple([0 if axis in node.axes else at for axis, at in enumerate(index)])
