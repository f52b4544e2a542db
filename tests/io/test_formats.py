import sys
import types
from importlib import metadata

import numpy as np
import pytest

import darray.io
from darray.io import File
from darray.io.formats import find_format, format_of

TEXT_FORMAT = """
import numpy as np
from dataclasses import dataclass

@dataclass(frozen=True)
class Text:
    values: np.ndarray

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    @property
    def chunks(self):
        return tuple((length,) for length in self.shape)

    def read(self, box):
        return self.values[box].copy()

    def read_into(self, box, out):
        out[...] = self.values[box]

class TextFormat:
    name = "text"
    suffixes = (".txt",)

    def recognises(self, path):
        with open(path) as file:
            return file.read(6) == "# text"

    def open(self, path):
        return Text(np.loadtxt(path))

    def load(self, path):
        return np.loadtxt(path)

FORMAT = TextFormat()
"""


@pytest.fixture
def text_file(tmp_path):
    np.savetxt(tmp_path / "a.txt", [1.0, 2.0, 3.0])
    return tmp_path / "a.txt"


@pytest.fixture
def new_module(tmp_path, monkeypatch):
    """A file ``text_format.py`` in the package's folder."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "text_format.py").write_text(TEXT_FORMAT)
    monkeypatch.setattr(darray.io, "__path__", [*darray.io.__path__, str(folder)])
    yield
    sys.modules.pop("darray.io.text_format", None)
    if hasattr(darray.io, "text_format"):
        delattr(darray.io, "text_format")


@pytest.mark.usefixtures("new_module")
def test_new_file_in_the_package_is_a_format(text_file):
    file = File(text_file)
    assert file.format == "text"
    assert file.load().tolist() == [1, 2, 3]
    assert file.read((slice(0, 3, 2),)).tolist() == [1, 3]


@pytest.mark.usefixtures("new_module")
def test_what_the_name_does_not_say_is_recognised(tmp_path):
    (tmp_path / "unnamed").write_text("# text\n1.5\n")
    assert File(tmp_path / "unnamed").load() == 1.5


def test_entry_point_of_another_package_is_a_format(text_file, monkeypatch):
    module = types.ModuleType("another_package")
    exec(TEXT_FORMAT, module.__dict__)
    monkeypatch.setitem(sys.modules, "another_package", module)
    point = metadata.EntryPoint("text", "another_package:FORMAT", "darray.formats")
    installed = metadata.entry_points

    def entry_points(**wanted):
        return [point] if wanted == {"group": "darray.formats"} else installed(**wanted)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert find_format("text") is module.FORMAT
    assert File(text_file).load().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"'npy' \(.npy\), 'pickle' .*, 'text' \(.txt\), 'zarr'"):
        find_format("csv")


def test_unknown_format_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no file format 'csv'; .*'npy' .*'pickle' .*'zarr'"):
        find_format("csv")


def test_unknown_suffix_lists_the_known_formats(text_file):
    with pytest.raises(ValueError, match=r"a.txt' from its name; .*'npy' .*'pickle' .*'zarr'"):
        format_of(str(text_file))


def test_suffix_in_capitals():
    assert format_of("/data/WIND.NPY").name == "npy"


def test_npy_file_without_suffix_is_recognised(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.npy").rename(tmp_path / "unnamed")
    assert File(tmp_path / "unnamed").load().tolist() == [0, 1, 2]
