"""Summaries of an array in one pass: counts, extremes, moments, histogram."""

from __future__ import annotations

from typing import Any

from darray.expr import building
from darray.handle import DArray, as_expression
from darray.kernels.summary import Summary

__all__ = ["summary"]


def summary(x: Any, axis: Any = None, keepdims: bool = False) -> DArray:
    """Count, NaNs, minimum, maximum, mean and standard deviation, in one pass.

    NaNs are counted and otherwise left out; mean and population standard deviation are
    accumulated in float64.

    Returns
    -------
    DArray
        With fields ``count``, ``nans``, ``min``, ``max``, ``mean`` and ``std``.

    Raises
    ------
    TypeError
        For dtypes that have no order or no mean, such as complex.

    Examples
    --------
    >>> import darray as da
    >>> from darray.functions.summaries import summary
    >>> summary(da.arange(5, blocks=2)).collect()["mean"]
    array(2.)
    """
    return DArray.of(building.reduce(as_expression(x), Summary(), axis, keepdims))
