"""Products of vectors, matrices and arrays of more axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.expr import building, products
from darray.expr.nodes import Expression
from darray.handle import DArray, as_expression, write_results
from darray.index_maps import IndexMap

__all__ = ["dot", "inner", "outer", "tensordot", "vdot"]


def _array(value: Any) -> Any:
    """The expression of an array, or the NumPy scalar that a number is."""
    if isinstance(value, DArray):
        return value.expression
    array = np.asarray(value)
    return as_expression(array) if array.ndim else array[()]


def _flat(array: Expression) -> Expression:
    """The array with one axis."""
    if len(array.shape) == 1:
        return array
    flat: Any = np.ravel(DArray.of(array))
    return flat.expression  # type: ignore[no-any-return]


def _contracted(
    a: Expression, b: Expression, axes: tuple[list[int], list[int]], dtype: np.dtype[Any]
) -> Expression:
    """Sums of products over axes of `a` and of `b`, the other axes in order."""
    axes_a, axes_b = axes
    free_a = [axis for axis in range(len(a.shape)) if axis not in axes_a]
    free_b = [axis for axis in range(len(b.shape)) if axis not in axes_b]
    left = building.view(a, IndexMap.transpose([*free_a, *axes_a], a.shape))
    right = building.view(b, IndexMap.transpose([*axes_b, *free_b], b.shape))
    return products.contract(left, right, 0, len(axes_a), dtype, "dot")


def _multiplied(a: Any, b: Any) -> Expression:
    """The product of two operands of which one has no axes."""
    return building.elementwise(np.multiply, [a, b])[0]


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """Product over the last axis of `a` and the last but one of `b`, as `numpy.dot`.

    Every element differs from the exact one by at most ``k * eps`` times the sum of the
    absolute values of its `k` products; for complex numbers by twice that. Half precision is
    summed in single precision.

    Examples
    --------
    >>> import darray as da
    >>> int(np.dot(da.arange(3), da.arange(3)))
    5
    """
    operands = _array(a), _array(b)
    dtype = products.sampled(np.dot, operands)
    first, second = operands
    if np.shape(first) and np.shape(second):
        last = len(first.shape) - 1
        middle = max(0, len(second.shape) - 2)
        result = _contracted(first, second, ([last], [middle]), dtype)
    else:
        result = _multiplied(first, second)
    if out is None:
        return DArray.result_of(result)
    if isinstance(out, np.ndarray) and (
        out.dtype != result.dtype or out.shape != result.shape or not out.flags.c_contiguous
    ):
        raise ValueError(
            f"out= of np.dot must be a C-contiguous array of {result.dtype} and shape "
            f"{result.shape}, this is one of {out.dtype} and shape {out.shape}"
        )
    return write_results((result,), (out,))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> DArray:
    """Product over the last axes of `a` and of `b`, as `numpy.inner`; as exact as `dot`.

    Examples
    --------
    >>> import darray as da
    >>> np.inner(da.ones((2, 3)), da.arange(3)).collect()
    array([3., 3.])
    """
    first, second = _array(a), _array(b)
    dtype = products.sampled(np.inner, (first, second))
    if not (np.shape(first) and np.shape(second)):
        return DArray.result_of(_multiplied(first, second))
    last_axes = [len(first.shape) - 1], [len(second.shape) - 1]
    return DArray.result_of(_contracted(first, second, last_axes, dtype))


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> DArray:
    """Sum of the products of all elements, those of `a` conjugated, as `numpy.vdot`.

    It is as exact as `dot`.

    Examples
    --------
    >>> import darray as da
    >>> np.vdot(da.full(3, 2j), da.full(3, 2j)).collect()
    array(12.+0.j)
    """
    first, second = as_expression(a), as_expression(b)
    if math.prod(first.shape) != math.prod(second.shape):
        raise ValueError(
            f"np.vdot needs as many elements in both arrays, their shapes are {first.shape} and "
            f"{second.shape}"
        )
    dtype = products.sampled(np.vdot, [np.zeros(1, one.dtype) for one in (first, second)])
    if first.shape != second.shape:
        first, second = _flat(first), _flat(second)
    if first.dtype.kind == "c":
        first = building.elementwise(np.conjugate, [first])[0]
    axes = list(range(len(first.shape)))
    # NumPy says nothing of floating-point errors here.
    with np.errstate(all="ignore"):
        return DArray.result_of(_contracted(first, second, (axes, axes), dtype))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> DArray:
    """Sums of products over several axes, as `numpy.tensordot`; as exact as `dot`.

    Examples
    --------
    >>> import darray as da
    >>> np.tensordot(da.ones((2, 3, 4)), da.ones((4, 3)), axes=([1, 2], [1, 0])).collect()
    array([12., 12.])
    """
    first, second = as_expression(a), as_expression(b)
    dtype = products.sampled(np.tensordot, (first, second), axes)
    if np.iterable(axes):
        ours, theirs = ([*one] if np.iterable(one) else [one] for one in axes)
    else:
        ours, theirs = [*range(-axes, 0)], [*range(axes)]
    summed = (
        [axis % len(first.shape) for axis in ours],
        [axis % len(second.shape) for axis in theirs],
    )
    return DArray.of(_contracted(first, second, summed, dtype))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """Product of every element of `a` with every one of `b`, as `numpy.outer`.

    Examples
    --------
    >>> import darray as da
    >>> np.outer(da.arange(2), da.arange(3)).collect()
    array([[0, 0, 0],
           [0, 1, 2]])
    """
    first, second = _flat(as_expression(a)), _flat(as_expression(b))
    result = _multiplied(*products.outer_operands(first, second))
    return DArray.of(result) if out is None else write_results((result,), (out,))
