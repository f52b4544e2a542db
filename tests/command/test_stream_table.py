"""The live table of a streaming region: on a terminal, and where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

import darray as da
from tests.command.terminal import run_in_terminal, run_piped, visible

# A stream of known pace: ten values in half a second.
PROGRAM = """
import threading
import darray as da
pace = threading.Event()

def slow(x):
    pace.wait(0.05)
    return x

with da.spawn_streaming() as s:
    numbers = da.spawn.options(name="[red]numbers")(iter(range(10)))
    da.spawn.options(name="work")(slow, numbers)
with da.stream_table(s):
    s.wait()
print("after it")
"""


def test_the_last_table_where_there_is_no_terminal(tmp_path):
    done = run_piped([sys.executable, "-W", "error", "-c", PROGRAM], tmp_path)
    assert (done.returncode, done.stdout) == (0, "after it\n")
    head, row = done.stderr.splitlines()
    assert head.split()[:3] == ["from", "to", "values"]
    assert row.split()[:3] == ["[red]numbers", "work", "10"]


def test_a_table_that_changes_on_a_terminal(tmp_path):
    pytest.importorskip("rich")
    status, output, drawn = run_in_terminal(
        [sys.executable, "-W", "error", "-c", PROGRAM], tmp_path
    )
    assert (status, output) == (0, "after it\n")
    counts = [int(line.split()[2]) for line in visible(drawn) if line.startswith("[red]numbers")]
    assert counts == sorted(counts)
    assert counts[-1] == 10
    assert len(set(counts)) > 1, "it was drawn while values flowed"


def test_only_a_region_has_a_table():
    with pytest.raises(TypeError, match=r"what da\.spawn_streaming\(\) gives, not 3"):
        da.stream_table(3).__enter__()


def test_a_failure_goes_through(capsys):
    with da.spawn_streaming() as s:
        da.spawn(int, da.spawn(iter(["no number"])))
    with pytest.raises(ValueError, match="no number"), da.stream_table(s):
        s.wait()
    assert "values" in capsys.readouterr().err


def test_a_script_that_leaves_a_stream_ends_with_it(tmp_path):
    program = (
        "import darray as da\nwith da.spawn_streaming():\n    da.spawn(print, da.spawn(iter([1])))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
