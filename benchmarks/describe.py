"""How long the figures of a stored array take: ``python benchmarks/describe.py STORE``.

darray and dask.array compute count, NaNs, min, max, mean and std of all elements in processes of
their own that take turns; along axis 0 darray computes all six again, dask only the mean, or with
``--dask-along all`` the six as well.  Wall and CPU time are those of the
computation, without imports; peak resident memory is the whole process's.  The figures are
compared.  ``--tile DATA.npy`` makes the store: the array repeated along axis 0 to ``--size``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from darray.runtime.settings import parse_bytes

FIGURES = ("count", "nans", "min", "max", "mean", "std")
# dask's chunks are the store's, and also several of them in one, which lessens its overhead.
DASK_CHUNK_BYTES = 64_000_000
# float64 figures of the same values, summed in another order.
ROUNDING = 1e-9


def by_darray(store: str, memory: str, threads: int) -> dict[str, np.ndarray]:
    """Compute with darray, as ``darray describe --axis 0`` does."""
    import darray as da
    from darray.functions.summaries import summary

    da.configure(memory_limit=memory, threads=threads)
    x = da.from_npy(store) if store.endswith(".npy") else da.from_zarr(store)
    whole, along = da.compute(summary(x), summary(x, axis=0))
    return {
        **{name: np.asarray(whole[name]) for name in FIGURES},
        **{f"{name} along 0": along[name] for name in FIGURES},
    }


def by_dask(store: str, threads: int, larger: bool, along: str) -> dict[str, np.ndarray]:
    """Compute with dask.array, everything in one ``dask.compute``."""
    import dask
    import dask.array
    import zarr

    source = np.load(store, mmap_mode="r") if store.endswith(".npy") else zarr.open_array(store)
    chunks = getattr(source, "chunks", "auto")
    if larger and chunks != "auto":
        times = max(1, DASK_CHUNK_BYTES // (math.prod(chunks) * source.dtype.itemsize))
        chunks = (chunks[0] * times, *chunks[1:])
    x = dask.array.from_array(source, chunks=chunks)
    wanted = {}
    for axis, end in ((None, ""), (0, " along 0")):
        nans = dask.array.isnan(x).sum(axis=axis)
        size = x.size if axis is None else x.shape[0]
        wanted[f"mean{end}"] = dask.array.nanmean(x, axis=axis, dtype=np.float64)
        if axis == 0 and along == "mean":
            break
        wanted[f"count{end}"] = size - nans
        wanted[f"nans{end}"] = nans
        wanted[f"min{end}"] = dask.array.nanmin(x, axis=axis)
        wanted[f"max{end}"] = dask.array.nanmax(x, axis=axis)
        wanted[f"std{end}"] = dask.array.nanstd(x, axis=axis, dtype=np.float64)
    return dask.compute(wanted, scheduler="threads", num_workers=threads)[0]


def child(arguments: argparse.Namespace) -> None:
    """Compute once, with what ``--run`` names; print what it took and save the figures."""
    began, used = perf_counter(), process_time()
    if arguments.run == "darray":
        import darray as da  # noqa: F401 - imported before the clock starts

        began, used = perf_counter(), process_time()
        figures = by_darray(arguments.store, arguments.memory, arguments.threads)
    else:
        import dask.array  # noqa: F401
        import zarr  # noqa: F401

        began, used = perf_counter(), process_time()
        larger = arguments.run == "dask, larger chunks"
        figures = by_dask(arguments.store, arguments.threads, larger, arguments.dask_along)
    wall, cpu = perf_counter() - began, process_time() - used
    np.savez(arguments.figures, **figures)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak}))


def run_child(options: argparse.Namespace, store: str, name: str, folder: str) -> dict[str, float]:
    """Run `name` in a process of its own; return what it took. Its figures are in `folder`."""
    command = [sys.executable, __file__, store, "--run", name, "--memory", options.memory]
    command += ["--threads", str(options.threads), "--dask-along", options.dask_along]
    command += ["--figures", figures_file(folder, name)]
    # One thread a task for BLAS and the codec, with dask as with darray.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if output.returncode:
        sys.exit(f"{name} failed:\n{output.stderr}")
    result: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return result


def figures_file(folder: str, name: str) -> str:
    return os.path.join(folder, f"{name.replace(', ', '-').replace(' ', '-')}.npz")


def tile(data: str, nbytes: int, codec: str, chunk_bytes: int, folder: str) -> str:
    """Write the array in `data`, repeated along axis 0, as a Zarr array of about `nbytes`."""
    import zarr

    source = np.load(data)
    row = source[0].nbytes
    rows = max(1, nbytes // row)
    step = max(1, min(rows, chunk_bytes // row))
    store = os.path.join(folder, "tiled.zarr")
    array = zarr.create_array(
        store,
        shape=(rows, *source.shape[1:]),
        chunks=(step, *source.shape[1:]),
        dtype=source.dtype,
        compressors="auto" if codec == "zstd" else None,
    )
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        array[start:stop] = source[np.arange(start, stop) % len(source)]
    stored = sum(file.stat().st_size for file in Path(store).rglob("*") if file.is_file())
    print(
        f"{Path(data).name} tiled to {array.shape} {array.dtype}, {array.nbytes / 1e9:.2f} GB, "
        f"{stored / 1e9:.2f} GB stored ({codec}), chunks {array.chunks}"
    )
    return store


def compare(folder: str, names: list[str]) -> float:
    """Return the largest relative difference of any figure from darray's.

    Counts and extremes must be the same, the others agree but for rounding.
    """
    ours = np.load(figures_file(folder, "darray"))
    worst = 0.0
    for name in names[1:]:
        theirs = np.load(figures_file(folder, name))
        for figure in theirs.files:
            kind = figure.split()[0]
            if kind in ("mean", "std"):
                mean = np.abs(theirs["mean"])
                off = np.abs(ours[figure] - theirs[figure])
                if not (off <= ROUNDING * mean).all():
                    sys.exit(f"{figure} differs between darray and {name} by {off.max()!r}")
                worst = max(worst, float((off / mean).max()))
            elif not np.array_equal(ours[figure], theirs[figure], equal_nan=True):
                sys.exit(f"{figure} differs between darray and {name}")
    return worst


def measure(options: argparse.Namespace, store: str) -> None:
    """Run all in turn and print the table."""
    names = ["darray", "dask, store's chunks", "dask, larger chunks"]
    if store.endswith(".npy"):
        names.pop()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="darray-benchmark-") as folder:
        for _ in range(options.runs):
            for name in names:
                taken[name].append(run_child(options, store, name, folder))
        worst = compare(folder, names)
    print(
        f"{options.runs} runs in turn, {options.threads} threads, memory limit {options.memory} "
        f"(darray's); least of the runs (and largest); times darray's in the last columns"
    )
    print(f"{'':22}{'wall s':>16}{'CPU s':>16}{'peak MB':>16}{'wall':>8}{'CPU':>8}{'peak':>8}")
    least = {}
    for name, runs in taken.items():
        cells = ""
        for figure, unit in (("wall", 1), ("cpu", 1), ("peak", 1e6)):
            values = [one[figure] / unit for one in runs]
            least[name, figure] = min(values)
            digits = 0 if unit > 1 else 2
            cells += f"{f'{min(values):.{digits}f} ({max(values):.{digits}f})':>16}"
        for figure in ("wall", "cpu", "peak"):
            cells += f"{least[name, figure] / least['darray', figure]:>8.2f}"
        print(f"{name:22}{cells}")
    spread = statistics.median(one["wall"] for one in taken["darray"])
    print(f"darray's median wall time {spread:.2f} s; figures equal to {worst:.1e} of the mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", nargs="?", help="a Zarr array or .npy file")
    parser.add_argument("--memory", default="1GB", help="darray's limit (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dask-along", choices=("mean", "all"), default="mean")
    parser.add_argument("--tile", metavar="DATA.npy", help="make the store of this array")
    parser.add_argument("--size", default="1GB", help="of the store made (default: %(default)s)")
    parser.add_argument("--codec", choices=("zstd", "none"), default="zstd")
    parser.add_argument("--chunk", default="10MB", help="of the store made (default: %(default)s)")
    parser.add_argument("--folder", help="where to make the store (default: a temporary folder)")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--figures", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        child(options)
        return
    if (options.store is None) == (options.tile is None):
        parser.error("give either STORE or --tile")
    with ExitStack() as stack:
        store = options.store
        if options.tile is not None:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="darray-benchmark-", dir=options.folder)
            )
            size, chunk = parse_bytes(options.size), parse_bytes(options.chunk)
            store = tile(options.tile, size, options.codec, chunk, folder)
        measure(options, os.path.abspath(store))


if __name__ == "__main__":
    main()
