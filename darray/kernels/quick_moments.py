"""Mean and squared deviations of many real numbers, in as few passes as they allow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed

__all__ = ["FEWEST", "quick_moments"]

# Elements that are looked at together: they stay in the last cache while they are summed twice, and
# threads seldom wait for each other in Python between two sums.
_TILE = 1 << 18


# Elements from which on it pays.
FEWEST = 1 << 16

# Elements that BLAS adds one after another; the sums of these are added pairwise. NumPy adds 128
# so, in eight sums; BLAS has sixteen or more.
_ROW = 512

# Where the square of the mean is more than so many times the variance, the difference of sums
# has lost three of its fifty-two bits, and the values are summed again about the mean.
_FAR = 8.0


def quick_moments(values: NDArray[Any]) -> tuple[Any, Any, Any] | None:
    """A shift, what the mean lies off it, and the squared deviations from the mean.

    One pass where the values lie about zero; two where their mean has to be taken off first:
    Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983), the shifted
    one-pass algorithm. None for few values, for others than float32 and float64 in one line,
    and where sums are not finite. No floating-point flag is raised.

    Examples
    --------
    >>> shift, offset, squares = quick_moments(np.arange(100_000.0))
    >>> float(shift + offset), float(squares) / 100_000
    (49999.5, 833333333.25)
    >>> quick_moments(np.full(100_000, np.inf))
    """
    if len(values) < FEWEST or values.dtype.char not in "fd" or not values.flags.c_contiguous:
        return None
    with np.errstate(all="ignore"):
        shift = values.dtype.type(0)
        first, second = _sums(values, shift)
        offset = first / len(values)
        squares = second - offset * first
        if offset * first > _FAR * squares:
            shift = values.dtype.type(offset)
            first, second = _sums(values, shift)
            offset = first / len(values)
            squares = np.maximum(second - offset * first, 0.0)
    return (np.float64(shift), offset, squares) if np.isfinite(squares) else None


def _sums(values: NDArray[Any], shift: Any) -> tuple[Any, Any]:
    """Sums of the values less `shift` and of the squares of these, in double precision."""
    dtype = values.dtype
    count = len(values) // _ROW
    firsts, seconds = np.empty(count, dtype), np.empty(count, dtype)
    ones = np.ones(_ROW, dtype)
    with borrowed(_TILE * dtype.itemsize) as memory:
        buffer = memory[: _TILE * dtype.itemsize].view(dtype)
        for start in range(0, count * _ROW, _TILE):
            part = values[start : min(start + _TILE, count * _ROW)]
            if shift:
                part = np.subtract(part, shift, out=buffer[: len(part)])
            rows = part.reshape(-1, _ROW)
            at = slice(start // _ROW, start // _ROW + len(rows))
            np.vecdot(rows, ones, out=firsts[at])
            np.vecdot(rows, rows, out=seconds[at])
    rest = (values[count * _ROW :] - shift).astype(np.float64)
    first = np.add.reduce(firsts, dtype=np.float64) + np.add.reduce(rest)
    return first, np.add.reduce(seconds, dtype=np.float64) + np.add.reduce(np.square(rest))
