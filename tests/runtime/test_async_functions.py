"""Tasks of async functions: awaited without a processor, on a loop of the runtime's own."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import darray.runtime as da
from tests.runtime.shared import Board, Notes
from tests.runtime.test_cancelling import whole


async def add(a, b):
    await asyncio.sleep(0)
    return a + b


async def fail():
    await asyncio.sleep(0)
    raise KeyError("inside")


def test_value_of_an_async_function(engine):
    one = da.spawn(add, 1, da.spawn(int, 2))
    assert da.spawn(add, one, 4).result() == 7
    assert da.spawn(abs, one).result() == 3
    assert da.spawn.options(name="x", priority=2, memory=100)(add, one, 5).result() == 8


def test_failure_of_an_async_function(engine):
    task = da.spawn(fail)
    for one in (task, da.spawn(abs, task)):
        with pytest.raises(KeyError, match="inside") as info:
            one.result()
    assert "in task 'fail'" in info.value.__notes__[0]


@pytest.mark.alone
def test_they_hold_no_processor(threads):
    began = time.perf_counter()
    tasks = [da.spawn(asyncio.sleep, 0.1, i) for i in range(100)]
    assert da.fetch(tasks) == list(range(100))
    assert time.perf_counter() - began < 0.3
    whole(threads)


def test_others_run_meanwhile(one_thread):
    gates = []

    async def hold():
        gates.append((asyncio.get_running_loop(), asyncio.Event()))
        await gates[0][1].wait()
        return "opened"

    task = da.spawn(hold)
    while not gates:
        da.spawn(int).result()
    assert task.running()
    assert not task.done()
    loop, gate = gates[0]
    loop.call_soon_threadsafe(gate.set)
    assert task.result() == "opened"
    whole(one_thread)


def test_inside_they_spawn_and_await(engine):
    async def outer():
        me = da.current_task()
        assert me.running()
        value = await da.spawn(add, 1, 2)
        parts = await asyncio.gather(*(child(i) for i in range(5)))
        return value, parts, me is da.current_task()

    async def child(i):
        return await da.spawn(abs, -i)

    assert da.spawn(outer).result() == (3, [0, 1, 2, 3, 4], True)


def test_inside_the_wait_of_another_task(engine):
    def parent():
        return sum(da.fetch([da.spawn(add, i, 1) for i in range(5)]))

    assert da.spawn(parent).result() == 15


def test_waiting_inside_is_refused(threads):
    async def wait():
        return da.spawn(threading.Event().wait, 0.01).result()

    with pytest.raises(da.DeadlockError, match="await task"):
        da.spawn(wait).result()


def test_options_reach_what_they_spawn(engine):
    async def outer():
        return await da.spawn(lambda: da.current_task()._options.priority)

    with da.options(priority=3):
        assert da.spawn(outer).result() == 3


@pytest.mark.parametrize("how", ["cancel", "all", "timeout"])
def test_cancelling_ends_the_coroutine(threads, how):
    began, ended = threading.Event(), threading.Event()

    async def hold():
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = da.spawn.options(timeout=0.02)(hold) if how == "timeout" else da.spawn(hold)
    began.wait()
    if how == "cancel":
        assert task.cancel()
    elif how == "all":
        da.cancel_all()
    with pytest.raises(TimeoutError if how == "timeout" else da.CancelledError):
        task.result()
    assert ended.wait(60)
    whole(threads)


def test_coroutine_that_cancels_itself(threads):
    async def stop():
        raise asyncio.CancelledError

    task = da.spawn(stop)
    with pytest.raises(da.CancelledError):
        task.result()
    assert task.cancelled()
    whole(threads)


def test_retries_await_again(engine):
    calls = Notes()

    async def flaky():
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise OSError
        return len(calls)

    assert da.spawn.options(retries=2, retry_on=(OSError,))(flaky).result() == 3


def test_events_tell_of_the_end_once(engine):
    seen = Notes()
    with da.subscribe(seen.append):
        da.spawn(add, 1, 2).result()
        da.configure()
    assert [type(event) for event in seen] == [da.TaskSpawned, da.TaskBegan, da.TaskEnded]


def test_cancelled_right_after_spawning(threads):
    tasks = [da.spawn(asyncio.sleep, 100) for _ in range(100)]
    for task in tasks:
        assert task.cancel()
    whole(threads)


def test_nothing_is_left_afterwards(threads):
    da.fetch([da.spawn(add, i, 1) for i in range(10)])
    da.configure()
    assert not [one for one in threading.enumerate() if one.name == "darray-loop"]


def test_coroutines_that_await_each_other_are_a_deadlock(threads):
    made = Board()

    def awaiting(other):
        async def wait():
            while other not in made:
                await asyncio.sleep(0.001)
            return await made[other]

        return wait

    first, second = da.spawn(awaiting("second")), da.spawn(awaiting("first"))
    made["first"], made["second"] = first, second
    errors = [first.exception(60), second.exception(60)]
    assert all(isinstance(one, da.DeadlockError) for one in errors)
