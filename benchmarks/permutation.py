"""``x[order]`` for a random order of 10^6 float64 elements in 1,000 chunks, built and collected.

Run: ``python benchmarks/permutation.py [--dask]``. Also measured: sources that are computed,
writes, masks. Exits with 1 when the required figure is missed. dask.array, which takes more than
a minute and gigabytes, is run once where it is asked for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import darray as da

REQUIRED_MILLISECONDS = 200.0
AIM_MILLISECONDS = 50.0
COUNT = 10**6
CHUNKS = 1000
ROUNDS = 11


def measured(call: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of one call: on the wall, and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def written(array: Any, key: Any, values: Any) -> Any:
    """A copy of `array` with `values` at `key`."""
    result = array.copy()
    result[key] = values
    return result


def added(array: Any, key: Any) -> Any:
    """A copy of `array` with 1 added at `key`."""
    result = array.copy()
    result[key] += 1
    return result


Work = tuple[Callable[[], Any], Callable[[], Any]]


def contenders(plain: Any, order: Any) -> dict[str, Work]:
    """What is measured: in NumPy and in darray."""
    x = da.distribute(plain, da.Blocks(COUNT // CHUNKS))
    blocks = x.map_blocks(np.negative).persist()
    blocks.wait()
    lazy = da.distribute(order, da.Blocks(COUNT // CHUNKS))
    return {
        "x[order]": (lambda: plain[order], lambda: x[order].collect()),
        "x[order], a DArray": (lambda: plain[order], lambda: x[lazy].collect()),
        "(2 * x + 1)[order]": (
            lambda: (2 * plain + 1)[order],
            lambda: (2 * x + 1)[order].collect(),
        ),
        "1,000 tasks' chunks [order]": (lambda: (-plain)[order], lambda: blocks[order].collect()),
        "x[order].sum()": (lambda: plain[order].sum(), lambda: float(x[order].sum())),
        "x[order] = y": (
            lambda: written(plain, order, plain),
            lambda: written(x, order, x).collect(),
        ),
        "x[order] += 1": (lambda: added(plain, order), lambda: added(x, order).collect()),
        "x[x > 0.5]": (lambda: plain[plain > 0.5], lambda: x[x > 0.5].collect()),
        "x[x > 0.5] = 0": (
            lambda: written(plain, plain > 0.5, 0),
            lambda: written(x, x > 0.5, 0).collect(),
        ),
    }


def with_dask(plain: Any, order: Any) -> None:
    """Measure dask.array once."""
    import dask
    import dask.array

    x = dask.array.from_array(plain, chunks=COUNT // CHUNKS)
    with dask.config.set(scheduler="threads", num_workers=2):
        found: list[Any] = []
        wall, cpu = measured(lambda: found.append(x[order].compute()))
    assert np.array_equal(found[0], plain[order])
    print(f"  dask.array, x[order]: {wall / 1e3:.1f} s, CPU {cpu / 1e3:.1f} s, once")


def main() -> int:
    """Measure, print, and judge."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dask", action="store_true", help="run dask.array too, once")
    asked = arguments.parse_args()
    da.configure(threads=2)
    plain = np.random.default_rng(0).random(COUNT)
    order = np.random.default_rng(1).permutation(COUNT)
    works = contenders(plain, order)
    for name, (numpy_work, work) in works.items():
        assert np.allclose(work(), numpy_work(), rtol=1e-12, atol=0), name
    times: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, (numpy_work, work) in works.items():
            times[name].append((*measured(numpy_work), *measured(work)))
    print(f"{COUNT:,} float64 in {CHUNKS:,} chunks, two threads, built and collected, in ms")
    print(f"{ROUNDS} rounds in turn")
    print(f"  {'':<28}{'NumPy min / median':>22}{'darray min / median':>22}{'CPU':>8}")
    for name, found in times.items():
        theirs, _, ours, cpu = zip(*found, strict=True)
        print(
            f"  {name:<28}{min(theirs):>12.1f} /{median(theirs):>8.1f}"
            f"{min(ours):>12.1f} /{median(ours):>8.1f}{min(cpu):>8.1f}"
        )
    if asked.dask:
        with_dask(plain, order)
    took = median([ours for _, _, ours, _ in times["x[order]"]])
    verdict = "aim" if took <= AIM_MILLISECONDS else "required"
    verdict = verdict if took <= REQUIRED_MILLISECONDS else "short"
    print(f"x[order]: {took:.1f} ms (required {REQUIRED_MILLISECONDS:.0f}, {verdict})")
    return 0 if took <= REQUIRED_MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
