import json
import pickle
import random
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
import zarr

from darray.io import Chunked, File
from darray.io.zarr_format import FORMAT
from darray.runtime.boxes import whole
from tests.io.strategies import equal

VALUES = np.arange(35.0).reshape(5, 7)
SLOW_WAY = {"serializer": zarr.codecs.BytesCodec(endian="big")}


def store(path, values=VALUES, chunks=(2, 3), **options):
    array = zarr.create_array(
        path, shape=values.shape, chunks=chunks, dtype=values.dtype, **options
    )
    array[...] = values
    return str(path)


@pytest.mark.parametrize("version", [2, 3])
def test_describes_and_reads_a_store(tmp_path, version):
    path = store(tmp_path / "a.zarr", zarr_format=version)
    array = FORMAT.open(path)
    assert isinstance(array, Chunked)
    assert (array.shape, array.dtype) == ((5, 7), np.dtype("f8"))
    assert array.chunks == ((2, 2, 1), (3, 3, 1))
    assert equal(FORMAT.load(path), VALUES)
    assert equal(File(path).load(), VALUES)
    assert repr(array) == f"ZarrArray({path!r}, shape=(5, 7), dtype='<f8')"


@pytest.mark.parametrize("options", [{}, SLOW_WAY])
def test_array_without_axes_and_without_elements(tmp_path, options):
    for number, values in enumerate([np.array(2.5), np.zeros((0, 3)), np.zeros((3, 0))]):
        chunks = tuple(max(1, length) for length in values.shape)
        array = FORMAT.open(store(tmp_path / str(number), values, chunks, **options))
        assert array.chunks == tuple((length,) for length in values.shape)
        assert equal(array.read(whole(values.shape)), values)
        out = np.empty_like(values)
        array.read_into(whole(values.shape), out)
        assert equal(out, values)


def test_chunks_larger_than_the_array(tmp_path):
    array = FORMAT.open(store(tmp_path / "a", chunks=(100, 100)))
    assert array.chunks == ((5,), (7,))
    assert equal(array.read(whole((5, 7))), VALUES)


def test_shards_are_what_is_read_at_once_unless_they_are_large(tmp_path):
    array = FORMAT.open(store(tmp_path / "a", shards=(4, 6)))
    assert array.chunks == ((4, 1), (6, 1))
    options = {"shape": (40_000, 4_000), "chunks": (1000, 1000), "dtype": "f8"}
    zarr.create_array(tmp_path / "b", shards=(20_000, 4_000), **options)
    assert FORMAT.open(str(tmp_path / "b")).chunks == ((1000,) * 40, (1000,) * 4)


def test_variable_length_strings(tmp_path):
    values = np.array(["one", "twenty", ""], dtype=np.dtypes.StringDType())
    array = FORMAT.open(store(tmp_path / "a", values, chunks=(2,)))
    assert array.read(whole((3,))).tolist() == ["one", "twenty", ""]
    assert array.read((slice(0, 3, 2),)).tolist() == ["one", ""]


@pytest.mark.parametrize("options", [{}, {"compressors": None}, SLOW_WAY])
def test_many_threads_read_one_array(tmp_path, options):
    values = np.random.default_rng(1).random((50, 60, 7))
    array = FORMAT.open(store(tmp_path / "a", values, (16, 20, 7), **options))

    def read(seed):
        draw = random.Random(seed)
        for _ in range(15):
            box = []
            for length in values.shape:
                start = draw.randrange(length)
                box.append(slice(start, draw.randint(start, length), draw.randint(1, 9)))
            assert equal(array.read(tuple(box)), values[tuple(box)])
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@pytest.mark.parametrize("options", [{}, SLOW_WAY])
def test_pickles_and_reads_again(tmp_path, options):
    array = FORMAT.open(store(tmp_path / "a", **options))
    copy = pickle.loads(pickle.dumps(array))
    assert (copy.shape, copy.dtype, copy.chunks) == (array.shape, array.dtype, array.chunks)
    assert equal(copy.read(whole((5, 7))), VALUES)


def test_array_in_a_group(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("inner/wind", shape=(5, 7), chunks=(2, 3), dtype="f8")[:] = VALUES
    file = File(tmp_path / "a.zarr" / "inner" / "wind")
    assert file.format == "zarr"
    assert equal(file.load(), VALUES)


@pytest.mark.parametrize("version", [2, 3])
def test_group_is_refused_with_the_arrays_in_it(tmp_path, version):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=version)
    for name in ("temperature", "inner/wind"):
        group.create_array(name, shape=(2,), dtype="f4")
    path = str(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="is a Zarr group, not an array") as caught:
        File(path).shape  # noqa: B018
    assert "'inner/wind', 'temperature'" in str(caught.value)
    assert repr(f"{path}/inner/wind") in str(caught.value)


