"""``darray describe`` as a person runs it: figures, plots, messages, exit statuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from darray.command.findings import FIGURES
from tests.command.expected import real_or_made_data, summary_of
from tests.command.terminal import (
    DARRAY,
    plain_environment,
    run_in_terminal,
    run_piped,
    visible,
)


def store(folder: Path, array: np.ndarray, chunks: tuple[int, ...], **options: Any) -> str:
    """Write `array` to a Zarr store in `folder` and return its name."""
    stored = zarr.create_array(
        folder / "a.zarr", shape=array.shape, chunks=chunks, dtype=array.dtype, **options
    )
    stored[...] = array
    return "a.zarr"


def described(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what ``darray describe --json`` gives."""
    run = run_piped((*DARRAY, "describe", *arguments, "--json"), folder)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def check_figures(found: dict[str, Any], array: np.ndarray) -> None:
    """Hold the figures of all elements to NumPy's."""
    expected = summary_of(array)
    for name in ("count", "nans", "min", "max"):
        assert found[name] == expected[name].item()
    for name in ("mean", "std"):
        # Sums in another order: a few roundings of the largest value.
        room = 1e-13 * np.nanmax(np.abs(array.astype(float)))
        assert abs(found[name] - expected[name]) <= room, name


def refused(folder: Path, *arguments: str) -> str:
    """Return the one line that the program ends with; nothing else is printed."""
    run = run_piped((*DARRAY, "describe", *arguments), folder)
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert run.stderr.startswith("darray: ")
    assert run.stderr.count("\n") == 1
    return run.stderr.removeprefix("darray: ").rstrip()


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    image: np.ndarray = imread(path)
    return image


# ---------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_real_data(tmp_path, kind):
    array = real_or_made_data()
    if kind == "zarr":
        name = store(tmp_path, array, (100, 33, 20))
    else:
        name = "a.npy"
        np.save(tmp_path / name, array)
    found = described(tmp_path, name, "--axis", "0")
    check_figures(found, array)
    assert (found["shape"], found["dtype"], found["nbytes"]) == (
        list(array.shape),
        "float32",
        array.nbytes,
    )
    along = summary_of(array, 0)
    assert found["along"]["shape"] == [33, 49]
    for name in FIGURES:
        values = found["along"][name]["values"]
        np.testing.assert_allclose(values, along[name], rtol=1e-9 if name == "std" else 1e-13)
    assert found["along"]["max"]["highest"] == array.max()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_nans_along_every_axis(tmp_path, axis):
    array = np.random.default_rng(1).normal(size=(12, 10, 9))
    array[np.indices(array.shape).sum(axis=0) % 3 == 1] = np.nan
    array[5] = -7.0
    found = described(tmp_path, store(tmp_path, array, (5, 4, 9)), "--axis", str(axis))
    check_figures(found, array)
    along = summary_of(array, axis)
    assert found["along"]["axis"] == axis % 3
    for name in ("count", "nans", "min", "max"):
        assert found["along"][name]["values"] == along[name].tolist()
    for name in ("mean", "std"):
        np.testing.assert_allclose(found["along"][name]["values"], along[name], atol=1e-13)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">i4", "int64", "float16", ">f8"])
def test_dtypes(tmp_path, dtype):
    array = (np.arange(60).reshape(6, 10) % 7 - (dtype != "bool")).astype(dtype)
    found = described(tmp_path, store(tmp_path, array, (4, 3)))
    check_figures(found, array)
    run = run_piped((*DARRAY, "describe", "a.zarr", "--axis", "1"), tmp_path)
    assert run.returncode == 0
    assert re.search(r"^along axis 1: shape \(6,\)$", run.stdout, re.M)


def test_large_integers_are_exact(tmp_path):
    np.save(tmp_path / "a.npy", np.array([2**62 + 1, -(2**62) - 3]))
    found = described(tmp_path, "a.npy")
    assert (found["min"], found["max"]) == (-(2**62) - 3, 2**62 + 1)


def test_array_without_axes(tmp_path):
    np.save(tmp_path / "a.npy", np.array(2.5))
    found = described(tmp_path, "a.npy", "--plot", "a.png")
    assert [found[name] for name in FIGURES] == [1, 0, 2.5, 2.5, 2.5, 0.0]
    assert pixels(tmp_path / "a.png").std() > 0.01


def test_array_without_elements(tmp_path):
    np.save(tmp_path / "a.npy", np.empty((0, 3)))
    found = described(tmp_path, "a.npy", "--axis", "0")
    assert [found[name] for name in FIGURES] == [0, 0, None, None, None, None]
    assert found["along"]["count"]["values"] == [0, 0, 0]
    text = run_piped((*DARRAY, "describe", "a.npy"), tmp_path).stdout
    assert re.search(r"^mean +none$", text, re.M)
    assert "nothing to plot" in refused(tmp_path, "a.npy", "--plot", "a.png")


