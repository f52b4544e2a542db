"""The expressions at 10^4 and 10^6 elements, built and collected: what a call costs over NumPy."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.compare import elementwise, reductions
from benchmarks.compare.contenders import shared
from benchmarks.compare.judging import Judged, Run, over, report, slower
from benchmarks.compare.turns import Times, take_turns

CASES = {**elementwise.CASES, **reductions.CASES}
# One chunk, or a few; with no threads dask costs less.
DASK_CHUNK_BYTES = (2_000_000, 64_000_000)
DASK_SCHEDULERS = ("sync", "threads")
MICROSECONDS = 60.0
AIM_MICROSECONDS = 30.0
TIMES_NUMPY = 1.2


def judged(times: Mapping[str, Times], elements: int) -> list[Judged]:
    """At 10^4 elements microseconds over NumPy, at 10^6 times NumPy's time."""
    if elements <= 10_000:
        return [over(times, "darray", "NumPy", MICROSECONDS, AIM_MICROSECONDS)]
    return [slower(times, "darray", "NumPy", TIMES_NUMPY, 1.0)]


def row_at(elements: int, calls: int, run: Run) -> list[Judged]:
    """Every expression, several calls a turn."""
    found: list[Judged] = []
    for case in CASES.values():
        arrays = shared(case.arrays(elements))
        expected = case.formula(*arrays)
        contenders = case.contenders(
            arrays, expected, chunk_bytes=DASK_CHUNK_BYTES, schedulers=DASK_SCHEDULERS
        )
        times = take_turns(contenders, expected, run.rounds, max(1, int(calls * run.size)))
        title = f"{case.title}: {len(arrays)} x {elements:,} elements"
        found += report(title, times, judged(times, elements))
    return found


# The elements stay what they are at any --size, which scales the calls.
ROWS = {
    "small-4": lambda run: row_at(10_000, 100, run),
    "small-6": lambda run: row_at(1_000_000, 10, run),
}
