"""What a DArray of one chunk costs over NumPy: ``x + y`` on 1,000 elements, built and collected.

Run: ``python benchmarks/small_arrays.py``. Exits with 1 when the required figure is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import darray as da

REQUIRED_MICROSECONDS = 60.0
AIM_MICROSECONDS = 30.0
ROUNDS = 15
CALLS = 300


def time_of(call: Callable[[], Any]) -> float:
    """Microseconds of one call, over many."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1e6


def main() -> int:
    """Measure, print, and judge."""
    a, b = np.random.default_rng(0).random((2, 1000))
    x, y = da.distribute(a), da.distribute(b)
    contenders: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: a + b,
        "darray": lambda: (x + y).collect(),
    }
    try:
        import dask.array
    except ImportError:
        print("dask is not installed: compared with NumPy alone")
    else:
        p, q = dask.array.from_array(a), dask.array.from_array(b)
        contenders["dask.array"] = lambda: (p + q).compute(scheduler="sync")
    for call in contenders.values():
        assert np.array_equal(call(), a + b)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            times[name].append(time_of(call))
    print(f"x + y, 1,000 float64, built and collected: {ROUNDS} rounds of {CALLS} calls, in us")
    for name, found in times.items():
        print(f"  {name:<11} min {min(found):8.2f}   median {median(found):8.2f}")
    over = median(times["darray"]) - median(times["NumPy"])
    verdict = "aim" if over <= AIM_MICROSECONDS else "required"
    verdict = verdict if over <= REQUIRED_MICROSECONDS else "short"
    print(f"darray over NumPy: {over:.1f} us (required {REQUIRED_MICROSECONDS:.0f}, {verdict})")
    return 0 if over <= REQUIRED_MICROSECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