def test_nothing_but_nan(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4), np.nan))
    found = described(tmp_path, "a.npy", "--axis", "1", "--plot", "a.png")
    assert [found[name] for name in FIGURES] == [0, 12, None, None, None, None]
    assert found["along"]["nans"]["values"] == [4, 4, 4]
    assert pixels(tmp_path / "a.png").std() > 0.01


def test_infinities(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1.0, np.inf, -np.inf, np.nan]))
    found = described(tmp_path, "a.npy", "--plot", "a.png")
    assert [found[name] for name in FIGURES] == [3, 1, "-inf", "inf", None, None]
    assert pixels(tmp_path / "a.png").std() > 0.01


def test_array_in_a_group(tmp_path):
    group = zarr.open_group(tmp_path / "store.zarr", mode="w")
    array = group.create_array("surface/t", shape=(4, 6), chunks=(2, 6), dtype="f4")
    array[...] = np.arange(24, dtype="f4").reshape(4, 6)
    assert described(tmp_path, "store.zarr/surface/t")["max"] == 23.0
    message = refused(tmp_path, "store.zarr")
    assert "group" in message
    assert "'surface/t'" in message


def test_text_output(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0, 2.0], [3.0, np.nan]]))
    run = run_piped((*DARRAY, "describe", "a.npy", "--axis", "0"), tmp_path)
    lines = run.stdout.splitlines()
    assert lines[0] == "a.npy: shape (2, 2), float64, in chunks of (2, 2), 32 B"
    assert [line.split() for line in lines[1:4]] == [["count", "3"], ["NaNs", "1"], ["min", "1"]]
    assert lines[8] == "along axis 0: shape (2,)"


# ------------------------------------------------------------------------------------------- plot


@pytest.mark.parametrize("shape", [(50,), (8, 30), (5, 20, 30), (3, 4, 20, 30)], ids=str)
def test_plot(tmp_path, shape):
    array = np.random.default_rng(2).normal(size=shape)
    np.save(tmp_path / "a.npy", array)
    run = run_piped((*DARRAY, "describe", "a.npy", "--plot", "out.png"), tmp_path)
    assert run.returncode == 0, run.stderr
    assert "along axis" not in run.stdout  # it was not asked for in the text
    image = pixels(tmp_path / "out.png")
    assert image[:, :500].std() > 0.01
    assert image[:, 600:].std() > 0.01
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "out.png"]


def test_plot_that_cannot_be_written_is_found_out_before_anything_is_read(tmp_path):
    # The chunks are damaged: had they been read, the message would be another one.
    store(tmp_path, np.ones((4, 4)), (2, 4))
    for file in (tmp_path / "a.zarr").rglob("c/*/*"):
        file.write_bytes(b"no chunk")
    message = refused(tmp_path, "a.zarr", "--plot", "no/folder/out.png")
    assert message == "cannot write the plot: No such file or directory: 'no/folder/out.png'"
    refused(tmp_path, "a.zarr", "--plot", "out.png")
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_plot_of_values_that_no_axis_can_hold(tmp_path):
    np.save(tmp_path / "a.npy", np.array([-1.7e308, 1.7e308]))
    run = run_piped((*DARRAY, "describe", "a.npy", "--plot", "out.png"), tmp_path)
    assert run.returncode == 1
    assert re.search(r"^max +1\.7e\+308$", run.stdout, re.M)
    assert run.stderr == "darray: values beyond 1e+300 cannot be drawn: leave --plot out\n"
    assert os.listdir(tmp_path) == ["a.npy"]


# -------------------------------------------------------------------------------------- progress


def test_progress_is_lines_when_piped(tmp_path):
    name = store(tmp_path, np.ones((40, 100, 100)), (1, 100, 100))
    run = run_piped((*DARRAY, "describe", name), tmp_path)
    lines = run.stderr.splitlines()
    assert all(line.startswith("describe: ") for line in lines)
    assert re.fullmatch(r"describe: 100 %, 3\.2 MB in \S+ s, \S+ [MG]B/s", lines[-1])


def test_progress_is_a_bar_on_a_terminal(tmp_path):
    name = store(tmp_path, np.ones((40, 100, 100)), (1, 100, 100))
    status, output, drawn = run_in_terminal((*DARRAY, "describe", name, "--json"), tmp_path)
    assert status == 0
    assert json.loads(output)["count"] == 400_000
    last = visible(drawn)[-1]
    assert re.fullmatch(r"describe ━{24} 100 %  3\.2 MB in \S+ s, \S+ [MG]B/s", last)


# ---------------------------------------------------------------------------- mistakes, statuses


def test_no_such_file(tmp_path):
    assert "nowhere.zarr" in refused(tmp_path, "nowhere.zarr")
    assert "nowhere.npy" in refused(tmp_path, "nowhere.npy")


