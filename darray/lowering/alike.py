"""Chunks that look alike: how they come by what they read is found once, not for each of them.

All chunks in the middle of a regular grid read the same parts of their neighbours, so that they
differ in nothing but which chunks these are. Along each axis places are told apart by what is read
there, counted from the first chunk that is touched; chunks whose places are alike along every axis
share one set of loads, and the chunks that each of them needs are counted off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import boundaries, grid_shape
from darray.expr.assignment import Assign
from darray.expr.nodes import Expression, Generated, Memory
from darray.index_maps import IndexMap
from darray.lowering.calls import Pieces
from darray.lowering.fusion import Leaf
from darray.lowering.hulls import Hulls, Shown, chunk_strides, is_near
from darray.lowering.loads import Generate, Load, Ready
from darray.lowering.margins import KEPT, Margins, Sights, moved
from darray.lowering.plans import Index, Need
from darray.lowering.reading_ahead import reads_remote
from darray.lowering.recutting import Band
from darray.runtime.boxes import Box, box_shape

if TYPE_CHECKING:
    from darray.lowering.planning import Planner

__all__ = ["Alike", "Picks", "Shelf", "has_shelf"]

# Kinds of chunks that are looked at, however few chunks there are of each.
TRIED = 16

# Beyond these, chunks there are to be of each kind, at least, that others are looked at.
RARE = 4

# What is gathered for a chunk, in the order of what its task needs: by which of what a group
# gathers, and which chunks of it.
Picks: TypeAlias = list[tuple[int, list[Index]]]


# In the place of what is made for each chunk.
_NOTHING = Ready(np.empty(0))


class Keys(dict[int, Need]):
    """The keys of chunks that are to be computed, by their numbers in C order.

    A chunk that is asked for is from then on among those `wanted` of the expression.
    """

    __slots__ = ("grid", "node", "wanted")

    def __init__(self, node: Expression, wanted: dict[Index, None]) -> None:
        super().__init__()
        self.node = node
        self.wanted = wanted
        self.grid = grid_shape(node.chunks)

    def __missing__(self, number: int) -> Need:
        index = []
        rest = number
        for count in reversed(self.grid):
            rest, at = divmod(rest, count)
            index.append(at)
        found = tuple(index[::-1])
        self.wanted[found] = None
        key = self[number] = self.node, found
        return key


# What stands for each chunk of an expression, by its number.
Shelf: TypeAlias = Keys | list[Any]


def has_shelf(planner: Planner, node: Expression | None) -> bool:
    """Whether all chunks of `node`, if it is gathered, are the values of tasks of its own."""
    if node is None:
        return True
    if node.kept is None:
        # What a write leaves as it was belongs to others.
        return not isinstance(node, Assign) or grid_shape(node.chunks) == tuple(
            map(len, planner.written_by(node))
        )
    return np.ndarray not in set(map(type, node.kept.chunks.values()))


def shelf(planner: Planner, node: Expression) -> Shelf:
    """What stands for each chunk of `node`, of which some are needed."""
    found = planner.shelves.get(id(node))
    if found is None:
        if node.kept is not None:
            found = list(node.kept.chunks.values())
        else:
            planner.want(node, node.place if isinstance(node, Band) else node.serial, ())
            found = Keys(node, planner.wanted[node])
        planner.shelves[id(node)] = found
    return found


class Place(Struct, eq=False):
    """A place along one axis of the results.

    Attributes
    ----------
    number : int
        The same for places that look alike.
    bases : list of int
        For all that is gathered, what the place adds to the number of the first chunk touched.
    cuts : list of slice
        Where it lies in each array that is not gathered, if that is moved along.
    """

    number: int
    bases: list[int]
    cuts: list[slice]


class Template(Struct, eq=False):
    """What chunks that look alike have in common.

    Attributes
    ----------
    pieces : Pieces
        How one of them comes by its inputs; the same for all where nothing is read but chunks.
    picks : list of (int, Shelf, list of int)
        What is needed: by the place of its base, and how far from the first chunk touched.
    """

    pieces: Pieces
    picks: list[tuple[int, Shelf, list[int]]]


class Alone(Struct, eq=False):
    """A leaf whose boxes are not put together from chunks, but taken from it as they are.

    Attributes
    ----------
    order : list of (int, slice) or None
        For each axis of the array that of the results, or -1, and where the array is fixed.
        None where they are those of the results, in order.
    array : numpy.ndarray or None
        What is in memory.
    index_map : IndexMap or None
        How that is arranged, where it is to be arranged.
    function : callable or None
        What makes boxes of which no element is left out.
    """

    place: int
    leaf: Leaf
    order: list[tuple[int, Any]] | None
    array: NDArray[Any] | None
    index_map: IndexMap | None
    function: Callable[[Box], NDArray[Any]] | None

    def source(self, places: list[Place], at: int) -> tuple[Any, ...]:
        """The box of the array for a box at `places`, which have its parts in place `at`."""
        if self.order is None:
            return tuple([place.cuts[at] for place in places])
        return tuple([fixed if axis < 0 else places[axis].cuts[at] for axis, fixed in self.order])


class Along(Struct, eq=False):
    """How what is gathered moves along an axis of the results.

    Attributes
    ----------
    sizes, edges : tuple of int
        The chunks along the axis of the array, and where they begin and end.
    stride : int
        What a chunk further adds to the number of a chunk.
    low, high : int
        Where the boxes lie at the first place: the first element of them, and the last.
    step : int
    """

    sizes: tuple[int, ...]
    edges: tuple[int, ...]
    stride: int
    low: int
    high: int
    step: int

    def at(self, start: int, stop: int) -> tuple[int, Any]:
        """What the place adds to the number of the first chunk touched, and what it looks like.

        Chunks of the same sizes that are entered at the same element are touched alike.
        """
        step, edges = self.step, self.edges
        if step > 0:
            low, high = self.low + step * start, self.high + step * (stop - 1)
        else:
            low, high = self.low + step * (stop - 1), self.high + step * start
        first = bisect_right(edges, low) - 1
        edge = edges[first]
        sizes = self.sizes
        if high < edges[first + 1]:
            return first * self.stride, (low - edge, sizes[first])
        last = bisect_right(edges, high, first) - 1
        return first * self.stride, (low - edge, *sizes[first : last + 1])


class Chunked(Struct, eq=False):
    """What boxes are gathered of, and how they move along each axis of the results."""

    node: Expression
    strides: tuple[int, ...]
    axes: list[Along | None]


class _Way(Struct, eq=False):
    """What tasks put together: the hulls of each, and what each leaf shows of them."""

    every: list[Hulls]
    shown: tuple[Load | Shown, ...]


class Alike:
    """The chunks of a group's results, by what they read.

    Parameters
    ----------
    sights : Sights
        What the group shows.
    gathered : list
        For each leaf what its boxes are gathered of, None where they are not gathered.
    """

    __slots__ = (
        *("_alone", "_alongs", "_apart", "_chunked", "_is_in_order", "_known", "_moves"),
        *("_numbers", "_seen", "_sights", "_templates", "_together"),
    )

    def __init__(self, sights: Sights, gathered: list[Expression | None]) -> None:
        self._sights = sights
        leaves, dimensions = sights.group.leaves, sights.dimensions
        self._alone = [
            _alone(place, leaf, dimensions)
            for place, (leaf, node) in enumerate(zip(leaves, gathered, strict=True))
            if node is None
        ]
        self._is_in_order = all(one.order is None for one in self._alone)
        # For each axis where those begin, and their steps.
        self._moves = [
            [(axis.start, axis.step) for axis in axes]
            for axes in zip(*[one.leaf.index_map.axes for one in self._alone], strict=True)
        ] or [[]] * dimensions
        # By the numbers of what moves, which `Sights.mover` gives.
        self._chunked: dict[int, Chunked] = {}
        moving: dict[int, list[Leaf]] = {}
        for place, (leaf, node) in enumerate(zip(leaves, gathered, strict=True)):
            if node is not None:
                moving.setdefault(sights.mover(place), []).append(leaf)
                self._chunked[sights.mover(place)] = Chunked(node, chunk_strides(node.chunks), [])
        for number, seen in moving.items():
            one = self._chunked[number]
            one.axes = [_along(one, seen, axis) for axis in range(dimensions)]
        # For each axis all that is gathered, in that order.
        self._alongs = [[one.axes[i] for one in self._chunked.values()] for i in range(dimensions)]
        # By the axis and where a box begins and ends along it.
        self._known: list[dict[tuple[int, int], Place]] = [{} for _ in range(dimensions)]
        self._numbers: dict[tuple[Any, ...], int] = {}
        # Chunks that were planned.
        self._seen = 0
        # By the number of needs before and the numbers of the places.
        self._templates: dict[tuple[int, ...], Template] = {}
        # Of an irregular cut, all that is gathered and what each leaf shows of it: with leaves that
        # move alike put together, and with each apart. Made for the first chunk that is like none
        # before.
        self._together: _Way | None = None
        self._apart: _Way | None = None

    def pieces(self, planner: Planner, box: Box, needs: list[Need]) -> Pieces:
        """How the group's program comes by its inputs for `box`; adds to `needs`."""
        if self._together is not None and not self._alone:
            if all([part.step == 1 and part.start < part.stop for part in box]):
                return self._by_hulls(planner, box, [], needs)
            return planner.pieces_apart(self._sights, box, needs)
        places: list[Place] = []
        key = [len(needs)]
        for known, part in zip(self._known, box, strict=True):
            place = known.get((part.start, part.stop))
            if place is None or part.step != 1:
                if part.step != 1 or part.start >= part.stop:
                    return planner.pieces_apart(self._sights, box, needs)
                place = self._place(len(places), part)
            places.append(place)
            key.append(place.number)
        self._seen += 1
        template = self._templates.get(tuple(key))
        if template is None:
            if self._together is not None or TRIED < len(self._templates) > self._seen // RARE:
                # The cut is irregular: hardly a chunk is like another.
                return self._by_hulls(planner, box, places, needs)
            return self._learned(planner, box, places, tuple(key), needs)
        for number, shelf, offsets in template.picks:
            base = 0
            for place in places:
                base += place.bases[number]
            for offset in offsets:
                needs.append(shelf[base + offset])
        pieces = template.pieces
        if not self._alone:
            return pieces
        loads = self._with_alone(pieces.loads, planner, places, needs)
        return Pieces(pieces.group, loads, pieces.shape, pieces.ledger, pieces.is_remote)

    def _with_alone(
        self,
        shared: Iterable[Load | Shown],
        planner: Planner,
        places: list[Place],
        needs: list[Need],
    ) -> tuple[Load | Shown, ...]:
        """Loads of which those that are not gathered are made for the box at `places`."""
        loads = list(shared)
        # Of most groups every leaf lies as the results do.
        if self._is_in_order:
            sources: Any = zip(*[place.cuts for place in places])  # noqa: B905
        else:
            sources = [one.source(places, at) for at, one in enumerate(self._alone)]
        for one, source in zip(self._alone, sources):  # noqa: B905
            if one.function is not None:
                loads[one.place] = Generate(one.function, source, None, one.leaf.index_map)
            elif one.array is None:
                loads[one.place] = planner.load_box(one.leaf, source, needs)
            elif one.index_map is None:
                loads[one.place] = Ready(one.array[source])
            else:
                loads[one.place] = Ready(one.index_map.arrange(one.array[source], source))
        return tuple(loads)

    def _by_hulls(
        self, planner: Planner, box: Box, places: list[Place], needs: list[Need]
    ) -> Pieces:
        """The same for a chunk of an irregular cut, which is put together when its task runs."""
        way = self._together
        if way is None:
            way = self._together = self._way(planner, is_apart=False)
        axes = [hulls.along(box) for hulls in way.every]
        if not all(map(is_near, axes)):
            way = self._apart
            if way is None:
                way = self._apart = self._way(planner, is_apart=True)
            axes = [hulls.along(box) for hulls in way.every]
        hulls = tuple([one.of(lying, needs) for one, lying in zip(way.every, axes, strict=True)])
        plan, loads = planner.plan, way.shown
        waits = False
        if self._alone:
            loads = self._with_alone(loads, planner, places, needs)
            waits = plan.reads_remote and reads_remote(loads)
        return Pieces(self._sights.group, loads, box_shape(box), plan.ledger, waits, hulls)

    def _way(self, planner: Planner, is_apart: bool) -> _Way:
        leaves = self._sights.group.leaves
        every: list[Hulls] = []
        shown: list[Load | Shown] = [_NOTHING] * len(leaves)
        for number, one in self._chunked.items():
            places = tuple([at for at in range(len(leaves)) if self._sights.mover(at) == number])
            seen = [Leaf(one.node, leaf.index_map) for leaf in leaves]
            alike = [places]
            if is_apart or not Margins(seen, places).is_aligned:
                alike = [(place,) for place in places]
            for some in alike:
                for part, place in enumerate(some):
                    shown[place] = Shown(len(every), part, leaves[place].index_map)
                every.append(Hulls(Margins(seen, some), shelf(planner, one.node), one.node))
        return _Way(every, tuple(shown))

    def _learned(
        self,
        planner: Planner,
        box: Box,
        places: list[Place],
        key: tuple[int, ...],
        needs: list[Need],
    ) -> Pieces:
        """The same for the first chunk of its kind, from which the others are."""
        picked: Picks = []
        pieces = planner.pieces_apart(self._sights, box, needs, picked)
        if {mover for mover, _ in picked} != self._chunked.keys():
            # By now other leaves are gathered than when this was made: a later stage has its
            # source read once, or another thread keeps it.
            del planner.alike[id(self._sights.group)]
            return pieces
        order = list(self._chunked)
        picks = []
        for mover, indices in picked:
            one, at = self._chunked[mover], order.index(mover)
            base = sum([place.bases[at] for place in places])
            numbers = [sum(map(int.__mul__, index, one.strides)) for index in indices]
            picks.append((at, shelf(planner, one.node), [number - base for number in numbers]))
        if len(self._templates) >= KEPT:
            self._templates.clear()
        self._templates[key] = Template(pieces, picks)
        return pieces

    def _place(self, axis: int, part: slice) -> Place:
        """The place `part` of an axis of the results."""
        start, stop = part.start, part.stop
        # What is alike reads as much.
        alike: list[Any] = [axis, stop - start]
        bases = []
        for along in self._alongs[axis]:
            base, looks = (0, None) if along is None else along.at(start, stop)
            bases.append(base)
            alike.append(looks)
        cuts = [
            slice(first + start, first + stop, 1) if step == 1 else moved(part, first, step)
            for first, step in self._moves[axis]
        ]
        known = self._known[axis]
        if len(known) >= KEPT:
            known.clear()
        number = self._numbers.setdefault(tuple(alike), len(self._numbers))
        place = known[start, stop] = Place(number, bases, cuts)
        return place


