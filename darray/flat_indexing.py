"""Elements by their places in C order, along diagonals, and where masks say: expressions."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import NDArray

from darray import advanced_indexing
from darray.blocks import Shape, cut
from darray.expr import building, gathers
from darray.expr.nodes import Expression, Generated
from darray.index_keys import normal_positions
from darray.index_maps import IndexMap
from darray.runtime.boxes import Box, box_shape

__all__ = [
    "at_flat",
    "check_positions",
    "chosen",
    "diagonal",
    "diagonal_matrix",
    "fill_diagonal",
    "nonzero",
    "place",
    "positions_in",
    "put",
    "putmask",
    "truth",
    "with_axes",
]


def with_axes(operand: Expression) -> Expression:
    """`operand` with one axis if it has none."""
    if operand.shape:
        return operand
    return building.view(operand, IndexMap.insert_axes(0, ()))


def truth(operand: Expression) -> Expression:
    """Which elements NumPy counts as true."""
    return building.astype(operand, np.dtype(bool))


def check_positions(dtype: np.dtype[Any], mode: str) -> None:
    """Raise what NumPy raises for positions of a dtype, and for a mode, that it does not know."""
    np.take(np.zeros(1), np.zeros(0, dtype), mode=mode)  # type: ignore[call-overload]


def positions_in(positions: NDArray[Any], length: int, mode: str) -> NDArray[np.intp]:
    """Positions along an axis as `numpy.take` takes them, from 0 where the mode is not "raise".

    Raises
    ------
    IndexError
        For any position in no elements at all.
    """
    exact = positions.astype(np.intp)
    if length == 0 and exact.size:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    if mode == "wrap":
        return exact % max(1, length)
    if mode == "clip":
        return exact.clip(0, length - 1)
    return exact


def at_flat(operand: Expression, positions: NDArray[np.intp]) -> Expression:
    """Expression of the elements at places in C order, counted from both ends.

    Raises
    ------
    IndexError
        For a place that is out of bounds.

    Examples
    --------
    >>> from darray.lowering import computing
    >>> x = building.captured(np.arange(6).reshape(2, 3) * 10)
    >>> computing.compute([at_flat(x, np.array([[5, 0]]))])[0]
    array([[50,  0]])
    """
    operand = with_axes(operand)
    return advanced_indexing.read(operand, _unraveled(operand, positions))


def _unraveled(operand: Expression, positions: NDArray[np.intp]) -> tuple[Any, ...]:
    """The key of elements of `operand` at places in C order."""
    if len(operand.shape) == 1:
        return (positions,)
    size = math.prod(operand.shape)
    exact = normal_positions(positions, size, 0)
    return tuple(np.unravel_index(exact, operand.shape)) if size else (exact,) * len(operand.shape)


def repeated(values: Expression, count: int) -> Expression:
    """Expression of the first `count` elements of `values` in C order, again and again."""
    size = math.prod(values.shape)
    if size == 1:
        one = building.view(values, IndexMap.from_index((0,) * len(values.shape), values.shape))
        return building.broadcast_to(one, (count,))
    if len(values.shape) == 1 and count <= size:
        return building.view(values, IndexMap.from_index(slice(count), values.shape))
    return at_flat(values, np.arange(count) % size)


def put(
    operand: Expression, positions: NDArray[Any], values: Expression, mode: str = "raise"
) -> Expression:
    """Expression of `operand` after `numpy.put`."""
    size = math.prod(operand.shape)
    check_positions(positions.dtype, mode)
    flat = positions_in(positions, size, mode).reshape(-1)
    if not math.prod(values.shape) or not flat.size:
        return operand
    given = repeated(values, flat.size)
    raised = with_axes(operand)
    result = advanced_indexing.write(raised, _unraveled(raised, flat), given)
    return like(result, operand)


def like(result: Expression, operand: Expression) -> Expression:
    """`result`, which has `operand`'s elements, in its shape."""
    if result.shape == operand.shape:
        return result
    return building.view(result, IndexMap.drop_axes(0, result.shape))


def mask_like(mask: Expression, operand: Expression, name: str) -> Expression:
    """`mask`, of as many elements as `operand`, in its shape."""
    size = math.prod(operand.shape)
    if math.prod(mask.shape) != size:
        raise ValueError(f"{name}: mask and data must be the same size")
    if mask.shape != operand.shape:
        mask = at_flat(mask, np.arange(size).reshape(operand.shape))
    return truth(mask)


def place(operand: Expression, mask: Expression, values: Expression) -> Expression:
    """Expression of `operand` after `numpy.place`."""
    mask = with_axes(mask_like(mask, operand, "place"))
    raised = with_axes(operand)
    size = math.prod(values.shape)
    given = repeated(values, 1) if size == 1 else values
    if size != 1:
        pieces = gathers.mask_cut(raised, 0, len(raised.shape))
        mask, counts = advanced_indexing.counted(mask, pieces)
        total = sum(counts)
        if total == 0:
            return operand
        if size == 0:
            raise ValueError("Cannot insert from an empty array!")
        given = repeated(values, total)
    return like(advanced_indexing.write(raised, (mask,), given), operand)


def putmask(operand: Expression, mask: Expression, values: Expression) -> Expression:
    """Expression of `operand` after `numpy.putmask`."""
    mask = mask_like(mask, operand, "putmask")
    size = math.prod(values.shape)
    if size == 0:
        return operand
    given = building.astype(values, operand.dtype)
    if size == 1:
        one = building.view(given, IndexMap.from_index((0,) * len(values.shape), values.shape))
        given = building.broadcast_to(one, operand.shape)
    elif values.shape != operand.shape:
        tiles = Tiles(advanced_indexing.held(given).reshape(-1), operand.shape)
        given = Generated(operand.shape, operand.dtype, operand.chunks, tiles)
    return chosen(mask, given, operand)