def test_not_an_array(tmp_path):
    (tmp_path / "notes.txt").write_text("not an array")
    (tmp_path / "notes.npy").write_text("not an array")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    for name in ("notes.txt", "notes.npy", "folder", "folder.zarr"):
        assert name in refused(tmp_path, name)


def test_truncated_file(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(1000))
    os.truncate(tmp_path / "a.npy", 4000)
    assert "truncated" in refused(tmp_path, "a.npy")


def test_damaged_chunk(tmp_path):
    name = store(tmp_path, np.ones((4, 4)), (2, 4))
    chunk = next((tmp_path / name).rglob("c/*/*"))
    chunk.write_bytes(b"no chunk")
    run = run_piped((*DARRAY, "describe", name), tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.splitlines()[-1].startswith("darray: ")
    assert "Traceback" not in run.stderr


def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "a.npy").mkdir()
    assert refused(tmp_path, "a.npy").startswith("Is a directory: ")


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "U3", "S4"])
def test_data_without_order_or_mean(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype))
    message = refused(tmp_path, "a.npy")
    assert message.startswith(f"'a.npy' holds {np.dtype(dtype)}: only real numbers ")


@pytest.mark.parametrize(
    ("axis", "shape", "axes"),
    [("2", (3, 4), "axes 0 to 1"), ("-3", (3, 4), "axes 0 to 1"), ("0", (), "no axes")],
)
def test_axis_out_of_range(tmp_path, axis, shape, axes):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    message = refused(tmp_path, "a.npy", "--axis", axis)
    assert message == f"--axis {axis}: 'a.npy' has {axes}, its shape is {shape}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--memory", "much"), "--memory: cannot read 'much' as a size in bytes; "),
        (("--memory", "-1GB"), "--memory: "),
        (("--memory", "0"), "--memory: a size in bytes must be positive"),
        (("--threads", "0"), "--threads: threads must be at least 1, not '0'"),
        (("--threads", "two"), "--threads: "),
    ],
)
def test_limits_that_make_no_sense(tmp_path, arguments, message):
    np.save(tmp_path / "a.npy", np.zeros(3))
    option, value = arguments
    assert refused(tmp_path, "a.npy", f"{option}={value}").startswith(message)


def test_memory_too_small_for_a_chunk(tmp_path):
    name = store(tmp_path, np.zeros((8, 2_000_000)), (4, 2_000_000))
    message = refused(tmp_path, name, "--memory", "150MB")
    assert "memory limit" in message
    assert "chunk" in message


def test_result_along_the_axis_too_large(tmp_path):
    name = store(tmp_path, np.zeros((2, 1_000_000), "i1"), (2, 100_000))
    message = refused(tmp_path, name, "--axis", "0", "--memory", "100MB")
    assert message.startswith("the figures along axis 0 have the shape (1000000,) and take 3")
    described(tmp_path, name, "--axis", "1", "--memory", "200MB")


@pytest.mark.parametrize(
    ("library", "arguments", "message"),
    [
        ("zarr", ("a.zarr",), 'pip install "darray[zarr]"'),
        ("matplotlib", ("a.npy", "--plot", "a.png"), 'pip install "darray[plot]"'),
    ],
)
def test_missing_library_says_what_to_install(tmp_path, library, arguments, message):
    np.save(tmp_path / "a.npy", np.zeros(3))
    store(tmp_path, np.zeros(3), (3,))
    program = f"""
import sys
sys.modules[{library!r}] = None
from darray.command.program import main
sys.exit(main(["describe", *{arguments!r}]))
"""
    run = run_piped((sys.executable, "-c", program), tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("describe",), ("describe", "a", "b"), ("fly",)])
def test_command_that_cannot_be_understood(tmp_path, arguments):
    run = run_piped((*DARRAY, *arguments), tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("usage: darray")


def test_traceback_on_demand(tmp_path):
    run = run_piped((*DARRAY, "--traceback", "describe", "nowhere.npy"), tmp_path)
    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert "FileNotFoundError" in run.stderr


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Return ``darray describe``, running."""
    return subprocess.Popen(
        (*DARRAY, "describe", *arguments),
        cwd=folder,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_reader_that_has_enough(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with started(tmp_path, "a.npy") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption(tmp_path, number):
    name = store(tmp_path, np.ones((400, 200, 200)), (1, 200, 200))
    with started(tmp_path, name, "--threads", "1", "--plot", "out.png") as process:
        assert process.stderr.readline().startswith("describe: ")
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + number, "")
    lines = [line for line in errors.splitlines() if not line.startswith("describe: ")]
    assert lines == (["darray: interrupted"] if number == signal.SIGINT else [])
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_output_that_cannot_be_written(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10))
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "darray", "describe", str(tmp_path / "a.npy")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("darray: cannot write the output: No space")
    assert "Traceback" not in ended.stderr
