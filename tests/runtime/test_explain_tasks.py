"""Why a task does not run: what `Task.explain` says of each state, and the watchdog's warning."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import events, settings
from tests.runtime.shared import Notes


@pytest.fixture
def gate():
    """Opened after the test, so that what waits for it ends."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def log():
    """What the watchdog told, to be waited for."""

    class Log(logging.Handler):
        def __init__(self):
            super().__init__(logging.WARNING)
            self.told, self.texts = threading.Semaphore(0), []

        def emit(self, record):
            self.texts.append(record.getMessage())
            self.told.release()

    handler = Log()
    logging.getLogger("darray").addHandler(handler)
    yield handler
    logging.getLogger("darray").removeHandler(handler)


@pytest.fixture
def others(gate):
    """Threads of the test's own."""
    with ThreadPoolExecutor(4) as pool:
        yield pool
        gate.set()


class Held:
    """A task that runs until its gate opens, spawned by a thread of its own."""

    def __init__(self, others, gate, name="held", **options):
        self.began = threading.Event()
        self.gate = gate
        self.spawned = others.submit(da.spawn.options(name=name, **options), self.run)
        self.began.wait()

    def run(self):
        self.task = da.current_task()
        self.began.set()
        self.gate.wait()
        return 1


def lines(task):
    return task.explain().splitlines()


def test_finished(engine):
    done, failed = da.spawn.options(name="one")(abs, -1), da.spawn.options(name="bad")(int, "x")
    dependent = da.spawn.options(name="after")(abs, failed)
    da.wait([done, failed, dependent])
    place = r"worker 0 cpu \d"
    assert lines(done)[0].startswith(f"task 'one', spawned at {__file__}:")
    for task, words in (
        (done, f", is done: it gave a value of type int on {place}$"),
        (failed, f", has failed on {place}: ValueError: invalid literal for int.*'x'$"),
        (dependent, ", has failed without having run: ValueError: invalid literal"),
    ):
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(task.explain())


def test_values_are_not_looked_at(engine):

    class Shy:
        def __repr__(self):
            raise AssertionError("looked at")

    assert "a value of type" in da.spawn(Shy).explain()
    task = da.spawn.options(name="many")(int, "x" * 10_000)
    task.wait()
    assert len(task.explain()) < 600


def test_cancelled_before_it_ran(engine, others, gate):
    held = Held(others, gate)
    waiting = da.spawn(abs, held.task)
    waiting.cancel()
    assert "was cancelled without having run: " in waiting.explain()
    assert "was cancelled before it ran" in waiting.explain()


def test_abandoned_while_its_function_goes_on(engine, others, gate):
    held = Held(others, gate)
    held.task.cancel()
    (line,) = lines(held.task)
    assert "was cancelled on worker 0 cpu " in line
    assert line.endswith("Its function, which nothing can stop from outside, still runs")
    gate.set()
    assert held.spawned.result() is held.task
    others.shutdown()


def test_asked_to_stop(threads, others, gate):
    data, began = [1], threading.Event()

    def write(data):
        tasks.append(da.current_task())
        began.set()
        gate.wait()

    def region():
        with da.spawn_datadeps():
            da.spawn(write, da.InOut(data))

    tasks = []
    ended = others.submit(region)
    began.wait()
    tasks[0].cancel()
    assert "is running on worker 0 cpu " in tasks[0].explain()
    assert ", and was asked to stop" in tasks[0].explain()
    gate.set()
    assert ended.exception() is None


@pytest.mark.parametrize("block", ["spawn_bulk", "options"])
def test_held_by_a_queue(engine, block):

    class Keeping:
        held = ()

        def enqueue(self, submissions, outside):
            self.held = (*self.held, *submissions)

    queue = Keeping()
    with da.spawn_bulk() if block == "spawn_bulk" else da.options(queue=queue):
        task = da.spawn.options(name="later")(abs, -1)
        (line,) = lines(task)
    name = "da.spawn_bulk()" if block == "spawn_bulk" else "da.options(queue="
    assert "is held by the queue of " + name in line
    assert f" at {__file__}:" in line
    assert line.endswith(", which has not submitted it yet")
    task.cancel()
    assert getattr(task, "_hold", None) is None


