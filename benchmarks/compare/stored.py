"""One contender on a store, in a process of its own: ``WORK CONTENDER SOURCE TARGET TIMES LIMIT``.

It prints as JSON the seconds of the second evaluation, the peak resident memory of the process by
the kernel's high-water mark, and, where the work gives a number, that number. Answers that were
written are checked here, after the clock has stopped and the peak was noted.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import darray as da
from benchmarks.compare.resident import child, high_water_mark
from benchmarks.compare.stored_ways import WAYS, opened
from benchmarks.compare.turns import Times, WrongAnswerError


def expect(found: Any, expected: Any, relative: float = 0.0) -> None:
    """Raise `WrongAnswerError` where `found` is not `expected` to within its relative error."""
    if not np.all(np.abs(found - expected) <= relative * np.abs(expected)):
        raise WrongAnswerError(f"what was written differs from NumPy's answer: {found!r}")


def check_double(source: Path, target: Path) -> None:
    x, made = opened(source), opened(target)
    for start in range(0, x.shape[0], x.chunks[0]):
        part = slice(start, start + x.chunks[0])
        expect(made[part], x[part] * 2 + 1)


def check_recut(source: Path, target: Path) -> None:
    x, made = opened(source)[...], opened(target)
    for start in range(0, x.shape[1], made.chunks[1]):
        part = slice(start, start + made.chunks[1])
        expect(made[:, part], x[:, part])


def check_product(source: Path, target: Path) -> None:
    """NumPy's product with a vector of positive numbers shows any element that is wrong."""
    a, b, made = opened(source / "a"), opened(source / "b"), opened(target)
    n = a.shape[0]
    vector = np.random.default_rng(0).random(n)
    step = a.chunks[0]
    parts = [slice(start, start + step) for start in range(0, n, step)]
    right = np.concatenate([b[part] @ vector for part in parts])
    for part in parts:
        expect(made[part] @ vector, a[part] @ right, 4 * n * np.finfo(float).eps)


CHECKS = {"double": check_double, "recut": check_recut, "product": check_product}
WRITERS = ("darray", "dask")


def run(
    work: str, contender: str, source: Path, target: Path, times: int, limit: int
) -> dict[str, Any]:
    """Evaluate twice, time the second, check what was written."""
    if limit and contender == "darray":
        da.configure(memory_limit=limit)
    way = WAYS[work][contender]
    blas = threadpool_limits(1 if contender == "dask" else None, user_api="blas")
    try:
        with blas:
            way(source, target, times)
            shutil.rmtree(target, ignore_errors=True)
            began, used = time.perf_counter(), time.process_time()
            found = way(source, target, times)
            wall, cpu = time.perf_counter() - began, time.process_time() - used
    except da.MemoryLimitError as error:
        return {"failed": str(error)}
    peak = high_water_mark()
    if work in CHECKS and contender in WRITERS:
        CHECKS[work](source, target)
    shutil.rmtree(target, ignore_errors=True)
    number = float(found) if work == "mean" and contender in WRITERS else None
    return {"wall": wall, "cpu": cpu, "peak": peak, "answer": number}


class Stored:
    """Contenders on one store that take turns, in a process each.

    Attributes
    ----------
    times : dict of Times
        Of each contender that did not fail.
    peaks : dict of int
        The most bytes that each contender had in memory in any turn.
    failed : dict of str
        Why a contender did not complete.
    """

    def __init__(self, work: str, source: Path, target: Path, answer: float | None = None) -> None:
        self.work, self.source, self.target, self.answer = work, source, target, answer
        self.times: dict[str, Times] = {}
        self.peaks: dict[str, int] = {}
        self.failed: dict[str, str] = {}

    def once(self, contender: str, times: int = 1, limit: int = 0) -> dict[str, Any]:
        """One turn, in a process of its own, its answer checked."""
        name = contender.partition(",")[0]
        found: dict[str, Any] = child(
            "stored", self.work, name, self.source, self.target, times, limit
        )
        if self.answer is not None and found.get("answer") is not None:
            expect(found["answer"], self.answer, 1e-13)
        return found

    def take_turns(
        self, limits: dict[str, int], rounds: int, dask_times: tuple[int, ...] = (1, 2, 4, 8)
    ) -> None:
        """Measure contenders, each with its limit of memory, 0 for none, for `rounds` turns.

        What follows a comma in a contender's name tells its limits apart. dask runs at the best
        of several multiples of the store's chunks.
        """
        best = 1
        if "dask" in limits:
            trials = {one: self.once("dask", one) for one in dask_times}
            best = min(trials, key=lambda one: float(trials[one]["wall"]))
        for _ in range(rounds):
            for name, limit in limits.items():
                taken = {} if name in self.failed else self.once(name, best, limit)
                if "failed" in taken:
                    self.failed[name] = taken["failed"]
                elif taken:
                    label = f"{best} of the store's chunks in one" if name == "dask" else ""
                    one = self.times.setdefault(name, Times(label))
                    one.wall.append(taken["wall"])
                    one.cpu.append(taken["cpu"])
                    self.peaks[name] = max(taken["peak"], self.peaks.get(name, 0))
        for name in self.failed:
            self.times.pop(name, None)

    def notes(self) -> dict[str, str]:
        """The peak of each contender, as text."""
        return {name: f"peak {peak / 1e6:,.0f} MB" for name, peak in self.peaks.items()}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(
        json.dumps(
            run(
                arguments[0],
                arguments[1],
                Path(arguments[2]),
                Path(arguments[3]),
                int(arguments[4]),
                int(arguments[5]),
            )
        )
    )
