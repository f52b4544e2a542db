"""The row of a first evaluation in a fresh process, imports and compilation counted.

darray's caches on disk are empty, as on a machine that never ran it; shown beside it is what it
takes when an earlier process has filled them.
"""

from __future__ import annotations

import tempfile

from benchmarks.compare.contenders import DASK_CHUNK_BYTES, missing
from benchmarks.compare.judging import Judged, Run, report, speed
from benchmarks.compare.resident import child
from benchmarks.compare.turns import Times

ELEMENTS = 40_000_000


def row(run: Run) -> list[Judged]:
    """Measure fresh processes in turn."""
    elements = run.elements(ELEMENTS)
    times = {"NumPy": Times(), "dask": Times(), "darray": Times(), "darray, filled caches": Times()}
    sizes = dict.fromkeys(min(one, 8 * elements) for one in DASK_CHUNK_BYTES)
    best = 0
    if "dask" in missing():
        del times["dask"]
    else:
        trials = {one: child("first_process", "dask", one, elements) for one in sizes}
        best = min(trials, key=lambda one: float(trials[one]["wall"]))
        times["dask"].configuration = f"chunks of {best / 1e6:.3g} MB"
    for _ in range(run.rounds):
        with tempfile.TemporaryDirectory(prefix="darray-benchmark-") as caches:
            # Numba's own cache, and where programs keep their caches by default.
            places = {"NUMBA_CACHE_DIR": f"{caches}/numba", "XDG_CACHE_HOME": caches}
            for name, one in times.items():
                contender = name.partition(",")[0]
                taken = child("first_process", contender, best, elements, **places)
                one.wall.append(taken["wall"])
                one.cpu.append(taken["cpu"])
    title = f"sqrt(x*x+y*y), first in a fresh process: 2 x {elements * 8e-6:,.3g} MB"
    return report(title, times, [speed(times, "darray", "dask", 1.5, 2.5)])


ROWS = {"first": row}
