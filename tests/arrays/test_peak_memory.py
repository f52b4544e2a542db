"""The greatest memory that a process ever had resident stays within its limit, and a tenth."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

MEGABYTE = 10**6
LIMIT = 200 * MEGABYTE

PROLOGUE = """
import sys
import numpy as np
import darray as da
da.configure(engine="threads", threads=2, memory_limit=int(sys.argv[1]), spill_folder=sys.argv[2])
x = da.ones((5_000, 10_000), blocks=(50, 10_000)).persist()
x.wait()
"""

# Of an array of 400 MB, in chunks of 4 MB.
PROGRAMS = {
    "reductions": "assert float(x.sum()) == 5e7; assert (x.std(axis=0).collect() == 0).all()",
    "scan": "y = x.cumsum(axis=0).persist(); assert float(y[-1, 3]) == 5_000",
    "columns": "y = x.rechunk((5_000, 50)).map_blocks(np.negative); assert y.max().collect() == -1",
    "fetch chunks": "assert all(float(x.blocks[i, 0].result().sum()) == 5e5 for i in range(100))",
}


@pytest.mark.alone
@pytest.mark.parametrize("name", PROGRAMS)
def test_peak(name, tmp_path):
    code = PROLOGUE + textwrap.dedent(PROGRAMS[name])
    code += "\nprint([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(LIMIT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    peak = int(result.stdout.split()[1]) * 1024
    assert 0.5 * LIMIT < peak < 1.1 * LIMIT
