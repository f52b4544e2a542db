"""Hulls: what a task reads of an array is put together when it runs, from how it lies on each axis.

On an irregular cut no chunk is like another, so that nothing but which chunks a task needs is
found while planning. How they lie along an axis is the same for all tasks in a row of the grid.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Chunks, grid_shape
from darray.expr.nodes import Expression
from darray.index_maps import IndexMap
from darray.lowering.fusion import as_it_is
from darray.lowering.loads import Gather
from darray.lowering.margins import MOST, Along, Margins
from darray.lowering.plans import Need
from darray.runtime.boxes import Box, index_of

if TYPE_CHECKING:
    from darray.lowering.alike import Shelf

__all__ = ["Hull", "Hulls", "Shown", "chunk_strides", "is_near"]

# Elements of a hull that is put together however small the boxes in it are.
FEW = 1 << 12

# Which of the chunks touched along each axis are needed, and how far each is from the first one.
_Kind: TypeAlias = tuple[list[tuple[int, ...]], list[int]]


class Hull(Struct, frozen=True):
    """The smallest box of an array that has in it what several leaves show.

    Attributes
    ----------
    axes : list of Along
        How it lies along each axis of the array.
    needed : list of tuple of int
        Which of the chunks touched along each axis are needed, in C order.
    first : int
        The position of the first of these among the values.
    index_map : IndexMap
        That of the array as it is.
    """

    axes: list[Along]
    needed: list[tuple[int, ...]]
    first: int
    dtype: np.dtype[Any]
    index_map: IndexMap

    def gather(self) -> Gather:
        """How it is put together."""
        axes = [one.touched for one in self.axes]
        pieces = []
        for position, places in enumerate(self.needed, self.first):
            found = [touched[place] for touched, place in zip(axes, places, strict=True)]
            wanted, at = zip(*found, strict=True) if found else ((), ())
            pieces.append((position, wanted, at))
        shape = tuple([one.length for one in self.axes])
        hull = tuple([one.hull for one in self.axes])
        return Gather(tuple(pieces), shape, self.dtype, self.index_map, hull)


class Shown(Struct, frozen=True):
    """What a leaf shows of a hull, which the pieces of a task have under a number.

    ``part`` is the number of the leaf among those that show it. All tasks share this.
    """

    hull: int
    part: int
    index_map: IndexMap

    def of(self, hull: Hull, whole: NDArray[Any]) -> Any:
        """What it shows of the hull, which is there."""
        part: Box = tuple([axis.parts[self.part] for axis in hull.axes])
        return self.index_map.arrange(whole[index_of(part)], part)


class Hulls:
    """The hulls of what leaves that move alike show, for one task after another.

    Parameters
    ----------
    margins : Margins
        Of the leaves.
    shelf : Shelf
        What stands for each chunk of the array.
    node : Expression
        The array.
    """

    __slots__ = ("_dtype", "_index_map", "_kinds", "_margins", "_shelf", "_strides")

    def __init__(self, margins: Margins, shelf: Shelf, node: Expression) -> None:
        self._margins = margins
        self._shelf = shelf
        self._strides = chunk_strides(node.chunks)
        self._dtype = node.dtype
        self._index_map = as_it_is(node.shape)
        # By where the boxes lie in the chunks touched along each axis.
        self._kinds: dict[tuple[Any, ...], _Kind] = {}

    def along(self, box: Box) -> list[Along]:
        """How what is shown in `box` lies along each axis."""
        return self._margins.along(box)

    def of(self, axes: list[Along], needs: list[Need]) -> Hull:
        """The hull of what lies so; adds to `needs`."""
        key = tuple([one.lying for one in axes])
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._kind(key)
        base = 0
        for one, stride in zip(axes, self._strides, strict=True):
            base += one.first * stride
        first, shelf = len(needs), self._shelf
        needs += [shelf[base + offset] for offset in kind[1]]
        return Hull(axes, kind[0], first, self._dtype, self._index_map)

    def _kind(self, key: tuple[tuple[tuple[int, int], ...], ...]) -> _Kind:
        needed, offsets = [], []
        for places in product(*[range(len(lying)) for lying in key]):
            bits, offset = -1, 0
            for lying, place, stride in zip(key, places, self._strides, strict=True):
                number, here = lying[place]
                bits &= here
                offset += number * stride
            # A chunk at a corner of the hull may be in none of the boxes.
            if bits:
                needed.append(places)
                offsets.append(offset)
        return needed, offsets


def is_near(axes: list[Along]) -> bool:
    """Whether the boxes are better put together, as the hull is not much larger than one."""
    together = apart = 1
    for one in axes:
        part = one.parts[0]
        together *= one.length
        apart *= part.stop - part.start
    return together <= MOST * apart or together <= FEW


def chunk_strides(chunks: Chunks) -> tuple[int, ...]:
    """What a step along each axis of the grid adds to the number of a chunk.

    Examples
    --------
    >>> chunk_strides(((4, 4), (2, 2, 2), (5,)))
    (3, 1, 1)
    """
    grid = grid_shape(chunks)
    return tuple([prod(grid[axis + 1 :]) for axis in range(len(grid))])
