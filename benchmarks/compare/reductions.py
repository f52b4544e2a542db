"""Rows of reductions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.compare.cases import Case, evaluated, rows
from benchmarks.compare.contenders import ROUNDING
from benchmarks.compare.judging import Judged, speed
from benchmarks.compare.turns import Times


def deviation_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [speed(times, "darray", "dask", 2.3, 3.0)]


def simple_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 1.3, 2.0),
        speed(times, "darray", "NumPy", 0.9, 1.5, at_best=True),
    ]


def fused_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 3.0, 4.0),
        speed(times, "darray", "hand-written", 0.75, 0.9),
    ]


LARGE = 100_000_000

CASES = {
    "std": Case("std", lambda x: x.std(), deviation_judged, 1, LARGE, error=ROUNDING),
    "sum": Case("sum", lambda x: x.sum(), simple_judged, 1, LARGE, by_hand="total", error=ROUNDING),
    "mean-0": Case(
        "mean(axis=0)", lambda x: x.mean(axis=0), simple_judged, 1, LARGE, True, error=ROUNDING
    ),
    "argmax": Case("argmax", lambda x: np.argmax(x), simple_judged, 1, LARGE),
    "hypotenuse-sum": Case(
        "sqrt(x*x+y*y).sum()",
        lambda x, y: np.sqrt(x * x + y * y).sum(),
        fused_judged,
        numexpr=evaluated("sum(sqrt(x*x + y*y))", "xy"),
        by_hand="hypotenuse_total",
        error=ROUNDING,
    ),
}

ROWS = rows(CASES)
