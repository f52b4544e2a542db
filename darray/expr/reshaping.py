"""Reshaping: the elements of an array, in C order, as an array of another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darray.blocks import Chunks, Shape, boundaries
from darray.expr.building import captured, view
from darray.expr.nodes import Expression, Memory, View
from darray.index_maps import NEW, AxisMap, IndexMap

__all__ = [
    "AxisGroup",
    "Reshape",
    "axis_groups",
    "boxes_of_run",
    "index_map_between",
    "reshape",
    "reshape_cut",
    "reshaped_shape",
]


class Reshape(Expression, frozen=True, eq=False):
    """The elements of an array, read in C order, as another shape.

    Neither shape has axes of length 1 or 0. In each group of axes (`axis_groups`) every chunk is
    one run of elements that follow one another in C order.

    Attributes
    ----------
    operand : Expression
        The array.
    runs : Chunks
        A cut of the operand into runs, near whose boundaries those of ``chunks`` are.
    """

    operand: Expression
    runs: Chunks

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is reshaped."""
        return (self.operand,)


class AxisGroup(NamedTuple):
    """Axes of one shape, and axes of another that have as many elements together."""

    before: slice
    after: slice


def reshape(operand: Expression, shape: Any, order: Any = "C") -> Expression:
    """Expression of the elements of `operand` as an array of `shape`, as `numpy.reshape`.

    Every array counts as C-contiguous, so that orders ``"A"`` and ``"C"`` are the same. Axes of
    length 1 that come or go make a view. Any other reshape reads, for each chunk, the boxes of
    the operand that hold its elements.

    Raises
    ------
    ValueError, TypeError
        As NumPy raises them.

    Examples
    --------
    >>> import numpy as np
    >>> operand = captured(np.arange(24).reshape(6, 4), ((2, 2, 2), (4,)))
    >>> reshape(operand, (-1,)).chunks, reshape(operand, (3, 2, 4)).chunks
    (((8, 8, 8),), ((1, 1, 1), (2,), (4,)))
    """
    wanted = reshaped_shape(operand.shape, shape, order)
    if (order or "C").upper() != "F" or (len(operand.shape) <= 1 and len(wanted) <= 1):
        return _in_c_order(operand, wanted)
    reversed_axes = view(operand, IndexMap.transpose(None, operand.shape))
    found = _in_c_order(reversed_axes, wanted[::-1])
    return view(found, IndexMap.transpose(None, found.shape))


def reshaped_shape(shape: Shape, wanted: Any, order: Any = "C") -> Shape:
    """The shape that an array of `shape` gets from ``np.reshape(array, wanted, order)``.

    Raises
    ------
    ValueError, TypeError
        As NumPy raises them.

    Examples
    --------
    >>> reshaped_shape((6, 4), (-1, 8))
    (3, 8)
    """
    # One element with strides of 0, which NumPy reshapes as it is, so that NumPy itself says
    # what is wrong.
    sample: Any = np.broadcast_to(np.empty((), np.int8), shape)
    found: Shape = np.reshape(sample, wanted, order, copy=False).shape
    return found


def index_map_between(shape: Shape, wanted: Shape) -> IndexMap | None:
    """The view that is a reshape where only axes of length 1 come and go; None for another.

    Examples
    --------
    >>> index_map_between((3, 1, 4), (1, 3, 4)).shape
    (1, 3, 4)
    >>> index_map_between((3, 4), (4, 3)) is None
    True
    """
    if _without_ones(shape) != _without_ones(wanted):
        return None
    long_axes = iter([axis for axis, size in enumerate(shape) if size != 1])
    axes = [
        AxisMap(NEW, 0, 1, 1) if size == 1 else AxisMap(next(long_axes), 0, 1, size)
        for size in wanted
    ]
    fixed = [(axis, 0) for axis, size in enumerate(shape) if size == 1]
    return IndexMap(shape, tuple(axes), tuple(fixed))


