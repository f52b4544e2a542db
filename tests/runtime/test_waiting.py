"""Waiting for tasks from outside: wait, as_completed, callbacks, cancel, sync."""

from __future__ import annotations

import logging
import threading

import pytest

import darray.runtime as da
from tests.runtime.shared import Notes


def test_wait_for_all(engine):
    tasks = [da.spawn(int, i) for i in range(100)]
    done, not_done = da.wait(tasks)
    assert done == set(tasks)
    assert not_done == set()
    assert da.wait([]) == (set(), set())
    assert da.wait(tasks[0]).done == {tasks[0]}
    with pytest.raises(ValueError, match="return_when="):
        da.wait(tasks, return_when="SOME")


def test_wait_does_not_raise_failures(engine):
    done, _ = da.wait([da.spawn(int, "x"), da.spawn(int, "1")])
    assert sorted(type(task.exception()).__name__ for task in done) == ["NoneType", "ValueError"]


def test_wait_for_the_first(threads):
    gate = threading.Event()
    held, quick = da.spawn(gate.wait), da.spawn(int)
    done, not_done = da.wait([held, quick], return_when=da.FIRST_COMPLETED)
    assert done == {quick}
    assert not_done == {held}
    assert held._watchers is None
    gate.set()
    assert da.wait([held, quick]).not_done == set()


def test_wait_for_the_first_failure(threads):
    gate = threading.Event()
    held = da.spawn(gate.wait)
    good = [da.spawn(int) for _ in range(20)]
    # On several workers the failure might come before the last of them otherwise.
    bad = da.spawn.options(after=good)(int, "x")
    result = da.wait([held, *good, bad], return_when=da.FIRST_EXCEPTION)
    assert bad in result.done
    assert result.not_done == {held}
    assert da.wait([held, bad], return_when=da.FIRST_EXCEPTION).not_done == {held}
    gate.set()
    assert da.wait([held, *good], return_when=da.FIRST_EXCEPTION).not_done == set()


@pytest.mark.parametrize("mode", [da.ALL_COMPLETED, da.FIRST_COMPLETED, da.FIRST_EXCEPTION])
def test_wait_ends_in_time(threads, mode):
    gate = threading.Event()
    tasks = [da.spawn(gate.wait) for _ in range(30)]
    result = da.wait(tasks, timeout=0.01, return_when=mode)
    assert result.done == set()
    assert result.not_done == set(tasks)
    assert all(task._watchers is None for task in tasks)
    assert not threads._schedule.waiters
    gate.set()
    da.wait(tasks)


def test_result_and_exception_end_in_time(threads):
    gate = threading.Event()
    task = da.spawn(gate.wait)
    assert task.wait(timeout=0) is False
    with pytest.raises(TimeoutError, match=r"wait.*not finished within 0.01 seconds"):
        task.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        task.exception(timeout=-1)
    gate.set()
    assert task.result(timeout=1e10) is True


def test_as_completed_gives_every_task_once(engine):
    tasks = [da.spawn(int, i) for i in range(50)]
    assert set(da.as_completed(tasks)) == set(tasks)
    assert len(list(da.as_completed([*tasks, tasks[0]]))) == 50
    assert list(da.as_completed([])) == []


def test_as_completed_gives_in_order_of_finishing(threads):
    gates = [threading.Event() for _ in range(2)]
    tasks = [da.spawn(gate.wait) for gate in gates]
    finishing = da.as_completed(tasks)
    gates[1].set()
    assert next(finishing) is tasks[1]
    gates[0].set()
    assert next(finishing) is tasks[0]


def test_as_completed_ends_in_time(threads):
    gate = threading.Event()
    held = da.spawn(gate.wait)
    quick = da.spawn(int)
    quick.wait()
    finishing = da.as_completed([held, quick], timeout=0.01)
    assert next(finishing) is quick
    with pytest.raises(TimeoutError, match="1 of 2 tasks"):
        next(finishing)
    gate.set()


def test_callbacks_are_called_once_each(threads):
    gate = threading.Event()
    called = []
    task = da.spawn(gate.wait)
    for i in range(10):
        task.add_done_callback(lambda told, i=i: called.append((i, told)))
    gate.set()
    task.wait()
    task.add_done_callback(lambda told: called.append((10, told)))
    threads.close()
    assert sorted(called, key=lambda call: call[0]) == [(i, task) for i in range(11)]


def test_callbacks_race_with_the_end(threads):
    counts = []
    for _ in range(300):
        task = da.spawn(int)
        for _ in range(5):
            task.add_done_callback(counts.append)
    threads.close()
    assert len(counts) == 1500


