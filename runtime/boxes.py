"""Boxes: which elements of an array are meant, one slice of plain integers per axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

__all__ = ["Box", "box_shape", "index_of", "intersect", "shift", "whole"]

# One slice per axis; 0 <= start <= stop <= length of the axis, step >= 1, none of them None.
Box: TypeAlias = tuple[slice, ...]


def whole(shape: Sequence[int]) -> Box:
    """Return the box of all elements of an array of the given shape.

    Examples
    --------
    >>> whole((4, 3))
    (slice(0, 4, 1), slice(0, 3, 1))
    >>> whole(())
    ()
    """
    return tuple([slice(0, length, 1) for length in shape])


def box_shape(box: Box) -> tuple[int, ...]:
    """Return how many elements `box` selects along each axis.

    Examples
    --------
    >>> box_shape((slice(0, 4, 1), slice(1, 8, 3)))
    (4, 3)
    """
    return tuple(
        [
            cut.stop - cut.start
            if cut.step == 1 and cut.start <= cut.stop
            else len(range(cut.start, cut.stop, cut.step))
            for cut in box
        ]
    )


def intersect(a: Box, b: Box) -> Box | None:
    """Return the box of the elements that are in both boxes, or None where there are none.

    Boxes without axes mean the one element of a 0-d array, so they intersect.

    Raises
    ------
    ValueError
        For boxes with different numbers of axes, and for steps other than 1.

    Examples
    --------
    >>> intersect((slice(0, 6, 1),), (slice(4, 9, 1),))
    (slice(4, 6, 1),)
    >>> intersect((slice(0, 4, 1),), (slice(4, 9, 1),)) is None
    True
    """
    if len(a) != len(b):
        raise ValueError(f"the boxes {a!r} and {b!r} have {len(a)} and {len(b)} axes")
    common = []
    for p, q in zip(a, b, strict=True):
        if p.step != 1 or q.step != 1:
            raise ValueError(f"only boxes with step 1 can be intersected, not {a!r} and {b!r}")
        start = max(p.start, q.start)
        stop = min(p.stop, q.stop)
        if start >= stop:
            return None
        common.append(slice(start, stop, 1))
    return tuple(common)


def shift(box: Box, offsets: Sequence[int]) -> Box:
    """Return `box` moved by the given number of elements along each axis.

    Raises
    ------
    ValueError
        For another number of offsets than axes, for steps other than 1, and where the box would
        begin before element 0.

    Examples
    --------
    >>> shift((slice(4, 6, 1), slice(0, 3, 1)), (-4, 2))
    (slice(0, 2, 1), slice(2, 5, 1))
    """
    if len(box) != len(offsets):
        raise ValueError(f"the box {box!r} has {len(box)} axes, the offsets {offsets!r} are others")
    moved = []
    for cut, offset in zip(box, offsets, strict=True):
        if cut.step != 1:
            raise ValueError(f"only a box with step 1 can be shifted, not {box!r}")
        if cut.start + offset < 0:
            raise ValueError(f"{box!r} shifted by {offsets!r} would begin before element 0")
        moved.append(slice(cut.start + offset, cut.stop + offset, 1))
    return tuple(moved)


def index_of(box: Box) -> tuple[Any, ...]:
    """Index that gives `box` of an array as an array, also where it has no axes.

    Examples
    --------
    >>> index_of((slice(0, 2, 1),))
    (slice(0, 2, 1), Ellipsis)
    """
    return (*box, ...)
