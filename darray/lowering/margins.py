"""Margins: boxes of one array that overlap are put together from its chunks once, not each."""

from __future__ import annotations

from math import prod

from msgspec import Struct

from darray.blocks import Chunks, overlapping
from darray.lowering.fusion import Group
from darray.lowering.plans import Index
from darray.runtime.boxes import Box, box_shape

__all__ = ["Margin", "together"]

# How many times larger than the largest box in it what is put together may be.
MOST = 1.5


class Margin(Struct, eq=False):
    """Boxes of one array, by the place of the leaf that shows each, and what has all in it.

    Attributes
    ----------
    hull : Box
        The smallest box that has all of the boxes in it.
    boxes, parts : dict
        Where the boxes lie in the array, and in the hull.
    """

    hull: Box
    boxes: dict[int, Box]
    parts: dict[int, Box]

    def wanted(self, chunks: Chunks) -> list[tuple[Index, Box, Box]]:
        """The chunks of the hull, as `overlapping` lists them, that any of the boxes touches."""
        found = overlapping(chunks, self.hull)
        if len(found) < 4:
            return found
        # A chunk at a corner of the hull may be in none of the boxes.
        return [
            (index, part, place)
            for index, part, place in found
            if any(_meet(place, own) for own in self.parts.values())
        ]


def together(group: Group, box: Box) -> dict[int, Margin]:
    """What leaves to load as one for `box`, by their places.

    Stencils read an array many times, a little to this side and to that.
    """
    leaves = group.leaves
    found: dict[int, Margin] = {}
    for places in group.repeats:
        boxes = [leaves[place].index_map.source_box(box) for place in places]
        hull = _hull(boxes)
        if hull is None or prod(box_shape(hull)) > MOST * max([prod(box_shape(b)) for b in boxes]):
            continue
        starts = [outer.start for outer in hull]
        parts = [
            tuple(
                [
                    slice(one.start - start, one.stop - start, 1)
                    for one, start in zip(own, starts, strict=True)
                ]
            )
            for own in boxes
        ]
        margin = Margin(
            hull, dict(zip(places, boxes, strict=True)), dict(zip(places, parts, strict=True))
        )
        for place in places:
            found[place] = margin
    return found


def _hull(boxes: list[Box]) -> Box | None:
    """The smallest box that has all of `boxes` in it; None for steps other than 1."""
    hull: list[slice] = []
    for axis in zip(*boxes, strict=True):
        first = axis[0]
        start, stop = first.start, first.stop
        for one in axis:
            if one.step != 1:
                return None
            if one.start < start:
                start = one.start
            if one.stop > stop:
                stop = one.stop
        hull.append(slice(start, stop, 1))
    return tuple(hull)


def _meet(a: Box, b: Box) -> bool:
    """Whether two boxes with steps 1 have elements in common."""
    for one, other in zip(a, b, strict=True):
        if one.start >= other.stop or other.start >= one.stop:
            return False
    return True
