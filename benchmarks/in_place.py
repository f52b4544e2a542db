"""What long programs that change arrays cost a step: time and memory must stay flat.

Run: ``python benchmarks/in_place.py``. Exits with 1 when a required figure is missed.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
import psutil

import darray as da

STEPS = 10_000
LOOKED_AT = 100
ELEMENTS = 100_000
REASSIGNED = 1_000
REASSIGNED_ELEMENTS = 12_500_000  # 100 MB
FLAT = 1.5  # the second half may cost this many times what the first cost


def resident() -> int:
    """Bytes of the process that are in memory now."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def tenths(step: Callable[[int], Any], steps: int) -> tuple[list[float], list[int]]:
    """Microseconds a step, and resident bytes, of each tenth of a program."""
    times, memory = [], []
    for start in range(0, steps, steps // 10):
        began = time.perf_counter()
        for i in range(start, start + steps // 10):
            step(i)
        times.append((time.perf_counter() - began) / (steps // 10) * 1e6)
        memory.append(resident())
    return times, memory


def judged(name: str, times: list[float], memory: list[int], theirs: float, room: int) -> bool:
    """Print what a program cost and whether that stayed flat."""
    growth = sum(times[5:]) / sum(times[:5])
    grown = memory[-1] - memory[1]
    flat = growth <= FLAT and grown <= room
    print(
        f"{name}: {mean(times):,.0f} us a step (NumPy {theirs:,.0f}); second half over first "
        f"{growth:.2f}; resident {memory[1] / 1e6:.0f} -> {memory[-1] / 1e6:.0f} MB: "
        f"{'flat' if flat else 'NOT FLAT'}"
    )
    return flat


def main() -> int:
    """Measure, print, and judge."""
    state: dict[str, Any] = {"x": da.zeros(ELEMENTS, blocks=ELEMENTS // 4)}

    def add_in_place(i: int) -> None:
        state["x"] += 1
        if i % LOOKED_AT == LOOKED_AT - 1:
            assert float(state["x"][5]) == i + 1

    def add(i: int) -> None:
        state["x"] = state["x"] + 1
        if i % LOOKED_AT == LOOKED_AT - 1:
            assert float(state["x"].max()) == i + 1

    times, memory = tenths(add_in_place, STEPS)
    assert (state["x"].collect() == STEPS).all()
    state["x"] = np.zeros(ELEMENTS)
    theirs, _ = tenths(add_in_place, STEPS)
    passed = judged(f"{STEPS:,} x += 1", times, memory, mean(theirs), 10_000_000)

    state["x"] = da.zeros(REASSIGNED_ELEMENTS)
    times, memory = tenths(add, REASSIGNED)
    assert float(state["x"][-1]) == REASSIGNED
    state["x"] = np.zeros(REASSIGNED_ELEMENTS)
    theirs, _ = tenths(add, REASSIGNED // 10)
    name = f"{REASSIGNED:,} x = x + 1 of 100 MB"
    passed &= judged(name, times, memory, mean(theirs), 250_000_000)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
