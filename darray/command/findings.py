"""What ``darray describe`` found out about an array, as data."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["FIGURES", "Bins", "Findings"]

# The fields of a summary, in the order in which they are shown.
FIGURES = ("count", "nans", "min", "max", "mean", "std")


class Bins(Struct, frozen=True):
    """A histogram: ``counts[k]`` values lie between ``edges[k]`` and ``edges[k + 1]``."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


class Findings(Struct, frozen=True):
    """The figures of one array.

    Attributes
    ----------
    path : str
        Where the array is stored.
    shape, dtype, chunks
        Those of the array; `chunks` is the shape of the largest chunk.
    nbytes : int
        Bytes of all elements, uncompressed.
    whole : numpy.ndarray
        The summary of all elements: 0-d, structured, with the fields of `FIGURES`. The figures
        are those of the values that are not NaN, and `count` is their number.
    axis : int or None
        The axis of `along`, from 0.
    along : numpy.ndarray or None
        The summaries along `axis`: structured, of the array's shape without that axis.
    asked : bool
        Whether `along` was asked for, or made for the plot only.
    line : numpy.ndarray or None
        Every k-th value of 1-d data, for the plot.
    bins : Bins or None
        The histogram of all elements.
    seconds : float
        How long the computation took.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    nbytes: int
    whole: NDArray[Any]
    axis: int | None
    along: NDArray[Any] | None
    asked: bool
    line: NDArray[Any] | None
    bins: Bins | None
    seconds: float
