"""Margins: boxes of one array that overlap are put together from its chunks once, not each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from darray.blocks import Chunks, overlapping
from darray.lowering.fusion import Leaf
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


def together(leaves: Sequence[Leaf], box: Box) -> dict[int, Margin]:
    """What leaves to load as one for `box`, by their places.

    Stencils read an array many times, a little to this side and to that.
    """
    alike: dict[int, list[int]] = {}
    for place, leaf in enumerate(leaves):
        alike.setdefault(id(leaf.expression), []).append(place)
    found: dict[int, Margin] = {}
    for places in alike.values():
        if len(places) == 1:
            continue
        boxes = {place: leaves[place].index_map.source_box(box) for place in places}
        if any(one.step != 1 for own in boxes.values() for one in own):
            continue
        hull = tuple(
            [
                slice(min([one.start for one in axis]), max([one.stop for one in axis]), 1)
                for axis in zip(*boxes.values(), strict=True)
            ]
        )
        most = max([math.prod(box_shape(own)) for own in boxes.values()])
        if math.prod(box_shape(hull)) > MOST * most:
            continue
        parts = {
            place: tuple(
                [
                    slice(one.start - outer.start, one.stop - outer.start, 1)
                    for one, outer in zip(own, hull, strict=True)
                ]
            )
            for place, own in boxes.items()
        }
        margin = Margin(hull, boxes, parts)
        found.update(dict.fromkeys(places, margin))
    return found


def _meet(a: Box, b: Box) -> bool:
    """Whether two boxes with steps 1 have elements in common."""
    for one, other in zip(a, b, strict=True):
        if one.start >= other.stop or other.start >= one.stop:
            return False
    return True