def test_group_with_many_arrays_names_some(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for number in range(23):
        group.create_array(f"x{number:02}", shape=(2,), dtype="f4")
    with pytest.raises(ValueError, match="'x19' and 3 more: pass one") as caught:
        FORMAT.open(str(tmp_path / "a.zarr"))
    assert "x20" not in str(caught.value)


def test_empty_group(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="is a Zarr group without arrays"):
        FORMAT.open(str(tmp_path / "a.zarr"))


def test_folder_without_metadata(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ValueError, match=r"neither zarr.json nor .zarray"):
        FORMAT.open(str(tmp_path / "a.zarr"))


def test_file_named_like_a_store(tmp_path):
    (tmp_path / "a.zarr").write_text("text")
    with pytest.raises(ValueError, match=r"a.zarr' holds no Zarr array"):
        FORMAT.open(str(tmp_path / "a.zarr"))


def damaged(document, **changes):
    return json.dumps({**json.loads(document), **changes})


DAMAGES = {
    "half of it": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no object": lambda text: "[1, 2]",
    "no text": lambda text: "\x00\xff",
    "shape": lambda text: damaged(text, shape="what"),
    "dtype": lambda text: damaged(text, dtype="<q9", data_type="float1024"),
    "codec": lambda text: damaged(text, codecs=[{"name": "new"}], compressor={"id": "new"}),
    "no chunks": lambda text: json.dumps(
        {k: v for k, v in json.loads(text).items() if k not in ("chunk_grid", "chunks")}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("version", [2, 3])
def test_damaged_metadata(tmp_path, version, damage):
    path = store(tmp_path / "a.zarr", zarr_format=version)
    file = tmp_path / "a.zarr" / ("zarr.json" if version == 3 else ".zarray")
    file.write_text(DAMAGES[damage](file.read_text()), encoding="latin-1")
    with pytest.raises(ValueError, match="cannot be opened as a Zarr array: ") as caught:
        FORMAT.open(path)
    assert repr(path) in str(caught.value)


def test_damaged_chunk_read_by_the_library(tmp_path):
    path = store(tmp_path / "a.zarr", **SLOW_WAY)
    (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"box .* cannot be read"):
        FORMAT.open(path).read(whole((5, 7)))


@pytest.mark.parametrize("options", [{}, SLOW_WAY])
def test_array_made_anew_after_opening_raises(tmp_path, options):
    path = store(tmp_path / "a.zarr", **options)
    array = FORMAT.open(path)
    store(path, VALUES.astype("i8"), overwrite=True, **options)
    with pytest.raises(ValueError, match=r"was replaced since it was opened as shape \(5, 7\)"):
        array.read(whole((5, 7)))
    shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match="was removed"):
        array.read(whole((5, 7)))


def test_new_attributes_and_values_do_not_matter(tmp_path):
    path = store(tmp_path / "a.zarr")
    array = FORMAT.open(path)
    stored = zarr.open_array(path)
    stored.update_attributes({"units": "K"})
    stored[:] = VALUES * 2
    assert equal(array.read(whole((5, 7))), VALUES * 2)


def test_zip_store(tmp_path):
    path = tmp_path / "a.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as zipped:
        store(zipped)
    array = File(path)
    assert array.format == "zarr"
    assert equal(array.read(whole((5, 7))), VALUES)
    assert equal(pickle.loads(pickle.dumps(array._opened())).read(whole((5, 7))), VALUES)


def test_array_in_a_group_in_a_zip_file(tmp_path):
    path = tmp_path / "a.zip"
    with zarr.storage.ZipStore(path, mode="w") as zipped:
        group = zarr.create_group(zipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns that metadata are written twice
            group.create_array("wind", shape=(5, 7), chunks=(2, 3), dtype="f8")[:] = VALUES
    with pytest.raises(ValueError, match=r"arrays 'wind'.*a.zip/wind'"):
        File(path).shape  # noqa: B018
    assert equal(File(path / "wind").load(), VALUES)
    with pytest.raises(ValueError, match="holds no Zarr array"):
        File(path / "rain").load()


def test_damaged_zip_file(tmp_path):
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="is not a zip file, or is truncated"):
        File(tmp_path / "a.zarr.zip").load()


@pytest.fixture
def memory_url():
    yield "memory://bucket/a.zarr"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_url(memory_url):
    store(memory_url)
    file = File(memory_url)
    assert (file.path, file.format) == (memory_url, "zarr")
    assert file.chunks == ((2, 2, 1), (3, 3, 1))
    assert equal(file.load(), VALUES)
    assert equal(pickle.loads(pickle.dumps(file)).read((slice(1, 5, 3), slice(0, 7, 2))),
                 VALUES[1::3, ::2])  # fmt: skip


def test_array_in_a_group_behind_a_url(memory_url):
    group = zarr.create_group(memory_url)
    group.create_array("wind", shape=(5, 7), chunks=(2, 3), dtype="f8")[:] = VALUES
    assert equal(File(f"{memory_url}/wind").load(), VALUES)
    with pytest.raises(ValueError, match=r"has the arrays 'wind': .*'memory://bucket/a.zarr/wind'"):
        File(memory_url).shape  # noqa: B018
    with pytest.raises(FileNotFoundError, match=r"no Zarr array at 'memory://bucket/a.zarr/rain'"):
        File(f"{memory_url}/rain").shape  # noqa: B018


def test_url_of_an_unknown_kind():
    with pytest.raises(ValueError, match=r"cannot be opened as a Zarr array: .*nowhere"):
        File("nowhere://a.zarr").shape  # noqa: B018


def test_missing_library_says_what_to_install(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r'pip install "darray\[zarr\]"'):
        File(path).shape  # noqa: B018
