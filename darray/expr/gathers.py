"""Elements picked by position or by mask: gathers read them, scatters write them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.blocks import TARGET, AutoBlocks, Blocks, Chunks, Shape, boundaries, cut, largest
from darray.expr.building import recut
from darray.expr.nodes import Expression, Recut
from darray.expr.positions import Group, Positions

__all__ = [
    "Deposit",
    "Extract",
    "Gather",
    "MaskCut",
    "Scatter",
    "Slot",
    "Window",
    "coarse",
    "deposit",
    "extract",
    "gather",
    "mask_cut",
    "scatter",
    "scatter_cut",
]

# Chunks smaller than this are gathered and scattered many at a time, and cut afterwards: what a
# task costs is then little beside what it moves.
GRAIN = 2**20

# Of large arrays so many parts are gathered, but parts of at most `MOST` bytes.
PARTS = 256
MOST = 8 * TARGET


# Each is a pass of its own over all that is pending below it.
WEIGHT = 16


class Gather(Expression, frozen=True, eq=False):
    """Elements of an array at positions along some axes that follow one another.

    Attributes
    ----------
    first : int
        The first of the axes. Those of the result that stand for them are the axes of the
        positions.
    positions : tuple of arrays
        For each of the axes the positions, from 0 and within bounds; read-only, and of shapes
        that broadcast against each other.
    """

    is_dear: ClassVar[bool] = True
    is_coarse: ClassVar[bool] = True
    weight: ClassVar[int] = WEIGHT

    operand: Expression
    first: int
    positions: Positions

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is read."""
        return (self.operand,)

    @property
    def picked_shape(self) -> Shape:
        """What the positions broadcast to."""
        dimensions = len(self.shape) - len(self.operand.shape) + len(self.positions)
        return self.shape[self.first : self.first + dimensions]


class Extract(Expression, frozen=True, eq=False):
    """Elements of an array where a mask is true, along one axis, in C order.

    Attributes
    ----------
    mask : Expression
        Of the lengths of the operand's axes from `first` on. Both are cut alike there, into
        pieces that follow one another in C order.
    pieces : tuple of int
        Which pieces, by their number in C order, the chunks along that axis come from.
    """

    is_dear: ClassVar[bool] = True
    is_coarse: ClassVar[bool] = True
    weight: ClassVar[int] = WEIGHT

    operand: Expression
    mask: Expression
    first: int
    pieces: tuple[int, ...]

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is read, and the mask."""
        return (self.operand, self.mask)


class Deposit(Expression, frozen=True, eq=False):
    """An array with other elements where a mask is true, taken from an array in C order.

    Attributes
    ----------
    values : Expression
        Has one axis for those of the mask.
    starts : tuple of int
        Where the elements of each piece of the mask, in C order, begin along that axis, and
        where the last ends. Mask and operand are cut alike, as for `Extract`.
    """

    is_dear: ClassVar[bool] = True
    is_coarse: ClassVar[bool] = True
    weight: ClassVar[int] = WEIGHT

    operand: Expression
    mask: Expression
    values: Expression
    first: int
    starts: tuple[int, ...]

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is changed, the mask, and what is put in."""
        return (self.operand, self.mask, self.values)


class Window(NamedTuple):
    """The elements of an axis that are written: a slice as in a box."""

    axis: int
    part: slice


Slot: TypeAlias = Window | Group


