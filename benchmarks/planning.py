"""What planning costs: microseconds of processor time for each task that a plan has.

Run: ``python benchmarks/planning.py [--rounds 9] [--only NAME] [--profile]``. Exits with 1 when one
of the expressions takes longer than required. Every expression is planned as ``collect`` plans it,
from arrays that are in memory, and from chunks that a computation left; nothing is computed. Judged
is the least of several plans in turn, since what disturbs them only adds. Where one task does the
work of several chunks the time is that of a chunk.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import math
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import darray as da
from darray.lowering import collector
from darray.lowering.planning import Planner

REQUIRED_MICROSECONDS = 10.0
COUNTS = (1_000, 10_000)

Build = Callable[[Any, Any], Any]


def line_stencil(x: Any, _: Any) -> Any:
    """Neighbours along one axis."""
    return x[1:-1] + x[2:] - x[:-2]


def plane_stencil(x: Any, _: Any) -> Any:
    """The four neighbours in a plane."""
    around = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
    return x[1:-1, 1:-1] * 4 - around


def solid_stencil(x: Any, _: Any) -> Any:
    """The six neighbours in space."""
    inner = slice(1, -1)
    around = x[:-2, inner, inner] + x[2:, inner, inner] + x[inner, :-2, inner]
    around = around + x[inner, 2:, inner] + x[inner, inner, :-2] + x[inner, inner, 2:]
    return x[inner, inner, inner] * 6 - around


def stepped(x: Any, _: Any) -> Any:
    """Two steps of a diffusion along one axis, in place."""
    array = x.copy()
    for _step in range(2):
        array[1:-1] += 0.1 * (array[2:] - 2 * array[1:-1] + array[:-2])
    return array


def written_over(x: Any, y: Any) -> Any:
    """Parts of an array replaced by others."""
    array = x.copy()
    array[5:-5] = y[5:-5]
    array[::2] *= 2
    return array


def turned(x: Any, _: Any) -> Any:
    """An array turned by three columns."""
    return np.concatenate([x[:, -3:], x[:, :-3]], axis=1)


def scattered(x: Any, _: Any) -> Any:
    """Half of the rows, in any order."""
    order = np.random.default_rng(0).permutation(x.shape[0])
    return x[order[: x.shape[0] // 2]]


# What is cut into pieces of any size, not of ten elements along every axis.
IRREGULAR = " (any cut)"

# By name: the number of axes, and what is planned.
EXPRESSIONS: dict[str, tuple[int, Build]] = {
    "x + y": (2, lambda x, y: x + y),
    "sqrt(x*x + y*y)": (2, lambda x, y: np.sqrt(x * x + y * y)),
    "where(x > .5, x*2 + 1, y - 3)": (2, lambda x, y: np.where(x > 0.5, x * 2 + 1, y - 3)),
    "x - x.mean(axis=0)": (2, lambda x, _: x - x.mean(axis=0)),
    "x.sum()": (2, lambda x, _: x.sum()),
    "sqrt(x*x + y*y).sum()": (2, lambda x, y: np.sqrt(x * x + y * y).sum()),
    "x.sum(axis=0)": (2, lambda x, _: x.sum(axis=0)),
    "x.max(axis=1)": (2, lambda x, _: x.max(axis=1)),
    "x[1:-1] + x[2:] - x[:-2]": (1, line_stencil),
    "stencil of 5 in a plane": (2, plane_stencil),
    "stencil of 7 in space": (3, solid_stencil),
    "diff(x, axis=0)": (2, lambda x, _: np.diff(x, axis=0)),
    "concatenate([x[:, -3:], x[:, :-3]])": (2, turned),
    "x[3:-4, 2:]": (2, lambda x, _: x[3:-4, 2:] + 1),
    "x[::-2]": (2, lambda x, _: x[::-2] + 1),
    "x.T + y": (2, lambda x, y: x.T + y),
    "x.rechunk": (2, lambda x, _: x.rechunk(da.Blocks(12, 12))),
    "concatenate([x[5:], y[:-5]])": (2, lambda x, y: np.concatenate([x[5:], y[:-5]])),
    "x @ y": (2, lambda x, y: x @ y),
    "x[order]": (2, scattered),
    "cumsum(x, axis=0)": (2, lambda x, _: np.cumsum(x, axis=0)),
    "map_blocks": (2, lambda x, _: x.map_blocks(np.negative)),
    "x += of neighbours, twice": (1, stepped),
    "x[5:-5] = y[5:-5]; x[::2] *= 2": (2, written_over),
    "x + y" + IRREGULAR: (2, lambda x, y: x + y),
    "x[1:-1] + x[2:] - x[:-2]" + IRREGULAR: (1, line_stencil),
    "stencil of 5 in a plane" + IRREGULAR: (2, plane_stencil),
    "stencil of 7 in space" + IRREGULAR: (3, solid_stencil),
    "x.T + y" + IRREGULAR: (2, lambda x, y: x.T + y),
    "x += of neighbours, twice" + IRREGULAR: (1, stepped),
}


@functools.cache
def sources(
    dimensions: int, chunks: int, is_kept: bool, is_irregular: bool = False
) -> tuple[Any, Any]:
    """Two arrays of about so many chunks, each of 10 elements along every axis, or of 5 to 15."""
    along = round(chunks ** (1 / dimensions))
    sizes: Any = (10,) * dimensions
    if is_irregular:
        drawn = np.random.default_rng(0).integers(5, 16, along)
        sizes = [tuple(drawn.tolist())] * dimensions
    found = []
    for value in (1.0, 2.0):
        shape = [sum(some) for some in sizes] if is_irregular else [10 * along] * dimensions
        x = da.distribute(np.full(shape, value), da.Blocks(*sizes))
        if is_kept:
            x = x.map_blocks(np.positive).persist()
            x.wait()
        found.append(x)
    return found[0], found[1]


class Case:
    """An expression of arrays of some size, and the least time that a plan for it took."""

    def __init__(self, name: str, chunks: int, is_kept: bool) -> None:
        dimensions, build = EXPRESSIONS[name]
        x, y = sources(dimensions, chunks, is_kept, name.endswith(IRREGULAR))
        self.expression = build(x, y).expression
        self.out = np.empty(self.expression.shape, self.expression.dtype)
        self.chunks = math.prod(map(len, x.chunks))
        self.tasks = 0
        self.least = math.inf

    def plan(self) -> None:
        """Plan to collect the expression, as `collect` does."""
        with collector.paused():
            began = time.process_time()
            planner = Planner()
            planner.fill(self.expression, self.out)
            plan = planner.run()
            self.least = min(self.least, (time.process_time() - began) * 1e6)
            self.tasks = plan.count()

    @property
    def cost(self) -> float:
        """Microseconds of a chunk task; where several chunks share one, those of a chunk."""
        return self.least / max(self.tasks, self.chunks)


def profile(case: Case) -> None:
    """Print where the time of planning an expression goes."""
    profiler = cProfile.Profile()
    profiler.runcall(case.plan)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="only expressions with this in their names")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    arguments = parser.parse_args()
    chosen = [name for name in EXPRESSIONS if arguments.only in name]
    columns = [(count, is_kept) for is_kept in (False, True) for count in COUNTS]
    if arguments.profile:
        for name in chosen:
            for is_kept in (False, True):
                profile(Case(name, COUNTS[0], is_kept))
        return 0
    cases = {name: [Case(name, *column) for column in columns] for name in chosen}
    for _ in range(arguments.rounds):
        for row in cases.values():
            for case in row:
                case.plan()
    heads = [f"{'chunks' if is_kept else 'memory'}, {count:,}" for count, is_kept in columns]
    print(f"us of planning a chunk task (tasks); required {REQUIRED_MICROSECONDS:.0f}")
    print(" " * 36 + "".join([f"{head:>17}" for head in heads]))
    missed = 0
    for name, row in cases.items():
        missed += sum([case.cost > REQUIRED_MICROSECONDS for case in row])
        cells = [f"{case.cost:.1f} ({case.tasks:,})" for case in row]
        print(f"{name:<36}" + "".join([f"{cell:>17}" for cell in cells]))
    print(f"{missed} figures above the required {REQUIRED_MICROSECONDS:.0f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
