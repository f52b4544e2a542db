"""The canonical grid of tiles in which random numbers are drawn, whatever the Blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

from msgspec import Struct

from darray.blocks import Chunks, Shape, cut
from darray.runtime.boxes import Box

__all__ = ["ELEMENTS", "Tile", "tile_shape", "tiles_of", "whole_tiles"]

# Elements of a tile at most. Beginning a tile costs about three microseconds, which are a tenth
# of what this many of the cheapest draws take; more would make reading small boxes dear.
ELEMENTS = 2**14

# Elements of a tile along the last axis, where there are others: with runs as long as whole rows
# a square block of a large matrix would have to draw them from end to end.
WIDTH = 2**8


class Tile(Struct, frozen=True):
    """A tile that has elements of a box.

    Attributes
    ----------
    number : int
        Its place in the grid, in C order.
    start, sizes : tuple of int
        Where it lies in the array.
    part : Box
        The elements of the box, as the tile counts them.
    place : Box
        The same elements, as the box counts them.
    """

    number: int
    start: Shape
    sizes: Shape
    part: Box
    place: Box

    def needed(self) -> Shape:
        """Shape of the elements to draw: those after the last one of the part are left out.

        They begin the tile in C order, so that they are the first draws of its stream.

        Examples
        --------
        >>> box = slice(0, 1, 1), slice(0, 2, 1)
        >>> Tile(0, (0, 0), (3, 4), box, box).needed()
        (1, 2)
        """
        shape = list(self.sizes)
        for axis, part in enumerate(self.part):
            shape[axis] = part.stop
            if part.stop > 1:
                break
        return tuple(shape)


@lru_cache(maxsize=256)
def tile_shape(shape: Shape, elements: int = ELEMENTS) -> Shape:
    """Shape of the tiles of an array of `shape`: at most `elements` elements, or one.

    Along each axis a tile divides the ``"auto"`` chunks of eight-byte elements where it can, so
    that these, and blocks of round numbers of elements, are made of whole tiles.

    Examples
    --------
    >>> tile_shape((10_000, 10_000)), tile_shape((10**7,)), tile_shape((4, 10**7))
    ((50, 250), (15625,), (1, 15625))
    """
    if not shape:
        return ()
    runs = [max(1, sizes[0]) for sizes in cut("auto", shape, 8)]
    tile = [1] * len(shape)
    room = elements
    for axis in reversed(range(len(shape))):
        is_last = axis == len(shape) - 1
        tile[axis] = _part(runs[axis], min(room, WIDTH) if is_last else room)
        room = max(1, room // tile[axis])
    # What the other axes were too short for.
    tile[-1] = _part(runs[-1], max(1, elements // math.prod(tile[:-1])))
    return tuple(tile)


def _part(length: int, most: int) -> int:
    """A size of at most `most` of pieces of `length`, equal ones if some size over half gives."""
    if length <= most:
        return length
    for size in range(most, most // 2, -1):
        if length % size == 0:
            return size
    return math.ceil(length / math.ceil(length / most))


def tiles_of(shape: Shape, tile: Shape, box: Box) -> Iterator[Tile]:
    """Yield the tiles that have elements of `box`, whose steps are 1.

    Examples
    --------
    >>> [(one.number, one.part, one.place) for one in tiles_of((10,), (4,), (slice(6, 9, 1),))]
    [(1, (slice(2, 4, 1),), (slice(0, 2, 1),)), (2, (slice(0, 1, 1),), (slice(2, 3, 1),))]
    """
    axes = []
    stride = 1
    for length, size, wanted in reversed(list(zip(shape, tile, box, strict=True))):
        pieces = []
        if wanted.start < wanted.stop:
            for index in range(wanted.start // size, (wanted.stop - 1) // size + 1):
                start, stop = index * size, min(length, (index + 1) * size)
                first, last = max(start, wanted.start), min(stop, wanted.stop)
                part = slice(first - start, last - start, 1)
                place = slice(first - wanted.start, last - wanted.start, 1)
                pieces.append((index * stride, start, stop - start, part, place))
        axes.append(pieces)
        stride *= max(1, -(-length // size))
    for found in product(*reversed(axes)):
        numbers, starts, sizes, parts, places = zip(*found, strict=True) if found else ((),) * 5
        yield Tile(sum(numbers), starts, sizes, parts, places)


def whole_tiles(shape: Shape, tile: Shape) -> Chunks:
    """The cut into chunks of whole tiles that comes near the ``"auto"`` one.

    Examples
    --------
    >>> [sizes[0] for sizes in whole_tiles((10_000, 10_000), (30, 250))]
    [30, 10000]
    """
    runs = [max(sizes) for sizes in cut("auto", shape, 8)]
    sizes = [
        min(length, size * max(1, run // size)) or -1
        for length, size, run in zip(shape, tile, runs, strict=True)
    ]
    return cut(tuple(sizes), shape, 8)
