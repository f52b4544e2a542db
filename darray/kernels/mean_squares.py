"""Variance and standard deviation of chunks about means that are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.moments import Mean
from darray.kernels.reductions import Partial, Warn

__all__ = ["MeanSquare"]


class MeanSquare(Mean, frozen=True):
    """What `np.var` and `np.std` make of squared distances from the mean.

    Parameters
    ----------
    ddof
        Taken off the number of values in the divisor.
    root
        Whether to return the standard deviation.
    nan_if_lacking
        Whether too few values give NaN without more words, as in `np.nanvar`.

    Examples
    --------
    >>> square = MeanSquare(ddof=1)
    >>> parts = [square.partial(np.array(a), (0,), None, (), ()) for a in ([1, 4], [9])]
    >>> square.finish(square.combine(parts), print)
    array([7.])
    """

    ddof: Any = 0
    root: bool = False
    nan_if_lacking: bool = False

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return ("nan" if self.nan_if_lacking else "") + ("std" if self.root else "var")

    def finish(self, partial: Partial, warn: Warn) -> NDArray[Any]:
        """Return the sum over the degrees of freedom, or its root."""
        total, count, witness = partial
        degrees = count - self.ddof
        lacking = np.broadcast_to(degrees <= 0, total.shape)
        if self.nan_if_lacking:
            with np.errstate(invalid="ignore", divide="ignore"):
                variance = np.true_divide(total, degrees)
            if lacking.any():
                warn("Degrees of freedom <= 0 for slice.")
                variance = np.where(lacking, np.nan, variance)
        else:
            if (degrees <= 0).any():
                warn("Degrees of freedom <= 0 for slice")
            variance = np.true_divide(total, np.maximum(degrees, 0))
        result = np.asarray(variance).astype(self.result_dtype(witness.dtype), copy=False)
        return np.asarray(np.sqrt(result)) if self.root else result