def chosen(mask: Expression, values: Expression, operand: Expression) -> Expression:
    """Expression of `operand` with `values`, of its dtype, where `mask` is true."""
    (result,) = building.elementwise(np.where, [mask, values, operand])
    return building.recut(building.astype(result, operand.dtype), operand.chunks)


class Tiles(Struct, frozen=True):
    """Boxes of an array of `shape` that holds `values` again and again, in C order."""

    values: NDArray[Any]
    shape: Shape

    def __call__(self, box: Box) -> NDArray[Any]:
        """A box."""
        places = np.zeros(box_shape(box), np.intp)
        stride = 1
        for axis in reversed(range(len(self.shape))):
            places += coordinates(box, axis) * stride
            stride *= self.shape[axis]
        return self.values[places % self.values.size]


def coordinates(box: Box, axis: int) -> NDArray[np.intp]:
    """The place along `axis` of each element of a box, in the memory of one line."""
    shape = box_shape(box)
    line = np.arange(box[axis].start, box[axis].stop, dtype=np.intp)
    return np.broadcast_to(line.reshape((-1,) + (1,) * (len(shape) - 1 - axis)), shape)


class Coordinate(Struct, frozen=True):
    """Boxes of an array whose elements are their own places along an axis."""

    axis: int

    def __call__(self, box: Box) -> NDArray[np.intp]:
        """A box."""
        return coordinates(box, self.axis)


class OnDiagonal(Struct, frozen=True):
    """Boxes of a matrix of which the elements `offset` to the right of the diagonal are true."""

    offset: int

    def __call__(self, box: Box) -> NDArray[np.bool_]:
        """A box."""
        on: NDArray[np.bool_] = coordinates(box, 0) + self.offset == coordinates(box, 1)
        return on


def nonzero(operand: Expression) -> tuple[Expression, ...]:
    """Expressions of the places, along each axis, of the elements that are true; counted now.

    Examples
    --------
    >>> from darray.lowering import computing
    >>> rows, columns = nonzero(building.captured(np.array([[0, 5], [6, 7]])))
    >>> computing.compute([columns])[0]
    array([1, 0, 1])
    """
    shape = operand.shape
    places = [
        Generated(shape, np.dtype(np.int64), operand.chunks, Coordinate(axis))
        for axis in range(len(shape))
    ]
    pieces = gathers.mask_cut(places[0], 0, len(shape))
    mask, counts = advanced_indexing.counted(truth(operand), pieces)
    return tuple([gathers.extract(one, mask, 0, counts, pieces) for one in places])


def fill_diagonal(operand: Expression, values: Expression, wrap: bool = False) -> Expression:
    """Expression of `operand` after `numpy.fill_diagonal`."""
    shape = operand.shape
    if len(shape) < 2:
        raise ValueError("array must be at least 2-d")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise ValueError("All dimensions of input must be of equal length")
    size = math.prod(shape)
    end, step = size, 1 + sum(itertools.accumulate(shape[:0:-1], operator.mul))
    if len(shape) == 2:
        step = shape[1] + 1
        end = size if wrap else min(size, shape[1] * shape[1])
    places = np.arange(0, end, step)
    if not places.size or not math.prod(values.shape):
        return operand
    given = repeated(values, places.size)
    return advanced_indexing.write(operand, _unraveled(operand, places), given)


def diagonal(operand: Expression, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expression:
    """Expression of a diagonal of `operand` as `numpy.diagonal` has it, along the last axis.

    Raises
    ------
    ValueError, AxisError
        As NumPy raises them.

    Examples
    --------
    >>> from darray.lowering import computing
    >>> x = building.captured(np.arange(6).reshape(2, 3))
    >>> computing.compute([diagonal(x, offset=1)])[0]
    array([1, 5])
    """
    dimensions = len(operand.shape)
    if dimensions < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    first = normalize_axis_index(axis1, dimensions, "axis1")
    second = normalize_axis_index(axis2, dimensions, "axis2")
    if first == second:
        raise ValueError("axis1 and axis2 cannot be the same")
    order = [axis for axis in range(dimensions) if axis not in (first, second)]
    turned = IndexMap.transpose([*order, first, second], operand.shape)
    above, left = max(0, -offset), max(0, offset)
    length = max(0, min(turned.shape[-2] - above, turned.shape[-1] - left))
    steps = np.arange(length)
    key = (..., steps + above, steps + left)
    return advanced_indexing.read(building.view(operand, turned), key)


def diagonal_matrix(operand: Expression, offset: int = 0) -> Expression:
    """Expression of a matrix that has the elements of `operand` on a diagonal, and else zeros."""
    size = operand.shape[0] + abs(offset)
    zero = building.captured(np.zeros((), operand.dtype))
    line = operand
    if offset:
        rest = building.broadcast_to(zero, (abs(offset),))
        line = building.concatenate([operand, rest], 0, operand.dtype)
    if offset >= 0:
        line = building.view(line, IndexMap.insert_axes(1, line.shape))
    shape = (size, size)
    chunks = cut("auto", shape, operand.dtype.itemsize)
    mask = Generated(shape, np.dtype(bool), chunks, OnDiagonal(offset))
    return building.astype(building.elementwise(np.where, [mask, line, zero])[0], operand.dtype)
