"""Files of spilled values: what is stored comes back, and what nobody holds is gone."""

from __future__ import annotations

import gc
import tempfile
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from darray.runtime import spill_files
from darray.runtime.spill_files import SpillFiles, capacity_for, counts, default_folder

SIZES = st.sampled_from([1, 4096, 65_536, 65_537, 100_000, 300_000])


class Storing(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.files = SpillFiles(self.folder.name)
        self.held = []
        self.stored = 0

    @rule(nbytes=SIZES, cut=st.floats(0, 1))
    def store(self, nbytes, cut):
        self.stored += 1
        content = bytes([self.stored % 251]) * nbytes
        middle = int(cut * nbytes)
        parts = [memoryview(content[:middle]), memoryview(content[middle:])]
        self.held.append((self.files.store(parts, nbytes), content))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), start=st.floats(0, 1))
    def read(self, data, start):
        slot, content = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        offset = int(start * (len(content) - 1))
        buffer = bytearray(len(content) - offset)
        slot.read_into(memoryview(buffer), offset)
        assert buffer == content[offset:]

    @rule()
    def settle(self):
        self.files.settle()

    @invariant()
    def check(self):
        self.files._check()

    def teardown(self):
        self.held.clear()
        self.files.settle()
        assert self.files.used == self.files.allocated() == 0
        self.folder.cleanup()


TestStoring = Storing.TestCase
TestStoring.settings = settings(max_examples=40, stateful_step_count=30)


def store(files, byte, nbytes=100_000):
    return files.store([memoryview(bytes([byte]) * nbytes)], nbytes)


def test_files_have_no_name(tmp_path):
    files = SpillFiles(str(tmp_path / "new" / "folder"))
    slot = store(files, 1)
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    assert slot.nbytes == 100_000


def test_places_are_written_over(tmp_path):
    files = SpillFiles(str(tmp_path))
    slots = [store(files, byte) for byte in range(4)]
    before = files.allocated()
    for byte in range(4, 20):
        slots.pop(0)
        files.settle()
        slots.append(store(files, byte))
    assert files.allocated() == before == files.used
    buffer = bytearray(1)
    for byte, slot in zip(range(16, 20), slots, strict=True):
        slot.read_into(memoryview(buffer), 99_999)
        assert buffer[0] == byte


def test_places_are_free_again_after_there_was_no_thread_to_sweep(tmp_path, monkeypatch):
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    files = SpillFiles(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(spill_files.threading, "Thread", Refused)
        with pytest.raises(RuntimeError, match="thread"):
            store(files, 1)
    files._check()
    slot = store(files, 2)
    assert files._sweeper.is_alive()
    del slot
    files.settle()
    assert files.used == files.allocated() == 0


def test_what_is_in_reference_cycles_goes_with_them(tmp_path):
    files = SpillFiles(str(tmp_path))
    cycle = [store(files, 1)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    files.settle()
    assert files.allocated() == 0


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        store(SpillFiles(str(tmp_path / "file" / "folder")), 1)


@pytest.mark.parametrize("nbytes", [8192, 99_999, 100_001, 0])
def test_nothing_is_written_outside_of_its_place(tmp_path, nbytes):
    """Each slot is of the class that the wrong number of bytes has, with neighbours."""
    files = SpillFiles(str(tmp_path))
    slots = [store(files, byte, max(nbytes, 1)) for byte in range(3)]
    del slots[1]
    files.settle()
    parts = [memoryview(bytes([9]) * 50_000)] * 2
    with pytest.raises(ValueError, match="bytes"):
        files.store(parts, nbytes)
    buffer = bytearray(max(nbytes, 1))
    for byte, slot in zip((0, 2), slots, strict=True):
        slot.read_into(memoryview(buffer))
        assert buffer == bytes([byte]) * max(nbytes, 1)
    files.settle()
    files._check()
    del slots, slot
    files.settle()
    assert files.used == 0


def test_classes_of_sizes():
    for nbytes in (1, 4096, 4097, 65_537, 10**6, 2**30 + 1):
        capacity = capacity_for(nbytes)
        assert nbytes <= capacity <= max(4096, nbytes * 5 // 4 + 4096)
        assert capacity % 4096 == 0
        assert capacity_for(capacity) == capacity


def test_default_folder_is_writable():
    used, allocated = counts()
    assert 0 <= used <= allocated
    with tempfile.TemporaryFile(dir=default_folder()) as file:
        assert file.write(b"x") == 1
