"""Arrays of positions: in which pieces of an array they lie, and in order of these."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.blocks import Chunks, boundaries, largest

__all__ = ["Group", "Positions", "grouped", "piece_counts", "piece_numbers", "stable_order"]

# For each of some axes the positions along it, all in one shape or in shapes that broadcast.
Positions: TypeAlias = tuple[NDArray[np.intp], ...]


class Group(NamedTuple):
    """Positions along some axes, sorted by the chunk that they lie in.

    Attributes
    ----------
    axes : tuple of int
        Not always next to each other.
    positions : tuple of arrays
        For each of the axes, all of one length.
    starts : array
        Where those of each chunk begin, in C order of the chunks along these axes, and where
        those of the last end.
    """

    axes: tuple[int, ...]
    positions: Positions
    starts: NDArray[np.intp]


def piece_numbers(positions: Positions, chunks: Chunks) -> NDArray[np.intp]:
    """Number, in C order, of the piece that each element lies in.

    Examples
    --------
    >>> piece_numbers((np.array([0, 5, 3]), np.array([1, 0, 1])), ((2, 2, 2), (1, 1)))
    array([1, 4, 3])
    """
    numbers: NDArray[np.intp] | None = None
    for one, sizes in zip(positions, chunks, strict=True):
        if len(sizes) == 1:
            found: NDArray[np.intp] = np.zeros(one.shape, np.intp)
        elif sizes[:-1].count(sizes[0]) == len(sizes) - 1 and sizes[-1] <= sizes[0]:
            found = one // sizes[0]
        else:
            found = np.asarray(boundaries(sizes)[1:-1]).searchsorted(one, side="right")
        numbers = found if numbers is None else numbers * len(sizes) + found
    assert numbers is not None
    return numbers


def piece_counts(positions: Positions, chunks: Chunks) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pieces that elements lie in, by their numbers, and how many lie in each.

    Examples
    --------
    >>> piece_counts((np.array([0, 5, 4]),), ((2, 2, 2),))
    (array([0, 2]), array([1, 2]))
    """
    numbers = piece_numbers(positions, chunks)
    count = math.prod(map(len, chunks))
    if count > 8 * numbers.size + 1024:
        found, counts = np.unique(numbers, return_counts=True)
        return found, counts
    counts = np.bincount(numbers, minlength=count)
    found = np.flatnonzero(counts)
    return found, counts[found]


def stable_order(numbers: NDArray[Any], count: int) -> NDArray[np.intp]:
    """The order that sorts numbers below `count` and leaves equal ones as they are.

    Examples
    --------
    >>> stable_order(np.array([2, 0, 2, 0]), 3)
    array([1, 3, 0, 2])
    """
    # NumPy sorts integers as short as this by their digits.
    return np.argsort(numbers.astype(np.uint16) if count <= 2**16 else numbers, kind="stable")


def grouped(
    axes: tuple[int, ...], positions: Positions, chunks: Chunks
) -> tuple[Group, NDArray[np.intp] | None]:
    """Positions along `axes` as a `Group`, and their order in it; None if it is that given.

    Where more positions lie in a chunk than it has elements, only the last one of each
    element's is there.

    Parameters
    ----------
    positions : tuple of arrays
        Along each of the axes; flat, of one length.
    chunks : Chunks
        The cut along `axes`.

    Examples
    --------
    >>> group, order = grouped((0,), (np.array([3, 0, 2]),), ((2, 2),))
    >>> group.positions, group.starts, order
    ((array([0, 3, 2]),), array([0, 1, 3]), array([1, 0, 2]))
    """
    count = math.prod(map(len, chunks))
    total = positions[0].size
    numbers = piece_numbers(positions, chunks)
    counts = np.bincount(numbers, minlength=count)
    order: NDArray[np.intp] | None = None
    if np.any(numbers[1:] < numbers[:-1]):
        order = stable_order(numbers, count)
        positions = tuple([one[order] for one in positions])
    if int(counts.max()) > math.prod(largest(chunks)):
        shape = [sum(sizes) for sizes in chunks]
        flat = np.asarray(np.ravel_multi_index(positions, shape))
        _, last = np.unique(flat[::-1], return_index=True)
        kept = np.sort(total - 1 - last)
        order = kept if order is None else order[kept]
        positions = tuple([one[kept] for one in positions])
        counts = np.bincount(piece_numbers(positions, chunks), minlength=count)
    return Group(axes, positions, np.concatenate([[0], np.cumsum(counts)])), order
