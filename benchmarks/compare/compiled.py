"""Hand-written loops of Numba: what a compiled kernel could reach. Imported only where Numba is.

The sums may be added in any order, so that they run in vector registers; nothing else that
changes a value is allowed to the compiler.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from numba import njit, prange

parallel = njit(parallel=True, nogil=True, error_model="numpy")
parallel_sum = njit(parallel=True, nogil=True, error_model="numpy", fastmath={"reassoc"})


@parallel
def hypotenuse(x: Any, y: Any, out: Any) -> None:
    for i in prange(x.size):
        out[i] = sqrt(x[i] * x[i] + y[i] * y[i])


@parallel
def products(a: Any, b: Any, c: Any, d: Any, e: Any, out: Any) -> None:
    for i in prange(a.size):
        out[i] = a[i] * b[i] + c[i] * d[i] - e[i]


@parallel
def where(x: Any, y: Any, out: Any) -> None:
    for i in prange(x.size):
        out[i] = x[i] * 2 + 1 if x[i] > 0.5 else y[i] - 3


@parallel_sum
def total(x: Any) -> Any:
    found = 0.0
    for i in prange(x.size):
        found += x[i]
    return found


@parallel_sum
def hypotenuse_total(x: Any, y: Any) -> Any:
    found = 0.0
    for i in prange(x.size):
        found += sqrt(x[i] * x[i] + y[i] * y[i])
    return found