class Scatter(Expression, frozen=True, eq=False):
    """An array with other elements at positions; of those written twice the last one stays.

    Attributes
    ----------
    values : Expression
        Has one axis for each of the slots.
    slots : tuple of Window and Group
        Each axis of the operand is in one of them; in order of their first axes.
    """

    is_dear: ClassVar[bool] = True
    is_coarse: ClassVar[bool] = True
    weight: ClassVar[int] = WEIGHT

    operand: Expression
    values: Expression
    slots: tuple[Slot, ...]

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is changed, and what is put in."""
        return (self.operand, self.values)


def coarse(chunks: Chunks, room: int) -> Chunks:
    """Join chunks that follow one another, along the last axes first, up to `room` elements.

    Examples
    --------
    >>> coarse(((2, 2, 2), (3, 3)), 12)
    ((2, 2, 2), (6,))
    """
    found: list[tuple[int, ...]] = []
    for axis in reversed(range(len(chunks))):
        others = math.prod(map(max, chunks[:axis])) * math.prod(map(max, found))
        found.append(_joined(chunks[axis], room // max(1, others)))
    return tuple(reversed(found))


def _joined(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
    """`sizes` joined to at most `most`, but for those that are larger alone."""
    if len(sizes) == 1 or 2 * min(sizes) > most:
        return sizes
    joined = [sizes[0]]
    for size in sizes[1:]:
        if joined[-1] + size <= most:
            joined[-1] += size
        else:
            joined.append(size)
    return tuple(joined)


def _recut(operand: Expression, chunks: Chunks) -> Expression:
    """`operand` in the cut `chunks`, which is known to be one of its shape."""
    if chunks == operand.chunks:
        return operand
    return Recut(operand.shape, operand.dtype, chunks, operand)


def gather(operand: Expression, first: int, positions: Sequence[NDArray[np.intp]]) -> Expression:
    """Expression of the elements of `operand` at `positions` along the axes from `first` on.

    The positions are within bounds and stay as they are. The result is cut into pieces about
    as large as the operand's; where these are small, several are gathered by one task.
    """
    shape = np.broadcast_shapes(*(one.shape for one in positions))
    last = first + len(positions)
    before, after = operand.chunks[:first], operand.chunks[last:]
    along = operand.chunks[first:last]
    room = math.prod(largest(along))
    if len(shape) == 1:
        fine: Chunks = along
        if shape[0] != sum(along[0]) or len(along) > 1:
            fine = cut(Blocks(room), shape, 1)
    else:
        fine = cut(AutoBlocks(room), shape, 1)
    element = math.prod(largest(before + after)) * max(1, operand.dtype.itemsize)
    grain = max(GRAIN, min(MOST, math.prod(shape) * element // PARTS)) // element
    if len(shape) == 1:
        joined: Chunks = coarse(fine, grain)
    else:
        joined = cut(AutoBlocks(grain), shape, 1) if grain > room else fine
    node = Gather(
        operand.shape[:first] + shape + operand.shape[last:],
        operand.dtype,
        before + joined + after,
        operand,
        first,
        tuple(positions),
    )
    return _recut(node, before + fine + after)


class MaskCut(NamedTuple):
    """How a mask is cut to pick from an array: pieces that follow one another in C order.

    Attributes
    ----------
    fine : Chunks
        The pieces whose elements are the chunks of what is picked.
    joined : Chunks
        The same, small ones joined, as they are computed.
    """

    fine: Chunks
    joined: Chunks

    @property
    def numbers(self) -> Chunks:
        """Along each axis, how many fine pieces each joined one is."""
        found = []
        for sizes, larger in zip(self.fine, self.joined, strict=True):
            edges = np.searchsorted(boundaries(sizes), boundaries(larger))
            found.append(tuple(np.diff(edges).tolist()))
        return tuple(found)

    def totals(self, counts: Sequence[int]) -> list[int]:
        """What counts of the fine pieces, in C order, come to for the joined ones."""
        if not counts:
            return []
        sizes = [math.prod(one) for one in itertools.product(*self.numbers)]
        starts = np.cumsum([0, *sizes[:-1]])
        return [int(one) for one in np.add.reduceat(counts, starts)]


def mask_cut(operand: Expression, first: int, dimensions: int) -> MaskCut:
    """The cut in which a mask picks from `operand` along axes from `first` on.

    The pieces are those of the array, where they follow one another in C order, or whole
    rows of about as many elements.
    """
    last = first + dimensions
    fine = operand.chunks[first:last]
    is_cut = False
    for sizes in reversed(fine):
        if is_cut and max(sizes) > 1:
            shape = tuple([sum(one) for one in fine])
            fine = cut(AutoBlocks(max(1, math.prod(largest(fine)))), shape, 1)
            break
        is_cut = is_cut or len(sizes) > 1
    around = largest(operand.chunks[:first] + operand.chunks[last:])
    element = math.prod(around) * max(1, operand.dtype.itemsize)
    return MaskCut(fine, coarse(fine, GRAIN // max(1, element)))


def extract(
    operand: Expression, mask: Expression, first: int, counts: Sequence[int], pieces: MaskCut
) -> Expression:
    """Expression of the elements of `operand` where `mask` is true, along one axis.

    Parameters
    ----------
    counts : sequence of int
        How many elements of each fine piece of the mask, in C order, are true.
    """
    last = first + len(mask.shape)
    before, after = operand.chunks[:first], operand.chunks[last:]
    some = [(number, count) for number, count in enumerate(pieces.totals(counts)) if count]
    along = tuple([count for _, count in some]) or (0,)
    node = Extract(
        (*operand.shape[:first], sum(along), *operand.shape[last:]),
        operand.dtype,
        (*before, along, *after),
        recut(operand, before + pieces.joined + after),
        recut(mask, pieces.joined),
        first,
        tuple([number for number, _ in some]),
    )
    fine = tuple([count for count in counts if count]) or (0,)
    return _recut(node, (*before, fine, *after))


def deposit(
    operand: Expression,
    mask: Expression,
    values: Expression,
    first: int,
    counts: Sequence[int],
    pieces: MaskCut,
) -> Expression:
    """Expression of `operand` with `values` in C order where `mask` is true; see `extract`."""
    last = first + len(mask.shape)
    chunks = operand.chunks[:first] + pieces.joined + operand.chunks[last:]
    starts = tuple(np.cumsum([0, *pieces.totals(counts)]).tolist())
    node = Deposit(
        operand.shape,
        operand.dtype,
        chunks,
        recut(operand, chunks),
        recut(mask, pieces.joined),
        values,
        first,
        starts,
    )
    return _recut(node, operand.chunks)


def scatter_cut(operand: Expression) -> Chunks:
    """The cut in which elements are put into `operand`: many small chunks at a time."""
    return coarse(operand.chunks, GRAIN // max(1, operand.dtype.itemsize))


def scatter(
    operand: Expression, values: Expression, slots: Sequence[Slot], chunks: Chunks
) -> Expression:
    """Expression of `operand` with `values` in the slots, computed in the cut `chunks`."""
    node = Scatter(
        operand.shape, operand.dtype, chunks, recut(operand, chunks), values, tuple(slots)
    )
    return _recut(node, operand.chunks)
