"""Where a product of arrays is cut: tiles of the result, panels of what is summed over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from darray.blocks import Chunks, boundaries, common_cut

__all__ = ["ProductCut", "cut_product", "joined", "links_of"]

# Rows and columns of a tile are joined until there are as many, and half as many terms of a
# panel: each number that is read is then used often enough to keep a core busy.
SIDE = 256

# Where there would be more products of panels than this, each is made larger: up to four times
# as many rows, columns and terms. Planning each takes some microseconds.
MANY = 4096

# Elements of a tile and of a panel of an operand; those of a tile may be up to twice as many.
TILE = 2**20
PANEL = 2**21

# Chunks of a result with at most so many elements are put together where tiles are smaller.
SMALL = 2**17

# What makes a task worth its cost: so many multiplications, or so many elements read and written.
MULTIPLICATIONS = 2**25
ELEMENTS = 2**20

# How many times as much a link of a chain does at least, before the next one begins.
LINK = 4

# Tasks that a product is cut into at least, if it is large enough: some for each core. A
# constant, so that the same product has the same bits on any number of cores.
TASKS = 16
ENOUGH = 0.5

_Axes = tuple[tuple[int, ...], ...]


class ProductCut(Struct, frozen=True):
    """How a product is computed; follows from the operands' chunks alone.

    Attributes
    ----------
    tiles : Chunks
        The cut in which the result is computed.
    chunks : Chunks
        The cut it is handed out in: that of the operands, but where tiles split large chunks.
    panels : Chunks
        Pieces of the axes that are summed over.
    chains : int
        Into how many runs the panels are divided, each of which is summed for itself.
    """

    tiles: Chunks
    chunks: Chunks
    panels: Chunks
    chains: int


def cut_product(left: Chunks, right: Chunks, batch: int, inner: int) -> ProductCut:
    """Cut the product of arrays with the axes (batch, rows, inner) and (batch, inner, columns).

    Examples
    --------
    >>> cut_product(((4, 4), (6,)), ((6,), (5, 5)), 0, 1)
    ProductCut(tiles=((8,), (10,)), chunks=((4, 4), (5, 5)), panels=((6,),), chains=1)
    >>> cut_product(((4000,), (4000,)), ((4000,), (4000,)), 0, 1).tiles
    ((2000, 2000), (1000, 1000, 1000, 1000))
    """
    middle = len(left) - inner
    batches = common_cut(
        [(one, tuple([sum(sizes) for sizes in one])) for one in (left[:batch], right[:batch])]
    )
    natural = (batches, left[batch:middle], right[batch + inner :])
    shared = zip(left[middle:], right[batch : batch + inner], strict=True)
    panels = tuple([_common(ours, theirs) for ours, theirs in shared])
    depth = math.prod([sum(sizes) for sizes in panels])
    for side in (SIDE, 2 * SIDE, 4 * SIDE):
        groups = _widened(_limited(_worth_a_task(natural, depth, side)))
        cut_panels = _cut_panels(panels, groups, side // 2)
        if _count(*groups, cut_panels) <= MANY:
            break
    panels = cut_panels
    groups, chains = _for_all_cores(groups, panels, depth)
    tiles = tuple([sizes for group in groups for sizes in group])
    chunks = tuple([sizes for group in natural for sizes in group])
    if _volume(chunks) > SMALL:
        both = zip(chunks, tiles, strict=True)
        chunks = tuple([own if len(own) > len(tile) else tile for own, tile in both])
    return ProductCut(tiles, chunks, panels, chains)


def links_of(cost: float, panels: int) -> int:
    """Number of tasks, one after another, in which a tile of `cost` with `panels` is summed.

    Examples
    --------
    >>> links_of(cost=30.0, panels=4)
    4
    """
    return max(1, min(panels, math.ceil(cost / LINK)))


def tile_cost(batches: int, rows: int, columns: int, depth: int) -> float:
    """What a tile costs, in tasks that are just worth it."""
    read = rows * depth + depth * columns + rows * columns
    return batches * max(rows * columns * depth / MULTIPLICATIONS, read / ELEMENTS)


def _worth_a_task(groups: tuple[_Axes, ...], depth: int, side: int) -> tuple[_Axes, ...]:
    """Join the pieces of batches, rows and columns until a task is worth its cost."""
    found = [groups[0], _joined_axes(groups[1], side), _joined_axes(groups[2], side)]
    for place in (1, 2, 0):
        volumes = [_volume(group) for group in found]
        cost = tile_cost(volumes[0], volumes[1], volumes[2], depth)
        if 0 < cost < 1:
            room = max(1, TILE // max(1, math.prod(volumes)))
            found[place] = _joined_axes(
                found[place], volumes[place] * min(math.ceil(1 / cost), room)
            )
    return tuple(found)


def _limited(groups: tuple[_Axes, ...]) -> tuple[_Axes, ...]:
    """Split pieces so that a tile is not much larger than `TILE`."""
    batches, rows, columns = groups
    count, m, n = map(_volume, groups)
    if count * m * n > 2 * TILE:
        batches = _split_axes(batches, max(1, TILE // (m * n)))
        side = math.isqrt(TILE)
        if m * n > 2 * TILE:
            if m > side:
                rows = _split_axes(rows, max(side, TILE // n))
            if n > side:
                columns = _split_axes(columns, max(side, TILE // m))
    return batches, rows, columns


def _widened(groups: tuple[_Axes, ...]) -> tuple[_Axes, ...]:
    """Join tiles while there are enough of them, and none gets much larger than `TILE`.

    For each tile BLAS copies the panels of both operands into its own order, so of one with twice
    as many rows every column is copied half as often.
    """
    batches, *sides = groups
    while True:
        volumes = [_volume(side) for side in sides]
        shorter = int(volumes[1] < volumes[0])
        wider = list(sides)
        wider[shorter] = _joined_axes(sides[shorter], 2 * volumes[shorter])
        tile = _volume(batches) * math.prod(map(_volume, wider))
        is_wider = _count(*wider) < _count(*sides)
        if not is_wider or tile > 2 * TILE or _count(batches, *wider) < ENOUGH * TASKS:
            return (batches, *sides)
        sides = wider


def _cut_panels(panels: _Axes, groups: tuple[_Axes, ...], shortest: int) -> _Axes:
    """Split long panels, so that one of each operand fits a task, and join short ones."""
    count, m, n = map(_volume, groups)
    width = max(1, count * max(m, n))
    most = max(SIDE, PANEL // width)
    least = min(most, max(shortest, ELEMENTS // (16 * width)))
    return _joined_axes(_split_axes(panels, most), least)


def _for_all_cores(
    groups: tuple[_Axes, ...], panels: _Axes, depth: int
) -> tuple[tuple[_Axes, ...], int]:
    """Make several chains, or smaller tiles, where there are too few tasks for many cores."""
    found = list(groups)
    tiles = _count(*found)
    batch, m, n = map(_volume, found)
    cost = tile_cost(batch, m, n, depth)
    wanted = min(TASKS, int(cost * tiles))
    if tiles >= ENOUGH * wanted:
        return groups, 1
    chains = min(links_of(cost, _count(panels)), max(1, wanted // tiles))
    while tiles * chains < ENOUGH * wanted:
        volumes = [_volume(group) for group in found]
        place = 0 if volumes[0] > 1 else volumes.index(max(volumes[1:]), 1)
        if place and volumes[place] < SIDE:
            break
        found[place] = _split_axes(found[place], -(-volumes[place] // 2))
        tiles = _count(*found)
    return tuple(found), chains


def _count(*groups: _Axes) -> int:
    """Number of pieces that some axes are cut into."""
    return math.prod([len(sizes) for group in groups for sizes in group])


def _volume(axes: _Axes) -> int:
    """Elements of the largest piece of some axes."""
    return math.prod([max(sizes) for sizes in axes])


def _common(ours: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[int, ...]:
    """The pieces between all the cuts of one axis."""
    if ours == theirs:
        return ours
    edges = sorted({*boundaries(ours), *boundaries(theirs)})
    return tuple([b - a for a, b in pairwise(edges)])


def _joined_axes(axes: _Axes, least: int) -> _Axes:
    """Join pieces, along the last axes first, until one holds `least` elements."""
    found = list(axes)
    for place in reversed(range(len(found))):
        others = math.prod([max(sizes) for i, sizes in enumerate(found) if i != place])
        found[place] = joined(found[place], -(-least // max(1, others)))
    return tuple(found)


def joined(sizes: Sequence[int], least: int) -> tuple[int, ...]:
    """Join neighbours until each piece has `least`; what is left at the end goes to the last.

    Examples
    --------
    >>> joined((4, 4, 4, 4, 3), 6)
    (8, 11)
    """
    found: list[int] = []
    open_piece = 0
    for size in sizes:
        open_piece += size
        if open_piece >= least:
            found.append(open_piece)
            open_piece = 0
    if not found:
        return (open_piece,)
    found[-1] += open_piece
    return tuple(found)


def _split_axes(axes: _Axes, most: int) -> _Axes:
    """Split pieces, along the first axes first, so that one holds at most `most` elements."""
    found = list(axes)
    for place in range(len(found)):
        others = math.prod([max(sizes) for i, sizes in enumerate(found) if i != place])
        limit = max(1, most // max(1, others))
        found[place] = tuple([part for size in found[place] for part in _split(size, limit)])
    return tuple(found)


def _split(size: int, most: int) -> tuple[int, ...]:
    """Split one piece into nearly equal ones of at most `most`."""
    if size <= most:
        return (size,)
    count = -(-size // most)
    small, larger = divmod(size, count)
    return (small + 1,) * larger + (small,) * (count - larger)
