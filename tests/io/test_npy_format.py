import pickle
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.io.formats import Chunked
from darray.io.npy_format import FORMAT
from darray.runtime.boxes import box_shape, whole
from darray.runtime.devices.host_buffers import is_own
from tests.io.strategies import DTYPES, SHAPES, boxes, equal, filled


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_any_box_of_any_array(tmp_path, version):
    path = str(tmp_path / "a.npy")

    @given(st.data())
    def check(data):
        shape = data.draw(SHAPES)
        array = filled(shape, data.draw(st.sampled_from(DTYPES)))
        array = np.asarray(array, order=data.draw(st.sampled_from("CF")))
        with open(path, "wb") as file:
            np.lib.format.write_array(file, array, version=version)
        stored = FORMAT.open(path)
        assert isinstance(stored, Chunked)
        assert (stored.shape, stored.dtype) == (array.shape, array.dtype)
        box = data.draw(boxes(shape))
        read = stored.read(box)
        assert equal(read, array[(*box, ...)])
        assert read.flags.c_contiguous
        assert read.flags.writeable
        assert is_own(read)
        out = np.empty(box_shape(box), array.dtype, order="F")
        stored.read_into(box, out)
        assert equal(out, read)
        assert equal(FORMAT.load(path), np.load(path))

    check()


def test_field_names_outside_latin_1(tmp_path):
    array = np.ones(3, dtype=[("température", "f4"), ("湿度", "f8")])
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(3, 0))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    assert stored.dtype == array.dtype
    assert equal(stored.read(whole((3,))), array)


@pytest.mark.parametrize(
    ("shape", "order", "chunks"),
    [
        ((), "C", ()),
        ((0,), "C", ((0,),)),
        ((3, 0), "C", ((3,), (0,))),
        ((1000, 1024), "C", ((1000,), (1024,))),
        ((5000, 1024), "C", ((2048, 2048, 904), (1024,))),
        ((5000, 1024), "F", ((5000,), (419, 419, 186))),
        ((2, 3, 2_097_152), "C", ((1, 1), (1, 1, 1), (2_097_152,))),
        ((2, 3_000_000), "C", ((1, 1), (2_097_152, 902_848))),
    ],
)
def test_chunks_are_16_mib_along_the_outermost_axes(tmp_path, shape, order, chunks):
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, "w+", "f8", shape, order == "F").flush()
    assert FORMAT.open(str(path)).chunks == chunks


def test_many_threads_read_one_array(tmp_path):
    array = np.random.default_rng(1).random((60, 70, 80))
    np.save(tmp_path / "a.npy", array)
    stored = FORMAT.open(str(tmp_path / "a.npy"))

    def read(seed):
        draw = random.Random(seed)
        for _ in range(30):
            box = []
            for length in array.shape:
                start = draw.randrange(length)
                box.append(slice(start, draw.randint(start, length), draw.randint(1, 9)))
            assert equal(stored.read(tuple(box)), array[tuple(box)])
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_pickles_without_the_file_and_reads_again(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    copy = pickle.loads(pickle.dumps(stored))
    assert copy == stored
    assert equal(copy.read(whole((5,))), np.arange(5))


def test_new_values_of_the_same_shape_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", np.arange(5) * 2)
    assert equal(stored.read(whole((5,))), np.arange(5) * 2)


def test_array_replaced_after_opening_raises(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match=r"was replaced since it was opened"):
        stored.read(whole((6,)))


def test_truncated_file_raises_when_opened_and_when_cut_later(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(100))
    stored = FORMAT.open(str(path))
    whole_file = path.read_bytes()
    path.write_bytes(whole_file[:-1])
    with pytest.raises(ValueError, match=r"truncated: shape \(100,\) .* takes 928 bytes.* has 927"):
        FORMAT.open(str(path))
    with pytest.raises(ValueError, match=r"a.npy' is truncated"):
        stored.read(whole((100,)))
    assert equal(stored.read((slice(0, 99, 1),)), np.arange(99))


def test_bytes_after_the_data_do_not_matter(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10))
    path.write_bytes(path.read_bytes() + b"more")
    assert equal(FORMAT.load(str(path)), np.arange(10))


def header_3(text, length=None):
    encoded = text.encode()
    size = struct.pack("<I", len(encoded) if length is None else length)
    return b"\x93NUMPY\x03\x00" + size + encoded


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x93NUM", "not a sound .npy file"),
        (b"PK\x03\x04 an archive", "not a sound .npy file"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "version is \\(9, 0\\)"),
        (b"\x93NUMPY\x01\x00\xff\x00{'descr'", "not a sound .npy file"),
        (b"\x93NUMPY\x03\x00\x01", "cut off"),
        (header_3("{'descr': '<i4'}", 500), "cut off"),
        (header_3("{'descr': '<i4'}"), "cannot be parsed"),
        (header_3("[1, 2"), "cannot be parsed"),
        (header_3("[1, 2]"), "cannot be parsed"),
        (header_3("{'descr': 'what', 'fortran_order': False, 'shape': (2,)}"), "cannot be parsed"),
        (header_3("{'descr': '<i4', 'fortran_order': False, 'shape': 2}"), "its shape is 2"),
        (header_3("{'descr': '<i4', 'fortran_order': False, 'shape': (-2,)}"), r"is \(-2,\)"),
        (header_3(" " * 10_001), "at most 10000 are read"),
    ],
)
def test_file_that_is_no_npy_file_is_refused(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        FORMAT.open(str(path))
    assert repr(str(path)) in str(caught.value)


def test_python_objects_are_refused_with_the_way_to_load_them(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, "two"], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"holds Python objects .* allow_pickle=True"):
        FORMAT.open(str(tmp_path / "a.npy"))


def test_missing_file_and_folder_and_url(tmp_path):
    with pytest.raises(FileNotFoundError):
        FORMAT.open(str(tmp_path / "a.npy"))
    with pytest.raises(IsADirectoryError):
        FORMAT.open(str(tmp_path))
    with pytest.raises(ValueError, match=r"local disk, not from 's3://bucket/a.npy'"):
        FORMAT.open("s3://bucket/a.npy")


@pytest.mark.parametrize(
    "box",
    [
        (),
        (slice(0, 3, 1), slice(0, 1, 1)),
        (slice(0, 6, 1),),
        (slice(-1, 3, 1),),
        (slice(3, 2, 1),),
        (slice(0, 5, 0),),
        (slice(4, 0, -1),),
    ],
)
def test_box_outside_the_array_raises(tmp_path, box):
    np.save(tmp_path / "a.npy", np.arange(5))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    with pytest.raises(IndexError, match="does not lie inside the shape"):
        stored.read(box)
    with pytest.raises(IndexError, match="does not lie inside the shape"):
        stored.read_into(box, np.empty(5, int))


def test_output_must_fit(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5))
    stored = FORMAT.open(str(tmp_path / "a.npy"))
    fixed = np.empty(5, int)
    fixed.flags.writeable = False
    for out in (np.empty(4, int), np.empty(5), fixed):
        with pytest.raises(ValueError, match="cannot read shape"):
            stored.read_into((slice(0, 5, 1),), out)