def test_queue_outside_that_holds(engine):
    with da.spawn_bulk(), da.spawn_sequential():
        tasks = da.map(abs, range(3))
        assert "is held by the queue of da.spawn_bulk()" in tasks[2].explain()
    da.wait(tasks)
    assert tasks[2]._hold is None
    assert "is done" in tasks[2].explain()


def test_running(engine, others, gate):
    held = Held(others, gate)
    (line,) = lines(held.task)
    assert f"task 'held', spawned at {threading.__file__}" not in line
    assert "is running on worker 0 cpu " in line
    seen = engine.watchdog._seen
    assert list(seen) == [held.task.number]
    # What an earlier look saw, long ago.
    seen[held.task.number] -= 100
    assert lines(held.task)[0].endswith(", for at least 100 s")


def test_waiting_for_tasks(engine, others, gate):
    held = Held(others, gate)
    middle = da.spawn.options(name="middle")(abs, held.task)
    last = da.spawn.options(name="last")(pow, held.task, middle)
    first, *needed = lines(last)
    assert first.startswith(f"task 'last', spawned at {__file__}:")
    assert first.endswith(", is waiting for 2 tasks:")
    assert needed[0].startswith("- task 'held', spawned at ")
    assert "is running on worker 0 cpu " in needed[0]
    assert needed[1].startswith("- task 'middle', spawned at ")
    assert needed[1].endswith(", is waiting for 1 task")
    assert len(needed) == 2
    gate.set()
    assert last.result() == 1


def test_chain_of_a_thousand(engine, others, gate):
    held = task = Held(others, gate).task
    for number in range(1000):
        task = da.spawn.options(name=f"link {number}")(abs, task)
    first, direct, hangs, root = lines(task)
    assert first.startswith("task 'link 999'")
    assert direct.startswith("- task 'link 998'")
    assert hangs == "In the end this hangs on 1 task, through 998 more:"
    assert root.startswith("- task 'held'")
    assert held.explain() == root[2:]
    gate.set()
    assert task.result() == 1


def test_many_needed(two_threads, others, gate):
    Held(others, gate)
    Held(others, gate, "other")
    task = da.spawn(sum, [da.spawn.options(name="part")(int) for _ in range(1000)])
    first, *told = lines(task)
    assert first.endswith("is waiting for 1000 tasks:")
    assert told[3] == "- and 997 more"
    assert "is ready, but no processor that may run it is free" in told[0]
    assert len(told) == 6
    assert {line.split(" runs ")[0] for line in told[4:]} == {
        "- worker 0 cpu 0",
        "- worker 0 cpu 1",
    }
    gate.set()
    assert task.result() == 0


def test_scope_that_is_busy(two_threads, others, gate):
    held = Held(others, gate, scope=da.scope(thread=1))
    assert held.task.processor.index == 1
    task = da.spawn.options(name="pinned", scope=da.scope(thread=1))(int)
    state, occupant = lines(task)
    assert state.endswith("is ready, but no processor that may run it is free")
    assert occupant.startswith("- worker 0 cpu 1 runs task 'held', spawned at ")
    gate.set()
    assert task.result() == 0


def test_ready_on_the_serial_engine(others, gate):
    da.configure(engine="serial")
    held = Held(others, gate)
    inner, second = threading.Event(), threading.Event()
    tasks = [da.spawn(lambda _: inner.set() or second.wait(), held.task), da.spawn(abs, held.task)]
    gate.set()
    inner.wait()
    assert "is running on worker 0 cpu 0" in tasks[0].explain()
    assert "begins when what its thread runs before it has returned" in tasks[1].explain()
    second.set()
    assert tasks[1].result() == 1


