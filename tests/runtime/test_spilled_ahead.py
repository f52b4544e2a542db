"""What the next tasks read from disk is fetched by the system while others compute."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from contextlib import contextmanager
from time import monotonic

import numpy as np
import pytest

import darray as da
from darray.runtime import spiller
from darray.runtime.ready import Queue
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.spill_files import Slot, SpillFiles
from tests.runtime.shared import with_room

BLOCK = 2**20


@pytest.fixture
def room_for_four(tmp_path):
    yield from with_room(4 * BLOCK, engine="threads", threads=1, spill_folder=str(tmp_path))


def block(value):
    return np.full(BLOCK // 8, float(value))


def first_of(array):
    return float(array[0])


def spilled_by(task):
    placed = task._value
    return placed.away if isinstance(placed, Placed) and placed.value is AWAY else None


def test_a_task_that_begins_announces_what_the_next_ones_read(room_for_four):
    make = da.spawn.options(memory=BLOCK)
    kept = [make(block, number) for number in range(12)]
    da.wait(kept)
    away = [task for task in kept if spilled_by(task) is not None]
    assert len(away) >= 8
    announced = [spilled_by(task) for task in away]
    assert not any(one.is_announced for one in announced)

    began, go_on = threading.Event(), threading.Event()

    def hold():
        began.set()
        assert go_on.wait(60)

    light = da.spawn.options(memory=1)
    held = light(hold)
    assert began.wait(60)
    # Its own values are not on disk, and nothing came after it yet.
    assert not any(one.is_announced for one in announced)
    second_began, second_goes_on = threading.Event(), threading.Event()

    def hold_again():
        second_began.set()
        assert second_goes_on.wait(60)

    second = light(hold_again)
    sums = [light(first_of, task) for task in away]
    go_on.set()
    assert second_began.wait(60)
    # The next four, and not all: they would take too much of the system's memory.
    assert [one.is_announced for one in announced] == [True] * 4 + [False] * (len(away) - 4)
    second_goes_on.set()
    assert da.fetch(sums) == [float(kept.index(task)) for task in away]
    da.wait([held, second])


def persisted_rows():
    """An array of 8 chunks of rows, of 1 MiB each, and those of them that are on disk."""
    blocks = da.Blocks(8, 2**14)
    x = da.from_function(lambda rows, columns: rows + columns, (64, 2**14), blocks=blocks)
    x.persist()
    x.wait()
    away = [spilled_by(x.blocks[i, 0].task) for i in range(8)]
    return (
        x,
        [one for one in away if one is not None],
        np.add.outer(np.arange(64), np.arange(2**14)),
    )


def test_chunks_that_are_read_whole_are_announced(room_for_four):
    x, away, values = persisted_rows()
    assert len(away) >= 3
    with counted_announcements() as announced:
        assert (x + 1).sum().collect() == values.sum() + values.size
    assert any(one._slot in announced for one in away)


def test_chunks_of_which_each_task_reads_a_part_are_not(room_for_four):
    """Much of them would be fetched long before it is read, or never."""
    x, away, values = persisted_rows()
    assert len(away) >= 3
    with counted_announcements() as announced:
        np.testing.assert_array_equal(x.rechunk(da.Blocks(64, 2**11)).collect(), values)
    assert not announced


def test_chunks_are_announced_at_every_pass(room_for_four):
    x, away, values = persisted_rows()
    for _ in range(3):
        assert not any(one.is_announced for one in away)
        with counted_announcements() as announced:
            assert (x + 1).sum().collect() == values.sum() + values.size
        assert len(announced) >= 3


@contextmanager
def counted_announcements():
    """The slots that the system is asked for in the block."""
    asked = []
    read_ahead = Slot.read_ahead

    def counted(slot):
        asked.append(slot)
        read_ahead(slot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slot, "read_ahead", counted)
        yield asked


def test_no_task_fails_where_the_system_does_not_fetch(room_for_four, monkeypatch):
    x, _, values = persisted_rows()
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise OSError(38, "function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    assert (x + 1).sum().collect() == values.sum() + values.size
    assert asked


def test_values_are_looked_at_without_the_lock(room_for_four, monkeypatch):
    """The last reference to one may be dropped there, and dropping it run the user's code."""
    x, _, values = persisted_rows()
    seen = []
    look = spiller.to_announce

    def locked(task):
        # In vain if this thread holds it.
        seen.append(room_for_four._lock.acquire(timeout=20))
        if seen[-1]:
            room_for_four._lock.release()
        return look(task)

    monkeypatch.setattr(spiller, "to_announce", locked)
    assert (x + 1).sum().collect() == values.sum() + values.size
    assert seen
    assert all(seen)


