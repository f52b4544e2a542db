"""Contenders that take turns in one process, their times, and the check of their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

# Turns that choose the best of a contender's configurations, before those that count.
TRIALS = 2


class WrongAnswerError(AssertionError):
    """A contender's answer is not NumPy's."""


@dataclass(frozen=True)
class Contender:
    """One way to compute the answer, in one configuration.

    Several contenders of one name are configurations of the same: the fastest is measured.
    `error` is the largest difference from NumPy's answer that is allowed, relative to its largest
    element. `prepared` is called, untimed, before each turn, which runs `within` a context.
    """

    name: str
    call: Callable[[], Any]
    configuration: str = ""
    error: float = 0.0
    prepared: Callable[[], Any] = lambda: None
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass
class Times:
    """Seconds of wall and CPU time of each turn."""

    configuration: str = ""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        return min(self.wall)

    @property
    def middle(self) -> float:
        return median(self.wall)


def difference(found: Any, expected: Any) -> float:
    """The largest difference of any element, relative to the largest element expected."""
    ours, theirs = np.asarray(found), np.asarray(expected)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise WrongAnswerError(
            f"an array of {ours.shape} {ours.dtype}, expected {theirs.shape} {theirs.dtype}"
        )
    if np.array_equal(ours, theirs):
        return 0.0
    if ours.dtype == bool:
        return float(np.mean(ours != theirs))
    apart = np.abs(ours - theirs) if ours.dtype.kind in "fc" else np.abs(ours - theirs + 0.0)
    most = float(np.max(apart))
    return most / (float(np.max(np.abs(theirs))) or 1.0) if np.isfinite(most) else np.inf


def check(contender: Contender, expected: Any) -> None:
    """Raise `WrongAnswerError` unless the contender's answer is `expected`, or near enough."""
    contender.prepared()
    with contender.within():
        found = contender.call()
    off = difference(found, expected)
    if not off <= contender.error:
        raise WrongAnswerError(
            f"{contender.name} {contender.configuration}: the answer differs from NumPy's by "
            f"{off:.1e} of its largest element, where {contender.error:.0e} is allowed"
        )


def turn(contender: Contender, calls: int) -> tuple[float, float]:
    """Seconds of wall and CPU time of one call, over `calls` of them."""
    contender.prepared()
    with contender.within():
        began, used = time.perf_counter(), time.process_time()
        for _ in range(calls):
            found = contender.call()
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        # Memory is given back after the clock has stopped, as it is for every contender.
        del found
    return wall / calls, cpu / calls


def best_configurations(contenders: Sequence[Contender], calls: int) -> list[Contender]:
    """One contender of each name: the one that was fastest in trial turns."""
    least: dict[int, float] = {}
    several = {
        one.name for one in contenders if sum(two.name == one.name for two in contenders) > 1
    }
    for _ in range(TRIALS):
        for index, one in enumerate(contenders):
            if one.name in several:
                least[index] = min(turn(one, calls)[0], least.get(index, np.inf))
    chosen: dict[str, int] = {}
    for index, one in enumerate(contenders):
        before = chosen.setdefault(one.name, index)
        if least.get(index, 0.0) < least.get(before, 0.0):
            chosen[one.name] = index
    return [contenders[index] for index in chosen.values()]


def take_turns(
    contenders: Sequence[Contender], expected: Any, rounds: int, calls: int = 1
) -> dict[str, Times]:
    """Check every answer, choose configurations, and measure `rounds` turns of each contender."""
    for one in contenders:
        check(one, expected)
    chosen = best_configurations(contenders, calls)
    times = {one.name: Times(one.configuration) for one in chosen}
    for _ in range(rounds):
        for one in chosen:
            wall, cpu = turn(one, calls)
            times[one.name].wall.append(wall)
            times[one.name].cpu.append(cpu)
    return times
