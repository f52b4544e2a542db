"""What the next tasks read from disk is fetched by the system while others compute."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import darray as da
from darray.runtime import engine as engines
from darray.runtime import limits, settings
from darray.runtime.ready import Queue
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.spill_files import SpillFiles

BLOCK = 2**20


@pytest.fixture
def room_for_four(tmp_path):
    before = settings.current()
    da.configure(engine="threads", threads=1, spill_folder=str(tmp_path))
    engine = engines.current_engine()
    engine._schedule.budget.limit = limits._fixed = 4 * BLOCK
    yield engine
    engines.close()
    settings._current = before


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
    # The next four, and not all: the system would have to let go of the first before they are read.
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
    assert (x + 1).sum().collect() == values.sum() + values.size
    assert any(one.is_announced for one in away)


def test_chunks_of_which_each_task_reads_a_part_are_not(room_for_four):
    """Much of them would be fetched long before it is read, or never."""
    x, away, values = persisted_rows()
    assert len(away) >= 3
    np.testing.assert_array_equal(x.rechunk(da.Blocks(64, 2**11)).collect(), values)
    assert not any(one.is_announced for one in away)


def is_cached(number, position):
    """Whether the system has a page of a file, which is not read where it has not."""
    try:
        return os.preadv(number, [bytearray(1)], position, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False


def test_the_system_fetches_a_slot(tmp_path):
    files = SpillFiles(str(tmp_path))
    slot = files.store([memoryview(bytes(BLOCK))], BLOCK)
    number, start = slot._file.number, slot._number * slot._file.capacity
    os.fsync(number)
    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        was_cached = is_cached(number, start + BLOCK // 2)
    except OSError as error:
        pytest.skip(f"this file system does not tell what it has in memory: {error}")
    if was_cached:
        pytest.skip("this file system keeps what it wrote in memory")
    slot.read_ahead()
    # It ends by itself; only the test's own limit of time ends it otherwise.
    while not is_cached(number, start + BLOCK // 2):
        threading.Event().wait(0.001)


def test_nothing_is_asked_for_in_a_forked_child(tmp_path):
    files = SpillFiles(str(tmp_path))
    slot = files.store([memoryview(b"value")], 5)
    files.process += 1
    slot._file.number, kept = -1, slot._file.number
    # There is no such file: asking would raise.
    slot.read_ahead()
    slot._file.number, files.process = kept, os.getpid()


def test_the_next_of_a_queue_stay_in_it(room_for_four):
    make = da.spawn.options(memory=1)
    plain = [make(int) for _ in range(3)]
    da.wait(plain)
    urgent = da.spawn.options(memory=1, priority=1)(int)
    da.wait([urgent])
    queue = Queue()
    for task in (*plain, urgent):
        queue.push(task)
    assert queue.next(2) == [urgent, *plain[:2]]
    assert len(queue) == 4