def _in_c_order(operand: Expression, shape: Shape) -> Expression:
    """Expression of the elements of `operand` in C order as `shape`, which has as many."""
    if operand.shape == shape:
        return operand
    operand = _source(operand)
    if operand.shape == shape:
        return operand
    if 0 in shape:
        return captured(np.empty(shape, operand.dtype))
    # A caller's memory is left to what reads it, which knows when it changes.
    if isinstance(operand, Memory) and not operand.is_shared:
        array = _seen_as(operand.array, shape)
        if array is not None:
            return Memory(shape, operand.dtype, reshape_cut(operand.chunks, shape), array)
    index_map = index_map_between(operand.shape, shape)
    if index_map is not None:
        return view(operand, index_map)
    inner_shape = _without_ones(shape)
    removal = index_map_between(operand.shape, _without_ones(operand.shape))
    addition = index_map_between(inner_shape, shape)
    assert removal is not None
    assert addition is not None
    inner = view(operand, removal)
    runs, chunks = _cuts(inner.chunks, inner_shape)
    return view(Reshape(inner_shape, inner.dtype, chunks, inner, runs), addition)


def _seen_as(array: NDArray[Any], shape: Shape) -> NDArray[Any] | None:
    """`array` as `shape`, if that takes no copy."""
    try:
        return array.reshape(shape, copy=False)
    except ValueError:
        return None


def _source(operand: Expression) -> Expression:
    """The innermost array that has the elements of `operand` in the same C order."""
    while operand.kept is None:
        if isinstance(operand, Reshape) or (
            isinstance(operand, View) and _keeps_order(operand.index_map)
        ):
            operand = operand.operand
        else:
            break
    return operand


def _keeps_order(index_map: IndexMap) -> bool:
    """Whether a view has all elements of its source, in the same C order."""
    between = index_map_between(index_map.source_shape, index_map.shape)
    if between is None:
        return False
    long_axes = [axis for axis in index_map.axes if axis.size != 1]
    return long_axes == [axis for axis in between.axes if axis.size != 1]


def _without_ones(shape: Shape) -> Shape:
    return tuple([size for size in shape if size != 1])


def axis_groups(shape: Shape, other: Shape) -> list[AxisGroup]:
    """The smallest runs of axes of two shapes that hold equally many elements.

    Neither shape has axes of length 1 or 0; both have the same size.

    Examples
    --------
    >>> axis_groups((6, 4, 5), (2, 3, 20))
    [AxisGroup(before=slice(0, 1, None), after=slice(0, 2, None)), \
AxisGroup(before=slice(1, 3, None), after=slice(2, 3, None))]
    """
    groups: list[AxisGroup] = []
    i = j = 0
    while i < len(shape):
        first, second = i, j
        size, other_size = shape[i], other[j]
        i, j = i + 1, j + 1
        while size != other_size:
            if size < other_size:
                size *= shape[i]
                i += 1
            else:
                other_size *= other[j]
                j += 1
        groups.append(AxisGroup(slice(first, i), slice(second, j)))
    return groups


def reshape_cut(chunks: Chunks, shape: Shape) -> Chunks:
    """The cut that `reshape` to `shape` gives an array that is cut into `chunks`.

    Where the chunks are runs of elements in C order, those of the result are the same runs as
    far as its shape lets them be, so that each needs one chunk or a few. Other chunks, cut
    along trailing axes, become runs of as many elements at most.

    Examples
    --------
    >>> reshape_cut(((2, 2, 2), (4,)), (3, 2, 4))
    ((1, 1, 1), (2,), (4,))
    >>> reshape_cut(((2, 2), (2, 2)), (16,))
    ((4, 4, 4, 4),)
    """
    if 0 in shape:
        return tuple([(size,) for size in shape])
    _, found = _cuts(tuple([sizes for sizes in chunks if sizes != (1,)]), _without_ones(shape))
    pieces = iter(found)
    return tuple([(1,) if size == 1 else next(pieces) for size in shape])


def _cuts(chunks: Chunks, shape: Shape) -> tuple[Chunks, Chunks]:
    """A cut into runs of an array that is cut into `chunks`, and that of its reshape to `shape`."""
    sizes = tuple(map(sum, chunks))
    before: list[tuple[int, ...]] = []
    after: list[tuple[int, ...]] = []
    for group in axis_groups(sizes, shape):
        own, other = sizes[group.before], shape[group.after]
        runs = _runs_of(chunks[group.before], own)
        before += runs.chunks(own)
        after += _runs_like(runs, own, other).chunks(other)
    return tuple(before), tuple(after)


