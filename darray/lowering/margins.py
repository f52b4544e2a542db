"""Margins: boxes of one array that overlap are put together from its chunks once, not each.

Stencils read an array many times, a little to this side and to that, for each of many chunks. Along
each axis that is alike for all chunks in a row of the grid, and but for where it begins alike for
most of them, so it is found once and looked up from then on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import prod
from operator import add

from msgspec import Struct

from darray.blocks import Chunks, boundaries, overlapping
from darray.lowering.fusion import Group, Leaf
from darray.lowering.plans import Index
from darray.runtime.boxes import Box, box_shape

__all__ = ["KEPT", "MOST", "Along", "Margins", "Sights", "moved"]

# How many times larger than the largest box in it what is put together may be.
MOST = 1.5

# Places along an axis that are remembered.
KEPT = 4096


class Along(Struct, eq=False):
    """What boxes look like along one axis of the array.

    Attributes
    ----------
    hull : slice
        The smallest part of the axis that has all of the boxes in it.
    parts : tuple of slices
        Where the boxes lie in the hull.
    first : int
        The first chunk that has elements of the hull.
    touched : list of (slice, slice)
        Of each chunk that has some: what is wanted of it, and where that goes in the hull.
    lying : tuple of (int, int)
        Of the same: how many chunks it is behind the first, and as the bits of a number which of
        the boxes lie there.
    length : int
        Elements of the hull.
    """

    hull: slice
    parts: tuple[slice, ...]
    first: int
    touched: list[tuple[slice, slice]]
    lying: tuple[tuple[int, int], ...]
    length: int

    def key(self) -> tuple[object, ...]:
        """What places that look alike have in common."""
        parts = [(part.start, part.stop) for part in self.parts]
        touched = [(a.start, a.stop, b.start) for a, b in self.touched]
        return (tuple(parts), tuple(touched), self.lying)


class Pattern(Struct, eq=False):
    """How boxes that look alike are put together, wherever they begin.

    Attributes
    ----------
    parts : list of Box
        Where the boxes lie in their hull.
    pieces : list of (Index, Box, Box)
        The chunks that any of the boxes touches, counted from the first one that the hull touches:
        what is wanted of each, and where that goes.
    """

    parts: list[Box]
    pieces: list[tuple[Index, Box, Box]]


class Margins:
    """Leaves that show one array a little apart, which are loaded as one.

    Parameters
    ----------
    leaves
        Those of a group.
    places
        Which of them show the array.

    Examples
    --------
    >>> from darray.expr.building import captured
    >>> from darray.index_maps import IndexMap
    >>> import numpy as np
    >>> array = captured(np.arange(10), ((4, 4, 2),))
    >>> maps = [IndexMap.from_index(slice(start, start + 8), (10,)) for start in (0, 2)]
    >>> margins = Margins([Leaf(array, one) for one in maps], (0, 1))
    >>> hull, parts, wanted = margins.at((slice(0, 5, 1),))
    >>> hull, parts, wanted
    ((slice(0, 7, 1),), [(slice(0, 5, 1),), (slice(2, 7, 1),)], \
[((0,), (slice(0, 4, 1),), (slice(0, 4, 1),)), ((1,), (slice(0, 3, 1),), (slice(4, 7, 1),))])
    """

    __slots__ = ("_axes", "_chunks", "_known", "_near", "_numbers", "_patterns", "_spans")

    def __init__(self, leaves: Sequence[Leaf], places: tuple[int, ...]) -> None:
        first = leaves[places[0]].expression
        self._chunks: Chunks = first.chunks
        # For each axis of the array that of the results along which the boxes move, or -1, and
        # where each leaf begins and which way it goes. None where these are not alike.
        self._axes = _aligned([leaves[place] for place in places], len(first.shape))
        # For each axis where the first leaf begins, how far behind it each does, and the last.
        self._spans = list(map(_span, self._axes or ()))
        # By the axis and where a box begins and ends along it, what was found, and its number.
        self._known: list[dict[tuple[int, int], tuple[Along, int]]] = [{} for _ in first.shape]
        self._numbers: dict[tuple[object, ...], int] = {}
        # The same without the numbers, of what is not looked at as a whole.
        self._near: list[dict[tuple[int, int], Along]] = [{} for _ in first.shape]
        # By the numbers along all axes.
        self._patterns: dict[tuple[int, ...], Pattern | None] = {}

    def at(self, box: Box) -> tuple[Box, list[Box], list[tuple[Index, Box, Box]]] | None:
        """The hull of what the leaves show in `box`, where they lie in it, and what it is made of.

        That is, of each chunk that any of them touches: which, what is wanted of it, and where
        that goes. None where it is better not to put them together.
        """
        if self._axes is None:
            return None
        found: list[Along] = []
        numbers: list[int] = []
        for axis, (along, _) in enumerate(self._axes):
            part = box[along] if along >= 0 else _ONE
            if part.step != 1 or part.start >= part.stop:
                return None
            entry = self._known[axis].get((part.start, part.stop))
            if entry is None:
                entry = self._remembered(axis, part)
            found.append(entry[0])
            numbers.append(entry[1])
        key = tuple(numbers)
        if key not in self._patterns:
            self._patterns[key] = _pattern(found)
        pattern = self._patterns[key]
        if pattern is None:
            return None
        first = [one.first for one in found]
        wanted = [
            (tuple(map(add, first, offset)), part, place) for offset, part, place in pattern.pieces
        ]
        return tuple([one.hull for one in found]), pattern.parts, wanted

    @property
    def is_aligned(self) -> bool:
        """Whether the leaves move alike, a little apart, so that they can be put together."""
        return self._axes is not None

    def along(self, box: Box) -> list[Along]:
        """What the leaves, which move alike, show in `box` along each axis.

        It is not empty and has no steps.
        """
        assert self._axes is not None
        found: list[Along] = []
        for near, (axis, _) in zip(self._near, self._axes, strict=True):
            part = box[axis] if axis >= 0 else _ONE
            one = near.get((part.start, part.stop))
            if one is None:
                if len(near) >= KEPT:
                    near.clear()
                one = near[part.start, part.stop] = self._along(len(found), part)
            found.append(one)
        return found

    def _remembered(self, axis: int, part: slice) -> tuple[Along, int]:
        made = self._along(axis, part)
        known = self._known[axis]
        if len(known) >= KEPT:
            known.clear()
        number = self._numbers.setdefault((axis, *made.key()), len(self._numbers))
        entry = known[part.start, part.stop] = made, number
        return entry

    def _along(self, axis: int, part: slice) -> Along:
        """What boxes look like along an axis of the array for a part of that of the results."""
        assert self._axes is not None
        sizes = self._chunks[axis]
        moves = self._axes[axis][1]
        start, step = moves[0]
        if abs(step) != 1:
            # Only one that is alone goes in larger steps.
            hull = moved(part, start, step)
            count = len(range(hull.start, hull.stop, hull.step))
            every = overlapping((sizes,), (hull,))
            begin = every[0][0][0]
            touched = [(wanted, place) for _, (wanted,), (place,) in every]
            lying = [(number - begin, 1) for (number,), _, _ in every]
            whole = (slice(0, count, 1),)
            return Along(hull, whole, begin, touched, tuple(lying), count)
        size = part.stop - part.start
        # All go the same way.
        least, starts, widest = self._spans[axis]
        low = least + part.start if step > 0 else least - part.stop + 1
        length = widest + size
        edges = boundaries(sizes)
        first = at = bisect_right(edges, low) - 1
        touched = []
        lying = []
        begin = 0
        while begin < length:
            edge = low - edges[at]
            number = at - first
            at += 1
            end = edges[at] - low
            if end > length:
                end = length
            bits, bit = 0, 1
            for start in starts:
                if start < end and begin < start + size:
                    bits |= bit
                bit += bit
            wanted = slice(begin + edge, end + edge, 1)
            touched.append((wanted, slice(begin, end, 1)))
            lying.append((number, bits))
            begin = end
        parts = tuple([slice(start, start + size, 1) for start in starts])
        hull = slice(low, low + length, 1)
        return Along(hull, parts, first, touched, tuple(lying), length)


# What stands for the place along an axis of the array that the results do not have.
_ONE = slice(0, 1, 1)

# For an axis of an array: that of the results, or -1, and start and step of each leaf.
_Aligned = list[tuple[int, list[tuple[int, int]]]]


def _span(axis: tuple[int, list[tuple[int, int]]]) -> tuple[int, list[int], int]:
    starts = [start for start, _ in axis[1]]
    least = min(starts)
    return least, [start - least for start in starts], max(starts) - least


def _aligned(leaves: Sequence[Leaf], dimensions: int) -> _Aligned | None:
    """How the leaves move along each axis of the array; None where they do so differently."""
    axes: list[tuple[int, list[tuple[int, int]]]] = []
    for source in range(dimensions):
        found: set[int] = set()
        moves: list[tuple[int, int]] = []
        for leaf in leaves:
            along, start, step = -1, 0, 1
            for place, axis in enumerate(leaf.index_map.axes):
                if axis.source == source:
                    along, start, step = place, axis.start, axis.step
            for fixed, at in leaf.index_map.fixed:
                if fixed == source:
                    start = at
            found.add(along)
            moves.append((start, step))
            if abs(step) != 1 and len(leaves) > 1:
                return None
        if len(found) > 1:
            return None
        axes.append((found.pop(), moves))
    return axes


def _pattern(axes: list[Along]) -> Pattern | None:
    """The pattern of boxes that look so along each axis; None where they lie too far apart."""
    parts: list[Box] = list(zip(*[one.parts for one in axes], strict=True))
    shape = tuple([one.hull.stop - one.hull.start for one in axes])
    if prod(shape) > MOST * max([prod(box_shape(part)) for part in parts]):
        return None
    pieces: list[tuple[Index, Box, Box, int]] = [((), (), (), -1)]
    for axis in axes:
        pieces = [
            ((*index, number), (*part, wanted), (*place, at), bits & here)
            for index, part, place, bits in pieces
            for (wanted, at), (number, here) in zip(axis.touched, axis.lying, strict=True)
        ]
    # A chunk at a corner of the hull may be in none of the boxes.
    return Pattern(parts, [piece[:3] for piece in pieces if piece[3]])


class Sights:
    """What the leaves of a group show of their arrays, for boxes of the group's results."""

    __slots__ = ("_fixed", "_known", "_moves", "group", "margins")

    def __init__(self, group: Group) -> None:
        self.group = group
        # Boxes of the arrays as far as they do not depend on those of the results.
        self._fixed: list[list[slice]] = []
        self._moves: list[list[tuple[int, int, int, int]]] = []
        for number, leaf in enumerate(group.leaves):
            known = [_ONE] * len(leaf.expression.shape)
            for axis, index in leaf.index_map.fixed:
                known[axis] = slice(index, index + 1, 1)
            self._fixed.append(known)
            while len(self._moves) < len(leaf.index_map.axes):
                self._moves.append([])
            for place, one in enumerate(leaf.index_map.axes):
                if one.source >= 0:
                    self._moves[place].append((number, one.source, one.start, one.step))
        # By the axis and where a box begins and ends along it.
        self._known: list[dict[tuple[int, int], list[tuple[int, int, slice]]]]
        self._known = [{} for _ in self._moves]
        # Of the leaves that show an array which others show as well.
        self.margins = [
            (places, Margins(group.leaves, places))
            for repeated in group.repeats
            for places in _moving_alike(group.leaves, repeated)
        ]

    @property
    def dimensions(self) -> int:
        """Number of axes of the results, of a group with leaves."""
        return len(self._moves)

    def mover(self, place: int) -> int:
        """With what the leaf at `place` moves: the number of its margins, or one of its own."""
        for number, (places, _) in enumerate(self.margins):
            if place in places:
                return number
        return len(self.margins) + place

    def boxes(self, box: Box) -> list[Box]:
        """What each leaf shows in `box`, as `IndexMap.source_box` gives it."""
        if not self._fixed:
            return []
        found = [known.copy() for known in self._fixed]
        for axis, part in enumerate(box):
            start, stop = part.start, part.stop
            if part.step != 1 or start >= stop:
                return [leaf.index_map.source_box(box) for leaf in self.group.leaves]
            known = self._known[axis]
            cuts = known.get((start, stop))
            if cuts is None:
                if len(known) >= KEPT:
                    known.clear()
                cuts = known[start, stop] = [
                    (number, source, moved(part, first, step))
                    for number, source, first, step in self._moves[axis]
                ]
            for number, source, cut in cuts:
                found[number][source] = cut
        return [tuple(one) for one in found]


def _moving_alike(leaves: Sequence[Leaf], places: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Those of `places` whose leaves move the same way along all axes, where there are several."""
    found: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for place in places:
        axes = leaves[place].index_map.axes
        found.setdefault(tuple([(axis.source, axis.step) for axis in axes]), []).append(place)
    return [tuple(alike) for alike in found.values() if len(alike) > 1]


def moved(part: slice, start: int, step: int) -> slice:
    """Where the elements `part` of an axis, of which there are some, lie along that of the source.

    Examples
    --------
    >>> moved(slice(1, 3, 1), 9, -3)
    slice(3, 7, 3)
    """
    count = part.stop - part.start
    first = start + step * part.start
    stride = step if count > 1 else 1
    last = first + stride * (count - 1)
    return slice(first, last + 1, stride) if stride > 0 else slice(last, first + 1, -stride)
