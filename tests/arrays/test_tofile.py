"""Arrays and values that are written come back as they were."""

import io
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing import strategies
from tests.view import ROOT


def bits(array):
    return array.shape, array.dtype, array.tobytes()


@st.composite
def arrays_and_blocks(draw):
    array = draw(strategies.arrays())
    return array, draw(strategies.blocks_for(array.shape))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tofile")


@settings(max_examples=60)
@given(case=arrays_and_blocks())
def test_npy_round_trip(engine, case, folder):
    array, blocks = case
    file = da.tofile(da.distribute(array, blocks), folder / "a.npy")
    assert bits(np.load(folder / "a.npy")) == bits(array)
    assert bits(da.from_npy(folder / "a.npy").collect()) == bits(array)
    assert (file.shape, file.dtype, file.format) == (array.shape, array.dtype, "npy")


@settings(max_examples=60)
@given(case=arrays_and_blocks(), data=st.data())
def test_zarr_round_trip(engine, case, data, folder):
    array, blocks = case
    chunks = data.draw(
        st.none() | st.tuples(*(st.integers(1, max(1, n)) for n in array.shape)), label="chunks"
    )
    compressors = data.draw(st.sampled_from(["auto", None]))
    file = da.to_zarr(
        da.distribute(array, blocks),
        folder / "a.zarr",
        chunks=chunks,
        compressors=compressors,
        overwrite=True,
    )
    native = array.astype(array.dtype.newbyteorder("="))
    assert bits(zarr.open_array(folder / "a.zarr", mode="r")[...]) == bits(native)
    assert bits(da.from_zarr(folder / "a.zarr").collect()) == bits(native)
    assert file == da.File(folder / "a.zarr")


@settings(max_examples=40)
@given(case=arrays_and_blocks())
def test_pickle_round_trip(engine, case, folder):
    array, blocks = case
    file = da.tofile(da.distribute(array, blocks), folder / "a.pkl")
    assert bits(file.load()) == bits(array)


@settings(max_examples=40)
@given(shape=strategies.shapes(), data=st.data())
def test_what_is_computed_is_written(engine, shape, data, folder):
    """Chains, views, reductions, arrays in a row, functions of blocks, kept chunks."""
    array = np.arange(int(np.prod(shape)), dtype=float).reshape(shape)
    x = da.distribute(array, data.draw(strategies.blocks_for(shape)))
    if data.draw(st.booleans()):
        x.persist()
    key = data.draw(strategies.basic_indices(shape))
    for expected, y in [
        (np.sqrt(array + 1)[key], np.sqrt(x + 1)[key]),
        (array.T.sum(axis=0, keepdims=True) if shape else array, _summed(x)),
        (array - 1, x.map_blocks(lambda block: block - 1)),
        (np.stack([array, array]), np.stack([x, x])),
    ]:
        for path in ("b.npy", "b.zarr"):
            assert np.array_equal(da.tofile(y, folder / path).load(), expected)


def _summed(x):
    return x.T.sum(axis=0, keepdims=True) if x.ndim else x


def test_store_chunks_fit_the_blocks(tmp_path):
    x = da.ones((10, 9), blocks=da.Blocks(4, (3, 5, 1)))
    assert da.to_zarr(x, tmp_path / "a.zarr").chunks == ((4, 4, 2), (5, 4))
    assert da.to_zarr(x, tmp_path / "b.zarr", chunks=(3, -1)).chunks == ((3, 3, 3, 1), (9,))
    assert da.to_zarr(x, tmp_path / "c.zarr", chunks=da.Blocks(5, 2)).chunks[1] == (2, 2, 2, 2, 1)
    with pytest.raises(ValueError, match="one size along each axis, not \\(3, 5, 1\\)"):
        da.to_zarr(x, tmp_path / "d.zarr", chunks=(4, (3, 5, 1)))
    with pytest.raises(ValueError, match="2-d"):
        da.to_zarr(x, tmp_path / "d.zarr", chunks=(4,))
    assert not (tmp_path / "d.zarr").exists()


