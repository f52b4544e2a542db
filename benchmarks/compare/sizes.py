"""Time against size: ``python -m benchmarks.compare.sizes [--picture FILE.svg]``.

``sqrt(x*x+y*y)`` of 10^3 to 3 x 10^8 float64, built and collected, by NumPy, dask.array at the
best of several sizes of chunks, and darray, in turn. Prints a table and draws the median times.
The largest size needs 20 GB of memory; sizes for which there is not enough are left out, and said.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil

from benchmarks.compare.contenders import (
    DASK_CHUNK_BYTES,
    by_darray,
    by_dask,
    by_numpy,
    missing,
    shared,
)
from benchmarks.compare.first_process import hypotenuse
from benchmarks.compare.judging import formatted
from benchmarks.compare.turns import Times, best_configurations, take_turns

SIZES = [digit * 10**power for power in range(3, 9) for digit in (1, 3)]
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "sizes.svg"
# Inputs, which all share, NumPy's temporaries, results, and the answer expected.
BYTES_AN_ELEMENT = 8 * 8
# Above this only dask's best size of chunks for this many is run.
CHOSEN_AT = 30_000_000
CALLS_TOGETHER = 1_000_000


def measure(elements: int, chunk_bytes: tuple[int, ...], rounds: int) -> dict[str, Times]:
    """The times of all contenders at one size."""
    rng = np.random.default_rng(0)
    arrays = shared([rng.random(elements) for _ in range(2)])
    expected = hypotenuse(*arrays)
    schedulers = ("sync", "threads") if elements <= CALLS_TOGETHER else ("threads",)
    contenders = [
        *by_numpy(hypotenuse, arrays),
        *by_dask(hypotenuse, arrays, 0.0, chunk_bytes, schedulers),
        *by_darray(hypotenuse, arrays),
    ]
    calls = max(1, min(50, CALLS_TOGETHER // elements))
    return take_turns(contenders, expected, rounds, calls)


def best_chunk_bytes(elements: int) -> int:
    """dask's best size of chunks for `elements`."""
    arrays = list(np.random.default_rng(0).random((2, elements)))
    contenders = by_dask(hypotenuse, arrays, 0.0)
    (best,) = best_configurations(contenders, 1)
    return DASK_CHUNK_BYTES[contenders.index(best)]


def draw(times: Mapping[int, Mapping[str, Times]], picture: Path) -> None:
    """Median times against sizes, both logarithmic, as an SVG file that is the same each time."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "darray"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in next(iter(times.values())):
        axes.loglog(list(times), [one[name].middle for one in times.values()], "o-", label=name)
    axes.set(xlabel="elements of each input", ylabel="seconds, median", title="sqrt(x*x + y*y)")
    axes.grid(alpha=0.3)
    axes.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare.sizes", description=__doc__)
    parser.add_argument("--largest", type=float, default=SIZES[-1], help="elements at most")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    chunk_bytes: tuple[int, ...] = DASK_CHUNK_BYTES
    found: dict[int, dict[str, Times]] = {}
    for elements in SIZES:
        if elements > options.largest:
            break
        if BYTES_AN_ELEMENT * elements > psutil.virtual_memory().available:
            print(f"left out: {elements:,} elements and more, for which there is not enough memory")
            break
        if elements > CHOSEN_AT and len(chunk_bytes) > 1 and "dask" not in missing():
            chunk_bytes = (best_chunk_bytes(CHOSEN_AT),)
        found[elements] = measure(elements, chunk_bytes, options.rounds)
        if len(found) == 1:
            names = list(found[elements])
            print(f"| elements | {' | '.join(names)} | NumPy / darray |")
            print("|---|" + "---|" * (len(names) + 1))
        cells = [formatted(found[elements][name].middle) for name in names]
        ratio = found[elements]["NumPy"].middle / found[elements]["darray"].middle
        print(f"| {elements:,} | {' | '.join(cells)} | {ratio:.3g} |", flush=True)
    if not found:
        parser.error(f"--largest {options.largest:g} leaves no size; the least is {SIZES[0]:,}")
    draw(found, options.picture)
    print(f"drawn: {options.picture}")


if __name__ == "__main__":
    main()