def test_callback_that_raises_is_logged(engine, caplog):
    with caplog.at_level(logging.ERROR, "darray"):
        task = da.spawn(int, 3)
        task.wait()
        task.add_done_callback(lambda _: 1 / 0)
    assert task.result() == 3
    assert "callback of <Task" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_callback_of_failed_task_is_called(engine):
    seen = []
    task = da.spawn(int, "x")
    task.add_done_callback(lambda told: seen.append(told.exception()))
    task.wait()
    da.configure()
    assert [type(error) for error in seen] == [ValueError]


def test_cancel_of_a_queued_task(threads):
    gate = threading.Event()
    held = [da.spawn(gate.wait) for _ in da.processors()]
    queued = da.spawn(int, 1)
    dependent = da.spawn(abs, queued)
    seen = []
    queued.add_done_callback(seen.append)
    assert queued.cancel() is True
    assert seen == [queued]
    assert queued.cancelled()
    assert queued.done()
    for task in (queued, dependent):
        with pytest.raises(da.CancelledError, match=r"'int'.*was cancelled before it ran"):
            task.result()
    assert da.spawn(abs, queued).cancelled()
    gate.set()
    assert all(da.fetch(held))


def test_cancel_of_finished_tasks_does_nothing(engine):
    task, failed = da.spawn(int, 3), da.spawn(int, "x")
    da.wait([task, failed])
    assert task.cancel() is failed.cancel() is False
    assert task.result() == 3
    assert not failed.cancelled()


def test_tasks_are_taken_by_priority(one_thread):
    gate, order = threading.Event(), []
    da.spawn(gate.wait)
    priorities = [0, 3, -2, 3, 0, 7, -2]
    tasks = [
        da.spawn.options(priority=priority)(order.append, (priority, i))
        for i, priority in enumerate(priorities)
    ]
    pinned = da.spawn.options(priority=5, scope=da.scope(thread=0))(order.append, (5, 7))
    gate.set()
    da.wait([*tasks, pinned])
    assert order == sorted(order, key=lambda item: (-item[0], item[1]))


def test_ready_dependent_does_not_overtake_priority(one_thread):
    gate, order = threading.Event(), []
    first = da.spawn(gate.wait)
    follower = da.spawn(lambda _: order.append("follower"), first)
    urgent = da.spawn.options(priority=1)(order.append, "urgent")
    gate.set()
    da.wait([follower, urgent])
    assert order == ["urgent", "follower"]


def test_sync_waits_for_nested_tasks(engine):
    results = Notes()

    def grow(depth):
        results.append(depth)
        if depth:
            da.spawn(grow, depth - 1)
            da.spawn(grow, depth - 1)

    with da.sync():
        da.spawn(grow, 6)
    assert len(results) == 2**7 - 1


def test_sync_raises_the_failure_spawned_first(engine):

    def program():
        with da.sync():
            for name in ("first", "second", "third"):
                da.spawn({}.__getitem__, name)

    with pytest.raises(KeyError, match="first") as caught:
        program()
    assert any("2 other task(s)" in note for note in caught.value.__notes__)


def test_sync_never_misses_a_failure(threads):
    for _ in range(200):
        with pytest.raises(ValueError, match="invalid literal"), da.sync():
            da.spawn(int, "x")


def test_sync_whose_body_raises_waits_and_raises_that(engine):
    done = Notes()

    def program():
        with da.sync():
            for i in range(20):
                da.spawn(done.append, i)
            da.spawn(int, "x")
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        program()
    assert sorted(done) == list(range(20))


def test_sync_outlives_a_refused_spawn(engine):
    with da.sync():
        with pytest.raises(TypeError):
            da.spawn(3)
        da.spawn(int)


def test_configure_finishes_what_runs(threads):
    def grow(depth):
        return 1 + (da.spawn(grow, depth - 1).result() if depth else 0)

    tasks = [da.spawn(grow, 20) for _ in range(20)]
    da.configure(threads=1)
    assert all(task.done() for task in tasks)
    assert da.fetch(tasks) == [21] * 20
    assert len(da.processors()) == len(da.workers())


def test_configure_in_a_task_is_refused(engine):
    with pytest.raises(RuntimeError, match="a task cannot call it"):
        da.spawn(da.configure, threads=1).result()


def test_closed_engine_refuses(threads):
    threads.close()
    with pytest.raises(RuntimeError, match="closed"):
        threads.spawn(int, ())


def test_unknown_engine_and_settings_are_refused():
    with pytest.raises(LookupError, match=r"'warp'.*serial.*threads"):
        da.configure(engine="warp")
    with pytest.raises(TypeError, match="no setting 'speed'"):
        da.configure(speed=1)
    with pytest.raises(ValueError, match="at least 1"):
        da.configure(threads=0)
    assert da.engine_names() == ["serial", "threads", "workers"]


def test_a_wait_for_the_first_of_no_tasks_ends():
    assert da.wait([], return_when=da.FIRST_COMPLETED) == (set(), set())