def test_each_block_is_computed_once(engine, tmp_path):
    calls = []

    def once(i):
        calls.append(int(i[0]) if i.size else None)
        return i * 2

    x = da.from_function(once, (12,), int, blocks=3)
    for path in ("a.npy", "a.zarr"):
        calls.clear()
        da.tofile(x, tmp_path / path)
        assert sorted(calls) == [0, 3, 6, 9]


def test_file_as_argument_and_writing_inside_a_task(engine, tmp_path):
    x = da.arange(10, blocks=3)
    file = da.tofile(x, tmp_path / "a.npy")
    assert int(da.spawn(np.sum, file).result()) == 45
    assert da.spawn(lambda given: given["a"][0].tolist(), {"a": [file]}).result() == list(range(10))

    def double(values, path):
        return da.tofile(da.distribute(values, 4) * 2, path)

    inner = da.spawn(double, file, tmp_path / "b.zarr").result()
    assert inner.load().tolist() == list(range(0, 20, 2))


def test_store_that_is_read_and_replaced(engine, tmp_path):
    path = tmp_path / "a.zarr"
    array = np.arange(60.0).reshape(12, 5)
    da.to_zarr(da.distribute(array, (5, 2)), path)
    for turn in range(3):
        x = da.from_zarr(path, blocks=(4, 3))
        da.to_zarr(x + 1, path, overwrite=True)
        assert np.array_equal(da.from_zarr(path).collect(), array + turn + 1)
    da.tofile(da.from_zarr(path)[::-1].T, tmp_path / "b.npy")
    da.tofile(da.from_npy(tmp_path / "b.npy", blocks=2) * 2, tmp_path / "b.npy")
    assert np.array_equal(np.load(tmp_path / "b.npy"), (array + 3)[::-1].T * 2)


def test_arrays_of_numpy_and_what_becomes_one(tmp_path):
    array = np.arange(600_000.0).reshape(600, 1000)
    assert np.array_equal(da.tofile(array[::2, ::-1], tmp_path / "a.npy").load(), array[::2, ::-1])
    assert da.tofile([[1, 2], [3, 4]], tmp_path / "a.npy").load().tolist() == [[1, 2], [3, 4]]
    assert da.tofile(2.5, tmp_path / "a.npy").load() == np.array(2.5)
    assert da.to_zarr(array, tmp_path / "a.zarr").load().sum() == array.sum()


def test_values_of_any_kind_are_pickled(tmp_path):
    value = {"a": [1, 2], "b": np.arange(3), "c": None}
    file = da.tofile(value, tmp_path / "a.pickle")
    assert file.format == "pickle"
    assert da.spawn(lambda v: v["a"], file).result() == [1, 2]
    assert da.tofile(value, tmp_path / "a.data", format="pickle").load()["c"] is None
    objects = np.array([1, "a", None], dtype=object)
    assert da.tofile(objects, tmp_path / "o.pkl").load().tolist() == [1, "a", None]


def write_json(value, file):
    file.write(json.dumps(np.asarray(value).tolist()).encode())


def test_serialize_and_deserialize(engine, tmp_path):
    x = da.arange(5, blocks=2) * 2
    file = da.tofile(x, tmp_path / "a.json", serialize=write_json, deserialize=json.load)
    assert (tmp_path / "a.json").read_text() == "[0, 2, 4, 6, 8]"
    assert file.load() == [0, 2, 4, 6, 8]
    assert da.spawn(sum, file).result() == 20
    assert pickle.loads(pickle.dumps(file)) == file
    assert file == da.File(tmp_path / "a.json", deserialize=json.load)
    assert file != da.File(tmp_path / "a.json", deserialize=io.TextIOWrapper)
    with pytest.raises(TypeError, match="cannot be read in parts"):
        file.shape  # noqa: B018


def test_serialize_alone(tmp_path):
    file = da.tofile(3, tmp_path / "a.json", serialize=write_json)
    assert (tmp_path / "a.json").read_text() == "3"
    with pytest.raises(ValueError, match="pass deserialize= too"):
        file.load()
    named = da.tofile(np.arange(3), tmp_path / "a.npy", serialize=lambda v, f: np.save(f, v))
    assert named.load().tolist() == [0, 1, 2]


