"""The serial engine, used from several threads: who waits for the memory of others' tasks."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import numpy as np
import pytest

import darray as da
from darray.runtime import shortage
from darray.runtime.engines import serial as serial_engine
from tests.runtime.shared import with_room

ROOM = 4_000_000


@pytest.fixture
def serial(tmp_path):
    yield from with_room(ROOM, engine="serial", spill_folder=str(tmp_path))


def asking(memory, function, *args):
    return da.spawn.options(memory=memory)(function, *args)


def started(work, *args):
    """A thread that calls ``work(*args)``, and the list that gets what this gives or raises."""
    found = []

    def run():
        try:
            found.append(work(*args))
        except da.MemoryLimitError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


@contextmanager
def held(memory=3_000_000):
    """A task of another thread that runs in the block and has so much memory; gives the task."""
    began, may_end, made = threading.Event(), threading.Event(), []

    def hold():
        made.append(da.current_task())
        began.set()
        return may_end.wait(60)

    thread, found = started(lambda: asking(memory, hold).result())
    assert began.wait(60)
    try:
        yield made[0]
    finally:
        may_end.set()
        thread.join(60)
    assert found == [True]


def recorded(engine, monkeypatch):
    """Tell of each thread that begins to wait for memory."""
    waits = threading.Semaphore(0)
    wait = engine._running.changed.wait

    def told(*arguments):
        waits.release()
        return wait(*arguments)

    monkeypatch.setattr(engine._running.changed, "wait", told)
    return waits


def test_memory_of_a_task_of_another_thread_is_waited_for(serial, monkeypatch):
    waits = recorded(serial, monkeypatch)
    began = threading.Event()

    def hold():
        began.set()
        assert waits.acquire(timeout=60)
        return 7

    thread, found = started(lambda: asking(3_000_000, hold).result())
    assert began.wait(60)
    assert asking(2_000_000, int, 5).result() == 5
    thread.join(60)
    assert found == [7]
    serial._schedule._check([])


def test_a_task_larger_than_the_limit_fails_at_once(serial):
    with held(), pytest.raises(da.MemoryLimitError, match="5,000,000"):
        asking(5_000_000, int, 5).result()


def test_two_that_wait_for_each_other_s_memory_end(serial):
    both = threading.Barrier(2)

    def inner():
        return "room"

    def outer():
        both.wait(60)
        return asking(2_000_000, inner).result()

    every = [started(lambda: asking(1_500_000, outer).result()) for _ in range(2)]
    for thread, _ in every:
        thread.join(60)
        assert not thread.is_alive()
    outcomes = [found[0] for _, found in every]
    kinds = sorted(type(one).__name__ for one in outcomes)
    # The first fails, so that its memory is free for the second.
    assert kinds == ["MemoryLimitError", "str"]
    serial._schedule._check([])


@pytest.mark.parametrize("how", ["fetch", "await"])
def test_memory_of_a_task_that_waits_for_who_wants_it_is_not_waited_for(serial, monkeypatch, how):
    waits = recorded(serial, monkeypatch)
    began = threading.Event()
    made = []

    def greedy():
        return asking(2_000_000, int, 5).result()

    def outer():
        made.append(da.current_task())
        assert began.wait(60)
        return greedy()

    def hold():
        began.set()
        assert waits.acquire(timeout=60)
        return da.wait([made[0]])

    async def hold_awaiting():
        began.set()
        await asyncio.to_thread(waits.acquire, timeout=60)
        try:
            return await made[0]
        except da.MemoryLimitError:
            return None

    wanting = started(lambda: da.spawn(outer).result())
    holding = started(lambda: asking(3_000_000, hold if how == "fetch" else hold_awaiting).result())
    for thread, _ in (wanting, holding):
        thread.join(60)
        assert not thread.is_alive()
    assert type(wanting[1][0]) is da.MemoryLimitError
    assert len(holding[1]) == 1
    serial._schedule._check([])


def test_who_hears_of_a_value_on_its_way_does_not_wait_for_the_task_around_it(serial):
    """It runs on the thread that sends the value, which that task waits for."""
    outcomes = []

    def consumer(event):
        is_sent = isinstance(event, da.runtime.ValueMoved) and event.destination == "disk"
        if is_sent and not outcomes:
            outcomes.append(None)
            outcomes[0] = asking(4_000_000, int, 5).exception()

    def outer():
        kept = asking(2_000_000, np.ones, 250_000)
        with da.subscribe(consumer):
            assert asking(3_000_000, int, 6).result() == 6
        return kept.result().nbytes

    thread, found = started(lambda: asking(1_000_000, outer).result())
    thread.join(60)
    assert not thread.is_alive()
    assert found == [2_000_000]
    assert len(outcomes) == 1
    assert type(outcomes[0]) is da.MemoryLimitError


def test_ctrl_c_while_waiting_leaves_nothing_behind(serial, monkeypatch):
    """The task is cancelled, so that others on the same mutable go on."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    notes = da.mutable(list)
    with held():
        with monkeypatch.context() as patch:
            patch.setattr(shortage.Shortage, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                da.spawn.options(memory=2_000_000)(list.append, notes, 1)
        da.spawn(list.append, notes, 2).result()
    assert da.fetch(notes) == [2]
    assert serial._schedule.outstanding == 0
    serial._schedule._check([])


def test_ctrl_c_before_the_function_is_called_leaves_nothing_behind(serial, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(serial_engine, "make_room", interrupted)
        with pytest.raises(KeyboardInterrupt):
            asking(3_000_000, int, 5)
    assert serial._running.stacks == {}
    assert asking(3_000_000, int, 5).result() == 5
    serial._schedule._check([])


def test_memory_of_a_task_that_is_blocked_is_not_waited_for(serial, monkeypatch):
    """Such as one that waits for values of a stream, which the thread that wants it may make."""
    waits = recorded(serial, monkeypatch)
    blocks, may_go_on = threading.Event(), threading.Event()

    def blocked():
        blocks.set()
        return may_go_on.wait(60)

    def hold():
        return serial.block(blocked)

    holding, held = started(lambda: asking(3_000_000, hold).result())
    assert blocks.wait(60)
    with pytest.raises(da.MemoryLimitError):
        asking(2_000_000, int, 5).result()
    assert not waits.acquire(blocking=False)
    may_go_on.set()
    holding.join(60)
    assert held == [True]


def test_who_waits_in_vain_gives_up(serial, monkeypatch):
    """A task may wait for what wants its memory in ways that nobody sees."""
    monkeypatch.setattr(shortage, "PATIENCE", 0.1)
    with held(), pytest.raises(da.MemoryLimitError):
        asking(2_000_000, int, 5).result()


def test_a_coroutine_may_be_closed_under_the_lock(serial):
    """As by a finaliser, which may run at any moment."""
    with held(0) as holding:

        def outer():
            awaiting = serial.awaiting(holding)
            awaiting.__enter__()
            assert serial._stack().awaited == [holding]
            with serial._lock:
                awaiting.__exit__(None, None, None)
            return list(serial._stack().awaited)

        assert da.spawn(outer).result() == []


def test_no_thread_for_a_time_limit_leaves_nothing_behind(serial, monkeypatch):
    def refused(*arguments):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            da.spawn.options(timeout=60)(int, 5)
    assert serial.current_task() is None
    assert serial._running.stacks == {}
    assert da.spawn.options(timeout=60)(int, 5).result() == 5
    serial._schedule._check([])


def test_results_in_cycles_of_tasks_that_were_waited_for_are_collected(serial, monkeypatch):
    waits = recorded(serial, monkeypatch)
    began = threading.Event()

    def hold():
        began.set()
        assert waits.acquire(timeout=60)
        knot = [asking(900_000, bytes, 900_000)]
        knot.append(knot)

    thread, found = started(lambda: asking(3_000_000, hold).result())
    assert began.wait(60)
    assert asking(3_500_000, int, 5).result() == 5
    thread.join(60)
    assert found == [None]


def test_blocks_within_blocks_are_told_apart(serial):
    def inside():
        outer = serial._stack()
        serial.block(lambda: None)
        return outer.is_stopped

    assert da.spawn(lambda: (serial.block(inside), serial._stack().is_stopped)).result() == (
        True,
        False,
    )


def test_threads_that_wait_let_each_other_rest(serial, monkeypatch):
    """Each tells the others once that it waits."""
    told = []
    note_wait = serial._running.note_wait
    looks = threading.Semaphore(0)
    look = shortage.Shortage.look

    def noted():
        told.append(threading.current_thread())
        note_wait()

    def looked(waiter):
        looks.release()
        look(waiter)

    monkeypatch.setattr(shortage, "LOOKING_UP", 0.001)
    monkeypatch.setattr(shortage.Shortage, "look", looked)
    monkeypatch.setattr(serial._running, "note_wait", noted)
    with held():
        waiting = [started(lambda: asking(2_000_000, int, 5).result()) for _ in range(2)]
        for _ in range(100):
            assert looks.acquire(timeout=60)
        assert 1 <= len(told) == len(set(told)) <= 2
    for thread, found in waiting:
        thread.join(60)
        assert found == [5]
