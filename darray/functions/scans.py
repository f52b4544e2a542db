"""Cumulative sums and products, and differences: NumPy's functions along one axis."""

from __future__ import annotations

from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from darray.dispatch import implements
from darray.expr import reshaping, scans
from darray.functions.joining import concatenate
from darray.functions.shapes import atleast_1d, broadcast_to, handle_on, ravel
from darray.handle import DArray, as_expression, write_results
from darray.kernels.reductions import NO_VALUE

__all__ = [
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "ediff1d",
    "nancumprod",
    "nancumsum",
]


def _scanned(ufunc: np.ufunc, a: Any, axis: Any, dtype: Any, out: Any) -> Any:
    operand = as_expression(a)
    if axis is None or not operand.shape:
        operand = reshaping.reshape(operand, (-1,))
    along = 0 if axis is None else as_integer(axis)
    result = scans.accumulate(ufunc, operand, along, dtype, out)
    return DArray.of(result) if out is None else write_results((result,), (out,), casting="unsafe")


@implements(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Sums of all elements up to each, as `numpy.cumsum`.

    Sums of integers are NumPy's to the bit. Sums of floats take ``m + n / m`` additions at most,
    for n elements in chunks of m, where NumPy's take n: their error is at most so many unit
    roundoffs of the sum of the absolute values. They never decrease where no element is negative.

    Examples
    --------
    >>> import darray as da
    >>> np.cumsum(da.arange(5, blocks=2)).collect()
    array([ 0,  1,  3,  6, 10])
    """
    return _scanned(np.add, a, axis, dtype, out)


@implements(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Products of all elements up to each, as `numpy.cumprod`.

    They are NumPy's to the bit, but for complex ones, whose bits depend on how the numbers lie
    in memory. Products of floats are computed chunk after chunk along the axis.

    Examples
    --------
    >>> import darray as da
    >>> np.cumprod(da.arange(1, 5, blocks=2)).collect()
    array([ 1,  2,  6, 24])
    """
    return _scanned(np.multiply, a, axis, dtype, out)


def _replaced(a: Any, value: int) -> DArray:
    """`a` with `value` for NaN."""
    array = handle_on(a)
    if array.dtype.kind not in "fc":
        return array
    return np.where(np.isnan(array), array.dtype.type(value), array)  # type: ignore[return-value]


@implements(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Sums of all elements up to each, NaN taken for 0, as `numpy.nancumsum`."""
    return cumsum(_replaced(a, 0), axis, dtype, out)


@implements(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Products of all elements up to each, NaN taken for 1, as `numpy.nancumprod`."""
    return cumprod(_replaced(a, 1), axis, dtype, out)


def _cumulative(
    ufunc: np.ufunc, x: Any, axis: Any, dtype: Any, out: Any, include_initial: bool
) -> Any:
    array = atleast_1d(x)
    if axis is None and array.ndim > 1:
        raise ValueError(
            "For arrays which have more than one dimension ``axis`` argument is required."
        )
    along = 0 if axis is None else axis
    if not include_initial:
        return ufunc.accumulate(array, along, dtype, out)
    found = DArray.of(scans.accumulate(ufunc, array.expression, along, dtype, out))
    shape = list(array.shape)
    shape[along] = 1
    initial = np.broadcast_to(np.asarray(ufunc.identity, found.dtype), shape)
    result = concatenate([initial, found], axis=along)
    if out is None:
        return result
    return write_results((result.expression,), (out,), casting="unsafe")


@implements(np.cumulative_sum)
def cumulative_sum(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Any:
    """Sums of all elements up to each, with 0 before the first if asked for.

    As `numpy.cumulative_sum`; see `cumsum` for how exact they are.

    Examples
    --------
    >>> import darray as da
    >>> np.cumulative_sum(da.arange(4, blocks=2), include_initial=True).collect()
    array([0, 0, 1, 3, 6])
    """
    return _cumulative(np.add, x, axis, dtype, out, include_initial)


@implements(np.cumulative_prod)
def cumulative_prod(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Any:
    """Products of all elements up to each, with 1 before the first if asked for.

    As `numpy.cumulative_prod`.

    Examples
    --------
    >>> import darray as da
    >>> np.cumulative_prod(da.arange(1, 4, blocks=2), include_initial=True).collect()
    array([1, 1, 2, 6])
    """
    return _cumulative(np.multiply, x, axis, dtype, out, include_initial)


@implements(np.diff)
def diff(
    a: Any, n: int = 1, axis: int = -1, prepend: Any = NO_VALUE, append: Any = NO_VALUE
) -> DArray:
    """Differences of neighbours along an axis, `n` times over, as `numpy.diff`.

    Examples
    --------
    >>> import darray as da
    >>> np.diff(da.arange(4, blocks=2) ** 2).collect()
    array([1, 3, 5])
    """
    if n == 0:
        return a  # type: ignore[no-any-return]
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    array = handle_on(a)
    if array.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    along = normalize_axis_index(axis, array.ndim)
    edge = (*array.shape[:along], 1, *array.shape[along + 1 :])
    parts = []
    for part in (prepend, array, append):
        if part is not NO_VALUE:
            handle = handle_on(part)
            parts.append(handle if handle.ndim else broadcast_to(handle, edge))
    if len(parts) > 1:
        array = concatenate(parts, axis=along)
    before = (slice(None),) * along
    ufunc = np.not_equal if array.dtype == bool else np.subtract
    for _ in range(n):
        array = ufunc(array[(*before, slice(1, None))], array[(*before, slice(None, -1))])  # type: ignore[assignment]
    return array


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> DArray:
    """Differences of neighbours of the flattened array, between other numbers if asked for.

    As `numpy.ediff1d`.

    Examples
    --------
    >>> import darray as da
    >>> np.ediff1d(da.arange(4, blocks=2), to_begin=-1).collect()
    array([-1,  1,  1,  1])
    """
    array = ravel(ary)
    parts = []
    for name, ends in (("to_begin", to_begin), ("to_end", to_end)):
        if ends is None:
            continue
        handle = handle_on(ends)
        if not np.can_cast(handle.dtype, array.dtype, "same_kind"):
            raise TypeError(
                f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule."
            )
        parts.append(ravel(handle.astype(array.dtype)))
    steps: Any = array[1:] - array[:-1]
    if not parts:
        return steps  # type: ignore[no-any-return]
    ordered = [steps, *parts] if to_begin is None else [parts[0], steps, *parts[1:]]
    return concatenate(ordered, axis=0)  # type: ignore[no-any-return]
