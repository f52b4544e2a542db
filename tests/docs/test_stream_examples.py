"""The streaming programs in docs/examples do what they say."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

from tests.view import ROOT


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_go_to_a_file_until_one_is_small(tmp_path):
    path = tmp_path / "numbers.txt"
    numbers = itertools.chain([0.5, 0.25, 0.75, 0.005], itertools.repeat(1.0))
    last = example("numbers_to_file").numbers_to_file(path, lambda: next(numbers))
    assert last == 0.005
    assert path.read_text().split() == ["0.5", "0.25", "0.75", "0.005"]


def test_windows_over_the_readings_of_a_sensor():
    program = example("sensor_windows")
    seen, means, alarms = program.watch(1000)
    assert np.array_equal(seen, list(program.readings(1000)))
    windows = np.lib.stride_tricks.sliding_window_view(seen, 50)
    before = windows[:, :-1]
    assert np.allclose(means, before.mean(axis=1))
    distance = (windows[:, -1] - before.mean(axis=1)) / before.std(axis=1)
    assert alarms == list(np.flatnonzero(np.abs(distance) > 6) + 49)
    assert alarms


def test_a_picture_of_a_sensor(tmp_path):
    pytest.importorskip("matplotlib")
    program = example("sensor_windows")
    program.plot(tmp_path / "sensor.png", *program.watch(300))
    assert (tmp_path / "sensor.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_learns_from_batches(tmp_path):
    pytest.importorskip("zarr")
    program = example("training_batches")
    path = str(tmp_path / "points.zarr")
    program.store(path, 5_000)
    weights, right = program.train(path, 5_000, size=250)
    assert right > 0.8
    again, _ = program.train(path, 5_000, size=250)
    assert np.array_equal(weights, again), "the batches come in order, however many are prepared"
