"""Which reduction stands for which of NumPy's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from darray.kernels.extrema import ArgExtremum, NanExtremum
from darray.kernels.moments import Mean, Variance
from darray.kernels.reductions import (
    NO_VALUE,
    CountNonzero,
    NanFilled,
    Reduction,
    UfuncReduction,
)

__all__ = ["REDUCTIONS", "reduction_of"]


def _dtype(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    return None if dtype is None else np.dtype(dtype)


def _folding(ufunc: np.ufunc, name: str, fill: int | None = None) -> Callable[..., Reduction]:
    def build(*, dtype: DTypeLike | None = None, initial: Any = NO_VALUE) -> Reduction:
        reduction = UfuncReduction(ufunc, _dtype(dtype), initial, name)
        return reduction if fill is None else NanFilled(reduction, fill)

    return build


def _extreme(ufunc: np.ufunc, name: str, skip_nan: bool = False) -> Callable[..., Reduction]:
    def build(*, initial: Any = NO_VALUE) -> Reduction:
        reduction = UfuncReduction(ufunc, None, initial, name)
        return NanExtremum(reduction) if skip_nan else reduction

    return build


def _truth(ufunc: np.ufunc, name: str) -> Callable[..., Reduction]:
    def build() -> Reduction:
        return UfuncReduction(ufunc, np.dtype(bool), name=name)

    return build


def _index(largest: bool, skip_nan: bool = False) -> Callable[..., Reduction]:
    def build() -> Reduction:
        return ArgExtremum(largest, skip_nan)

    return build


def _mean(skip_nan: bool = False) -> Callable[..., Reduction]:
    def build(*, dtype: DTypeLike | None = None) -> Reduction:
        return Mean(_dtype(dtype), skip_nan)

    return build


def _spread(root: bool, skip_nan: bool = False) -> Callable[..., Reduction]:
    def build(
        *, dtype: DTypeLike | None = None, ddof: Any = 0, correction: Any = NO_VALUE
    ) -> Reduction:
        if correction is not NO_VALUE:
            if ddof != 0:
                raise ValueError("ddof and correction can't be provided simultaneously.")
            ddof = correction
        return Variance(_dtype(dtype), ddof, root, skip_nan)

    return build


# What each constructor takes is what the function takes besides array, axis, out, keepdims, where.
REDUCTIONS: Mapping[Callable[..., Any], Callable[..., Reduction]] = MappingProxyType(
    {
        np.sum: _folding(np.add, "sum"),
        np.prod: _folding(np.multiply, "prod"),
        np.nansum: _folding(np.add, "nansum", fill=0),
        np.nanprod: _folding(np.multiply, "nanprod", fill=1),
        np.min: _extreme(np.minimum, "min"),
        np.max: _extreme(np.maximum, "max"),
        np.amin: _extreme(np.minimum, "amin"),
        np.amax: _extreme(np.maximum, "amax"),
        np.nanmin: _extreme(np.fmin, "nanmin", skip_nan=True),
        np.nanmax: _extreme(np.fmax, "nanmax", skip_nan=True),
        np.any: _truth(np.logical_or, "any"),
        np.all: _truth(np.logical_and, "all"),
        np.count_nonzero: CountNonzero,
        np.argmin: _index(largest=False),
        np.argmax: _index(largest=True),
        np.nanargmin: _index(largest=False, skip_nan=True),
        np.nanargmax: _index(largest=True, skip_nan=True),
        np.mean: _mean(),
        np.nanmean: _mean(skip_nan=True),
        np.var: _spread(root=False),
        np.std: _spread(root=True),
        np.nanvar: _spread(root=False, skip_nan=True),
        np.nanstd: _spread(root=True, skip_nan=True),
    }
)


@lru_cache(maxsize=64)
def _without_parameters(function: Callable[..., Any]) -> Reduction:
    return REDUCTIONS[function]()


def reduction_of(function: Callable[..., Any], **parameters: Any) -> Reduction:
    """Return the reduction that does chunk by chunk what a NumPy function or a ufunc's reduce does.

    Parameters
    ----------
    function
        A function of `REDUCTIONS`, or a ufunc, for its `reduce`.
    **parameters
        `dtype`, `initial`, `ddof`, `correction`, where the function has them.

    Raises
    ------
    NotImplementedError
        For a function that is not reduced chunk by chunk.

    Examples
    --------
    >>> reduction_of(np.std, ddof=1).name
    'std'
    >>> reduction_of(np.logaddexp).result_dtype(np.dtype("f4"))
    dtype('float32')
    """
    if isinstance(function, np.ufunc):
        return _folding(function, function.__name__)(**parameters)
    if not parameters and function in REDUCTIONS:
        return _without_parameters(function)
    build = REDUCTIONS.get(function)
    if build is None:
        raise NotImplementedError(
            f"{getattr(function, '__name__', function)!r} is no reduction known here; there are "
            + ", ".join(sorted(known.__name__ for known in REDUCTIONS))
        )
    return build(**parameters)
