"""Cache-sized tiles of a chunk that is reduced: axes in memory order, results in strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.runtime.boxes import Box

__all__ = ["TILE", "Walk", "in_memory_order", "strips", "tile_lengths"]

Array = NDArray[Any]

# Elements of a tile: two MiB as float64.  A core's second-level cache would hold a quarter of it,
# but NumPy then returns to Python every ten microseconds, and threads wait for each other there.
TILE = 1 << 18
# Results of one strip where the last axis is kept: long enough for NumPy's inner loops, short
# enough for the running sums to stay in the first-level cache while many rows go by.
_STRIP = 8192


class Walk(Struct, frozen=True):
    """An array with its axes in memory order, and neighbours that are reduced alike made one.

    Parameters
    ----------
    array
        A view of the original; of one axis where the original has none.
    axes
        The reduced axes of `array`.
    order
        The original's axis for each axis of the transposed original.
    shape
        The shape of the transposed original with its reduced axes as length 1.
    """

    array: Array
    axes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def result_shape(self) -> tuple[int, ...]:
        """The shape of a result for `array`, its reduced axes as length 1."""
        return tuple([1 if a in self.axes else n for a, n in enumerate(self.array.shape)])

    def restore(self, result: Array) -> Array:
        """Return a result for `array` as one for the original array."""
        return result.reshape(self.shape).transpose(np.argsort(self.order))


def in_memory_order(chunk: Array, axes: Sequence[int]) -> Walk:
    """Return how to walk a chunk that is reduced along `axes`.

    Examples
    --------
    >>> walk = in_memory_order(np.zeros((4, 3, 2)).T, (1, 2))
    >>> walk.array.shape, walk.axes
    ((12, 2), (0,))
    >>> walk.restore(np.zeros((1, 2))).shape
    (2, 1, 1)
    """
    order = tuple(sorted(range(chunk.ndim), key=lambda axis: -abs(chunk.strides[axis])))
    array = chunk.transpose(order)
    reduced = [axis in axes for axis in order]
    lengths = tuple([1 if r else n for r, n in zip(reduced, array.shape, strict=True)])
    if not order:
        array, reduced = array.reshape(1), [True]
    elif array.flags.c_contiguous:
        groups = [list(group) for _, group in groupby(range(array.ndim), reduced.__getitem__)]
        array = array.reshape([prod([array.shape[a] for a in group]) for group in groups])
        reduced = [reduced[group[0]] for group in groups]
    return Walk(array, tuple([a for a, r in enumerate(reduced) if r]), order, lengths)


def tile_lengths(shape: Sequence[int], axes: Sequence[int], size: int = TILE) -> tuple[int, ...]:
    """Return the lengths of tiles of at most `size` elements.

    Where the last axis is kept, a tile is narrow and as high as can be, so that many elements go
    into each result before the next strip; else it is as wide as can be along the last axis.

    Examples
    --------
    >>> tile_lengths((5000, 4096), (0,))
    (64, 4096)
    >>> tile_lengths((5000, 4096), (1,))
    (64, 4096)
    """
    lengths = [1] * len(shape)

    def fill(group: Sequence[int], room: int) -> None:
        for axis in reversed(group):
            pieces = -(-shape[axis] // max(room, 1))
            lengths[axis] = max(1, -(-shape[axis] // max(pieces, 1)))
            room //= lengths[axis]

    reduced = [axis for axis in range(len(shape)) if axis in axes]
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    if reduced and reduced[-1] == len(shape) - 1:
        fill(reduced, size)
        fill(kept, size // prod(lengths))
    else:
        fill(kept, max(_STRIP, size // max(prod([shape[axis] for axis in reduced]), 1)))
        fill(reduced, size // prod(lengths))
    return tuple(lengths)


def strips(
    shape: Sequence[int], axes: Sequence[int], size: int = TILE
) -> Iterator[tuple[Box, list[Box]]]:
    """Yield for each strip of results its box in the result, and its tiles in C order.

    The reduced axes have length 1 in the result, so the strip's box is 0:1 there.

    Examples
    --------
    >>> for strip, tiles in strips((4, 3), (0,), size=6):
    ...     print(strip, len(tiles))
    (slice(0, 1, 1), slice(0, 3, 1)) 2
    """
    lengths = tile_lengths(shape, axes, size)
    cuts = [
        [slice(i, min(i + n, length), 1) for i in range(0, length, n)]
        for n, length in zip(lengths, shape, strict=True)
    ]
    one = [slice(0, 1, 1)]
    for strip in product(*[one if a in axes else cut for a, cut in enumerate(cuts)]):
        along = [cut if a in axes else [strip[a]] for a, cut in enumerate(cuts)]
        yield strip, list(product(*along))