def cached_pages(number, start, nbytes):
    """How many pages of that part of a file the system has in memory; reads none."""
    count = nbytes // mmap.PAGESIZE
    found = (ctypes.c_ubyte * count)()
    with mmap.mmap(number, nbytes, offset=start) as mapped:
        anchor = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(nbytes), found
        )
        del anchor
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(one & 1 for one in found)


@pytest.mark.parametrize("size", [BLOCK, 24 * BLOCK], ids=["1 MiB", "24 MiB"])
def test_the_system_fetches_a_slot(tmp_path, size):
    files = SpillFiles(str(tmp_path))
    slot = files.store([memoryview(bytes(size))], size)
    number, start = slot._file.number, slot._number * slot._file.capacity
    os.fsync(number)
    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(number, start, size):
        pytest.skip("this file system keeps in memory what it wrote")
    slot.read_ahead()
    # The system does it in its own time, and tells nobody.
    deadline = monotonic() + 30
    while cached_pages(number, start, size) < size // mmap.PAGESIZE and monotonic() < deadline:
        threading.Event().wait(0.001)
    assert cached_pages(number, start, size) == size // mmap.PAGESIZE
    del slot
    files.settle()


@pytest.mark.parametrize("size", [5, 2**17, 2**20 + 5])
def test_all_of_a_slot_is_asked_for_and_nothing_else(tmp_path, monkeypatch, size):
    files = SpillFiles(str(tmp_path))
    slots = [files.store([memoryview(bytes(size))], size) for _ in range(2)]
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments))
    slots[1].read_ahead()
    monkeypatch.undo()
    assert {(one[0], one[3]) for one in asked} == {(slots[1]._file.number, os.POSIX_FADV_WILLNEED)}
    places = [place for _, start, count, _ in asked for place in range(start, start + count)]
    begins = slots[1]._number * slots[1]._file.capacity
    assert places == list(range(begins, begins + size))
    slots.clear()
    files.settle()


def test_nothing_is_asked_for_in_a_forked_child(tmp_path, monkeypatch):
    files = SpillFiles(str(tmp_path))
    slot = files.store([memoryview(b"value")], 5)
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments))
    slot.read_ahead()
    assert len(asked) == 1
    monkeypatch.setattr(files, "process", files.process + 1)
    slot.read_ahead()
    assert len(asked) == 1
    monkeypatch.undo()
    del slot
    files.settle()


def test_the_next_of_a_queue_stay_in_it(room_for_four):
    make = da.spawn.options(memory=1)
    plain = [make(int) for _ in range(3)]
    da.wait(plain)
    urgent = da.spawn.options(memory=1, priority=1)(int)
    da.wait([urgent])
    queue = Queue()
    for task in (*plain, urgent):
        queue.push(task)
    assert queue.next(2) == [urgent, plain[0]]
    assert queue.next(9) == [urgent, *plain]
    assert len(queue) == 4
    last = da.spawn.options(memory=1, priority=-1)(int)
    da.wait([last])
    patient = Queue()
    for task in (last, *plain):
        patient.push(task)
    assert patient.next(9) == [*plain, last]
