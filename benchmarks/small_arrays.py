"""What a DArray of one chunk costs over NumPy: expressions of 10,000 elements, built and collected.

Run: ``python benchmarks/small_arrays.py``. Exits with 1 when a required figure is missed. Judged
are the fastest of many short runs in turn, since what disturbs them only adds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import darray as da

REQUIRED_MICROSECONDS = 60.0
AIM_MICROSECONDS = 30.0
ELEMENTS = 10_000
ROUNDS = 100
CALLS = 10

EXPRESSIONS: dict[str, Callable[[Any, Any], Any]] = {
    "x + y": lambda x, y: x + y,
    "sqrt(x*x + y*y)": lambda x, y: np.sqrt(x * x + y * y),
    "where(x > .5, x*2 + 1, y - 3)": lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3),
    "sin(x)**2 + cos(y)**2": lambda x, y: np.sin(x) ** 2 + np.cos(y) ** 2,
    "x.sum()": lambda x, _: x.sum(),
    "x.argmax()": lambda x, _: x.argmax(),
    "x.std()": lambda x, _: x.std(),
    "(x - x.mean()) / x.std()": lambda x, _: (x - x.mean()) / x.std(),
    "sqrt(x*x + y*y).sum()": lambda x, y: np.sqrt(x * x + y * y).sum(),
}


def time_of(call: Callable[[], Any]) -> float:
    """Microseconds of one call, over a few."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1e6


def contenders(expression: Callable[[Any, Any], Any]) -> dict[str, Callable[[], Any]]:
    """What computes an expression, by name; all give the same."""
    a, b = np.random.default_rng(0).random((2, ELEMENTS))
    x, y = da.distribute(a), da.distribute(b)
    found: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: expression(a, b),
        "darray": lambda: expression(x, y).collect(),
    }
    try:
        import dask.array
    except ImportError:
        return found
    p, q = dask.array.from_array(a), dask.array.from_array(b)
    found["dask.array"] = lambda: expression(p, q).compute(scheduler="sync")
    return found


def main() -> int:
    """Measure, print, and judge."""
    missed = 0
    print(f"{ELEMENTS:,} float64, built and collected: fastest of {ROUNDS} runs of {CALLS}, in us")
    for text, expression in EXPRESSIONS.items():
        calls = contenders(expression)
        for call in calls.values():
            np.testing.assert_allclose(call(), calls["NumPy"]())
        best = dict.fromkeys(calls, float("inf"))
        for number in range(ROUNDS):
            for name, call in calls.items():
                # Nobody needs the milliseconds of others to the last digit.
                if name != "dask.array" or number < ROUNDS // 20:
                    best[name] = min(best[name], time_of(call))
        over = best["darray"] - best["NumPy"]
        verdict = "aim" if over <= AIM_MICROSECONDS else "required"
        verdict = verdict if over <= REQUIRED_MICROSECONDS else "short"
        missed += verdict == "short"
        times = ", ".join([f"{name} {found:.1f}" for name, found in best.items()])
        print(f"  {text:<30} {over:6.1f} over NumPy ({verdict}): {times}")
    print(f"required {REQUIRED_MICROSECONDS:.0f} us over NumPy, aim {AIM_MICROSECONDS:.0f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
