"""A task that began beside the processors takes one when it has something to compute."""

import itertools
import threading

import pytest

import darray.runtime as da
from darray.runtime.batches import Batch
from darray.runtime.contexts import Options
from darray.runtime.engine import current_engine
from darray.runtime.pieces import Turn

WAIT = 60
BESIDE = Options(occupancy=0.0, own=True)


@pytest.fixture
def one_thread():
    da.configure(engine="threads", threads=1)
    return current_engine()


def test_it_waits_for_a_processor(one_thread):
    order = []
    asks, holds = threading.Event(), threading.Event()

    def beside():
        assert holds.wait(WAIT)
        asks.set()
        current_engine().occupy()
        order.append("beside")

    def whole():
        holds.set()
        assert asks.wait(WAIT)
        order.append("whole")

    first = da.spawn.options(occupancy=0.0)(beside)
    da.wait([first, da.spawn(whole)])
    assert order == ["whole", "beside"]
    one_thread._check()


@pytest.mark.parametrize("worker", [0, 1])
def test_every_processor_is_used(worker):
    """Though all tasks may have begun on one of them; those of other workers are not."""
    da.configure(engine="workers", threads=2, workers=2)
    begun, computing = threading.Barrier(6), threading.Barrier(2)

    def work():
        begun.wait(WAIT)
        current_engine().occupy()
        computing.wait(WAIT)
        return da.current_task().processor

    scope = da.scope(worker=worker)
    tasks = [da.spawn.options(occupancy=0.0, scope=scope)(work) for _ in range(6)]
    assert set(da.fetch(tasks)) == set(da.processors(scope))
    current_engine()._check()


def test_a_scope_is_kept(two_threads):
    begun = threading.Barrier(4)

    def work():
        begun.wait(WAIT)
        current_engine().occupy()
        return da.current_task().processor.index

    scope = da.scope(thread=1)
    tasks = [da.spawn.options(occupancy=0.0, scope=scope)(work) for _ in range(4)]
    assert da.fetch(tasks) == [1] * 4
    two_threads._check()


def test_no_more_compute_than_there_are_processors(two_threads):
    begun, lock = threading.Barrier(20), threading.Lock()
    computing, most = [], []

    def work():
        begun.wait(WAIT)
        current_engine().occupy()
        with lock:
            computing.append(1)
            most.append(len(computing))
        sum(range(10_000))
        with lock:
            computing.pop()

    da.wait([da.spawn.options(occupancy=0.0)(work) for _ in range(20)])
    assert max(most) <= 2
    two_threads._check()


def test_the_next_begins_before_one_that_waits_for_the_processor_goes_on(one_thread):
    """Or nothing would be read while those compute that have read."""
    asked = threading.Semaphore(0)
    computed = itertools.count()

    def work():
        asked.release()
        current_engine().occupy()
        # Two have asked when the first computes, and one more whenever one is through.
        place = next(computed)
        needed = 2 if place == 0 else 1 if place < 5 else 0
        assert all(asked.acquire(timeout=WAIT) for _ in range(needed))

    lanes = [Turn(), Turn()]
    batch = Batch(one_thread)
    tasks = [batch.spawn(BESIDE, work, (), [], lanes[number % 2]) for number in range(6)]
    batch.submit()
    da.wait(tasks)
    assert all(task.exception() is None for task in tasks)
    one_thread._check()


def test_tasks_of_a_turn_follow_each_other(engine):
    order = []
    batch = Batch(engine)
    turn = Turn()

    def failing(number):
        order.append(number)
        assert number != 3

    tasks = [batch.spawn(BESIDE, failing, (number,), [], turn) for number in range(9)]
    batch.submit()
    da.wait(tasks)
    assert order == list(range(9))
    assert [task.exception() is None for task in tasks] == [number != 3 for number in range(9)]


def test_one_that_has_a_processor_goes_on(engine):
    def work():
        current_engine().occupy()
        return 3

    current_engine().occupy()
    assert da.spawn(work).result() == 3
    assert da.spawn(lambda: da.spawn.options(occupancy=0.5)(work).result()).result() == 3


def test_waits_in_it_give_the_processor_up(one_thread):
    def work():
        current_engine().occupy()
        return da.spawn(int, 3).result() + da.spawn.options(occupancy=0.0)(int, 4).result()

    assert da.fetch([da.spawn.options(occupancy=0.0)(work) for _ in range(5)]) == [7] * 5
    one_thread._check()


def test_one_that_is_cancelled_while_it_waits_for_a_processor(one_thread):
    holds, goes_on, asks = threading.Event(), threading.Event(), threading.Event()
    ended = threading.Event()

    def beside():
        assert holds.wait(WAIT)
        asks.set()
        current_engine().occupy()
        ended.set()

    first = da.spawn.options(occupancy=0.0)(beside)
    other = da.spawn(lambda: (holds.set(), goes_on.wait(WAIT)))
    assert asks.wait(WAIT)
    assert first.cancel()
    assert ended.wait(WAIT), "its function goes on, without a processor"
    goes_on.set()
    assert other.wait(WAIT)
    assert da.spawn(int, 3).result() == 3
    one_thread._check()
