"""Reductions of all of an array that is there, to one number, without partial results."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed
from darray.kernels.extrema import ArgExtremum, uncopied
from darray.kernels.moments import SMALLEST, Mean, Variance, squared_deviations
from darray.kernels.quick_moments import FEWEST
from darray.kernels.reductions import NO_VALUE, CountNonzero, Reduction, UfuncReduction

__all__ = ["of_all"]

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


def _of_ufunc(reduction: UfuncReduction, array: Array) -> Any:
    if reduction.initial is not NO_VALUE or array.dtype.kind == "c":
        return None
    return reduction.ufunc.reduce(array, None, reduction.dtype)


def _mean(reduction: Mean, array: Array) -> Any:
    if reduction.dtype is not None or reduction.skip_nan or array.dtype != np.float64:
        return None
    if not array.size:
        return None
    mean = float(np.add.reduce(array, None)) / array.size
    # Of a quotient that may have lost digits Python does not tell.
    return np.float64(mean) if abs(mean) >= SMALLEST else None


def _variance(reduction: Variance, array: Array) -> Any:
    if reduction.dtype is not None or reduction.skip_nan or array.dtype != np.float64:
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
    if not (SMALLEST <= quotient and isfinite(quotient)):
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
