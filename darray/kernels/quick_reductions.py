"""Reductions of arrays that are there as a whole, without partial results."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed
from darray.kernels.extrema import ArgExtremum, uncopied
from darray.kernels.line_sums import is_line, sum_of_line
from darray.kernels.moments import SMALLEST, Mean, Variance, squared_deviations
from darray.kernels.quick_moments import FEWEST
from darray.kernels.reductions import NO_VALUE, CountNonzero, Reduction, UfuncReduction

__all__ = ["of_all", "of_axes"]

Array = NDArray[Any]


def of_all(reduction: Reduction, array: Array) -> Any:
    """What `reduction` gives of all of `array`, a scalar, to the bit as by its partial result.

    None where it is to be found by that: what small arrays feel is left out here, and whatever
    is not the commonest. The array has numbers or truth values in one or more axes.

    Examples
    --------
    >>> of_all(Mean(), np.arange(4.0)), of_all(ArgExtremum(True), np.arange(4.0))
    (np.float64(1.5), np.int64(3))
    >>> of_all(Mean(), np.zeros(3)) is None
    True
    """
    way = _WAYS.get(reduction.__class__)
    return None if way is None or not array.ndim else way(reduction, array)


def of_axes(reduction: Reduction, array: Array, axes: tuple[int, ...]) -> Any:
    """What `reduction` gives of all of `array` over `axes`, which the result does not have.

    To the bit what its partial result gives; None where it is to be found by that.

    Examples
    --------
    >>> of_axes(Mean(), np.arange(6.0).reshape(2, 3), (0,))
    array([1.5, 2.5, 3.5])
    """
    if len(axes) == array.ndim:
        return of_all(reduction, array)
    kind = reduction.__class__
    if kind is UfuncReduction:
        return _of_ufunc(reduction, array, axes)
    if kind is not Mean or not _is_plain(reduction, array):
        return None
    count = prod([array.shape[axis] for axis in axes])
    if not (count and axes):
        return None
    total = np.add.reduce(array, axes)
    return np.true_divide(total, count, out=total)


def _is_plain(reduction: Any, array: Array) -> bool:
    """Whether Python's floats do what a reduction of `array` asks for."""
    return reduction.dtype is None and not reduction.skip_nan and array.dtype == np.float64


def _of_ufunc(reduction: Any, array: Array, axes: tuple[int, ...] | None = None) -> Any:
    if reduction.initial is not NO_VALUE or array.dtype.kind == "c":
        return None
    if (axes is None or len(axes) == array.ndim) and reduction.adds(array):
        return sum_of_line(array)
    return reduction.ufunc.reduce(array, axes, reduction.dtype)


def _mean(reduction: Mean, array: Array) -> Any:
    if not _is_plain(reduction, array) or not array.size:
        return None
    total = sum_of_line(array) if is_line(array) else np.add.reduce(array, None)
    mean = float(total) / array.size
    # Of a quotient that may have lost digits Python does not tell.
    return np.float64(mean) if abs(mean) >= SMALLEST else None


def _variance(reduction: Variance, array: Array) -> Any:
    if not _is_plain(reduction, array):
        return None
    count = array.size
    if array.ndim > 1 or not 0 < count < FEWEST or type(reduction.ddof) is not int:
        return None
    mean = float(np.add.reduce(array)) / count
    if abs(mean) < SMALLEST or count <= reduction.ddof:
        return None
    nbytes = array.nbytes
    with borrowed(nbytes) as memory:
        _, squares = squared_deviations(array, mean, memory[:nbytes].view(np.float64))
    quotient = squares / (count - reduction.ddof)
    if quotient < SMALLEST or not isfinite(quotient):
        return None
    return np.float64(sqrt(quotient) if reduction.root else quotient)


def _arg_extremum(reduction: ArgExtremum, array: Array) -> Any:
    if reduction.skip_nan or not array.size or not array.flags.c_contiguous:
        return None
    line = uncopied(array)
    return line.argmax() if reduction.largest else line.argmin()


def _count_nonzero(reduction: CountNonzero, array: Array) -> Any:
    return np.intp(np.count_nonzero(array))


_WAYS: dict[type, Callable[[Any, Array], Any]] = {
    UfuncReduction: _of_ufunc,
    Mean: _mean,
    Variance: _variance,
    ArgExtremum: _arg_extremum,
    CountNonzero: _count_nonzero,
}
