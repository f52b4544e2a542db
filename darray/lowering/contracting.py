"""Planning of products: tiles of the result, each summed by a chain of tasks."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Chunks, chunk_box, iterate_boxes, largest
from darray.expr.nodes import Computed, Expression, Generated, Memory, Recut, Stored, View
from darray.expr.product_cuts import joined, links_of, tile_cost
from darray.expr.products import Contract
from darray.index_maps import IndexMap
from darray.kernels.products import Accumulator, Contraction, calls_gemm
from darray.kernels.programs import Program
from darray.lowering.calls import Pieces
from darray.lowering.fusion import Group, Leaf, fuse, is_fused
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Key, Need, Stage
from darray.runtime import limits, settings
from darray.runtime.boxes import Box, box_shape, index_of

__all__ = ["AddProducts", "Done", "JoinSums"]

_ONE = slice(0, 1, 1)

# Panels of operands in memory are joined until they have as many terms: BLAS copies both
# operands into its own order for every product, which is the dearer the fewer terms it sums.
DEPTH = 1200

# What gives its only input.
_AS_IT_IS = Program.assemble([], [(0, None)])


class AddProducts(Struct, frozen=True):
    """Add the products of some panels to a tile; one link of a chain.

    The first link makes the accumulator, or has a `place` for it in the caller's array; the
    others are given it as their first value. The last link of a tile's only chain gives what
    its accumulator gives.
    """

    reads_parts: ClassVar[bool] = True

    panels: tuple[tuple[Pieces, Pieces], ...]
    contraction: Contraction
    shape: tuple[int, ...]
    is_first: bool
    is_last: bool
    is_alone: bool
    place: NDArray[Any] | None = None

    def __call__(self, *values: Any) -> Accumulator | NDArray[Any] | None:
        """The accumulator with the products added, or the tile."""
        contraction = self.contraction
        mode = "add"
        if self.is_first:
            mode = "only" if self.is_alone else "first"
        accumulator: Accumulator | None = None if self.is_first else values[0]
        for left, right in self.panels:
            (a,) = left.compute(values)
            (b,) = right.compute(values)
            if accumulator is None:
                accumulator = Accumulator.at(self.place, self.shape, a.dtype)
            contraction.add(accumulator.array, a, b, mode)
            mode = "add"
        assert accumulator is not None
        return contraction.result(accumulator) if self.is_last else accumulator


class JoinSums(Struct, frozen=True):
    """Add what a chain gives to what those before it gave; the last of a tile gives the tile."""

    contraction: Contraction
    is_last: bool

    def __call__(self, total: Accumulator, other: Accumulator) -> Accumulator | NDArray[Any] | None:
        """The sum of both, in the first accumulator, or the tile."""
        self.contraction.join(total.array, other.array)
        return self.contraction.result(total) if self.is_last else total


class Done(Struct, frozen=True):
    """End a computation when a tile is in its place."""

    reads_parts: ClassVar[bool] = True

    def __call__(self, *values: Any) -> None:
        """Do nothing."""


@plans(Contract)
def contract(planner: Planner, node: Contract, indices: list[Index]) -> None:
    """Plan tiles of a product: chains of links, each of which adds some panels."""
    place = planner.places.pop(node, None)
    contracting = _Contracting(planner, node)
    if place is not None:
        if not indices and contracting.fits(place):
            contracting.plan([index for index, _ in iterate_boxes(node.chunks)], place)
            return
        # Others need it, too.
        planner.fill(node, place)
        indices = list(planner.wanted[node])
    contracting.plan(indices)


class _Contracting:
    """The state of planning one product."""

    def __init__(self, planner: Planner, node: Contract) -> None:
        self.planner = planner
        self.node = node
        self.panels = node.panels
        self.boxes = [box for _, box in iterate_boxes(node.panels)]
        # Where the axes of the result that are the left operand's own end.
        self.middle = len(node.left.shape) - len(node.panels)
        tile = largest(node.chunks)
        self.batch = math.prod(tile[: node.batch])
        self.m = math.prod(tile[node.batch : self.middle])
        self.n = math.prod(tile[self.middle :])
        self.contraction = Contraction(
            *(node.batch, len(node.panels), node.dtype, node.name),
            *(node.errors, planner.plan.ledger, node.serial),
        )
        self.by_columns = math.prod(node.left.shape) < math.prod(node.right.shape)
        self.groups = self.sources()
        if node.chains == 1 and all(map(_is_in_memory, self.groups)):
            self.panels = tuple([joined(sizes, DEPTH) for sizes in node.panels])
            self.boxes = [box for _, box in iterate_boxes(self.panels)]
        self.k = math.prod(largest(self.panels))

    def fits(self, place: NDArray[Any]) -> bool:
        """Whether the tiles of `place` can be added to where they lie."""
        axes = (self.middle - self.node.batch, len(self.node.shape) - self.middle)
        return place.dtype == self.node.left.dtype and max(axes) <= 1

    def plan(self, indices: list[Index], place: NDArray[Any] | None = None) -> None:
        """Add the stages; links further along a chain come first, to finish what is begun.

        With `place` the tiles are left there, and kept nowhere else.
        """
        node = self.node
        depth = math.prod([sum(sizes) for sizes in node.panels])
        links = links_of(tile_cost(self.batch, self.m, self.n, depth), len(self.boxes))
        runs = [_runs(run, -(-links // node.chains)) for run in _runs(self.boxes, node.chains)]
        # SciPy is imported here, not by the first task, if it is needed.
        is_gemm = len(self.boxes) > 1 and calls_gemm(node.left.dtype, self.m, self.n, self.k)
        nbytes = self.nbytes(is_gemm)
        links_nbytes = [nbytes] + [nbytes - self.tile_nbytes] * (max(map(len, runs)) - 1)
        stages = [self.stage(one) for one in links_nbytes]
        # What joins chains lets go of more than it makes, so it must never wait for memory.
        joins = [self.stage(1) for _ in runs[1:]]
        ended = None if place is None else self.stage(1, math.inf)
        number = next(self.planner.arrivals)
        for index in self.ordered(indices):
            ends = [self.chain(index, run, i, stages, place) for i, run in enumerate(runs)]
            end = self.joined(index, ends, joins)
            if ended is not None:
                ended.drafts.append(Draft((number, index), Done(), [end]))

    def chain(
        self,
        index: Index,
        run: list[list[Box]],
        number: int,
        stages: list[Stage],
        place: NDArray[Any] | None,
    ) -> Need:
        """Add the links of one chain of a tile, stage by stage; the key of the last."""
        node = self.node
        box = chunk_box(node.chunks, index)
        # Of several chains only the first adds up in the caller's array.
        own = None if place is None or number else place[index_of(box)]
        key: Key = (node, index)
        for step, boxes in enumerate(run):
            is_first, is_last = step == 0, step == len(run) - 1 and node.chains == 1
            needs: list[Need] = [] if is_first else [key]
            panels = tuple([self.panel(box, summed, needs) for summed in boxes])
            call = AddProducts(
                panels,
                self.contraction,
                box_shape(box),
                is_first=is_first,
                is_last=is_last,
                is_alone=len(self.boxes) == 1,
                place=own if is_first else None,
            )
            key = (node, index if is_last else (index, number, step))
            stages[step].drafts.append(Draft(key, call, needs))
        return key

    def joined(self, index: Index, ends: list[Need], joins: list[Stage]) -> Need:
        """Add what joins the chains of a tile, one after another; the key of the last."""
        end = ends[0]
        for number, stage in enumerate(joins, 1):
            is_last = number == len(joins)
            key = (self.node, index if is_last else (index, number))
            call = JoinSums(self.contraction, is_last)
            stage.drafts.append(Draft(key, call, [end, ends[number]]))
            end = key
        return end

    def stage(self, nbytes: int, serial: float | None = None) -> Stage:
        """Add a stage whose tasks hold `nbytes` bytes."""
        serial = self.node.serial if serial is None else serial
        name = "collect" if serial == math.inf else self.node.name
        stage = Stage(name, serial, 1, lambda: 1, max(0, nbytes - 1))
        self.planner.plan.stages.append(stage)
        return stage

    @property
    def tile_nbytes(self) -> int:
        """Bytes of a tile while it is summed."""
        return self.batch * self.m * self.n * int(self.node.left.dtype.itemsize)

    def nbytes(self, is_gemm: bool) -> int:
        """Bytes that the first link of a chain holds: a tile, and a panel of each operand.

        Panels that BLAS cannot read where they lie are copied.
        """
        copied = int(self.node.left.dtype.itemsize)
        total = self.tile_nbytes if is_gemm else 2 * self.tile_nbytes
        for group, width in zip(self.groups, (self.m, self.n), strict=True):
            elements = self.batch * width * self.k
            total += self.planner.group_nbytes(group, elements) + copied * elements
        return total

    def ordered(self, indices: list[Index]) -> list[Index]:
        """The tiles in an order in which the panels of the larger operand are soon let go."""
        if not self.by_columns:
            return indices
        first, middle = self.node.batch, self.middle
        return sorted(indices, key=lambda at: (at[:first], at[middle:], at))

    def panel(self, box: Box, summed: Box, needs: list[Need]) -> tuple[Pieces, Pieces]:
        """How the two panels for a tile are come by; what that needs is added to `needs`."""
        node, batch = self.node, self.node.batch
        first, second = [
            [
                _ONE if size == 1 else at
                for size, at in zip(one.shape[:batch], box[:batch], strict=True)
            ]
            for one in node.operands
        ]
        rows, columns = box[batch : self.middle], box[self.middle :]
        left, right = self.groups
        return (
            self.planner.pieces(left, (*first, *rows, *summed), needs)[0],
            self.planner.pieces(right, (*second, *summed, *columns), needs)[0],
        )

    def sources(self) -> tuple[Group, Group]:
        """What gives the panels of the operands.

        Each panel is used for several tiles. An operand that is still to be computed is computed
        once, chunk by chunk, if the memory has room for the chunks that wait for their turn;
        otherwise each task computes the panels that it uses.
        """
        node = self.node
        tiles = math.prod([len(sizes) for sizes in node.chunks])
        room = limits.task_memory(settings.current())
        seen = [_seen_through(one) for one in node.operands]
        is_shared = seen[0][0] is seen[1][0]
        is_kept = False
        groups = []
        for place, operand in enumerate(node.operands):
            base, index_map = seen[place]
            cut = self.cut(place)
            uses = tiles // (math.prod([len(sizes) for sizes in cut]) // len(self.boxes))
            waiting = math.prod(base.shape) * base.dtype.itemsize
            if self.by_columns == (place == 1) and not is_shared:
                # Let go of after a row, or a column, of tiles; two are in work.
                waiting = 2 * waiting // (tiles // uses)
            is_pending = is_fused(base) or isinstance(base, Generated)
            if place == 0 or not is_shared:
                is_kept = is_shared if uses == 1 else 2 * (self.planner.waiting + waiting) < room
                if uses > 1 and (is_kept if is_pending else _is_computed(base)):
                    self.planner.waiting += waiting
            group = fuse([operand], operand.shape)
            if is_kept and is_fused(base):
                if not _covers(index_map, base):
                    base, index_map = operand, IndexMap.identity(operand.shape)
                group = Group(_AS_IT_IS, (Leaf(base, index_map),))
            elif is_kept and is_pending:
                self.planner.read_once.add(base)
            for leaf in group.leaves:
                if isinstance(leaf.expression, Stored):
                    self.planner.plan_reading(leaf, cut, uses * (1 + is_shared))
            groups.append(group)
        return groups[0], groups[1]

    def cut(self, place: int) -> Chunks:
        """The pieces in which the tasks read an operand."""
        node, middle = self.node, self.middle
        shape = node.operands[place].shape
        batches = [
            (1,) if size == 1 else sizes
            for size, sizes in zip(shape[: node.batch], node.chunks[: node.batch], strict=True)
        ]
        if place == 0:
            return (*batches, *node.chunks[node.batch : middle], *node.panels)
        return (*batches, *node.panels, *node.chunks[middle:])


def _seen_through(node: Expression) -> tuple[Expression, IndexMap]:
    """What `node` is a view or a new cut of, and the map that leads there."""
    index_map = IndexMap.identity(node.shape)
    while isinstance(node, Computed | Recut | View) and is_fused(node):
        if isinstance(node, View):
            index_map = index_map.after(node.index_map)
        assert node.operand is not None
        node = node.operand
    return node, index_map


def _is_in_memory(group: Group) -> bool:
    """Whether the panels of an operand are read where they lie, so that they may be long."""
    return not group.program.instructions and isinstance(group.leaves[0].expression, Memory)


def _is_computed(base: Expression) -> bool:
    """Whether the chunks of `base`, which is not fused, are still to be made by tasks."""
    return base.kept is None and not isinstance(base, Generated | Memory | Stored)


def _covers(index_map: IndexMap, base: Expression) -> bool:
    """Whether a view shows every element of `base`."""
    sizes = [axis.size for axis in index_map.axes if axis.source >= 0]
    return math.prod(sizes) == math.prod(base.shape)


def _runs(items: list[Box], count: int) -> list[Any]:
    """Divide `items` into `count` runs of nearly equal length, fewer if there are fewer items."""
    count = min(count, len(items))
    edges = [len(items) * i // count for i in range(count + 1)]
    return [items[start:stop] for start, stop in itertools.pairwise(edges)]
