"""What pyproject.toml and tests/conftest.py say of a run of tests holds, also in two processes."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.view import ROOT

LINES = 2000


def run_pytest(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of `program`, as this checkout's would be run."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_planted.py").write_text(program)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-q"]
    command += ["--rootdir", ".", "-p", "xdist", *options, "test_planted.py"]
    # The plugins of libraries, of zarr's above all, take longer to load than all else does.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("bare", "processes", "status"),
    [("runtime.tasks", "0", 4), ("io.files", "2", 4), ("io.files", "0", 4), ("shelve", "0", 0)],
)
def test_run_fails_when_a_module_was_loaded_under_a_bare_name(tmp_path, bare, processes, status):
    planted = f"import sys\n\n\ndef test_planted():\n    sys.modules[{bare!r}] = sys\n"
    run = run_pytest(tmp_path, planted, "-n", processes)
    assert run.returncode == status, run.stdout + run.stderr
    assert ("loaded a second time" in run.stderr) == bool(status)


def test_nothing_runs_beside_a_test_that_is_alone(tmp_path):
    planted = f"""
import pytest

def write(name):
    with open("lines", "a", buffering=1) as lines:
        for _ in range({LINES}):
            lines.write(name + "\\n")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(4))
def test_alone(number):
    write(f"alone {{number}}")

@pytest.mark.parametrize("number", range(12))
def test_beside(number):
    write(f"beside {{number}}")
"""
    run = run_pytest(tmp_path, planted, "-n", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    lines = (tmp_path / "lines").read_text().splitlines()
    assert len(lines) == 16 * LINES
    stretches = [(name, len(list(same))) for name, same in itertools.groupby(lines)]
    alone = [(name, count) for name, count in stretches if name.startswith("alone")]
    assert sorted(alone) == [(f"alone {number}", LINES) for number in range(4)]


def test_a_test_that_hangs_ends_the_run_with_the_stacks(tmp_path):
    planted = "import threading\n\n\ndef test_hangs():\n    threading.Event().wait()\n"
    run = run_pytest(tmp_path, planted, "-n", "2", "-o", "faulthandler_timeout=1")
    assert run.returncode == 1
    assert "Timeout (0:00:01)!" in run.stderr
    assert "in test_hangs" in run.stderr
    assert "FAILED test_planted.py::test_hangs" in run.stdout
