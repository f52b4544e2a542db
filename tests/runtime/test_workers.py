"""Several workers in one process: what crosses between them, and where tasks are placed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import placement
from darray.testing.separate_memory import KIND, separate_memory
from tests.runtime.shared import Notes, on, where


def test_processors_of_every_worker(workers):
    count = len(da.workers())
    assert da.workers() == list(range(count))
    assert [one.worker for one in da.processors()] == sorted(2 * list(range(count)))
    assert da.fetch([on(number)(where) for number in range(count)]) == list(range(count))


def test_nothing_is_shared_but_what_is_sent(workers):
    notes, array = [], np.zeros(3)

    def work(given):
        notes.append(1)
        return notes, given.flags.writeable, given.ctypes.data

    (there, is_writable, address), here = on(1)(work, array).result(), array.ctypes.data
    assert there == [1]
    assert notes == []
    assert not is_writable
    assert address != here
    assert on(0)(lambda x: x.ctypes.data, array).result() == here


def test_values_come_read_only_from_worker_to_worker(workers):
    made = on(1)(lambda: {"a": np.arange(6.0), "b": [1, 2]})
    doubled = on(0)(lambda given: (given["a"] * 2, given["b"]), made)
    assert doubled.result()[1] == [1, 2]
    np.testing.assert_array_equal(doubled.result()[0], np.arange(6.0) * 2)
    assert made.result()["a"] is made.result()["a"]
    with pytest.raises(ValueError, match="read-only"):
        made.result()["a"][0] = 1
    da.fetch(made, copy=True)["a"][0] = 1
    assert made.result()["a"][0] == 0


def test_a_value_comes_once_to_a_worker(workers):
    moved = Notes()
    made = on(1)(np.ones, 1000)
    made.wait()
    with da.subscribe(moved.append):
        sums = [on(0)(np.sum, made) for _ in range(3)]
        assert da.fetch(sums) == [1000.0] * 3
        assert [on(1)(np.sum, made).result() for _ in range(2)] == [1000.0] * 2
    arrays = [one for one in moved if isinstance(one, da.ValueMoved) and one.nbytes == 8000]
    # Two tasks that ask at once may both bring it.
    assert 1 <= len(arrays) <= 2
    assert {(one.source, one.destination) for one in arrays} == {("worker 1", "worker 0")}
    assert {one.task for one in arrays} <= {one.number for one in sums}


def test_handles_cross_as_they_are(workers):
    def spawns():
        inner = da.spawn(where)
        inner.wait()
        return inner, da.spawn(np.arange, 3)

    inner, array = on(1)(spawns).result()
    assert inner.result() in da.workers()
    assert array.result().tolist() == [0, 1, 2]
    held = on(1)(lambda: [da.spawn(int, 4)])
    assert on(0)(lambda items: items[0].result() + 1, held).result() == 5


def test_what_cannot_be_pickled_fails_its_task_alone(workers):
    def count():
        yield 1

    failed = on(1)(next, count())
    with pytest.raises(TypeError, match="pickle"):
        failed.result()
    assert on(0)(next, count()).result() == 1
    value = on(1)(count)
    assert value.wait()
    with pytest.raises(TypeError, match="pickle"):
        value.result()
    assert on(1)(int, 3).result() == 3


def test_exceptions_of_other_workers(workers):
    def fail():
        raise LookupError("gone")

    after = da.spawn(abs, on(1)(fail))
    with pytest.raises(LookupError, match="gone") as caught:
        after.result()
    assert any("worker=1" in note for note in caught.value.__notes__)


def test_options_and_nested_tasks_on_other_workers(workers):
    with da.options(scope=da.scope(worker=1)):
        nested = da.spawn(lambda: da.fetch([da.spawn(where), da.spawn(lambda: da.spawn(where))]))
    first, second = nested.result()
    assert (first, da.fetch(second)) == (1, 1)


def test_async_tasks_on_other_workers(workers):
    async def plain(x):
        return x.sum(), da.current_task().processor.worker

    assert on(1)(plain, on(0)(np.ones, 5)).result() == (5.0, 1)


# Placement


def test_tasks_spread_over_idle_workers(workers):
    count = len(da.processors())
    met = threading.Barrier(count)

    def meet():
        met.wait(60)
        return where()

    assert sorted(da.fetch([da.spawn(meet) for _ in range(count)])) == sorted(
        one.worker for one in da.processors()
    )


@pytest.mark.parametrize("home", [0, 1])
def test_a_task_runs_where_its_bytes_are(workers, home):
    large = on(home)(np.ones, 4_000_000)
    large.wait()
    assert {da.spawn(where, large).result() for _ in range(5)} == {home}
    assert da.spawn(where, [large]).result() == home
    assert {da.spawn(where, np.ones(4_000_000)).result() for _ in range(3)} == {0}


def test_the_larger_argument_decides(workers):
    large, small = on(1)(np.ones, 4_000_000), on(0)(np.ones, 400_000)
    da.wait([large, small])
    assert da.spawn(where, small, large).result() == 1


def test_a_busy_worker_is_avoided(workers):
    gate = threading.Event()
    held = [on(0)(gate.wait, 60) for _ in range(2)]
    while not all(one.running() for one in held):
        on(1)(int).result()
    small = np.ones(10)
    assert 0 not in da.fetch([da.spawn(where, small) for _ in range(20)])
    gate.set()
    assert da.fetch(held) == [True, True]


def test_an_idle_worker_takes_what_would_wait(workers):
    """Tasks that were queued where their bytes are do not wait there for others to end."""
    gate = threading.Event()
    small = on(1)(np.ones, 1000)
    small.wait()
    held = [on(1)(gate.wait, 60) for _ in range(2)]
    while not all(one.running() for one in held):
        on(0)(int).result()
    assert 1 not in da.fetch([da.spawn(where, small) for _ in range(10)])
    gate.set()
    da.wait(held)


def hold(began, go_on):
    began.set()
    assert go_on.wait(60)


def where_with(*_):
    return where()


@pytest.fixture
def left_to_worker_1(workers, monkeypatch):
    """Values that a task is left to worker 1 for, which has them and is busy until the end."""
    values = [on(1)(np.zeros, 10) for _ in range(5)]
    da.wait(values)
    # So that what is there already counts for more than tasks that were short so far.
    monkeypatch.setattr(placement, "PER_MOVE", 0.05)
    engines.current_engine()._schedule._mean = 1e-9
    began = [threading.Event() for _ in range(2)]
    go_on = threading.Event()
    held = [on(1)(hold, one, go_on) for one in began]
    for one in began:
        assert one.wait(60)
    yield values
    go_on.set()
    da.wait(held)


def test_an_idle_worker_takes_what_waits_longer_than_was_expected(left_to_worker_1):
    task = da.spawn(where_with, *left_to_worker_1)
    assert engines.current_engine()._schedule.local[1].first() is task
    assert task.result(timeout=60) != 1


def test_who_waits_in_a_task_lets_what_it_waits_for_be_looked_at_again(left_to_worker_1):
    """All other processors were taken when the task was left to worker 1."""
    others = [one for one in da.workers() if one != 1]
    all_began = threading.Barrier(2 * len(others))

    def wait_in_it():
        all_began.wait(60)
        return da.spawn(where_with, *left_to_worker_1).result(timeout=60)

    found = da.fetch([on(one)(wait_in_it) for one in others * 2])
    assert 1 not in found


def test_a_processor_that_came_in_vain_looks_at_what_is_left(left_to_worker_1, monkeypatch):
    """All others were on their way to tasks, which are cancelled, when it was left to worker 1."""
    engine = engines.current_engine()
    let_go, on_their_way = engine._let_go, []
    monkeypatch.setattr(engine, "_let_go", on_their_way.append)
    others = [one for one in da.processors() if one.worker != 1]
    for one in others:
        alone = da.scope(worker=one.worker, thread=one.index)
        da.cancel(da.spawn.options(scope=alone)(where))
    assert len(on_their_way) == len(others)
    task = da.spawn(where_with, *left_to_worker_1)
    monkeypatch.setattr(engine, "_let_go", let_go)
    assert engine._schedule.local[1].first() is task
    for runner in on_their_way:
        let_go(runner)
    assert task.result(timeout=60) != 1


def test_the_scope_wins_over_bytes_and_load(workers):
    large = on(1)(np.ones, 4_000_000)
    large.wait()
    assert on(0)(where, large).result() == 0
    last = da.workers()[-1]
    assert da.spawn.options(scope=da.scope(worker=last, thread=1))(where, large).result() == last


def on_device(worker=None):
    scope = da.scope(kind=KIND) if worker is None else da.scope(kind=KIND, worker=worker)
    return da.spawn.options(scope=scope)


def test_devices_get_tasks_where_their_bytes_are(workers):
    with separate_memory():
        large = on_device(1)(lambda x: x + 1, np.zeros(2_000_000))
        large.wait()
        assert {on_device()(where, large).result() for _ in range(4)} == {1}
        # The host's processors of that worker are nearer than those of others.
        assert {da.spawn(where, large).result() for _ in range(3)} == {1}
        assert float(da.spawn(np.sum, large).result()) == 2_000_000


def test_a_busy_device_is_avoided(workers):
    gate, began = threading.Event(), threading.Event()

    def hold():
        began.set()
        gate.wait(60)

    with separate_memory():
        held = on_device(0)(hold)
        began.wait(60)
        places = da.fetch([on_device()(where) for _ in range(10)])
        gate.set()
        held.wait()
    assert 0 not in places


def test_tasks_spread_over_devices(workers):
    count = len(da.workers())
    met = threading.Barrier(count)

    def meet():
        met.wait(60)
        return da.current_task().processor

    with separate_memory():
        found = da.fetch([on_device()(meet) for _ in range(count)])
        assert sorted(one.worker for one in found) == da.workers()
        assert {one.kind for one in found} == {KIND}


def test_invariants_after_random_loads(workers):
    def fib(n):
        return n if n < 2 else sum(da.fetch([da.spawn(fib, n - 1), da.spawn(fib, n - 2)]))

    tasks = [da.spawn(fib, n) for n in range(9)]
    tasks += [on(n % len(da.workers()))(np.ones, n) for n in range(20)]
    sums = [da.spawn(np.sum, one) for one in tasks]
    assert da.fetch(sums[-1]) == 19
    da.wait([*tasks, *sums])
    workers._check()
    assert set(workers._schedule.busy.values()) == {0}
