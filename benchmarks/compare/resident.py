"""Peak resident memory, by the kernel's high-water mark, of processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def high_water_mark() -> int:
    """The most bytes of this process that ever were in memory at a time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def child(module: str, *arguments: object, **environment: str) -> Any:
    """What a module of this package prints last, as JSON, run in a fresh process."""
    command = [sys.executable, "-m", f"benchmarks.compare.{module}", *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def above_inputs(name: str, elements: int) -> int:
    """Bytes that a case of `elementwise` holds at its peak, less its inputs and libraries."""
    found: int = child("resident", name, elements)
    return found


def measure(name: str, elements: int) -> int:
    """The peak while an expression is evaluated over what there was before, in this process.

    Libraries, compiled kernels and threads are there before, from an evaluation of small arrays.
    Inputs are made in place and shared with darray, so that nothing was ever held beside them.
    """
    import numpy as np

    import darray as da
    from benchmarks.compare.elementwise import CASES

    case = CASES[name]
    small = case.arrays(100_000)
    da.collect(case.formula(*[da.distribute(one) for one in small]))
    rng = np.random.default_rng(0)
    side = round(elements**0.5)
    inputs = []
    for _ in range(case.inputs):
        array = np.empty((side, side) if case.square else elements)
        rng.random(out=array)
        array.flags.writeable = False
        inputs.append(da.distribute(array))
    before = high_water_mark()
    da.collect(case.formula(*inputs))
    return high_water_mark() - before


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))
