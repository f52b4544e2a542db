"""Summaries of an array in one pass: counts, extremes, moments, histogram."""

from __future__ import annotations

from typing import Any

from darray.expr import building
from darray.handle import DArray, as_expression
from darray.kernels.binning import Histogram
from darray.kernels.summary import Summary

__all__ = ["summary", "value_histogram"]


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


def value_histogram(x: Any, bins: int = 1024) -> DArray:
    """Histogram of all values in one pass, without knowing their range beforehand.

    The bins, at most `bins`, have a power of two as their width; the counts are exact and
    depend on no cut. NaNs and infinities are counted apart.

    Returns
    -------
    DArray
        One record, which `darray.kernels.binning.counts_and_edges` reads.

    Examples
    --------
    >>> import darray as da
    >>> from darray.functions.summaries import value_histogram
    >>> from darray.kernels.binning import counts_and_edges
    >>> counts_and_edges(value_histogram(da.arange(4, blocks=2), bins=2).collect())
    (array([2, 2]), array([0., 2., 4.]))
    """
    return DArray.of(building.reduce(as_expression(x), Histogram(bins), None, False))
