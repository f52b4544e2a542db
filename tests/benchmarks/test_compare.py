"""The program that compares darray with others: answers are checked, and every family runs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import darray as da
from benchmarks.compare import __main__ as program
from benchmarks.compare import contenders, stored, stored_ways, stores, zarr_rows
from benchmarks.compare.cases import Case
from benchmarks.compare.judging import Judged, Run, speed
from benchmarks.compare.turns import Contender, Times, WrongAnswerError, take_turns
from tests.view import ROOT

TRUE = np.arange(1.0, 1001.0)
TINY = ("std", "bool")


@pytest.mark.parametrize(
    "wrong",
    [
        np.where(TRUE == 500, 500 * (1 + 1e-9), TRUE),
        np.where(TRUE == 500, np.nan, TRUE),
        TRUE.astype(np.float32),
        TRUE[:999],
        TRUE[::-1],
    ],
    ids=["one element", "nan", "dtype", "shape", "order"],
)
def test_wrong_answer_of_any_contender_is_caught(wrong):
    contenders = [Contender("right", lambda: TRUE), Contender("wrong", lambda: wrong, error=1e-13)]
    with pytest.raises(WrongAnswerError):
        take_turns(contenders, TRUE, 1)


def test_rounding_is_allowed_to_those_that_say_so():
    near = TRUE * (1 + 1e-15)
    assert not np.array_equal(near, TRUE)
    take_turns([Contender("near", lambda: near, error=1e-13)], TRUE, 1)
    with pytest.raises(WrongAnswerError):
        take_turns([Contender("near", lambda: near)], TRUE, 1)


def test_wrong_integers_and_bools_are_caught():
    counts, flags = np.arange(10), np.arange(10) % 2 == 0
    for right, wrong in ((counts, counts[::-1]), (flags, ~flags)):
        with pytest.raises(WrongAnswerError):
            take_turns([Contender("wrong", lambda wrong=wrong: wrong)], right, 1)


def test_row_with_a_wrong_answer_ends_the_program_with_1(monkeypatch, capsys):
    case = Case("x", lambda x: x + 1 if isinstance(x, np.ndarray) else x + 2, lambda times: [])
    rows = {"planted": lambda run: program.elementwise.measure(case, run)}
    monkeypatch.setattr(program, "ROWS", rows)
    monkeypatch.setattr(case.__class__, "arrays", lambda self, elements: [np.ones(10)])
    monkeypatch.setattr(sys, "argv", ["compare", "--size", "0.001", "--rounds", "1"])
    assert program.main() == 1
    output = capsys.readouterr()
    assert "planted: failed" in output.out
    assert "WrongAnswerError" in output.err


@pytest.mark.parametrize("settings", [("threads",), ("threads", "jit")])
def test_darray_runs_without_compiled_kernels_where_it_can(settings, monkeypatch):
    class Settings:
        __struct_fields__ = settings

    switched = []
    monkeypatch.setattr(contenders, "Settings", Settings)
    monkeypatch.setattr(da, "configure", lambda **changes: switched.append(changes))
    found = contenders.by_darray(lambda x: x + 1, [TRUE])
    take_turns(found, TRUE + 1, 1)
    names = [one.name for one in found]
    if "jit" in settings:
        assert names == ["darray", "darray, no jit"]
        # Once for the check, once for the turn.
        assert switched == [{"jit": True}, {"jit": False}] * 2
    else:
        assert (names, switched) == (["darray"], [])


def test_verdicts():
    assert [Judged("", found, 2.0, 3.0).verdict for found in (1.9, 2.0, 3.0, None)] == [
        "short",
        "required",
        "aim",
        "not measured",
    ]
    assert [Judged("", found, 2.0, 1.0, at_most=True).verdict for found in (2.1, 2.0, 1.0)] == [
        "short",
        "required",
        "aim",
    ]


def test_speed_is_that_of_the_medians_or_of_their_best_run():
    times = {
        "darray": Times(wall=[1.0, 2.0, 3.0], cpu=[1.0]),
        "NumPy": Times(wall=[3.0, 6.0, 9.0], cpu=[1.0]),
    }
    assert speed(times, "darray", "NumPy", 1, 1).found == 3.0
    assert speed(times, "darray", "NumPy", 1, 1, at_best=True).found == 1.5
    assert speed(times, "darray", "dask", 1, 1).verdict == "not measured"


@pytest.mark.parametrize("work", ["double", "recut", "product"])
def test_wrong_element_in_a_written_store_is_caught(tmp_path, work):
    source = tmp_path / "source"
    if work == "product":
        source.mkdir()
        for name in "ab":
            stores.fill(source / name, (40, 40), (20, 20), "raw")
    else:
        stores.fill(source, (40, 40), (4, 40), "raw")
    target = tmp_path / "target"
    stored_ways.WAYS[work]["darray"](source, target, 1)
    stored.CHECKS[work](source, target)
    made = stored_ways.zarr_array(target, "r+")
    made[17, 23] *= 1.001
    with pytest.raises(WrongAnswerError):
        stored.CHECKS[work](source, target)


def test_a_way_that_runs_out_of_memory_is_short_not_an_end(tmp_path, monkeypatch):
    def too_much(source, target, times):
        raise da.MemoryLimitError("no room")

    monkeypatch.setitem(stored_ways.WAYS["mean"], "darray", too_much)
    assert stored.run("mean", "darray", tmp_path, tmp_path / "t", 1, 0) == {"failed": "no room"}
    turns = stored.Stored("mean", tmp_path, tmp_path / "t")
    monkeypatch.setattr(stored, "child", lambda *_: {"failed": "no room"})
    turns.take_turns({"darray": 1}, 2)
    judged = zarr_rows.completes(turns, "darray")
    assert judged.verdict == "short"
    assert "no room" in str(judged)


@pytest.fixture
def in_this_process(monkeypatch):
    """Rows of stores run here, on few chunks; where they differ is when libraries are imported."""

    def run(module, work, contender, *arguments):
        return stored.run(work, contender, *arguments)

    monkeypatch.setattr(stored, "child", run)
    monkeypatch.setattr(zarr_rows, "limits_of", lambda dask, **others: others)
    monkeypatch.setattr(zarr_rows, "MEAN_CHUNKS", 6)
    monkeypatch.setattr(zarr_rows, "DOUBLE_CHUNKS", 6)
    # darray's own budget is the process's, which other tests have filled.
    monkeypatch.setattr(zarr_rows, "budget", lambda full, run: 0)


@pytest.mark.parametrize("name", [name for name in program.ROWS if name.startswith("zarr")])
def test_rows_of_stores(name, in_this_process, tmp_path, capsys):
    judged = program.ROWS[name](Run(1e-3, 1, str(tmp_path)))
    assert judged[0].verdict == "aim"
    assert judged[0].what.startswith("darray, runs completed")
    assert "darray over dask: not measured" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_wrong_number_from_a_store_is_caught(in_this_process, tmp_path):
    total = stores.fill(tmp_path / "x", (100,), (10,), "zstd")
    for answer, caught in ((total / 100, False), (total / 100 * (1 + 1e-9), True)):
        turns = stored.Stored("mean", tmp_path / "x", tmp_path / "t", answer)
        if caught:
            with pytest.raises(WrongAnswerError):
                turns.take_turns({"darray": 0}, 1)
        else:
            turns.take_turns({"darray": 0}, 1)
            assert turns.peaks["darray"] > 0


def test_stores_need_room_on_the_disk(tmp_path):
    with pytest.raises(SystemExit, match="--folder"), stores.folder(str(tmp_path), 10**18):
        raise AssertionError("there is no such disk")


def test_program_measures_rows_of_every_kind():
    command = [sys.executable, "-m", "benchmarks.compare", *TINY, "--size", "1e-4"]
    command += ["--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("    darray ") >= len(TINY)
    assert done.stdout.splitlines()[-1].endswith("0 failed")


def test_every_part_of_the_table_has_a_row():
    assert {"hypotenuse", "zarr-mean", "first", "small-4", "small-6", "re-cut", "product"} < set(
        program.ROWS
    )
    assert Run(0.25).side(16_000, 125) == 8_000
