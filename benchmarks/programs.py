"""Known NumPy programs with darray, against NumPy: ``python benchmarks/programs.py [NAME ...]``.

The programs are those of docs/examples; only their input differs. Contenders run in turn in one
process, each from a fresh input; answers are compared. ``--dask`` adds dask.array for those of
the programs that it can run: it has no views that can be written to.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import darray as da

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"


@dataclass(frozen=True)
class Job:
    """A program on arrays of one size.

    `run` takes the inputs and gives arrays; their relative error against NumPy's, by the largest
    element, must be at most `error`. `by_dask` says whether dask can run it.
    """

    what: str
    inputs: Callable[[], tuple[Any, ...]]
    run: Callable[..., tuple[Any, ...]]
    error: float = 0.0
    by_dask: bool = False


def job(name: str, size: float) -> Job:
    """The job called `name`, with about `size` times as many elements as usual."""
    names = runpy.run_path(str(EXAMPLES / f"{name.partition(',')[0].replace(' ', '_')}.py"))
    side = size**0.5
    if name == "black scholes":
        count = int(5_000_000 * size)
        return Job(
            f"{count:,} options",
            lambda: names["market"](count),
            names["prices"],
            by_dask=True,
        )
    if name == "heat":
        n = int(2000 * side)
        return Job(
            f"{n} x {n}, 50 steps",
            lambda: (names["plate"](n, n),),
            lambda grid: (names["spread"](grid, 50),),
        )
    if name == "life":
        n = int(2500 * side)
        return Job(
            f"{n} x {n} of int8, 25 generations",
            lambda: (names["soup"](n, n),),
            lambda board: (names["play"](board, 25),),
        )
    if name == "kmeans":
        count = int(500_000 * size)
        return Job(
            f"{count:,} points in 4-d, 8 centers, 5 rounds",
            lambda: names["blobs"](count, 8),
            lambda points, first: names["group"](points, first, 5),
            error=1e-12,
        )
    if name == "conjugate gradients, stencil":
        n = int(1400 * side)
        return Job(
            f"{n} x {n} grid, 40 steps",
            lambda: (names["charge"](n),),
            lambda right: names["solve"](names["laplacian"], right, most=40)[:1],
            error=1e-12,
        )
    n = int(6000 * side)
    return Job(
        f"matrix of {n} x {n}, 30 steps",
        lambda: dense(n),
        lambda matrix, right: names["solve"](lambda x: matrix @ x, right, 0.0, most=30)[:1],
        error=1e-9,
        by_dask=False,
    )


JOBS = (
    "black scholes",
    "heat",
    "life",
    "kmeans",
    "conjugate gradients, stencil",
    "conjugate gradients, dense",
)


def dense(n: int) -> tuple[Any, ...]:
    """A symmetric matrix with a large diagonal, made faster than that of the example."""
    rng = np.random.default_rng(0)
    matrix = rng.random((n, n))
    matrix += matrix.T
    matrix[np.diag_indices(n)] += 2 * n
    return matrix, rng.random(n)


def by_numpy(job: Job, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The answers of NumPy."""
    return tuple([np.asarray(one) for one in job.run(*inputs)])


def by_darray(job: Job, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The answers of darray."""
    return tuple(da.compute(*job.run(*inputs)))


def by_dask(job: Job, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The answers of dask.array."""
    import dask

    return dask.compute(*job.run(*inputs), scheduler="threads", num_workers=os.cpu_count())


def distributed(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as DArrays, in the cut that they get when none is asked for."""
    return tuple([da.distribute(one) for one in inputs])


def from_dask(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as arrays of dask, in its own cut."""
    import dask.array

    return tuple([dask.array.from_array(one) for one in inputs])


def worst(found: tuple[Any, ...], expected: tuple[Any, ...]) -> float:
    """The largest error of any element, relative to the largest element of its array."""
    most = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        if not np.array_equal(ours, theirs):
            most = max(most, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return most


def measure(name: str, job: Job, rounds: int, dask: bool) -> float:
    """Run all in turn and print what they took; darray's wall time over NumPy's."""
    contenders: dict[str, tuple[Any, Any]] = {
        "NumPy": (by_numpy, lambda inputs: inputs),
        "darray": (by_darray, distributed),
    }
    if dask and job.by_dask:
        contenders["dask.array"] = (by_dask, from_dask)
    taken: dict[str, list[tuple[float, float]]] = {one: [] for one in contenders}
    expected: tuple[Any, ...] = ()
    error = 0.0
    for _ in range(rounds):
        for one, (run, prepared) in contenders.items():
            inputs = prepared(job.inputs())
            began, used = time.perf_counter(), time.process_time()
            found = run(job, inputs)
            taken[one].append((time.perf_counter() - began, time.process_time() - used))
            expected = expected or found
            error = max(error, worst(found, expected))
    if error > job.error:
        sys.exit(f"{name}: answers differ by {error:.1e}, more than {job.error:.0e}")
    print(f"{name}: {job.what}; answers {'the same' if not error else f'within {error:.0e}'}")
    least = {one: [min(run[i] for run in runs) for i in (0, 1)] for one, runs in taken.items()}
    for one, runs in taken.items():
        wall, cpu = least[one]
        middle = median(run[0] for run in runs)
        line = f"  {one:<11} wall {wall:6.2f} s (median {middle:6.2f})   CPU {cpu:6.2f} s"
        if one != "NumPy":
            line += f"   NumPy's: {wall / least['NumPy'][0]:5.2f}   {cpu / least['NumPy'][1]:5.2f}"
        print(line, flush=True)
    return least["darray"][0] / least["NumPy"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(JOBS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=float, default=1.0, help="times as many elements")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dask", action="store_true", help="run dask.array where it can")
    options = parser.parse_args()
    unknown = set(options.names) - set(JOBS)
    if unknown:
        parser.error(f"no program {sorted(unknown)[0]!r}; there are: {', '.join(JOBS)}")
    da.configure(threads=options.threads)
    print(f"least of {options.rounds} rounds in turn, {len(da.processors())} threads")
    ratios = [
        measure(name, job(name, options.size), options.rounds, options.dask)
        for name in options.names or JOBS
    ]
    print(f"darray's wall time is {min(ratios):.2f} to {max(ratios):.2f} times NumPy's")


if __name__ == "__main__":
    main()