def test_waiting_for_memory(threads, others, gate):
    threads._schedule.budget.limit = 1_000_000
    result = da.spawn.options(name="kept", memory=600_000)(np.zeros, 500_000, np.int8)
    # Otherwise it would go to disk.
    da.Ref(result).pin()
    result.wait()
    Held(others, gate, memory=300_000)
    large = da.spawn.options(name="large", memory=700_000)(int)
    others.submit(da.spawn.options(name="other", priority=-1)(int).wait).result()
    state, holders = lines(large)
    assert state.endswith("is ready, but it needs 700,000 bytes, and 200,000 are free")
    assert holders.startswith("Of the 1,000,000 bytes for all tasks, 1 result(s) of 'kept' ")
    assert " hold 500,000, " in holders
    assert holders.endswith("tasks that have begun hold 300,000")
    del result
    gate.set()
    assert large.result() == 0


def test_waiting_inside(engine, others, gate):
    held = Held(others, gate)
    waits, outer = threading.Event(), Notes()

    def wait_inside():
        outer.append(da.current_task())
        waits.set()
        return held.task.result()

    others.submit(da.spawn.options(name="outer"), wait_inside)
    waits.wait()
    told = []
    while len(told) < 2:  # until the wait has begun
        told = lines(outer[0])
    assert "is running on worker " in told[0]
    assert told[0].endswith(", and waits inside for 1 task:")
    assert told[1].startswith("- task 'held'")
    gate.set()
    assert outer[0].result() == 1


def test_waiting_inside_for_the_first(threads, others, gate):
    held = [Held(others, gate), da.spawn.options(name="next", scope=da.scope(thread=0))(int)]
    outer = da.spawn.options(name="outer")(
        lambda: da.wait([held[0].task], return_when=da.FIRST_COMPLETED)
    )
    told = []
    while len(told) < 2:  # until the wait has begun
        told = lines(outer)
    assert "waits inside for 1 task:" in told[0]
    assert told[1].startswith("- task 'held'")
    gate.set()
    assert outer.result().done == {held[0].task}


def test_nested_tasks_of_one_thread(gate, others):
    da.configure(engine="serial")
    began, tasks = threading.Event(), []

    def inner():
        tasks.append(da.current_task())
        began.set()
        gate.wait()

    def outer():
        tasks.append(da.current_task())
        da.spawn.options(name="inner")(inner)

    others.submit(da.spawn, outer)
    began.wait()
    first, second = lines(tasks[0])
    assert first.endswith(", and waits inside for 1 task:")
    assert second.startswith("- task 'inner'")


def test_waits_that_cross(gate):
    """Each of two tasks waits for what the other makes; neither is stuck."""
    da.configure(engine="threads", threads=4)
    made = {name: threading.Event() for name in "ab"}
    tasks, ready = {}, threading.Barrier(2)

    def cross(name, other):
        tasks[name] = da.spawn.options(name=f"part of {name}")(gate.wait)
        ready.wait()
        made[name].set()
        made[other].wait()
        return tasks[other].result()

    both = [da.spawn(cross, "a", "b"), da.spawn(cross, "b", "a")]
    for event in made.values():
        event.wait()
    text = ""
    while "part of a" not in text or "part of b" not in text:  # until both wait
        text = both[0].explain() + both[1].explain()
    assert "wait for one another" not in text
    gate.set()
    assert da.fetch(both) == [True, True]


def test_awaited(threads, gate):
    began = threading.Event()
    loops = []

    async def sleep():
        loops.append((asyncio.get_running_loop(), asyncio.Event()))
        began.set()
        await loops[0][1].wait()
        return 5

    task = da.spawn(sleep)
    began.wait()
    assert "is awaited, without a processor" in task.explain()
    assert "awaited" in da.spawn(abs, task).explain()
    loop, event = loops[0]
    loop.call_soon_threadsafe(event.set)
    assert task.result() == 5


def test_engine_that_is_gone(threads, gate):
    held = [da.spawn(gate.wait) for _ in range(3)]
    dependent = da.spawn(abs, held[0])
    child = os.fork() if hasattr(os, "fork") else None
    if child == 0:
        texts = [task.explain() for task in (*held, dependent)]
        os._exit(0 if all("never to" in text for text in texts) else 1)
    if child is not None:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The watchdog


