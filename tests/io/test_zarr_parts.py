"""Chunks written part by part are those that the library reads, in whatever cut they come."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from darray.blocks import iterate_boxes
from darray.io import zarr_parts
from darray.io.formats import PartsTarget, find_format
from darray.runtime.boxes import index_of
from darray.testing import strategies as arrays
from tests.io.strategies import SHAPES, equal, filled

DTYPES = ["?", "<i4", ">i4", "f8", "c16", "M8[ns]"]


def write(target, array, cut, threads=3):
    """Write all pieces of `cut`, the last first, end all chunks, and commit."""
    parts = target.parts(cut)
    with ThreadPoolExecutor(threads) as pool:
        pieces = [(box, array[index_of(box)]) for _, box in iterate_boxes(cut)]
        list(pool.map(lambda piece: parts.write(*piece), reversed(pieces)))
        if parts.needs_end:
            list(pool.map(parts.end, [box for _, box in iterate_boxes(parts.chunks)]))
    target.commit()
    return parts


@st.composite
def cases(draw):
    shape = draw(SHAPES)
    array = filled(shape, draw(st.sampled_from(DTYPES)))
    chunk = draw(st.tuples(*(st.integers(1, max(1, n + 1)) for n in shape)))
    return array, chunk, draw(arrays.chunks_for(shape)), draw(arrays.chunks_for(shape))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.mark.parametrize("compressors", ["auto", None])
@pytest.mark.parametrize("run", [1, zarr_parts._RUN], ids=["placed", "side by side"])
@given(case=cases())
def test_parts_of_any_cut(compressors, run, case, folder):
    array, chunk, chunks, cut = case
    path = str(folder / "a.zarr")
    target = find_format("zarr").create(
        path, array.shape, array.dtype, chunks, chunk_shape=chunk, compressors=compressors
    )
    assert isinstance(target, PartsTarget)
    assert target.store_chunk == chunk
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zarr_parts, "_RUN", run)
        parts = write(target, array, cut)
    assert parts.needs_end or compressors is None
    stored = zarr.open_array(path, mode="r")
    assert equal(np.asarray(stored[...]), array.astype(array.dtype.newbyteorder("=")))
    assert sorted(one.name for one in (folder / "a.zarr").iterdir() if one.name != "c") == [
        "zarr.json"
    ]


def test_plain_chunks_of_long_parts_are_written_once(tmp_path):
    array = filled((6, 500), np.dtype("f8"))
    target = find_format("zarr").create(
        str(tmp_path / "a.zarr"), array.shape, array.dtype, ((6,), (500,)), compressors=None
    )
    assert not write(target, array, ((2, 4), (500,))).needs_end


def test_chunk_that_was_not_ended_is_not_committed(tmp_path):
    array = filled((4, 6), np.dtype("f8"))
    target = find_format("zarr").create(
        str(tmp_path / "a.zarr"), array.shape, array.dtype, ((4,), (6,)), chunk_shape=(4, 3)
    )
    parts = target.parts(((2, 2), (6,)))
    for _, box in iterate_boxes(((2, 2), (6,))):
        parts.write(box, array[index_of(box)])
    parts.end((slice(0, 4, 1), slice(0, 3, 1)))
    with pytest.raises(OSError, match="not empty"):
        target.commit()
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_after_the_end(tmp_path):
    array = filled((4,), np.dtype("f8"))
    target = find_format("zarr").create(str(tmp_path / "a.zarr"), (4,), array.dtype, ((4,),))
    parts = target.parts(((2, 2),))
    target.abort()
    with pytest.raises(RuntimeError, match="was committed or given up"):
        parts.write((slice(0, 2, 1),), array[:2])
    assert list(tmp_path.iterdir()) == []


def test_other_codecs_take_no_parts(tmp_path):
    target = find_format("zarr").create(
        str(tmp_path / "a.zarr"),
        (4,),
        np.dtype("f8"),
        ((4,),),
        compressors=[zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()],
    )
    assert target.store_chunk is None
    target.abort()


@pytest.mark.parametrize("most", [0, 2, 128])
@pytest.mark.parametrize("compressors", ["auto", None])
def test_files_that_stay_open_are_closed(most, compressors, tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_parts, "_OPEN", most)
    before = os.listdir("/proc/self/fd")
    array = np.arange(600.0).reshape(20, 30)
    target = find_format("zarr").create(
        str(tmp_path / "a.zarr"), (20, 30), array.dtype, ((20,), (3,) * 10), compressors=compressors
    )
    write(target, array, ((5,) * 4, (30,)))
    assert os.listdir("/proc/self/fd") == before
    assert equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[...], array)
    # What is given up in the middle is closed as well.
    target = find_format("zarr").create(
        str(tmp_path / "b.zarr"), (20, 30), array.dtype, ((20,), (3,) * 10), compressors=compressors
    )
    parts = target.parts(((5,) * 4, (30,)))
    parts.write((slice(0, 5, 1), slice(0, 30, 1)), array[:5])
    target.abort()
    del target, parts
    assert os.listdir("/proc/self/fd") == before
