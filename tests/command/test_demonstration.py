"""``darray demo``: it checks for real, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from darray.command import demonstration
from darray.command.findings import Findings
from darray.command.synthetic_field import SyntheticField
from tests.command.expected import findings_of
from tests.command.terminal import DARRAY, plain_environment, run_piped

FIELD = SyntheticField((20, 16, 24))


def findings() -> Findings:
    box = tuple(slice(0, n, 1) for n in FIELD.shape)
    return findings_of(FIELD.values(box), 0)


def failed(found: Findings) -> list[str]:
    """Return the names of the checks that `found` does not pass."""
    checks = demonstration.figure_checks(found, FIELD)
    return [name for name, figure, exact, room in checks if not abs(figure - exact) <= room]


@pytest.mark.alone
def test_store_larger_than_the_limit(tmp_path):
    command = (*DARRAY, "demo", "--size", "400MB", "--memory", "250MB")
    run = run_piped(command, tmp_path, TMPDIR=str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("\nall checks passed\n")
    assert len(re.findall(r" ok$", run.stdout, re.M)) == 8
    assert re.search(r"^described in \S+ s, \S+ [MG]B/s$", run.stdout, re.M)
    assert os.listdir(tmp_path) == []


def test_kept_store(tmp_path):
    command = (*DARRAY, "demo", "--size=5MB", "--keep", "made/here")
    run = run_piped(command, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    described = run_piped((*DARRAY, "describe", "made/here/demo.zarr"), tmp_path)
    assert described.stdout.splitlines()[1:3] == run.stdout.splitlines()[2:4]
    again = run_piped(command, tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("darray: --keep: there is 'made/here/demo.zarr' already")


def test_peak_is_not_that_of_the_parent():
    ours = np.ones(2**25)
    code = "from darray.command.demonstration import peak_resident; print(peak_resident())"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert 10**6 < int(output) < ours.nbytes < demonstration.peak_resident()


def test_right_figures_pass():
    assert failed(findings()) == []


@pytest.mark.parametrize("name", ["count", "nans", "min", "max", "mean", "std"])
def test_wrong_figure_fails(name):
    found = findings()
    whole = found.whole.copy()
    # As much as float32 sums would be wrong, or one element.
    whole[name] = whole[name] * (1 + 1e-7) if name in ("mean", "std") else whole[name] + 1
    assert [one.lower() for one in failed(replace(found, whole=whole))] == [name]


@pytest.mark.parametrize("wrong", [100.0, np.nan])
def test_wrong_mean_at_one_place_fails(wrong):
    found = findings()
    assert found.along is not None
    along = found.along.copy()
    along["mean"][7, 11] = wrong
    assert failed(replace(found, along=along)) == ["mean at (:, 7, 11), the worst"]


def test_failed_check_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demonstration, "_ROUNDING", -1.0)
    # This process has run other tests, and holds what these left.
    monkeypatch.setattr(demonstration, "_OVER_LIMIT", float("inf"))
    parser = demonstration.argparse.ArgumentParser()
    demonstration.add_command(parser.add_subparsers())
    arguments = parser.parse_args(["demo", "--size", "5MB", "--keep", str(tmp_path)])
    assert arguments.run(arguments) == 1
    output = capsys.readouterr().out
    assert output.endswith("\na check FAILED\n")
    assert len(re.findall(r" FAILED$", output, re.M)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "2MB"), "--size: the shape (4, 256, 512) does not suit"),
        (("--size", "big"), "--size: cannot read 'big' as a size in bytes"),
        (("--memory", "big"), "--memory: cannot read 'big' as a size in bytes"),
        (("--size", "5000TB"), "--size: the shape "),
        (("--size", "8TB"), "a store of 8 TB does not fit "),
        (("--keep", "file"), "--keep: File exists: 'file'"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    (tmp_path / "file").touch()
    run = run_piped((*DARRAY, "demo", *arguments), tmp_path, TMPDIR=str(tmp_path))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"darray: {message}")
    assert run.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_nothing(tmp_path, number, keep):
    # Without -W error: a file that an import was reading when it was interrupted is closed late.
    command = [sys.executable, "-m", "darray", "demo", "--size", "300MB"]
    command += ["--keep", "kept"] if keep else []
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=plain_environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("making ")
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    last = [line for line in errors.splitlines() if not line.startswith(("write: ", "describe: "))]
    assert last == (["darray: interrupted"] if number == signal.SIGINT else [])
    assert [str(file) for file in Path(tmp_path).rglob("*")] == [str(tmp_path / "kept")] * keep
