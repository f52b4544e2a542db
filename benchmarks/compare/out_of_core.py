"""Rows of a re-cut and of a product of matrices that are larger than the budget of memory.

Operands and results are in Zarr stores: what is in the caller's memory needs no budget.
"""

from __future__ import annotations

from benchmarks.compare import stores
from benchmarks.compare.judging import Judged, Run, report, speed
from benchmarks.compare.stored import Stored
from benchmarks.compare.zarr_rows import ROUNDS, budget, completes, limits_of, within_budget

RECUT_SIDE = 16_000  # float64: 2.05 GB, in chunks of 128 rows, 16 MB
RECUT_CHUNKS = 125
RECUT_BUDGET = 512_000_000
SIDE = 12_000
PRODUCT_CHUNKS = 8  # along an axis: 1,500 x 1,500 at the full size, 18 MB
PRODUCT_BUDGET = 1_200_000_000
PRODUCT_ROUNDS = 2


def recut_row(run: Run) -> list[Judged]:
    """A store in chunks of whole rows to one in chunks of whole columns."""
    side, limit = run.side(RECUT_SIDE, RECUT_CHUNKS), budget(RECUT_BUDGET, run)
    bounded = f"darray, {limit / 1e6:,.0f} MB"
    with stores.folder(run.folder, 4 * 8 * side**2) as folder:
        stores.fill(folder / "x.zarr", (side, side), (side // RECUT_CHUNKS, side), "raw")
        stored = Stored("recut", folder / "x.zarr", folder / "made.zarr")
        others = {"darray": 0, bounded: limit, "writing and reading": 0}
        stored.take_turns(limits_of(True, **others), min(run.rounds, ROUNDS))
    judged = [completes(stored, "darray"), speed(stored.times, "darray", "dask", 1.0, 1.5)]
    share = None
    if {"darray", "dask"} <= set(stored.times):
        share = stored.peaks["darray"] / stored.peaks["dask"]
    judged += [
        Judged("darray, of dask's peak memory", share, 0.5, 0.5, "x", at_most=True),
        completes(stored, bounded),
        speed(stored.times, bounded, "writing and reading", 1 / 1.5, 1.0),
        within_budget(stored, bounded, limit),
    ]
    title = f"re-cut of {8e-9 * side**2:.3g} GB from rows to columns, Zarr to Zarr"
    return report(title, stored.times, judged, stored.notes())


def product_row(run: Run) -> list[Judged]:
    """A product of square matrices, against NumPy's in memory with all its threads."""
    side, limit = run.side(SIDE, PRODUCT_CHUNKS), budget(PRODUCT_BUDGET, run)
    with stores.folder(run.folder, 4 * 8 * side**2) as folder:
        chunk = side // PRODUCT_CHUNKS
        for name in "ab":
            (folder / "operands").mkdir(exist_ok=True)
            stores.fill(folder / "operands" / name, (side, side), (chunk, chunk), "raw")
        stored = Stored("product", folder / "operands", folder / "made.zarr")
        limits = {"NumPy": 0, "darray": limit}
        stored.take_turns(limits, min(run.rounds, PRODUCT_ROUNDS))
    judged = [
        completes(stored, "darray"),
        speed(stored.times, "darray", "NumPy", 0.8, 0.95),
        within_budget(stored, "darray", limit),
    ]
    title = f"product of {side:,} x {side:,}, Zarr to Zarr, budget {limit / 1e6:,.0f} MB"
    return report(title, stored.times, judged, stored.notes())


ROWS = {"re-cut": recut_row, "product": product_row}
