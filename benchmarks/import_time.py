"""What ``import darray`` costs over ``import numpy``: ``python benchmarks/import_time.py``.

Each run is a fresh interpreter that imports numpy first, so that the cumulative figure which
``-X importtime`` gives for darray is what darray adds.  Modules are compiled already, as they are
where a package is installed, also where the environment says not to write what was compiled.
Ends with status 1 over the limit.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys

RUNS = 9
LIMIT_MS = 150.0
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)$", re.M)


def measure() -> tuple[float, list[tuple[float, str]]]:
    """Import once; return darray's total and its modules with their own times, in ms."""
    command = [sys.executable, "-X", "importtime", "-c", "import numpy, darray"]
    report = subprocess.run(
        command, capture_output=True, text=True, check=True, env=ENVIRONMENT
    ).stderr
    total = 0.0
    modules: list[tuple[float, str]] = []
    nested: list[tuple[float, str]] = []
    # A module's line follows the lines of what it imported; only outermost ones have no indent.
    for own, cumulative, indent, name in LINE.findall(report):
        nested.append((int(own) / 1000, name))
        if not indent:
            if name.split(".")[0] == "darray":
                total += int(cumulative) / 1000
                modules += nested
            nested = []
    return total, modules


def main() -> int:
    """Print every run, the median, and the dearest modules of the median run."""
    measure()  # writes the bytecode
    runs = sorted((measure() for _ in range(RUNS)), key=lambda run: run[0])
    totals = [total for total, _ in runs]
    median, modules = runs[RUNS // 2]
    print("import darray over import numpy, ms:", *(f"{total:.1f}" for total in totals))
    print(
        f"median {median:.1f} ms, limit {LIMIT_MS:.0f} ms, spread {statistics.stdev(totals):.1f} ms"
    )
    for own, name in sorted(modules, reverse=True)[:10]:
        print(f"{own:8.2f}  {name}")
    return int(median > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
