"""Rows of elementwise expressions, and of one with a count along an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.compare import resident
from benchmarks.compare.cases import Arrays, Case, evaluated, measure, rows
from benchmarks.compare.contenders import ROUNDING
from benchmarks.compare.judging import Judged, Run, speed
from benchmarks.compare.turns import Times

COUNTED = "((a**3 + sin(2*a)) < c) & (b > 0)"
ROOM_MB = 64


def chain_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 3.5, 4.5),
        speed(times, "darray", "hand-written", 0.7, 0.9),
        speed(times, "darray, no jit", "dask", 1.9, 2.5),
    ]


def where_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 5.0, 6.0),
        speed(times, "darray, no jit", "dask", 2.5, 2.5),
    ]


def standardized_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [speed(times, "darray", "dask", 2.3, 3.0)]


def sines_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 1.15, 1.3),
        speed(times, "darray", "numexpr", 1.0, 1.0),
    ]


def count_judged(times: Mapping[str, Times]) -> list[Judged]:
    return [
        speed(times, "darray", "dask", 2.3, 2.3),
        speed(times, "darray", "numexpr", 1.0, 1.3),
    ]


def standardized_by_numexpr(numexpr: Any, arrays: Arrays) -> Any:
    (x,) = arrays
    return numexpr.evaluate("(x - m) / s", local_dict={"x": x, "m": x.mean(), "s": x.std()})


def count_by_numexpr(numexpr: Any, arrays: Arrays) -> Any:
    return numexpr.evaluate(
        f"sum(where({COUNTED}, 1, 0), axis=1)", local_dict=dict(zip("abc", arrays, strict=True))
    ).astype(np.int64)


def mask_by_numexpr(numexpr: Any, arrays: Arrays) -> Any:
    return numexpr.evaluate(COUNTED, local_dict=dict(zip("abc", arrays, strict=True))).sum(axis=1)


def count(a: Any, b: Any, c: Any) -> Any:
    return np.sum(((a**3 + np.sin(2 * a)) < c) & (b > 0), axis=1)


CASES = {
    "hypotenuse": Case(
        "sqrt(x*x+y*y)",
        lambda x, y: np.sqrt(x * x + y * y),
        chain_judged,
        numexpr=evaluated("sqrt(x*x + y*y)", "xy"),
        by_hand="hypotenuse",
    ),
    "products": Case(
        "a*b+c*d-e",
        lambda a, b, c, d, e: a * b + c * d - e,
        chain_judged,
        inputs=5,
        numexpr=evaluated("a*b + c*d - e", "abcde"),
        by_hand="products",
    ),
    "where": Case(
        "where(x>.5, x*2+1, y-3)",
        lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3),
        where_judged,
        numexpr=evaluated("where(x > 0.5, x*2 + 1, y - 3)", "xy"),
        by_hand="where",
    ),
    "standardized": Case(
        "(x-mean)/std",
        lambda x: (x - x.mean()) / x.std(),
        standardized_judged,
        inputs=1,
        elements=100_000_000,
        numexpr=[("", standardized_by_numexpr)],
        error=ROUNDING,
    ),
    "sines": Case(
        "sin(x)**2+cos(y)**2",
        lambda x, y: np.sin(x) ** 2 + np.cos(y) ** 2,
        sines_judged,
        numexpr=evaluated("sin(x)**2 + cos(y)**2", "xy"),
    ),
    # An element on the edge of the comparison may fall to either side elsewhere.
    "count": Case(
        "sum(((a**3+sin(2*a))<c) & (b>0), axis=1)",
        count,
        count_judged,
        inputs=3,
        elements=64_000_000,
        square=True,
        numexpr=[("its own sum", count_by_numexpr), ("NumPy's sum", mask_by_numexpr)],
        rounding=1e-2,
    ),
}


def resident_judged(run: Run) -> list[Judged]:
    """What the count holds above its inputs in a process of its own."""
    above = resident.above_inputs("count", run.elements(CASES["count"].elements)) / 1e6
    what = "darray, resident above the inputs"
    return [Judged(what, above, ROOM_MB, ROOM_MB, " MB", at_most=True)]


ROWS = {**rows(CASES), "count": lambda run: measure(CASES["count"], run, resident_judged)}