class _Runs(NamedTuple):
    """A cut of axes into runs: single rows before `axis`, all of the axes behind it.

    `row` is the number of elements behind one index of `axis`.
    """

    axis: int
    pieces: tuple[int, ...]
    row: int

    def chunks(self, shape: Shape) -> Chunks:
        """The cut of axes of `shape`."""
        before = [(1,) * size for size in shape[: self.axis]]
        return (*before, self.pieces, *[(size,) for size in shape[self.axis + 1 :]])

    def edges(self, shape: Shape) -> NDArray[np.int64]:
        """At which elements in C order the runs begin."""
        within = np.array(boundaries(self.pieces)[:-1], np.int64) * self.row
        period = shape[self.axis] * self.row
        starts = np.arange(math.prod(shape[: self.axis]), dtype=np.int64) * period
        found: NDArray[np.int64] = (starts[:, None] + within).ravel()
        return found


def _split_axis(shape: Shape, most: int) -> tuple[int, int]:
    """The first axis of which a row has at most `most` elements, and how many those are."""
    axis, row = len(shape) - 1, 1
    while axis and row * shape[axis] <= most:
        row *= shape[axis]
        axis -= 1
    return axis, row


def _runs_of(chunks: Chunks, shape: Shape) -> _Runs:
    """The runs that `chunks` are, or runs of at most as many elements near to them."""
    most = math.prod(map(max, chunks))
    axis, row = _split_axis(shape, most)
    if all(max(sizes) == 1 for sizes in chunks[:axis]) and all(
        len(sizes) == 1 for sizes in chunks[axis + 1 :]
    ):
        return _Runs(axis, chunks[axis], row)
    room = most // row
    pieces: list[int] = []
    for size in chunks[axis]:
        count = -(-size // room)
        for piece in _even_pieces(size, count):
            if pieces and pieces[-1] + piece <= room:
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return _Runs(axis, tuple(pieces), row)


def _even_pieces(length: int, count: int) -> tuple[int, ...]:
    size, rest = divmod(length, count)
    return (size + 1,) * rest + (size,) * (count - rest)


def _runs_like(runs: _Runs, shape: Shape, other: Shape) -> _Runs:
    """The cut of `other` into runs whose boundaries are near those of `runs` of `shape`."""
    most = max(runs.pieces) * runs.row
    axis, row = _split_axis(other, most)
    length = other[axis]
    edges = runs.edges(shape)
    period = length * row
    within = np.unique(edges % period)
    if axis and len(within) * (edges[-1] // period + 1) != len(edges):
        # The boundaries lie elsewhere in each row.
        return _Runs(axis, _even_pieces(length, -(-length // (most // row))), row)
    starts = np.unique(within // row).tolist()
    return _Runs(axis, tuple([b - a for a, b in pairwise([*starts, length])]), row)


def boxes_of_run(start: int, stop: int, shape: Shape) -> Iterator[tuple[slice, ...]]:
    """Boxes that together hold elements `start` to `stop` of `shape` in C order, in that order.

    There are at most ``2 * len(shape) - 1`` of them.

    Examples
    --------
    >>> list(boxes_of_run(3, 9, (4, 4)))
    [(slice(0, 1, 1), slice(3, 4, 1)), (slice(1, 2, 1), slice(0, 4, 1)), \
(slice(2, 3, 1), slice(0, 1, 1))]
    """
    if len(shape) == 1:
        yield (slice(start, stop, 1),)
        return
    row = math.prod(shape[1:])
    first, begin = divmod(start, row)
    last, end = divmod(stop, row)
    if first == last or (first + 1 == last and end == 0):
        head = slice(first, first + 1, 1)
        if begin or end:
            inner = boxes_of_run(begin, end or row, shape[1:])
            yield from ((head, *box) for box in inner)
        else:
            yield (head, *[slice(0, size, 1) for size in shape[1:]])
        return
    if begin:
        yield from boxes_of_run(start, (first + 1) * row, shape)
        first += 1
    if first < last:
        yield (slice(first, last, 1), *[slice(0, size, 1) for size in shape[1:]])
    if end:
        yield from boxes_of_run(last * row, stop, shape)