def _alone(place: int, leaf: Leaf, dimensions: int) -> Alone:
    """What there is to know of a leaf that is not gathered."""
    node, index_map = leaf.expression, leaf.index_map
    array = node.array if isinstance(node, Memory) and node.kept is None else None
    order: list[tuple[int, Any]] = [(-1, slice(0, 1, 1)) for _ in node.shape]
    if array is not None and not order:
        # Without an index NumPy would give a scalar.
        order = [(-1, ...)]
    for axis, index in index_map.fixed:
        order[axis] = (-1, slice(index, index + 1, 1))
    for axis, moves in enumerate(index_map.axes):
        if moves.source >= 0:
            order[moves.source] = (axis, ...)
    is_in_order = dimensions > 0 and [axis for axis, _ in order] == list(range(dimensions))
    arranged = None if index_map.arranges_nothing else index_map
    function = None
    if isinstance(node, Generated) and all(abs(axis.step) == 1 for axis in index_map.axes):
        function = node.function
    return Alone(place, leaf, None if is_in_order else order, array, arranged, function)


def _along(chunked: Chunked, leaves: list[Leaf], axis: int) -> Along | None:
    """How boxes of `leaves`, that move alike, move along an axis of the results, if they do."""
    source, _, step, _ = leaves[0].index_map.axes[axis]
    if source < 0:
        return None
    starts = [leaf.index_map.axes[axis].start for leaf in leaves]
    sizes = chunked.node.chunks[source]
    stride = chunked.strides[source]
    return Along(sizes, boundaries(sizes), stride, min(starts), max(starts), step)
