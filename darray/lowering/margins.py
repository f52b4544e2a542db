"""Margins: boxes of one array that overlap are put together from its chunks once, not each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from darray.lowering.loads import Gather, Load, Within
from darray.lowering.plans import Need
from darray.runtime.boxes import Box, box_shape, shift

__outer_ = ["joined"]

# How many times larger than the largest box in it what is put together may be.
MOST = 1.5


def joined(
    loads: Sequence[Load], sources: Sequence[object], needs: list[Need]
) -> tuple[tuple[Load, ...], list[Need]]:
    """`loads` of the arrays `sources` and what they need, with overlapping boxes loaded as one.

    Stencils read an array many times, a little to this side and to that.
    """
    alike: dict[object, list[int]] = {}
    for place, (load, source) in enumerate(zip(loads, sources, strict=True)):
        if isinstance(load, Gather) and all(one.step == 1 for one in load.box):
            alike.setdefault(source, []).append(place)
    found = list(loads)
    for places in alike.values():
        gathers = [one for one in (loads[place] for place in places) if isinstance(one, Gather)]
        if len(gathers) == 1 or all(len(one.pieces) == 1 for one in gathers):
            continue
        hull = _hull([one.box for one in gathers])
        if math.prod(box_shape(hull)) > MOST * max(math.prod(one.shape) for one in gathers):
            continue
        whole = _whole(hull, gathers, needs)
        for place, one in zip(places, gathers, strict=True):
            found[place] = Within(whole, _relative(one.box, hull), one.index_map, one.box)
    return _once(found, needs)


def _once(loads: list[Load], needs: list[Need]) -> tuple[tuple[Load, ...], list[Need]]:
    """`loads` and `needs` with each need once."""
    positions: dict[Need, int] = {}
    for need in needs:
        positions.setdefault(need, len(positions))
    if len(positions) == len(needs):
        return tuple(loads), needs
    moved: dict[int, Gather] = {}

    def at_once(gather: Gather) -> Gather:
        if id(gather) not in moved:
            pieces = tuple(
                [
                    (positions[needs[position]] if position >= 0 else position, part, place)
                    for position, part, place in gather.pieces
                ]
            )
            moved[id(gather)] = replace(gather, pieces=pieces)
        return moved[id(gather)]

    found = [
        at_once(load)
        if isinstance(load, Gather)
        else replace(load, whole=at_once(load.whole))
        if isinstance(load, Within)
        else load
        for load in loads
    ]
    return tuple(found), list(positions)


def _hull(boxes: Sequence[Box]) -> Box:
    """The smallest box that has all of `boxes`, whose steps are 1, in it."""
    return tuple(
        [
            slice(min(one.start for one in axis), max(one.stop for one in axis), 1)
            for axis in zip(*boxes, strict=True)
        ]
    )


def _relative(box: Box, within: Box) -> Box:
    """`box` counted from the start of the box `within`."""
    return tuple(
        [
            slice(one.start - outer.start, one.stop - outer.start, 1)
            for one, outer in zip(box, within, strict=True)
        ]
    )


def _whole(hull: Box, gathers: Sequence[Gather], needs: Sequence[Need]) -> Gather:
    """One gather for `hull`; what none of `gathers` has of it stays without values."""
    # By chunk: where it comes from, and the boxes of it and of the hull that are filled from it.
    pieces: dict[Any, tuple[Any, list[Box], list[Box]]] = {}
    for gather in gathers:
        offsets = [own.start - outer.start for own, outer in zip(gather.box, hull, strict=True)]
        for position, part, place in gather.pieces:
            chunk = needs[position] if position >= 0 else gather.ready[~position]
            key, source = (chunk, position) if position >= 0 else (id(chunk), chunk)
            _, parts, places = pieces.setdefault(key, (source, [], []))
            parts.append(part)
            places.append(shift(place, offsets))
    ready: list[Any] = []
    found: list[tuple[int, Box, Box]] = []
    for source, parts, places in pieces.values():
        position = source
        if not isinstance(source, int):
            position = ~len(ready)
            ready.append(source)
        found.append((position, _hull(parts), _hull(places)))
    first = gathers[0]
    return Gather(tuple(found), box_shape(hull), first.dtype, first.index_map, hull, tuple(ready))
