"""Sums of many real numbers in one line of memory, as exact as NumPy's and faster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed

__all__ = ["FEWEST", "is_line", "sum_of_line"]

Array = NDArray[Any]

# Elements from which on it pays.
FEWEST = 1 << 16

# Elements that BLAS adds, in several sums at a time: 32 or 64 elements each on most processors,
# where NumPy adds 16 so. The sums of these are added pairwise.
_ROW = 512

# Elements of a line with gaps that NumPy adds in one go. For those of a chunk of the usual size at
# once, 2e5 to 2.7e5 of them, it waits a third longer for memory; from twice as many on it does not.
_RUN = 1 << 17
_LONG = 1 << 19

_ONES = {dtype: np.ones(_ROW, dtype) for dtype in "fd"}


def is_line(array: Array) -> bool:
    """Whether `sum_of_line` adds the elements of `array`: many in single or double precision.

    With gaps between them only those of one axis, of a chunk in double precision.

    Examples
    --------
    >>> is_line(np.zeros((400, 500))), is_line(np.zeros((400, 500))[:, ::2]), is_line(np.zeros(9))
    (True, False, False)
    """
    if array.size < FEWEST or array.dtype.char not in "fd" or not array.dtype.isnative:
        return False
    is_with_gaps = array.ndim == 1 and array.dtype.char == "d" and array.size < _LONG
    return array.flags.forc or is_with_gaps


def sum_of_line(array: Array) -> Any:
    """The sum of all elements of `array`, a scalar of its dtype, in the order of memory.

    What is added to what depends on their number and on the kind of processor. A sum that is not
    finite is found again by ``np.add.reduce``, which raises NumPy's flags. A finite one raises
    none, also where NumPy's order would overflow on the way.

    Examples
    --------
    >>> sum_of_line(np.arange(200_000.0))
    np.float64(19999900000.0)
    """
    if not array.flags.forc:
        return _sum_in_runs(array)
    line = array.ravel(order="K")
    count = len(line) // _ROW
    with np.errstate(all="ignore"), borrowed((count + 1) * line.itemsize) as memory:
        sums = memory[: (count + 1) * line.itemsize].view(line.dtype)
        rows = line[: count * _ROW].reshape(count, _ROW)
        np.vecdot(rows, _ONES[line.dtype.char], out=sums[:count])
        sums[count] = np.add.reduce(line[count * _ROW :])
        total = np.add.reduce(sums)
    # Whatever raises a flag in these sums leaves nothing finite: NumPy raises it, and names it.
    return total if np.isfinite(total) else np.add.reduce(line)


def _sum_in_runs(line: Array) -> Any:
    count = len(line) // _RUN
    with np.errstate(all="ignore"):
        sums = np.empty(count + 1)
        np.add.reduce(line[: count * _RUN].reshape(count, _RUN), axis=1, out=sums[:count])
        sums[count] = np.add.reduce(line[count * _RUN :])
        total = np.add.reduce(sums)
    return total if np.isfinite(total) else np.add.reduce(line)
