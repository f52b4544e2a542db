"""Bands: what is cut anew within little memory goes through pieces of a cut in between.

A cut across that of the source, as from rows to columns, takes a little of every chunk of the
source for each of its pieces. Where the source is larger than the memory these are read from disk,
again and again, in runs too short to be worth a call. So as many neighbouring pieces as fit a share
of the memory are put together as one, a band, of which each is then a part. Rechunker, and dask's
plans for new chunks, take a cut in between for the same reason.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from darray.blocks import Chunks, Shape, boundaries, largest
from darray.expr.nodes import Expression, Recut
from darray.index_maps import IndexMap
from darray.runtime.boxes import whole

if TYPE_CHECKING:
    from darray.lowering.fusion import Leaf

__all__ = ["Band", "band_of", "in_source", "joined_cut", "joined_runs", "nbytes_of", "reads_of"]

# Runs of so many bytes, and parts of so many, are read at once from disk without much loss.
RUN = 2**14
PART = 2**17


class Band(Recut, frozen=True, eq=False):
    """The same array in a cut between that of its operand and the one in which it is wanted."""

    @property
    def place(self) -> float:
        """Where its stage is: after that of what it is computed from, before all others."""
        return self.operand.serial + 0.05


def band_of(leaf: Leaf, chunks: Chunks, nbytes: int, is_decoded: bool) -> Band | None:
    """What `leaf` is best read through for the pieces `chunks`; None for what it shows itself.

    A band takes at most `nbytes`. Where the chunks of the source are decoded whole each time it
    is as large as that allows, otherwise as large as it takes for runs of some length.
    """
    source = leaf.expression
    cut = in_source(leaf.index_map, chunks)
    if cut is None or 0 in source.shape:
        return None
    itemsize = max(1, int(source.dtype.itemsize))
    elements = nbytes // itemsize
    pieces = largest(source.chunks)
    if is_decoded:
        joined = joined_cut(cut, pieces, elements, math.prod(pieces))
    else:
        runs = joined_runs(cut, pieces, elements, RUN // itemsize)
        joined = joined_cut(runs, pieces, elements, PART // itemsize)
    if joined == cut:
        return None
    return Band(source.shape, source.dtype, joined, source)


def reads_of(leaf: Leaf, chunks: Chunks) -> float:
    """How often a chunk of the store of `leaf` is read, on average, for the pieces `chunks`."""
    stored_chunks = leaf.expression.chunks
    times = 1.0
    for place, axis in enumerate(leaf.index_map.axes):
        if axis.source >= 0:
            ends = set(accumulate(stored_chunks[axis.source]))
            seen = leaf.index_map.cut(stored_chunks)[place]
            wanted = set(accumulate(chunks[place]))
            both = len(wanted | set(accumulate(seen)))
            times *= both / max(1, min(len(ends), len(seen)))
    return times


def nbytes_of(node: Expression) -> int:
    """Bytes of all elements of an expression."""
    return math.prod(node.shape) * int(node.dtype.itemsize)


def in_source(index_map: IndexMap, chunks: Chunks) -> Chunks | None:
    """The cut of the source in which each piece of a view's cut `chunks` is one piece, or several.

    None where elements of the source between those of a piece are left out.

    Examples
    --------
    >>> in_source(IndexMap.from_index((3, slice(8, 2, -1)), (5, 10)), ((4, 2),))
    ((3, 1, 1), (3, 2, 4, 1))
    """
    box = index_map.source_box(whole(index_map.shape))
    if any(part.step != 1 for part in box):
        return None
    cut: list[tuple[int, ...]] = []
    along = {axis.source: place for place, axis in enumerate(index_map.axes) if axis.source >= 0}
    for source, (part, length) in enumerate(zip(box, index_map.source_shape, strict=True)):
        inner = [part.start, part.stop]
        if source in along:
            sizes = chunks[along[source]]
            is_reversed = index_map.axes[along[source]].step < 0
            inner = [part.start + edge for edge in boundaries(sizes[:: -1 if is_reversed else 1])]
        edges = sorted({0, length, *inner})
        cut.append(tuple([b - a for a, b in pairwise(edges)]) or (0,))
    return tuple(cut)


def joined_runs(chunks: Chunks, pieces: Shape, elements: int, run: int) -> Chunks:
    """Join pieces, up to so many elements, until `run` of these are in a row in each source piece.

    `pieces` is the shape of those of the source, whose elements lie in C order.

    Examples
    --------
    >>> joined_runs(((9,), (2, 2, 2, 2)), (3, 8), 40, 4)
    ((9,), (4, 4))
    """
    cut = list(chunks)
    row = 1
    for axis in reversed(range(len(cut))):
        shape = largest(tuple(cut))
        wanted = min(pieces[axis], -(-run // row))
        count = min(elements // max(1, math.prod(shape)), -(-wanted // shape[axis]))
        cut[axis] = _joined(cut[axis], count)
        shared = min(pieces[axis], max(cut[axis]))
        row *= shared
        if shared < pieces[axis] or row >= run:
            break
    return tuple(cut)


def joined_cut(chunks: Chunks, store_chunk: Shape, elements: int, part: int) -> Chunks:
    """Join pieces, up to so many elements, until their parts of the store's chunks have `part`.

    Examples
    --------
    >>> joined_cut(((2, 2, 2, 2, 2), (9,)), (10, 3), 40, 12)
    ((4, 4, 2), (9,))
    """
    cut = list(chunks)
    for axis in reversed(range(len(cut))):
        longest = max(cut[axis])
        shape = largest(tuple(cut))
        shared = math.prod(map(min, shape, store_chunk))
        room = elements // max(1, math.prod(shape))
        count = min(room, -(-store_chunk[axis] // longest), -(-part // shared))
        cut[axis] = _joined(cut[axis], count)
    return tuple(cut)


def _joined(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The pieces of an axis, so many of them as one.

    Examples
    --------
    >>> _joined((2, 2, 1), 2), _joined((2, 2, 1), 0)
    ((4, 1), (2, 2, 1))
    """
    if count <= 1:
        return sizes
    return tuple([sum(sizes[at : at + count]) for at in range(0, len(sizes), count)])
