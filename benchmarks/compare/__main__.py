"""darray against all that a NumPy user could pick: ``python -m benchmarks.compare [ROW ...]``.

Contenders take turns in one process; those with a budget of memory, or that count their imports,
in processes of their own that take turns. Every answer is compared with NumPy's. Printed are the
least and the median wall time, the least CPU time, and what is required of darray. ``--size``
makes everything smaller, to try the program: figures at other sizes say nothing about the
requirements. At the full size the program exits with 1 when a requirement is missed, at any size
when a row ended with an error, a wrong answer for one; the other rows are measured all the same.
"""

from __future__ import annotations

import argparse
import sys
import traceback

from benchmarks.compare import (
    dtypes,
    elementwise,
    first_evaluation,
    out_of_core,
    reductions,
    small,
    zarr_rows,
)
from benchmarks.compare.contenders import THREADS, missing
from benchmarks.compare.judging import Run

ROWS = {
    **elementwise.ROWS,
    **first_evaluation.ROWS,
    **reductions.ROWS,
    **small.ROWS,
    **zarr_rows.ROWS,
    **out_of_core.ROWS,
    **dtypes.ROWS,
}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--size", type=float, default=1.0, help="times as many elements")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where stores are made and deleted (default: temporary)")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no row {min(unknown)!r}; there are: {', '.join(ROWS)}")
    if options.size <= 0 or options.rounds < 1:
        parser.error("--size and --rounds must be positive")
    run = Run(options.size, options.rounds, options.folder)
    print(f"{run.rounds} rounds in turn, {THREADS} threads; wall least / median, least CPU")
    if missing():
        print(f"left out: {'; '.join(missing())}")
    print()
    counts = dict.fromkeys(("aim", "required", "short", "not measured", "failed"), 0)
    for name in options.rows or ROWS:
        try:
            judged = ROWS[name](run)
        except Exception:
            print(f"{name}: failed", flush=True)
            traceback.print_exc()
            counts["failed"] += 1
        else:
            for one in judged:
                counts[one.verdict] += 1
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return int(counts["failed"] > 0 or (counts["short"] > 0 and run.size >= 1))


if __name__ == "__main__":
    sys.exit(main())
