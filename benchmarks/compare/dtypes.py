"""Other dtypes, and inputs that are not contiguous or broadcast, at 10^7 and 10^6 elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.compare.contenders import ROUNDING, by_darray, by_numpy, shared
from benchmarks.compare.judging import Judged, Run, over, report, speed
from benchmarks.compare.turns import take_turns

MICROSECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """Inputs for about `count` elements, formulas on them, and what sums may differ."""

    title: str
    inputs: Callable[[np.random.Generator, int], list[Any]]
    formulas: dict[str, Callable[..., Any]]
    rounding: float = ROUNDING


def of_type(dtype: Any) -> Callable[[np.random.Generator, int], list[Any]]:
    """Two arrays of small numbers."""

    def inputs(rng: np.random.Generator, count: int) -> list[Any]:
        return [rng.integers(0, 100, count).astype(dtype) for _ in range(2)]

    return inputs


def bools(rng: np.random.Generator, count: int) -> list[Any]:
    return [rng.random(count) < 0.5 for _ in range(2)]


def matrices(rng: np.random.Generator, count: int) -> list[Any]:
    side = round(count**0.5)
    return [rng.random((side, side)) for _ in range(2)]


def outer(rng: np.random.Generator, count: int) -> list[Any]:
    side = round(count**0.5)
    return [rng.random((side, side)), rng.random((side, 1)), rng.random(side)]


ARITHMETIC = {"x*y+x": lambda x, y: x * y + x, "sum": lambda x, y: x.sum()}
LOGIC = {"(x&y)|~x": lambda x, y: (x & y) | ~x, "sum": lambda x, y: x.sum()}
STRIDED = {
    "x[::2]*y[::2]+x[::2]": lambda x, y: x[::2] * y[::2] + x[::2],
    "x[::2].sum()": lambda x, y: x[::2].sum(),
}
TRANSPOSED = {"x.T*y+x.T": lambda x, y: x.T * y + x.T, "x.T.sum(axis=0)": lambda x, y: x.T.sum(0)}

KINDS = {
    "float32": Kind("float32", of_type(np.float32), ARITHMETIC, 1e-4),
    "int32": Kind("int32", of_type(np.int32), ARITHMETIC),
    "bool": Kind("bool", bools, LOGIC),
    "complex128": Kind("complex128", of_type(np.complex128), ARITHMETIC),
    "strided": Kind("every second", lambda rng, n: [rng.random(2 * n) for _ in range(2)], STRIDED),
    "transposed": Kind("transposed", matrices, TRANSPOSED),
    "broadcast": Kind("broadcast", outer, {"x*c+r": lambda x, c, r: x * c + r}),
}


def row(kind: Kind, run: Run) -> list[Judged]:
    """NumPy and darray at both sizes; at the smaller one several calls a turn."""
    found: list[Judged] = []
    for count, calls in ((10_000_000, 1), (1_000_000, 10)):
        elements = run.elements(count)
        arrays = shared(kind.inputs(np.random.default_rng(0), elements))
        for title, formula in kind.formulas.items():
            expected = formula(*arrays)
            contenders = by_numpy(formula, arrays) + by_darray(formula, arrays, kind.rounding)
            times = take_turns(contenders, expected, run.rounds, calls)
            if count == 10_000_000:
                judged = speed(times, "darray", "NumPy", 0.95, 1.5)
            else:
                judged = over(times, "darray", "NumPy", MICROSECONDS, 0.0)
            found += report(f"{title}, {kind.title}, {elements:,} elements", times, [judged])
    return found


def _row(kind: Kind) -> Callable[[Run], list[Judged]]:
    return lambda run: row(kind, run)


ROWS = {name: _row(kind) for name, kind in KINDS.items()}
