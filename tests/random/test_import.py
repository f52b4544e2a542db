"""Importing the package draws nothing in: neither SciPy nor NumPy's generators."""

from __future__ import annotations

import subprocess
import sys


def test_import_is_cheap(tmp_path):
    program = (
        "import sys, darray.random\n"
        "print(sorted({'scipy', 'numpy.random', 'secrets'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
