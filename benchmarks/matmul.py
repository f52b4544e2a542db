"""How fast ``a @ b`` is: matrices of 4,000 x 4,000 float64 in chunks of 1,000, collected.

Run: ``python benchmarks/matmul.py``, on a machine that does nothing else. NumPy with all its
threads and darray take turns in one process, and dask with ``--dask``; the answers are compared.
Exits with 1 when the required figure is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

import darray as da

# NumPy's wall time over darray's.
REQUIRED = 0.95
AIM = 1.0

# Seconds between calls: the threads of NumPy's BLAS look for more work for a while after each
# product, on the cores that the next contender needs.
PAUSE = 0.2


def contenders(a: NDArray[np.float64], b: NDArray[np.float64], chunk: int, with_dask: bool):
    """What is compared: the name, and a call that gives the product as a NumPy array."""
    x, y = da.distribute(a, da.Blocks(chunk, chunk)), da.distribute(b, da.Blocks(chunk, chunk))
    found: dict[str, Callable[[], NDArray[np.float64]]] = {
        "NumPy": lambda: a @ b,
        "darray": lambda: (x @ y).collect(),
    }
    if with_dask:
        import dask.array

        p, q = (dask.array.from_array(one, chunks=chunk) for one in (a, b))
        found["dask.array"] = lambda: (p @ q).compute(scheduler="threads")
    return found


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=4000)
    parser.add_argument("--chunk", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dask", action="store_true", help="compare with dask.array, too")
    options = parser.parse_args()
    n = options.size
    a, b = np.random.default_rng(0).random((2, n, n))
    calls = contenders(a, b, options.chunk, options.dask)
    expected = a @ b
    for name, call in calls.items():
        # Each element is a sum of n products of numbers between 0 and 1.
        off = float(np.abs(call() - expected).max())
        assert off <= 2 * n * n * np.finfo(float).eps, f"{name} is off by {off}"
    wall: dict[str, list[float]] = {name: [] for name in calls}
    used: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            began, cpu = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - began)
            used[name].append(time.process_time() - cpu)
    flops = 2e-9 * n**3
    print(f"a @ b, {n} x {n} float64, chunks of {options.chunk}, {options.rounds} rounds in turn")
    print(f"  {'':<11}{'wall s: min':>12}{'median':>9}{'max':>9}{'CPU s: min':>13}{'median':>9}")
    for name, walls in wall.items():
        figures = f"{min(walls):12.3f}{median(walls):9.3f}{max(walls):9.3f}"
        figures += f"{min(used[name]):13.3f}{median(used[name]):9.3f}"
        print(f"  {name:<11}{figures}   {flops / min(walls):6.1f} GFLOP/s at best")
    for name in calls:
        if name != "darray":
            ratios = [f"{kind(wall[name]) / kind(wall['darray']):.3f}" for kind in (min, median)]
            print(f"{name}'s wall time over darray's: {ratios[0]} (least), {ratios[1]} (medians)")
    speed = median(wall["NumPy"]) / median(wall["darray"])
    verdict = "aim" if speed >= AIM else "required" if speed >= REQUIRED else "short"
    print(f"speed, in NumPy's: {speed:.3f} (required {REQUIRED}, aim {AIM}: {verdict})")
    return 0 if speed >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
