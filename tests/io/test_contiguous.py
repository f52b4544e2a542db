import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.io import contiguous
from darray.io.contiguous import read_contiguous
from darray.runtime.boxes import box_shape, whole
from tests.io.strategies import SHAPES, boxes, equal, filled


class Counted:
    """A file that counts how often and how much is read of it."""

    def __init__(self, file):
        self.file = file
        self.name = file.name
        self.calls = 0
        self.bytes = 0

    def seek(self, position):
        self.file.seek(position)

    def readinto(self, target):
        self.calls += 1
        count = self.file.readinto(target)
        self.bytes += count
        return count


@pytest.fixture
def limits(monkeypatch):
    """Set the limits so small that small arrays need every way of reading."""

    def set_limits(hole, run, span, tile, tile_run, across):
        monkeypatch.setattr(contiguous, "_HOLE", hole)
        monkeypatch.setattr(contiguous, "_RUN", run)
        monkeypatch.setattr(contiguous, "_SPAN", span)
        monkeypatch.setattr(contiguous, "_TILE", tile)
        monkeypatch.setattr(contiguous, "_TILE_RUN", tile_run)
        monkeypatch.setattr(contiguous, "_TILE_ACROSS", across)

    return set_limits


LIMITS = [
    (32 * 1024, 128 * 1024, 1024 * 1024, 4 * 1024 * 1024, 64 * 1024, 64),
    (0, 8, 1, 1, 1, 1),
    (16, 64, 64, 128, 16, 2),
    (64, 32, 1, 200, 32, 3),
]


@pytest.mark.parametrize("given_limits", LIMITS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_box_into_any_output(tmp_path, limits, given_limits, order):
    limits(*given_limits)
    file = tmp_path / "raw"

    @given(st.data())
    def check(data):
        shape = data.draw(SHAPES)
        dtype = data.draw(st.sampled_from(["u1", "<i4", "f8", "M8[s]"]))
        box = data.draw(boxes(shape))
        array = filled(shape, dtype)
        file.write_bytes(b"12345" + array.tobytes(order=order))
        expected = array[(*box, ...)]
        layout = data.draw(st.sampled_from(["C", "F", "strided"]))
        if layout == "strided":
            space = np.zeros((*(2 * length for length in expected.shape), 3), dtype)
            out = space[(*(slice(None, None, 2),) * expected.ndim, 1)][...]
        else:
            out = np.zeros(expected.shape, dtype, order=layout)
        with open(file, "rb", buffering=0) as opened:
            read_contiguous(opened, 5, shape, order, box, out)
        assert equal(np.array(out), np.array(expected))

    check()


def test_column_of_wide_array_is_read_in_few_calls_and_little_memory(tmp_path):
    array = np.arange(20_000 * 400, dtype="f4").reshape(20_000, 400)  # rows of 1600 bytes
    array.tofile(tmp_path / "raw")
    column = np.empty((20_000, 1), "f4")
    box = (slice(0, 20_000, 1), slice(7, 8, 1))
    with open(tmp_path / "raw", "rb", buffering=0) as opened:
        file = Counted(opened)
        tracemalloc.start()
        read_contiguous(file, 0, array.shape, "C", box, column)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert equal(column, array[:, 7:8])
    assert file.calls <= array.nbytes // contiguous._SPAN + 2
    assert peak < 2 * contiguous._SPAN


def test_far_apart_runs_are_read_without_what_lies_between(tmp_path):
    array = np.arange(10 * 500_000, dtype="f4").reshape(10, 500_000)
    array.tofile(tmp_path / "raw")
    out = np.empty((10, 5), "f4")
    with open(tmp_path / "raw", "rb", buffering=0) as opened:
        file = Counted(opened)
        read_contiguous(file, 0, array.shape, "C", (slice(0, 10, 1), slice(0, 5, 1)), out)
    assert equal(out, array[:, :5])
    assert file.bytes == out.nbytes


def test_whole_array_is_read_in_one_call(tmp_path):
    array = np.arange(300_000.0).reshape(100, 50, 60)
    array.tofile(tmp_path / "raw")
    out = np.empty_like(array)
    with open(tmp_path / "raw", "rb", buffering=0) as opened:
        file = Counted(opened)
        read_contiguous(file, 0, array.shape, "C", whole(array.shape), out)
    assert equal(out, array)
    assert file.calls == 1


def test_transposed_read_holds_one_tile(tmp_path):
    array = np.arange(4_000_000.0).reshape(2000, 2000)
    (tmp_path / "raw").write_bytes(array.tobytes(order="F"))
    out = np.empty_like(array)
    with open(tmp_path / "raw", "rb", buffering=0) as opened:
        tracemalloc.start()
        read_contiguous(opened, 0, array.shape, "F", whole(array.shape), out)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert equal(out, array)
    assert peak < 1.5 * contiguous._TILE


def test_file_that_ends_early_is_named(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(79))
    box = (slice(2, 10, 1),)
    with (
        open(tmp_path / "raw", "rb", buffering=0) as opened,
        pytest.raises(ValueError, match=r"raw' is truncated: bytes 79 to 80"),
    ):
        read_contiguous(opened, 0, (10,), "C", box, np.empty(box_shape(box)))
