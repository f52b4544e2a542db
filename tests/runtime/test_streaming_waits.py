"""Waits inside a streaming task: for itself, which never end, and for others."""

from __future__ import annotations

import pytest

import darray.runtime as da
from tests.runtime.shared import Board

WAITS = {
    "fetch": lambda board: da.fetch(board["task"]),
    "result": lambda board: board["task"].result(),
    "wait": lambda board: da.wait([board["task"]]),
    "region": lambda board: board["region"].wait(),
    "all": lambda board: da.fetch(board["region"].tasks),
}


@pytest.fixture
def board():
    return Board()


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_call_that_waits_for_its_own_task_is_refused(one_worker, board, how, parallel):
    def wait(value):
        WAITS[how](board)

    with da.spawn_streaming() as s:
        board["region"] = s
        named = da.spawn.options(name="waiting", parallel=parallel)
        board["task"] = named(wait, da.spawn(iter([1, 2, 3])))
    told = "streaming task 'waiting' waits in its call for <Task 'waiting' running"
    with pytest.raises(da.DeadlockError, match=told):
        s.wait(60)


@pytest.mark.parametrize("kind", ["source", "generator", "async"])
def test_so_is_that_of_each_kind_of_task(one_worker, board, kind):
    def source():
        board["task"].result()

    def generator(value):
        yield board["task"].result()

    async def awaited(value):
        await board["task"]

    with da.spawn_streaming() as s:
        if kind == "source":
            board["task"] = da.spawn(source)
        else:
            function = generator if kind == "generator" else awaited
            board["task"] = da.spawn(function, da.spawn(iter([1, 2])))
    with pytest.raises(da.DeadlockError, match="do not wait there for it, or for its region"):
        s.wait(60)


@pytest.mark.parametrize("worker", [0, -1])
def test_so_is_a_wait_by_way_of_another_task(threads, board, worker):
    """Whichever of the two waits comes last."""
    elsewhere = da.spawn.options(scope=da.scope(worker=da.workers()[worker]), occupancy=0.0)

    def wait(value):
        return elsewhere(lambda: board["task"].result()).result()

    with da.spawn_streaming() as s:
        board["task"] = da.spawn(wait, da.spawn(iter([1, 2, 3])))
    with pytest.raises(da.DeadlockError, match="do not wait"):
        s.wait(60)


def test_so_is_a_call_that_takes_what_its_task_gives(engine, board):
    def take(value):
        return next(board["output"])

    with da.spawn_streaming() as s:
        task = da.spawn(take, da.spawn(iter([1, 2, 3])))
        board["output"] = s.output(task)
    with pytest.raises(da.DeadlockError, match="waits in its call for"):
        task.result(60)


def test_a_call_beside_others_may_take_what_these_give(threads, board):
    def take(value):
        return next(board["output"]) if value else "first"

    with da.spawn_streaming() as s:
        task = da.spawn.options(parallel=2, scope=da.scope(worker=0))(take, da.spawn(iter([0, 1])))
        board["output"] = s.output(task)
    assert s.wait(60)
    assert next(board["output"]) == "first"


def test_on_several_workers(workers, board):
    with da.spawn_streaming() as s:
        board["task"] = da.spawn(lambda value: board["task"].result(), da.spawn(iter([1])))
    with pytest.raises(da.DeadlockError, match="waits in its call for"):
        s.wait(60)


def test_a_wait_with_a_timeout_ends(one_worker, board):
    def wait(value):
        return board["region"].wait(0.01)

    with da.spawn_streaming() as s:
        board["region"] = s
        out = s.output(da.spawn(wait, da.spawn(iter([1, 2]))))
    assert list(out) == [False, False]


def test_a_wait_for_a_producer_that_ends(two_threads, board):
    """It has given all that it gives, and is not held back."""

    def wait(value):
        return board["source"].result() + value

    def source():
        yield from range(3)
        return 10

    with da.spawn_streaming() as s:
        board["source"] = da.spawn(source)
        out = s.output(da.spawn(wait, board["source"]))
    assert list(out) == [10, 11, 12]


def test_a_wait_for_another_region(one_worker):
    def wait(value):
        with da.spawn_streaming() as inner:
            last = da.spawn(lambda x: da.finish_stream(result=x), da.spawn(iter([value])))
        inner.wait()
        return last.result()

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(wait, da.spawn(iter([1, 2, 3]))))
    assert list(out) == [1, 2, 3]
