"""The serial engine, used from several threads: each finds the room that it makes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray as da
from darray.runtime import spiller
from tests.runtime.shared import with_room

BLOCK = 2**20


@pytest.fixture
def room_for_four(tmp_path):
    yield from with_room(4 * BLOCK, engine="serial", spill_folder=str(tmp_path))


def block(value):
    return np.full(BLOCK // 8, float(value))


def made(value, memory=BLOCK):
    return da.spawn.options(memory=memory)(block, value)


def run_in_thread(work):
    """Call `work` on another thread; what it gives, or what it raises."""
    found = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_another_thread_makes_room_meanwhile(room_for_four, monkeypatch):
    """It asks for less, and is done before the first value of this thread is through."""
    kept = [made(number) for number in range(4)]
    written = spiller.written
    others = []

    def slowly(task, *rest):
        if not others:
            others.append(None)
            thread, found = run_in_thread(lambda: made(7).result()[0])
            thread.join()
            others[0] = found[0]
        return written(task, *rest)

    monkeypatch.setattr(spiller, "written", slowly)
    assert made(8, 2 * BLOCK).result()[0] == 8
    assert others == [7]
    for number, task in enumerate(kept):
        assert task.result()[0] == number
    room_for_four._schedule._check([])


def test_what_others_send_is_waited_for(room_for_four, monkeypatch):
    """All that could go is on its way for another thread."""
    kept = [made(number) for number in range(4)]
    written = spiller.written
    waits = threading.Event()
    wait = room_for_four._spiller._moved.wait
    started = []

    def slowly(task, *rest):
        if not started:
            started.append(run_in_thread(lambda: made(7, 3 * BLOCK).result()[0]))
            assert waits.wait(60)
        return written(task, *rest)

    def told(*rest):
        waits.set()
        return wait(*rest)

    monkeypatch.setattr(spiller, "written", slowly)
    monkeypatch.setattr(room_for_four._spiller._moved, "wait", told)
    last = made(8, 4 * BLOCK)
    value = last.result()[0]
    del last
    thread, found = started[0]
    thread.join()
    assert (value, found) == (8, [7])
    for number, task in enumerate(kept):
        assert task.result()[0] == number


def test_who_hears_of_a_value_on_its_way_does_not_wait_for_it(room_for_four):
    """A task that a consumer of events spawns then fails, or finds other room."""
    kept = [made(number) for number in range(4)]
    outcomes = []

    def consumer(event):
        is_sent = isinstance(event, da.runtime.ValueMoved) and event.destination == "disk"
        if is_sent and not outcomes:
            outcomes.append(None)
            outcomes[0] = made(5, 4 * BLOCK).exception()

    with da.subscribe(consumer):
        assert made(8, 4 * BLOCK).result()[0] == 8
    assert len(outcomes) == 1
    assert outcomes[0] is None or isinstance(outcomes[0], da.MemoryLimitError)
    assert [task.result()[0] for task in kept] == [0, 1, 2, 3]


def test_many_threads_find_room(room_for_four):
    def work():
        return [made(number, BLOCK).result()[0] for number in range(60)]

    every = [run_in_thread(work) for _ in range(2)]
    kept = [made(number) for number in range(3)]
    for thread, _ in every:
        thread.join()
    for _, found in every:
        assert found == [[float(number) for number in range(60)]]
    assert [task.result()[0] for task in kept] == [0, 1, 2]
