"""The expressions on arrays in memory: their inputs, their ways, and what is required of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.contenders import (
    ROUNDING,
    Arrays,
    Formula,
    by_darray,
    by_dask,
    by_hand,
    by_numexpr,
    by_numpy,
)
from benchmarks.compare.judging import Judged, Run, report
from benchmarks.compare.turns import Contender, Times, take_turns

Numexpr = Callable[[Any, Arrays], Any]
Judge = Callable[[Mapping[str, Times]], list[Judged]]
More = Callable[[Run], list[Judged]]


@dataclass(frozen=True)
class Case:
    """An expression, written for NumPy's names, which dask and darray answer to as well.

    `inputs` arrays of random float64 between 0 and 1, `elements` each at the full size, in two
    dimensions if `square`. `by_hand` names a loop of `compiled`. `error` is what darray may
    differ from NumPy, `rounding` what the other contenders may.
    """

    title: str
    formula: Formula
    judge: Judge
    inputs: int = 2
    elements: int = 40_000_000
    square: bool = False
    numexpr: Sequence[tuple[str, Numexpr]] = ()
    by_hand: str | None = None
    error: float = 0.0
    rounding: float = ROUNDING

    def arrays(self, elements: int) -> list[NDArray[np.float64]]:
        side = max(1, round(elements**0.5))
        shape = (side, side) if self.square else (elements,)
        rng = np.random.default_rng(0)
        return [rng.random(shape) for _ in range(self.inputs)]

    def contenders(self, arrays: Arrays, expected: Any, **dask: Any) -> list[Contender]:
        """All that are installed, on `arrays`, whose answer is `expected`."""
        return [
            *by_numpy(self.formula, arrays),
            *by_numexpr(self.numexpr, arrays, self.rounding),
            *by_dask(self.formula, arrays, self.rounding, **dask),
            *by_hand(self.by_hand, arrays, expected),
            *by_darray(self.formula, arrays, self.error),
        ]


def evaluated(text: str, names: str) -> list[tuple[str, Numexpr]]:
    """One way of numexpr: the expression `text` of arrays called `names`, a letter each."""

    def way(numexpr: Any, arrays: Arrays) -> Any:
        return numexpr.evaluate(text, local_dict=dict(zip(names, arrays, strict=True)))

    return [("", way)]


def measure(case: Case, run: Run, more: More = lambda run: []) -> list[Judged]:
    """Measure a case at the size of `run`, print its times, judge them and what is `more`."""
    arrays = case.arrays(run.elements(case.elements))
    expected = case.formula(*arrays)
    times = take_turns(case.contenders(arrays, expected), expected, run.rounds)
    title = f"{case.title}: {len(arrays)} x {arrays[0].nbytes / 1e6:,.3g} MB"
    return report(title, times, case.judge(times) + more(run))


def rows(cases: Mapping[str, Case]) -> dict[str, Callable[[Run], list[Judged]]]:
    """What measures each case, by its name."""

    def row(case: Case) -> Callable[[Run], list[Judged]]:
        return lambda run: measure(case, run)

    return {name: row(case) for name, case in cases.items()}
