"""Mean and squared deviations of many real numbers in one pass over their memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed

__all__ = ["quick_moments"]

# Elements that are looked at together: their deviations stay in the second-level cache.
_TILE = 1 << 15

# Elements whose squares BLAS adds one after another; the sums of these are added pairwise. NumPy
# adds 128 so, in eight sums; BLAS has sixteen or more.
_ROW = 512

# Where the mean lies further from the shift than so many standard deviations, squared, the
# difference of squares has lost five of its fifty-two bits.
_FAR = 32.0


def quick_moments(values: NDArray[Any]) -> tuple[Any, Any, Any] | None:
    """A shift, what the mean lies off it, and the squared deviations from the mean.

    The shift is the mean of the first tile, so that one pass is enough: Chan, Golub and LeVeque,
    "Algorithms for computing the sample variance" (1983), shifted one-pass algorithm. None where
    it is not: few values, others than float32 and float64 in one line, values that are not finite
    or overflow, or a mean far from the shift. No floating-point flag is raised.

    Examples
    --------
    >>> shift, offset, squares = quick_moments(np.arange(100_000.0))
    >>> float(shift + offset), float(squares) / 100_000
    (49999.5, 833333333.25)
    >>> quick_moments(np.full(100_000, np.inf))
    """
    dtype = values.dtype
    if len(values) < _TILE or dtype.char not in "fd" or not values.flags.c_contiguous:
        return None
    with np.errstate(all="ignore"), borrowed(_TILE * dtype.itemsize) as memory:
        buffer = memory[: _TILE * dtype.itemsize].view(dtype)
        shift = np.add.reduce(values[:_TILE]) / dtype.type(_TILE)
        ones = np.ones(_ROW, dtype)
        firsts, seconds = [], []
        for start in range(0, len(values), _TILE):
            part = values[start : start + _TILE]
            deviations = np.subtract(part, shift, out=buffer[: len(part)])
            whole = len(part) // _ROW * _ROW
            rows = deviations[:whole].reshape(-1, _ROW)
            rest = deviations[whole:]
            first = np.add.reduce(np.matmul(rows, ones), dtype=np.float64)
            second = np.add.reduce(np.vecdot(rows, rows), dtype=np.float64)
            firsts.append(first + np.add.reduce(rest, dtype=np.float64))
            seconds.append(second + np.add.reduce(np.square(rest), dtype=np.float64))
        first, second = np.add.reduce(firsts), np.add.reduce(seconds)
        offset = first / len(values)
        squares = second - offset * first
        if not np.isfinite(squares) or offset * first > _FAR * squares:
            return None
    return np.float64(shift), offset, squares
