"""Memory: admission by ``memory=``, what is held, what the tasks themselves cost."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc

import numpy as np
import psutil
import pytest

import darray.runtime as da
from darray.runtime import crew
from darray.runtime import engine as engines
from darray.runtime.spaces import nbytes_of
from darray.runtime.waiting import Arrival

# Of the size that the few bytes of small results do not matter.
LIMIT = 1_000_000

# Where memory that is freed brings a thread to those who wait for it.
PARTS = ("crew.py", "seats.py")


@pytest.fixture(params=[1, 2])
def limited(request):
    da.configure(engine="threads", threads=request.param)
    engine = engines.current_engine()
    engine._schedule.budget.limit = LIMIT
    return engine


def block(nbytes):
    return np.zeros(nbytes, np.int8)


def made_to_stay(nbytes, name=None):
    """A task whose value, a block, is there and is pinned: it goes to no disk."""
    task = da.spawn.options(memory=nbytes, name=name)(block, nbytes)
    da.Ref(task).pin()
    task.wait()
    return task


def test_never_more_than_the_limit_at_once(limited):
    lock = threading.Lock()
    now, peak = [0], [0]

    def hold(nbytes):
        with lock:
            now[0] += nbytes
            peak[0] = max(peak[0], now[0])
        total = sum(range(200))
        with lock:
            now[0] -= nbytes
        return total and None

    tasks = [
        da.spawn.options(memory=100_000 * (i % 9 + 1))(hold, 100_000 * (i % 9 + 1))
        for i in range(99)
    ]
    assert set(da.fetch(tasks)) == {None}
    assert 0 < peak[0] <= LIMIT


def test_results_that_are_dropped_make_room(limited):
    def reduce(*blocks):
        return sum(one.nbytes for one in blocks)

    sums = []
    for _ in range(30):
        pair = [da.spawn.options(memory=400_000)(block, 400_000) for _ in range(2)]
        sums.append(da.spawn.options(memory=100_000, priority=1)(reduce, *pair))
        del pair
    assert da.fetch(sums) == [800_000] * 30


def test_small_task_that_frees_goes_before_a_great_one(limited):
    held = da.spawn.options(memory=900_000)(block, 900_000)
    held.wait()
    great = da.spawn.options(memory=800_000)(block, 800_000)
    freeing = da.spawn.options(memory=50_000)(lambda array: array.nbytes, held)
    del held
    assert freeing.result(timeout=60) == 900_000
    assert great.result(timeout=60).nbytes == 800_000


def test_nothing_fails_while_nobody_waits(limited):
    held = made_to_stay(800_000)
    waiting = da.spawn.options(memory=500_000)(block, 500_000)
    assert da.spawn(int, 3).result(timeout=60) == 3
    assert not waiting.done()
    del held
    assert waiting.result(timeout=60).nbytes == 500_000


def test_nothing_fails_for_who_goes_on_already(limited, monkeypatch):
    """Between the end of what a thread waits for and its going on nobody waits."""
    held = made_to_stay(800_000)
    arrived, may_go_on = threading.Event(), threading.Event()
    wait = Arrival.wait

    def held_up(self, *arguments):
        found = wait(self, *arguments)
        if threading.current_thread() is first:
            arrived.set()
            assert may_go_on.wait(60)
        return found

    monkeypatch.setattr(Arrival, "wait", held_up)
    first = threading.Thread(target=lambda: da.spawn(int, 3).result())
    first.start()
    assert arrived.wait(60)
    greedy = da.spawn.options(memory=500_000)(block, 500_000)
    # A whole round of the engine: it has looked whether anything can free memory.
    looked = threading.Event()
    da.spawn(int, 4).add_done_callback(lambda _: looked.set())
    assert looked.wait(60)
    engines.current_engine()._relieve()
    assert not greedy.done()
    may_go_on.set()
    first.join(60)
    # Who waits now hears of it.
    assert type(greedy.exception()) is da.MemoryLimitError
    del held


def test_nothing_fails_for_a_task_that_goes_on_already(monkeypatch):
    """A task has memory that others wait for; what it waited for in its call has ended."""
    da.configure(engine="threads", threads=2)
    engine = engines.current_engine()
    engine._schedule.budget.limit = LIMIT
    child_began, child_may_end = threading.Event(), threading.Event()
    waits, arrived, may_go_on = threading.Event(), threading.Event(), threading.Event()
    wait = Arrival.wait

    def held_up(self, *arguments):
        if self.in_task:
            waits.set()
        found = wait(self, *arguments)
        if self.in_task:
            arrived.set()
            assert may_go_on.wait(60)
        return found

    def child():
        child_began.set()
        assert child_may_end.wait(60)

    def parent():
        one = da.spawn(child)
        assert child_began.wait(60)
        one.result()

    monkeypatch.setattr(Arrival, "wait", held_up)
    holding = da.spawn.options(memory=800_000)(parent)
    assert child_began.wait(60)
    greedy = da.spawn.options(memory=500_000)(block, 500_000)
    results = []
    waiting = threading.Thread(target=lambda: results.append(greedy.result().nbytes))
    waiting.start()
    while greedy._watchers is None:
        threading.Event().wait(0.001)
    assert waits.wait(60)
    child_may_end.set()
    assert arrived.wait(60)
    engine._relieve()
    assert not greedy.done()
    may_go_on.set()
    holding.result()
    waiting.join(60)
    assert results == [500_000]


class Parked(list):
    """The parked threads of an engine, which tell when there is one more."""

    def __init__(self, runners):
        super().__init__(runners)
        self.has_grown = threading.Event()

    def append(self, runner):
        super().append(runner)
        self.has_grown.set()


def wait_until_parked(engine):
    """Wait until all threads of the engine are parked."""
    seats = engine._seats
    while True:
        with engine._lock:
            if len(seats.parked) == len(seats.runners):
                return
            seats.parked = parked = Parked(seats.parked)
        assert parked.has_grown.wait(60)


def test_an_interrupt_after_any_call_that_frees_memory_leaves_the_engine_whole(
    limited, monkeypatch
):
    # A finaliser's error is printed, else.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    begun = number = 0

    def interrupt(frame, event, _):
        nonlocal begun
        code = frame.f_code
        # A thread that was given a seat is let go at last, whatever was broken off before.
        is_last = code is crew.Crew._let_go.__code__
        if code.co_filename.endswith(PARTS) and not is_last and event in ("call", "c_return"):
            begun += 1
            if begun == number:
                raise KeyboardInterrupt

    # Again where another thread had the lock just then: the second event is the last.
    while begun == number or begun <= 2:
        number += begun == number
        begun = 0
        held = made_to_stay(800_000)
        waiting = da.spawn.options(memory=500_000)(block, 500_000)
        # Only a thread that has parked is brought to a task.
        wait_until_parked(limited)
        sys.setprofile(interrupt)
        try:
            del held
        finally:
            sys.setprofile(None)
        is_held = not limited._lock.acquire(timeout=1)
        # Where it was, for the test to end.
        limited._lock.release()
        assert not is_held, number
        assert waiting.result(timeout=60).nbytes == 500_000
        del waiting
    assert number > 5


def test_error_names_who_holds_what(limited):
    held = [made_to_stay(300_000, "load") for _ in range(3)]
    starved = da.spawn.options(memory=200_000, name="mill")(block, 200_000)
    dependent = da.spawn(abs, starved)
    with pytest.raises(da.MemoryLimitError) as caught:
        dependent.result(timeout=60)
    message = str(caught.value)
    assert "'mill'" in message
    assert "test_memory.py" in message
    assert "needs 200,000 bytes" in message
    assert "3 result(s) of 'load' hold 900,000" in message
    assert "memory_limit" in message
    assert all(task.result().nbytes == 300_000 for task in held)


@pytest.mark.parametrize("wait", ["as_completed", "first", "close", "nested"])
def test_every_kind_of_wait_ends_where_nothing_frees_memory(limited, wait):
    held = made_to_stay(900_000)
    starved = da.spawn.options(memory=500_000)(block, 500_000)
    if wait == "as_completed":
        assert list(da.as_completed([starved])) == [starved]
    elif wait == "first":
        da.wait([starved], return_when=da.FIRST_COMPLETED)
    elif wait == "close":
        da.configure()
    else:
        inner = da.spawn(lambda: da.spawn(lambda: starved.exception()).result())
        assert isinstance(inner.result(timeout=60), da.MemoryLimitError)
    assert isinstance(starved.exception(timeout=60), da.MemoryLimitError)
    assert held.result().nbytes == 900_000


def test_results_in_cycles_are_collected_first(limited):
    cycle = [made_to_stay(900_000)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert da.spawn.options(memory=500_000)(block, 500_000).result(timeout=60).nbytes == 500_000
    finally:
        gc.enable()


def test_task_over_the_limit_fails_at_once(limited):
    gate = threading.Event()
    held = [da.spawn(gate.wait) for _ in range(2)]
    task = da.spawn.options(memory=LIMIT + 1, name="vast")(int)
    with pytest.raises(
        da.MemoryLimitError, match=r"'vast'.*1,000,001 bytes, more than the 1,000,000"
    ):
        task.result(timeout=60)
    gate.set()
    da.wait(held)


def test_serial_engine_keeps_the_limit():
    da.configure(engine="serial")
    engines.current_engine()._schedule.budget.limit = LIMIT
    held = made_to_stay(900_000)
    with pytest.raises(da.MemoryLimitError, match=r"1 result\(s\) of 'block' hold 900,000"):
        da.spawn.options(memory=200_000)(block, 200_000).result()
    del held
    assert da.spawn.options(memory=200_000)(block, 200_000).result().nbytes == 200_000


def test_failed_and_cancelled_tasks_hold_nothing(limited):
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            da.spawn.options(memory=900_000)(lambda: 1 / 0).result(timeout=60)
    gate = threading.Event()
    held = da.spawn.options(memory=900_000)(gate.wait)
    queued = [da.spawn.options(memory=900_000)(int) for _ in range(5)]
    assert all(task.cancel() for task in queued)
    gate.set()
    held.result()
    assert da.spawn.options(memory=900_000)(int).result(timeout=60) == 0


def test_what_values_hold():
    assert nbytes_of(np.zeros(10)) == 80
    assert nbytes_of(np.broadcast_to(np.zeros(1), (1000,))) == 8
    assert nbytes_of(np.zeros(1000)[:10]) == 80
    assert nbytes_of({"k": [np.zeros(10)] * 3}) > 240
    assert nbytes_of(b"x" * 1000) >= 1000


@pytest.mark.alone
def test_pending_task_takes_at_most_1_kb(two_threads):
    gate = threading.Event()
    held = [da.spawn(gate.wait) for _ in range(2)]
    count = 10_000
    tracemalloc.start()
    try:
        tasks = [da.spawn(abs, i) for i in range(count)]
        tasks += [da.spawn(max, task, 3) for task in tasks]
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    gate.set()
    da.wait([*held, *tasks])
    assert size / len(tasks) <= 1000


def test_memory_is_flat_over_repeats(two_threads):
    process = psutil.Process()
    resident = []
    for _ in range(20):
        tasks = [da.spawn(abs, i) for i in range(50_000)]
        tasks += [da.spawn(abs, task) for task in tasks]
        assert da.fetch(tasks[-1]) == 49_999
        da.wait(tasks)
        del tasks
        gc.collect()
        resident.append(process.memory_info().rss)
    assert resident[-1] - resident[4] < 8 * 2**20


def test_chain_of_a_million(two_threads):
    link = da.spawn(int, 0)
    for _ in range(1_000_000):
        link = da.spawn(abs, link)
    assert link.result() == 0


def test_chain_of_a_million_that_fails(two_threads):
    gate = threading.Event()
    link = da.spawn(lambda: gate.wait() and 1 / 0)
    for _ in range(1_000_000):
        link = da.spawn(abs, link)
    gate.set()
    assert isinstance(link.exception(), ZeroDivisionError)