def test_what_does_not_go_together(tmp_path):
    path = tmp_path / "a.npy"
    with pytest.raises(TypeError, match="both say how"):
        da.tofile(1, path, format="npy", serialize=write_json)
    with pytest.raises(TypeError, match="pass both"):
        da.tofile(1, path, deserialize=json.load)
    with pytest.raises(ValueError, match="no file format 'csv'"):
        da.tofile(1, path, format="csv")
    with pytest.raises(ValueError, match="cannot tell the format"):
        da.tofile(1, tmp_path / "a.csv")
    with pytest.raises(TypeError, match="NumPy makes none of numbers of a dict"):
        da.tofile({"a": 1}, path)
    with pytest.raises(TypeError, match="Python objects"):
        da.tofile(np.array([None, 1]), path)
    with pytest.raises(TypeError, match="holds no masks"):
        da.tofile(np.ma.masked_equal([1, 2], 2), path)
    with pytest.raises(TypeError, match="both say how"):
        da.File(tmp_path, format="npy", deserialize=json.load)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.npy", "a.zarr", "a.pkl"])
@pytest.mark.parametrize("is_there", [True, False])
def test_failing_chunk_leaves_nothing(engine, name, is_there, tmp_path):
    if is_there:
        da.tofile(np.arange(3), tmp_path / name)

    def fail(block):
        if block[0] == 6:
            raise ZeroDivisionError("in the third block")
        return block

    x = da.arange(12, blocks=3).map_blocks(fail)
    with pytest.raises(ZeroDivisionError, match="in the third block"):
        da.tofile(x, tmp_path / name)
    assert os.listdir(tmp_path) == [name] * is_there
    if is_there:
        assert da.File(tmp_path / name).load().tolist() == [0, 1, 2]


def test_overwrite_is_asked_for(tmp_path):
    da.to_zarr(np.arange(3), tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match="pass overwrite=True to replace it"):
        da.to_zarr(np.arange(4), tmp_path / "a.zarr")
    assert da.File(tmp_path / "a.zarr").shape == (3,)
    assert da.to_zarr(np.arange(4), tmp_path / "a.zarr", overwrite=True).shape == (4,)
    # As numpy.save, tofile replaces.
    assert da.tofile(np.arange(5), tmp_path / "a.zarr").shape == (5,)


def test_warnings_come_once(engine, tmp_path):
    x = da.arange(6.0, blocks=2) - 3
    with pytest.warns(RuntimeWarning, match="divide by zero") as caught:
        da.tofile(1 / x, tmp_path / "a.npy")
    assert len(caught) == 1
    with np.errstate(all="raise"):
        y = 1 / x
    with pytest.raises(FloatingPointError):
        da.tofile(y, tmp_path / "b.npy")
    assert os.listdir(tmp_path) == ["a.npy"]


def test_chunks_are_written_at_once(threads, tmp_path):
    """Two blocks wait for each other, which ends only where both are under way."""
    both = threading.Barrier(2, timeout=60)

    def meet(block):
        both.wait()
        return block

    x = da.arange(4, blocks=2).map_blocks(meet)
    assert da.tofile(x, tmp_path / "a.zarr").load().tolist() == [0, 1, 2, 3]


def test_memory_limit_is_kept_to(threads, tmp_path):
    da.configure(memory_limit="2GB")
    with pytest.raises(da.MemoryLimitError, match="'write'"):
        da.to_zarr(da.ones(2**30, blocks=2**29), tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []


INTERRUPTED = """
import os, signal, sys
import darray as da
da.configure(threads=2)
def interrupt(block):
    if block[0] == 30:
        os.kill(os.getpid(), signal.SIGINT)
    return block
try:
    da.tofile(da.arange(3000, blocks=3).map_blocks(interrupt), sys.argv[1])
except KeyboardInterrupt:
    print(os.listdir(os.path.dirname(sys.argv[1])))
"""


@pytest.mark.parametrize("name", ["a.npy", "a.zarr"])
def test_interrupted_writing_leaves_nothing(name, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (answer.stdout, answer.stderr) == ("[]\n", "")