def test_silence_is_told_once_and_then_after_twice_the_time(engine, others, gate, log):
    da.configure(watchdog=0.3)
    held = Held(others, gate, "stuck")
    began = time.monotonic()
    last = da.spawn.options(name="last")(abs, held.task)
    waiting = others.submit(last.result)
    log.told.acquire()
    log.told.acquire()
    log.told.acquire()
    assert time.monotonic() - began >= 4 * 0.3
    gate.set()
    assert waiting.result() == 1
    assert len(log.texts) == 3
    first, task, root, end = log.texts[0].splitlines()
    assert first.startswith("no task has begun or ended for 0.")
    assert first.endswith(" s, while a thread waits:")
    assert task.startswith(f"task 'last', spawned at {__file__}:")
    assert root.startswith("- task 'stuck', spawned at ")
    assert "is running on worker 0 cpu " in root
    assert ", for at least 0." in root
    assert "da.configure(watchdog=...)" in end
    assert events.consumers == ()
    assert engines.current_engine().watchdog._waits == {}


@pytest.mark.parametrize(
    "wait",
    [
        lambda task: da.fetch([task]),
        lambda task: task.wait(timeout=60),
        lambda task: da.wait([task, da.spawn(int)]),
        lambda task: da.wait([task], return_when=da.FIRST_COMPLETED),
        lambda task: list(da.as_completed([task])),
        lambda task: da.spawn(task.result).result(),
        lambda _: da.configure(),
    ],
    ids=["fetch", "timeout", "wait", "first", "as_completed", "inside", "close"],
)
def test_every_wait_is_watched(others, gate, log, wait):
    da.configure(engine="threads", threads=2, watchdog=0.1)
    held = Held(others, gate, "stuck")
    waiting = others.submit(wait, held.task)
    log.told.acquire()
    assert "task 'stuck', spawned at " in log.texts[0]
    gate.set()
    waiting.result()
    assert events.consumers == ()


def test_end_of_a_block_is_watched(others, gate, log):
    da.configure(engine="threads", threads=2, watchdog=0.1)

    def program(block):
        with block():
            for _ in range(2):
                da.spawn.options(name="stuck")(gate.wait)

    waiting = [others.submit(program, block) for block in (da.sync, da.spawn_datadeps)]
    log.told.acquire()
    assert "task 'stuck', spawned at " in log.texts[0]
    gate.set()
    for one in waiting:
        one.result()


def test_no_warning_while_work_goes_on(others, gate, log):
    """Also where it is over so quickly that no look at what runs ever meets it."""
    da.configure(engine="threads", threads=2, watchdog=1.0)
    held = Held(others, gate)
    waiting = others.submit(held.task.result)
    watchdog = engines.current_engine().watchdog
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        da.spawn(int).result()
        gate.wait(0.05)
    assert watchdog._waits
    assert log.texts == []
    log.told.acquire()
    gate.set()
    waiting.result()


@pytest.mark.parametrize("off", [0, None])
def test_no_warning_where_it_is_off(others, gate, log, off):
    da.configure(engine="threads", threads=2, watchdog=off)
    held = Held(others, gate)
    assert not held.task.wait(timeout=0.7)
    assert log.texts == []
    assert events.consumers == ()


def test_short_waits_cost_nothing(threads):
    da.fetch([da.spawn(abs, number) for number in range(1000)])
    watchdog = threads.watchdog
    assert (watchdog._seen, watchdog._ear, watchdog._since) == ({}, None, None)
    assert not hasattr(da.spawn(int), "_number")


def test_setting(monkeypatch):
    assert settings.Settings().watchdog == 60
    monkeypatch.setenv("DARRAY_WATCHDOG", "2.5")
    assert settings.environment().watchdog == 2.5
    monkeypatch.setenv("DARRAY_WATCHDOG", "0")
    assert settings.environment().watchdog is None
    for wrong in (-1, "soon", float("nan"), True, [1]):
        with pytest.raises(ValueError, match="watchdog is a number of seconds"):
            da.configure(watchdog=wrong)
