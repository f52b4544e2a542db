"""Rows of arrays in Zarr stores in the page cache, with a budget of memory.

Contenders run in processes of their own that take turns: so each has its budget for itself, and
its peak is the kernel's.
"""

from __future__ import annotations

from benchmarks.compare import stores
from benchmarks.compare.contenders import missing
from benchmarks.compare.judging import Judged, Run, report, speed
from benchmarks.compare.stored import Stored

MEAN_CHUNKS = 375  # of 16 MB: 6 GB
DOUBLE_CHUNKS = 200  # 3.2 GB
CHUNK = 2_000_000
BUDGET = 1_000_000_000
# Below this not even the libraries fit.
LEAST_BUDGET = 250_000_000
ROUNDS = 3


def budget(full: int, run: Run) -> int:
    """The budget at the size of `run`."""
    return max(LEAST_BUDGET, int(full * min(1.0, run.size)))


def limits_of(dask: bool, **others: int) -> dict[str, int]:
    """Contenders and their limits, without dask where that is missing."""
    return {**({"dask": 0} if dask and "dask" not in missing() else {}), **others}


def within_budget(stored: Stored, name: str, limit: int) -> Judged:
    """Whether the peak of `name` is at most its limit."""
    what, megabytes = f"{name}, peak resident", limit / 1e6
    peak = stored.peaks[name] / 1e6 if name in stored.times else None
    return Judged(what, peak, megabytes, megabytes, " MB", at_most=True)


def completes(stored: Stored, name: str) -> Judged:
    """Whether `name` came to an end without running out of memory."""
    why = f" ({stored.failed[name]})" if name in stored.failed else ""
    return Judged(f"{name}, runs completed", float(name in stored.times), 1, 1, "", also=why)


def mean_row(run: Run, codec: str) -> list[Judged]:
    """The mean of all elements."""
    chunk = run.elements(CHUNK)
    count, limit = MEAN_CHUNKS * chunk, budget(BUDGET, run)
    with stores.folder(run.folder, 9 * count) as folder:
        total = stores.fill(folder / "x.zarr", (count,), (chunk,), codec)
        stored = Stored("mean", folder / "x.zarr", folder / "unused", total / count)
        limit_name = "codec" if codec == "zstd" else "reading"
        others = {"darray": limit, "reading": 0, **({"codec": 0} if codec == "zstd" else {})}
        stored.take_turns(limits_of(True, **others), min(run.rounds, ROUNDS))
    judged = [completes(stored, "darray")]
    if codec == "raw":
        judged.append(speed(stored.times, "darray", "dask", 2.5, 3.5))
        judged.append(speed(stored.times, "darray", limit_name, 0.7, 0.85))
    else:
        judged.append(speed(stored.times, "darray", "dask", 1.2, 1.35))
        judged.append(speed(stored.times, "darray", limit_name, 0.8, 0.8))
    judged.append(within_budget(stored, "darray", limit))
    title = f"mean of {8e-9 * count:.3g} GB of Zarr, {codec}, budget {limit / 1e6:,.0f} MB"
    return report(title, stored.times, judged, stored.notes())


def double_row(run: Run, codec: str) -> list[Judged]:
    """``x*2+1`` from a store to a new one."""
    chunk = run.elements(CHUNK)
    count, limit = DOUBLE_CHUNKS * chunk, budget(BUDGET, run)
    with stores.folder(run.folder, 18 * count) as folder:
        stores.fill(folder / "x.zarr", (count,), (chunk,), codec)
        stored = Stored("double", folder / "x.zarr", folder / "made.zarr")
        stored.take_turns(limits_of(True, darray=limit, copying=0), min(run.rounds, ROUNDS))
    judged = [
        completes(stored, "darray"),
        speed(stored.times, "darray", "dask", 1.1, 1.3),
        within_budget(stored, "darray", limit),
    ]
    title = f"x*2+1 of {8e-9 * count:.3g} GB, Zarr to Zarr, {codec}"
    title += f", budget {limit / 1e6:,.0f} MB"
    return report(title, stored.times, judged, stored.notes())


ROWS = {
    "zarr-mean": lambda run: mean_row(run, "raw"),
    "zarr-mean-zstd": lambda run: mean_row(run, "zstd"),
    "zarr-double": lambda run: double_row(run, "raw"),
    "zarr-double-zstd": lambda run: double_row(run, "zstd"),
}
