"""The figures that NumPy gives: what describe is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from darray.command.findings import Bins, Findings
from tests.view import ROOT

__all__ = ["findings_of", "real_or_made_data", "summary_of"]

_REAL = ROOT.parent / "shared" / "data" / "era5_t2m_uk_2019_03.npy"


def real_or_made_data() -> np.ndarray:
    """Return hours of temperature over the UK, or a field of their shape and range."""
    if _REAL.exists():
        found: np.ndarray = np.load(_REAL)
        return found
    hours, rows, columns = np.ogrid[:744, :33, :49]
    daily = 4 * np.sin(2 * np.pi * hours / 24)
    noise = np.random.default_rng(0).normal(0, 2, (744, 33, 49))
    return (288 - rows / 4 + columns / 9 + daily + noise).astype(np.float32)


def summary_of(array: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the summary of the valid values of `array`, which has some everywhere."""
    record = np.dtype(
        [
            ("count", np.int64),
            ("nans", np.int64),
            ("min", array.dtype),
            ("max", array.dtype),
            ("mean", np.float64),
            ("std", np.float64),
        ]
    )
    missing = np.isnan(array)
    values = array.astype(np.float64)
    result = np.empty(missing.sum(axis=axis).shape, record)
    result["count"] = (~missing).sum(axis=axis)
    result["nans"] = missing.sum(axis=axis)
    result["min"] = np.nanmin(array, axis=axis)
    result["max"] = np.nanmax(array, axis=axis)
    result["mean"] = np.nanmean(values, axis=axis)
    result["std"] = np.nanstd(values, axis=axis)
    return result


def findings_of(array: np.ndarray, axis: int | None = None, **changes: Any) -> Findings:
    """Return the findings about `array`, computed by NumPy."""
    counts, edges = np.histogram(array[~np.isnan(array)], bins=20)
    values: dict[str, Any] = {
        "path": str(Path("folder") / "a.npy"),
        "shape": array.shape,
        "dtype": array.dtype,
        "chunks": array.shape,
        "nbytes": array.nbytes,
        "whole": summary_of(array),
        "axis": axis,
        "along": None if axis is None else summary_of(array, axis),
        "asked": axis is not None,
        "line": array if array.ndim == 1 else None,
        "bins": Bins(counts, edges.astype(np.float64)),
        "seconds": 1.5,
    }
    return Findings(**{**values, **changes})
