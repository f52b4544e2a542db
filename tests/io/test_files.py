import pickle
import subprocess
import sys

import numpy as np
import pytest
import zarr

from darray.io import Chunked, File
from darray.runtime import spawn
from tests.io.strategies import equal


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    return tmp_path / "a.npy"


def test_describes_and_reads_the_array(npy):
    file = File(npy)
    assert (file.path, file.format) == (str(npy), "npy")
    assert (file.shape, file.dtype, file.chunks) == ((3, 4), np.dtype(float), ((3,), (4,)))
    assert equal(file.load(), np.load(npy))
    assert equal(file.read((slice(0, 3, 2), slice(1, 2, 1))), np.load(npy)[::2, 1:2])
    out = np.zeros((1, 4))
    file.read_into((slice(2, 3, 1), slice(0, 4, 1)), out)
    assert equal(out, np.load(npy)[2:])
    assert isinstance(file, Chunked)
    assert repr(file) == f"File({str(npy)!r}, format='npy')"


def test_nothing_is_read_before_it_is_needed(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"no array yet")
    file = File(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.arange(3))
    assert file.shape == (3,)


def test_relative_path_stays_the_place_it_was(npy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = File("a.npy")
    monkeypatch.chdir("/")
    assert file.path == str(npy)
    assert file.shape == (3, 4)


def test_path_as_url_of_a_local_file(npy):
    assert File(npy.as_uri()) == File(npy)


def test_missing_path_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file or folder") as caught:
        File("missing.npy")
    assert repr(str(tmp_path / "missing.npy")) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        File("missing.npy", format="npy")


def test_unknown_format_and_suffix(npy, tmp_path):
    with pytest.raises(ValueError, match="no file format 'csv'; the formats are 'npy'"):
        File(npy, format="csv")
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match="pass format= one of the formats, which are 'npy'"):
        File(tmp_path / "a.csv")


def test_format_overrules_the_suffix(npy):
    npy.rename(npy.with_suffix(".dat"))
    assert File(npy.with_suffix(".dat"), format="npy").shape == (3, 4)


def test_folder_with_zarr_metadata_needs_no_suffix(tmp_path):
    zarr.create_array(tmp_path / "v3", shape=(2,), dtype="i4")
    zarr.create_array(tmp_path / "v2", shape=(2,), dtype="i4", zarr_format=2)
    assert File(tmp_path / "v3").format == File(tmp_path / "v2").format == "zarr"


def test_folder_without_metadata_has_no_format(tmp_path):
    with pytest.raises(ValueError, match="cannot tell the format"):
        File(tmp_path)


def test_equality_and_hash(npy, tmp_path):
    np.save(tmp_path / "b.npy", np.arange(3))
    assert File(npy) == File(str(npy), format="npy")
    assert hash(File(npy)) == hash(File(str(npy)))
    assert File(npy) != File(tmp_path / "b.npy")
    assert File(npy) != str(npy)


def test_pickles_as_path_and_format(npy):
    file = File(npy)
    before = len(pickle.dumps(file))
    assert file.shape == (3, 4)
    assert len(pickle.dumps(file)) == before
    copy = pickle.loads(pickle.dumps(file))
    assert copy == file
    assert equal(copy.load(), file.load())


def test_task_is_given_the_contents(npy):
    value = spawn(lambda given: given["a"][0], {"a": [File(npy)]}).result()
    assert equal(value, np.load(npy))


def test_no_optional_library_is_imported_for_a_npy_file(npy):
    code = (
        "import sys; from darray.io import File; File(sys.argv[1]).load();"
        "print(sorted({'zarr', 'numcodecs', 'fsspec', 'importlib.metadata'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(npy)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]", answer.stdout
