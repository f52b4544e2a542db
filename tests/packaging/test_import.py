"""``import darray`` is cheap: no optional library, no thread, no process, no socket."""

from __future__ import annotations

import json
import subprocess
import sys

OPTIONAL = {
    "cupy",
    "dask",
    "distributed",
    "fsspec",
    "hypothesis",
    "joblib",
    "matplotlib",
    "llvmlite",
    "numba",
    "numcodecs",
    "pandas",
    "psutil",
    "pyarrow",
    "pytest",
    "rich",
    "scipy",
    "threadpoolctl",
    "tqdm",
    "zarr",
}


def run_python(program: str, folder: object) -> object:
    """Return what `program` prints as JSON, run by a fresh interpreter in `folder`."""
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, cwd=str(folder), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_import_loads_no_optional_library(tmp_path):
    program = """
import json, sys
import darray
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    loaded = run_python(program, tmp_path)
    assert isinstance(loaded, list)
    assert "darray" in loaded
    assert OPTIONAL & set(loaded) == set()


def test_import_starts_no_thread_process_or_socket(tmp_path):
    # NumPy's BLAS may start threads of its own, so the state after `import numpy` is what counts.
    program = """
import json, threading
import numpy, psutil
def state():
    here = psutil.Process()
    return [here.num_threads(), threading.active_count(), len(here.children()),
            len(here.net_connections(kind="all"))]
before = state()
import darray
print(json.dumps([before, state()]))
"""
    states = run_python(program, tmp_path)
    assert isinstance(states, list)
    before, after = states
    assert after == before
    assert after[1:3] == [1, 0]


def test_import_prints_nothing_and_leaves_the_folder_alone(tmp_path):
    assert run_python("import darray; print('null')", tmp_path) is None
    assert list(tmp_path.iterdir()) == []
