"""What regions cost, and what they are good for: ``python benchmarks/datadeps.py``.

The cost of a task with three annotated arrays, against a plain task with the same arrays, for up to
200,000 tasks that are all outstanding. And the Cholesky factorisation of 6,000 x 6,000 float64 in
tiles of 500, blocks to blocks and array to array, against SciPy's with all its BLAS threads and
against the rate of NumPy's product. All in one process on two threads, in turn; answers checked.
Ends with status 1 where a requirement is missed.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

import darray as da
from darray.kernels.tiles import factor, solve, subtract_product, subtract_square

SIZE, TILE, ROUNDS = 6000, 500, 7
ARRAYS = 400
# Seconds before each run: the threads of BLAS look for more work for a while after a call.
PAUSE = 0.2

Matrix = NDArray[np.float64]


def ignore(*_: object) -> None:
    """Do nothing, as far as a task can."""


def cost(count: int) -> tuple[float, float]:
    """Microseconds a task takes in a region, and plain, when all wait for one that waits."""
    arrays = [np.zeros(8) for _ in range(ARRAYS)]
    chosen = random.Random(1)
    picks = [[arrays[chosen.randrange(ARRAYS)] for _ in range(3)] for _ in range(count)]
    took = []
    for region in (True, False):
        gate = threading.Event()
        began = time.perf_counter()
        if region:
            with da.spawn_datadeps():
                held = da.spawn(gate.wait)
                first = da.spawn(ignore, held, *map(da.InOut, arrays))
                for a, b, c in picks:
                    da.spawn(ignore, da.InOut(a), da.In(b), da.In(c))
                assert not first.done()
                gate.set()
        else:
            held = da.spawn(gate.wait)
            tasks = [da.spawn(ignore, held, *pick) for pick in picks]
            gate.set()
            da.wait(tasks)
        took.append((time.perf_counter() - began) / count * 1e6)
    return took[0], took[1]


def cholesky(tiles: list[list[Matrix]]) -> None:
    """Replace the lower triangle of a matrix in tiles by its Cholesky factor."""
    count = len(tiles)
    soon, next_column = da.spawn.options(priority=2), da.spawn.options(priority=1)
    with da.spawn_datadeps():
        for k in range(count):
            soon(factor, da.InOut(tiles[k][k]))
            for i in range(k + 1, count):
                soon(solve, tiles[k][k], da.InOut(tiles[i][k]))
            for j in range(k + 1, count):
                spawn = next_column if j == k + 1 else da.spawn
                spawn(subtract_square, tiles[j][k], da.InOut(tiles[j][j]))
                for i in range(j + 1, count):
                    spawn(subtract_product, tiles[i][k], tiles[j][k], da.InOut(tiles[i][j]))


def cut(a: Matrix) -> list[list[Matrix]]:
    """Copies of the tiles of the lower triangle, each in memory of its own."""
    starts = range(0, len(a), TILE)
    return [[a[i : i + TILE, j : j + TILE].copy() for j in starts if j <= i] for i in starts]


def views(a: Matrix) -> list[list[Matrix]]:
    """The tiles of the lower triangle where they lie."""
    starts = range(0, len(a), TILE)
    return [[a[i : i + TILE, j : j + TILE] for j in starts if j <= i] for i in starts]


def fill(target: Matrix, source: Matrix) -> None:
    """Copy a tile."""
    target[...] = source


def clear_above(block: Matrix) -> None:
    """Make what lies above the diagonal zero."""
    block[...] = np.tril(block)


def array_to_array(a: Matrix) -> Matrix:
    """The Cholesky factor of an array, in a fresh array."""
    # In memory of darray's pool, which a former result gave back: NumPy's is new to the process.
    result = np.asarray(da.zeros(a.shape))
    tiles = views(result)
    # One region: tiles are factorised as soon as they are there, while others are copied.
    with da.spawn_datadeps():
        for targets, sources in zip(tiles, views(a), strict=True):
            for target, source in zip(targets, sources, strict=True):
                da.spawn(fill, da.Out(target), source)
        cholesky(tiles)
        for i, row in enumerate(tiles):
            da.spawn(clear_above, da.InOut(row[i]))
    return result


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    time.sleep(PAUSE)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def factorise() -> bool:
    """Time the factorisations; whether what is required is reached."""
    square = np.random.default_rng(0).random((SIZE, SIZE))
    a = square @ square.T + SIZE * np.eye(SIZE)
    found = array_to_array(a)
    blocks = cut(a)
    cholesky(blocks)
    assert all(
        np.allclose(
            np.tril(block) if i == j else block, found[i * TILE :, j * TILE :][:TILE, :TILE]
        )
        for i, row in enumerate(blocks)
        for j, block in enumerate(row)
    )
    expected = scipy.linalg.cholesky(a, lower=True)
    residuals = [
        float(np.linalg.norm(a - one @ one.T) / (SIZE * np.finfo(float).eps * np.linalg.norm(a)))
        for one in (found, expected)
    ]
    print(f"residual, in n * eps * norm: {residuals[0]:.2e}, SciPy's {residuals[1]:.2e}")
    runs: dict[str, list[float]] = {name: [] for name in ("scipy", "blocks", "array", "product")}
    half = SIZE // 2
    for _ in range(ROUNDS):
        runs["scipy"].append(timed(lambda: scipy.linalg.cholesky(a, lower=True)))
        blocks = cut(a)
        runs["blocks"].append(timed(lambda: cholesky(blocks)))  # noqa: B023 - called at once
        runs["array"].append(timed(lambda: array_to_array(a)))
        runs["product"].append(timed(lambda: square[:half] @ square[:, :half]))
    for name, walls in runs.items():
        print(
            f"  {name:<8} min {min(walls):.3f} s, median {median(walls):.3f}, max {max(walls):.3f}"
        )
    rate = 2 * half * half * SIZE / median(runs["product"])
    share = SIZE**3 / 3 / median(runs["blocks"]) / rate
    in_blocks = median(runs["scipy"]) / median(runs["blocks"])
    in_arrays = median(runs["scipy"]) / median(runs["array"])
    print(f"blocks to blocks: {in_blocks:.2f} times SciPy's speed (required 1.3, aim 1.5)")
    print(f"  {share:.0%} of the product's rate (required 80, aim 88)")
    print(f"array to array: {in_arrays:.2f} times SciPy's speed (required 1.05, aim 1.25)")
    sound = residuals[0] <= 2 * residuals[1] + 1e-3
    return sound and in_blocks >= 1.3 and share >= 0.8 and in_arrays >= 1.05


def least_cost(count: int) -> tuple[float, float]:
    """What `cost` gives, the least of three."""
    pairs = [cost(count) for _ in range(3)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def costs() -> bool:
    """Print what tasks cost, by how many are outstanding; whether what is required is reached."""
    cost(1000)
    found = {}
    for count in (1_000, 10_000, 50_000, 200_000):
        region, plain = least_cost(count)
        gc.disable()
        try:
            uncollected, _ = least_cost(count)
        finally:
            gc.enable()
        found[count] = region
        print(
            f"{count:>8} tasks outstanding: {region:.1f} us a task ({uncollected:.1f} with the "
            f"collector off), {plain:.1f} if plain"
        )
    growth = found[200_000] / found[10_000]
    print(f"(required 15 us, aim 8, flat: from 10,000 to 200,000 {growth:.2f} times, at most 1.5)")
    return max(found.values()) <= 15 and growth <= 1.5


def main() -> int:
    """Measure, print, and judge."""
    da.configure(threads=2)
    is_cheap = costs()
    return int(not (factorise() and is_cheap))


if __name__ == "__main__":
    sys.exit(main())
