"""Folders that a user configures: what is refused at once, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import settings
from darray.runtime.spill_files import files_in


@pytest.fixture(autouse=True)
def restored():
    before = settings.current()
    yield
    settings._current = before


@pytest.mark.parametrize("name", ["spill_folder", "cache_folder"])
@pytest.mark.parametrize("value", [3, b"/tmp", 1.5, ["/tmp"]])
def test_what_is_no_path_is_refused(name, value):
    with pytest.raises(TypeError, match=f"{name} is the path of a folder.*not ") as caught:
        da.configure(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["spill_folder", "cache_folder"])
def test_paths_of_any_kind_are_taken(name, tmp_path):
    da.configure(**{name: tmp_path})
    assert getattr(settings.current(), name) == str(tmp_path)
    da.configure(**{name: None})
    assert getattr(settings.current(), name) is None


def test_a_missing_spill_folder_is_made_when_it_is_needed(tmp_path):
    folder = tmp_path / "not" / "there"
    da.configure(spill_folder=folder)
    assert not folder.exists()
    slot = files_in(settings.current().spill_folder).store([memoryview(b"x" * 5000)], 5000)
    assert folder.is_dir()
    found = np.empty(5000, np.uint8)
    slot.read_into(found.data)
    assert bytes(found) == b"x" * 5000


@pytest.mark.parametrize("path", ["file", "file/below/it", "link"])
def test_what_can_be_no_folder_is_refused_at_once(path, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    before = settings.current()
    with pytest.raises(NotADirectoryError, match="is no folder, and none can be made") as caught:
        da.configure(spill_folder=tmp_path / path)
    assert repr(str(tmp_path / path)) in str(caught.value)
    assert settings.current() == before


def test_folders_that_may_not_be_written_to_are_refused(tmp_path, monkeypatch):
    """Said by the system; a superuser may write anywhere."""
    monkeypatch.setattr(settings.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match="may not write to"):
        da.configure(spill_folder=tmp_path / "below")
