"""``darray info``: what is installed, and what may be used."""

from __future__ import annotations

import json
import sys
from importlib import metadata

from darray.command import information
from tests.command.terminal import DARRAY, run_piped


def test_text(tmp_path):
    run = run_piped((*DARRAY, "info"), tmp_path, DARRAY_MEMORY_LIMIT="1GB", DARRAY_THREADS="3")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert lines[0].startswith(f"darray {metadata.version('darray')}, Python 3.")
    assert lines[1].endswith(", used by 3 threads")
    assert lines[2].split() == ["engine", "threads"]
    assert lines[3].startswith("memory limit  1 GB of ")
    assert f"zarr {metadata.version('zarr')}" in " ".join(run.stdout.split())


def test_json(tmp_path):
    run = run_piped((*DARRAY, "info", "--json"), tmp_path, DARRAY_MEMORY_LIMIT="2GB")
    found = json.loads(run.stdout)
    assert found["memory_limit"] == 2 * 10**9
    assert found["processors"] == found["threads"] >= 1
    assert found["libraries"]["zarr"] == {"extra": "zarr", "version": metadata.version("zarr")}


def test_default_limit_is_a_share_of_the_memory(tmp_path):
    found = json.loads(run_piped((*DARRAY, "info", "--json"), tmp_path).stdout)
    assert 0.5 < found["memory_limit"] / found["memory"] < 0.7


def test_every_extra_is_listed():
    extras = set(metadata.metadata("darray").get_all("Provides-Extra") or ()) - {"all"}
    assert {extra for extra, _ in information.optional_libraries().values()} == extras
    assert len(extras) >= 8


def test_library_that_is_missing(monkeypatch, capsys):
    def version(name: str) -> str:
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(information.metadata, "version", version)
    assert information.optional_libraries()["rich"] == ("progress", None)
    information.run(type("Arguments", (), {"json": False})())
    line = 'rich          not installed: pip install "darray[progress]"'
    assert line in capsys.readouterr().out


def test_setting_that_makes_no_sense(tmp_path):
    run = run_piped((*DARRAY, "info"), tmp_path, DARRAY_MEMORY_LIMIT="much")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("darray: cannot read 'much' as a size in bytes")


def test_version_and_help(tmp_path):
    run = run_piped((*DARRAY, "--version"), tmp_path)
    assert (run.returncode, run.stdout) == (0, f"darray {metadata.version('darray')}\n")
    for command in ((), ("describe",), ("demo",), ("info",)):
        run = run_piped((*DARRAY, *command, "--help"), tmp_path)
        assert run.returncode == 0
        assert run.stdout.startswith(f"usage: {' '.join(('darray', *command))} ")


def test_nothing_optional_is_loaded(tmp_path):
    program = """
import sys
from darray.command.program import main
main(["info"])
loaded = {"zarr", "matplotlib", "rich", "numba", "scipy", "dask"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    run = run_piped((sys.executable, "-c", program), tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
