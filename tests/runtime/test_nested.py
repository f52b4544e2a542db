"""Tasks that wait for tasks: helping, giving the processor up, waits that never end."""

from __future__ import annotations

import threading

import pytest

import darray.runtime as da
from tests.runtime.shared import Board


def fib(n):
    if n < 2:
        return n
    return sum(da.fetch([da.spawn(fib, n - 1), da.spawn(fib, n - 2)]))


@pytest.mark.parametrize("count", [1, 2])
def test_fib_of_20(count):
    da.configure(engine="threads", threads=count)
    assert da.spawn(fib, 20).result() == 6765


def test_fib_on_the_serial_engine():
    da.configure(engine="serial")
    assert da.spawn(fib, 14).result() == 377


def count_down(depth, scope):
    if depth == 0:
        return 0
    return 1 + da.spawn.options(scope=scope)(count_down, depth - 1, scope).result()


def test_nested_fetch_on_a_scope_of_one_thread(engine):
    scope = da.scope(thread=0)
    assert da.spawn.options(scope=scope)(count_down, 20, scope).result() == 20


@pytest.mark.parametrize("count", [1, 2])
def test_nested_depth_of_1000(count):
    da.configure(engine="threads", threads=count)
    assert da.spawn(count_down, 1000, None).result() == 1000


def test_nested_depth_of_1000_on_the_serial_engine():
    da.configure(engine="serial")
    assert da.spawn(count_down, 1000, None).result() == 1000


def test_waits_that_cross_between_two_tasks(threads):
    met = threading.Barrier(2)
    children = Board()

    def parent(own, other):
        children[own] = da.spawn(int, own)
        met.wait()
        return children[other].result()

    tasks = [da.spawn(parent, 1, 2), da.spawn(parent, 2, 1)]
    assert da.fetch(tasks) == [2, 1]


def test_waiting_gives_the_processor_up(one_thread):
    gate = threading.Event()

    def wait_for_child():
        # Its scope keeps the child from being run inside the wait of a thread without seat.
        child = da.spawn.options(occupancy=0)(gate.wait)
        return child.result()

    task = da.spawn(wait_for_child)
    assert da.spawn(gate.set).result() is None
    assert task.result() is True


@pytest.mark.parametrize("mode", [da.FIRST_COMPLETED, da.FIRST_EXCEPTION, da.ALL_COMPLETED])
def test_waits_of_every_mode_give_the_processor_up(one_thread, mode):
    def parent():
        children = [da.spawn(int, i) for i in range(4)]
        da.wait(children, timeout=60, return_when=mode)
        return sum(da.fetch(list(da.as_completed(children))))

    assert da.spawn(parent).result() == 6


def test_a_hundred_tasks_meet_with_two_threads(threads):
    met = threading.Barrier(100)
    with da.options(occupancy=0.0):
        tasks = [da.spawn(met.wait) for _ in range(100)]
    assert sorted(da.fetch(tasks)) == list(range(100))


def test_tasks_of_small_occupancy_share_a_processor_up_to_one(one_thread):
    gate, met = threading.Event(), threading.Barrier(3)

    def meet():
        met.wait()
        gate.wait()

    half = da.spawn.options(occupancy=0.5)
    tasks = [half(meet), half(meet)]
    met.wait()
    third = half(int)
    assert not third.wait(timeout=0.05)
    gate.set()
    assert third.result() == 0
    da.wait(tasks)


def test_waiting_frees_the_occupancy_as_well(one_thread):
    met = threading.Barrier(2)

    def parent():
        met.wait()
        return da.spawn(int, 3).result()

    half = da.spawn.options(occupancy=0.5)
    assert da.fetch([half(parent), half(parent)]) == [3, 3]


def test_wait_for_oneself_is_a_deadlock(engine):
    with pytest.raises(da.DeadlockError, match="'selfish' waits for <Task 'selfish' running"):
        da.spawn.options(name="selfish")(lambda: da.current_task().result()).result()


def test_wait_for_what_needs_oneself_is_a_deadlock(threads):
    def wait_for_dependent():
        me = da.current_task()
        return da.spawn(abs, da.spawn(abs, me)).result()

    with pytest.raises(da.DeadlockError):
        da.spawn(wait_for_dependent).result()


@pytest.mark.parametrize("mode", [da.ALL_COMPLETED, da.FIRST_COMPLETED])
def test_two_tasks_that_wait_for_each_other(threads, mode):
    met = threading.Barrier(2)
    tasks = Board()

    def wait_for(other):
        met.wait()
        return da.wait([tasks[other]], return_when=mode).done.pop().result()

    begun = threading.Event()
    tasks[0] = da.spawn(lambda: (begun.wait(), wait_for(1)))
    tasks[1] = da.spawn(lambda: wait_for(0))
    begun.set()
    done, _ = da.wait(tasks.values(), timeout=60)
    assert len(done) == 2
    assert {type(task.exception()) for task in tasks.values()} == {da.DeadlockError}


def test_three_tasks_that_wait_in_a_ring(threads):
    met = threading.Barrier(3)
    tasks = Board()
    begun = threading.Event()

    def wait_for(other):
        begun.wait()
        met.wait()
        return tasks[other].result()

    with da.options(occupancy=0):
        for i in range(3):
            tasks[i] = da.spawn(wait_for, (i + 1) % 3)
    begun.set()
    assert {type(task.exception(timeout=60)) for task in tasks.values()} == {da.DeadlockError}


def test_wait_that_can_end_is_no_deadlock(threads):
    def parent():
        done, _ = da.wait([da.current_task(), da.spawn(int)], return_when=da.FIRST_COMPLETED)
        return len(done)

    assert da.spawn(parent).result() == 1


def test_spare_threads_end(threads):
    met = threading.Barrier(60)
    with da.options(occupancy=0):
        da.wait([da.spawn(met.wait) for _ in range(60)])
    da.fetch([da.spawn(int) for _ in range(10)])
    threads.close()
    for one in [one for one in threading.enumerate() if one.name == "darray-streams"]:
        # That of timers of streams, by an earlier test, ends a while after the last of them.
        one.join(60)
    # The pool of buffers and the files of spilled values have threads that are no engine's.
    kept = {"darray-buffers", "darray-spill"}
    names = {one.name for one in threading.enumerate()} - kept
    assert not [name for name in names if name.startswith("darray")]


def test_seats_are_whole_after_all_that(threads):
    met = threading.Barrier(8)
    with da.options(occupancy=0.25):
        da.wait([da.spawn(met.wait) for _ in range(8)])
    da.spawn(fib, 12).result()
    with da.sync():
        for _ in range(100):
            da.spawn(int)
    da.configure()
    threads._check()
    assert len(threads._seats.idle) + len(threads._seats.asleep) == len(da.processors())
    assert threads._schedule.running == threads._schedule.blocked == 0
    assert all(abs(seat.load) < 1e-9 for seat in threads._seats.every)


def test_crossing_iterations_over_what_completes_are_a_deadlock():
    da.configure(engine="threads", threads=2)
    tasks, both = Board(), threading.Event()

    def wait_for(other):
        both.wait()
        return [task.result() for task in da.as_completed([tasks[other]])]

    tasks["a"] = da.spawn(wait_for, "b")
    tasks["b"] = da.spawn(wait_for, "a")
    both.set()
    assert isinstance(tasks["a"].exception(timeout=60), da.DeadlockError)
    assert isinstance(tasks["b"].exception(timeout=60), da.DeadlockError)
