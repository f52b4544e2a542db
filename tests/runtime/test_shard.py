"""Shards: one value on each worker or processor, used where a task runs."""

from __future__ import annotations

import asyncio
import operator
import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines


def busy_push(users, values, number):
    """Append, and assert that nobody else is at it."""
    key = id(values)
    assert users.setdefault(key, 0) == 0
    users[key] += 1
    values.append(number)
    users[key] -= 1


@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize("per_thread", [False, True])
def test_a_hundred_pushes_to_a_histogram(per_thread):
    bins = da.shard(list, per_thread=per_thread)
    users = da.mutable(dict)
    users.task.wait()
    counts = users.in_place()
    tasks = [da.spawn(lambda x: busy_push(counts, x, 5.2), bins) for _ in range(100)]
    da.wait(tasks)
    assert all(task.exception() is None for task in tasks)
    assert sum(sum(one) for one in da.fetch(list(bins))) == pytest.approx(520)
    assert sum(da.fetch(bins.map(len))) == 100
    assert bins.reduce(operator.add).result() == [5.2] * 100
    assert len(bins.reduce(operator.add, [1, 2]).result()) == 102


@pytest.mark.usefixtures("one_worker")
def test_a_histogram_over_the_workers():
    data = np.random.default_rng(0).random(10_000)
    edges = np.linspace(0, 1, 11)
    histogram = da.shard(lambda: np.zeros(10, dtype=int), per_thread=True)

    def count(found, values):
        found += np.histogram(values, edges)[0]

    with da.sync():
        for part in np.array_split(data, 40):
            da.spawn(count, histogram, part)
    total = histogram.reduce(operator.add).result()
    assert total.tolist() == np.histogram(data, edges)[0].tolist()


@pytest.mark.usefixtures("one_worker")
def test_each_worker_or_processor_has_a_piece_where_it_is():
    for wanted in ({}, {"workers": [0]}, {"scope": da.scope(worker=0)}):
        one = da.shard(list, **wanted)
        assert len(one) == len(da.workers())
        for number, piece in zip(da.workers(), one, strict=True):
            assert piece.task.processor.worker == number
            assert piece.scope == da.scope(worker=number)
        assert one.scope == da.scope(workers=da.workers())
        each = da.shard(list, per_thread=True, **wanted)
        assert [piece.task.processor for piece in each] == da.processors()
        assert each.scope <= da.scope(worker=0)
    some = da.shard(list, per_thread=True, scope=da.scope(thread=0))
    assert len(some) == 1
    tasks = [da.spawn(list.append, some, number) for number in range(5)]
    assert da.fetch(list(some)) == [[0, 1, 2, 3, 4]]
    assert {task.processor.index for task in tasks} == {0}


@pytest.mark.usefixtures("one_worker", "nothing_registered_afterwards")
def test_processors_of_every_kind_have_pieces():
    da.register_kind("npu", 2, default=True)
    one = da.shard(list, per_thread=True)
    assert [piece.task.processor for piece in one] == da.processors()
    assert {piece.task.processor.kind for piece in one} == {"cpu", "npu"}
    da.wait([da.spawn(list.append, one, number) for number in range(50)])
    assert sorted(one.reduce(operator.add).result()) == list(range(50))
    before = [len(piece) for piece in da.fetch(list(one)[:-2])]
    da.register_kind("npu", None)
    da.wait([da.spawn(list.append, one, number) for number in range(5)])
    assert sum(len(piece) for piece in da.fetch(list(one)[:-2])) == sum(before) + 5


@pytest.mark.usefixtures("one_worker")
def test_what_is_refused():
    with pytest.raises(ValueError, match="name at least one worker"):
        da.shard(list, workers=[])
    with pytest.raises(TypeError, match="not both"):
        da.shard(list, workers=[0], scope=da.scope(worker=0))
    with pytest.raises(da.SchedulingError, match=r"workers \[7\]"):
        da.shard(list, workers=[0, 7])
    with pytest.raises(da.SchedulingError, match="no processor is there"):
        da.shard(list, scope=da.scope(worker=7))
    with pytest.raises(TypeError, match=r"wrap it: da\.shard\(lambda: x\)"):
        da.shard([])
    with pytest.raises(ZeroDivisionError):
        da.shard(lambda: 1 // 0)
    one = da.shard(list)
    away = da.spawn.options(scope=da.scope(worker=1))(len, one)
    with pytest.raises(da.SchedulingError, match="Shard of"):
        away.result()
    with pytest.raises(TypeError, match=r"fetch\(list\(shard\)\)"):
        da.fetch(one)
    for access in (da.In, da.InOut, lambda x: x, lambda x: [x]):
        with pytest.raises(TypeError, match="cannot be given a shard"), da.spawn_datadeps():
            da.spawn(len, access(one))
    with pytest.raises(ValueError, match="leave retries= out"):
        da.spawn.options(retries=1, retry_on=(OSError,))(len, one)


@pytest.mark.usefixtures("one_worker")
def test_it_is_made_and_waited_for_in_any_block():
    with da.spawn_bulk(), da.spawn_sequential():
        one = da.shard(list)
        assert all(piece.task.done() for piece in one)
    with da.spawn_datadeps():
        piece = next(iter(da.shard(list)))
        da.spawn(list.append, da.InOut(piece), 1)
        da.spawn(list.append, da.InOut(piece), 2)
    assert da.fetch([*one, piece]) == [[], [1, 2]]
    assert da.spawn(lambda: len(da.shard(list))).result() == 1


@pytest.mark.usefixtures("one_worker")
def test_pieces_and_the_whole_are_one():
    one = da.shard(lambda: np.zeros(2), per_thread=True)
    assert not da.spawn(lambda x: x.flags.writeable, da.In(one)).result()
    da.wait([da.spawn(operator.iadd, one, 1) for _ in range(10)])
    da.wait([da.spawn(operator.iadd, piece, 1) for piece in one])
    assert da.spawn(lambda x, y: y.flags.writeable, da.In(one), one).result()
    assert da.spawn(lambda both: both[0] is both[1], [one, one]).result()
    assert sum(piece[0] for piece in da.fetch(list(one))) == 10 + len(one)


@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize("ends", ["return", "raise"])
def test_a_piece_is_free_again_however_a_task_on_it_ended(ends):
    one = da.shard(list)

    def run(values):
        values.append(1)
        if ends == "raise":
            raise ArithmeticError

    async def append(values):
        await asyncio.sleep(0)
        values.append(1)

    tasks = [da.spawn(run if number % 2 else append, one) for number in range(10)]
    da.wait(tasks)
    assert da.fetch(list(one)) == [[1] * 10]
    engine = tasks[0]._engine
    engines.close()
    assert not one.pieces._users
    assert not engine._schedule.sharded


def test_two_tasks_never_use_one_piece(two_threads):
    one = da.shard(list)
    gate, started = threading.Event(), threading.Event()

    def hold(values):
        started.set()
        assert gate.wait(60)
        values.append(1)

    first = da.spawn(hold, one)
    assert started.wait(60)
    second = da.spawn(list.append, one, 2)
    reader = da.spawn(list, da.In(one))
    other = da.spawn(abs, -5)
    assert other.result() == 5
    assert not second.wait(0.02)
    assert not reader.done()
    assert list(two_threads._schedule.in_the_way(second)) == [[first]]
    two_threads._check([first, second, reader])
    assert not first.cancel()
    cancelled = da.spawn(list.append, one, 3)
    assert cancelled.cancel()
    gate.set()
    da.wait([second, reader])
    assert da.fetch(list(one)) == [[1, 2]]


def test_readers_use_a_piece_side_by_side(two_threads):
    one = da.shard(list)
    meeting = threading.Barrier(2)
    tasks = [da.spawn(lambda _: meeting.wait(60), da.In(one)) for _ in range(2)]
    assert sorted(da.fetch(tasks)) == [0, 1]


def test_while_a_task_waits_no_other_gets_its_piece(one_thread):
    one = da.shard(list, per_thread=True)
    gate = threading.Event()

    def wait(values):
        values.append("begins")
        task = da.spawn(gate.wait, 60)
        # Another task runs on this processor meanwhile.
        da.wait(task, timeout=30)
        values.append("ends")

    waiting = da.spawn(wait, one)
    other = da.spawn(list.append, one, 5)
    da.spawn(gate.set)
    da.wait([waiting, other])
    assert waiting.exception() is None
    (found,) = da.fetch(list(one))
    assert found in (["begins", "ends", 5], [5, "begins", "ends"])


@pytest.mark.usefixtures("one_worker")
def test_waiting_for_a_task_that_needs_the_piece_is_a_deadlock():
    one = da.shard(list)

    def hold(_):
        return da.spawn(len, one).result()

    def indirectly(_):
        return da.fetch(da.spawn(abs, da.spawn(len, one)))

    def later(_):
        return da.fetch(da.spawn(lambda x, y: len(x), one, da.spawn(int)))

    async def awaiting(_):
        return await da.spawn(len, one)

    for function in (hold, indirectly, later, awaiting):
        assert isinstance(da.spawn(function, one).exception(), da.DeadlockError), function
    assert da.spawn(hold, [1]).result() == 0
    assert da.fetch(list(one)) == [[]]


def test_of_several_pieces_one_that_is_free_will_do(two_threads):
    one = da.shard(list, per_thread=True)

    def hold(values):
        return da.spawn(list.append, one, 5).result()

    assert da.spawn(hold, one).result() is None
    assert sum(map(len, da.fetch(list(one)))) == 1


def test_two_that_hold_all_pieces_and_wait(two_threads):
    one = da.shard(list, per_thread=True)
    meeting = threading.Barrier(2)

    def hold(_):
        meeting.wait(60)
        task = da.spawn(len, one)
        meeting.wait(60)
        return task.result()

    found = [task.exception() for task in (da.spawn(hold, one), da.spawn(hold, one))]
    assert any(isinstance(error, da.DeadlockError) for error in found)


def test_with_memory_and_priority(two_threads):
    da.configure(memory_limit="1GB")
    one = da.shard(list)
    tasks = [
        da.spawn.options(memory=1000, priority=number % 3)(list.append, one, number)
        for number in range(30)
    ]
    da.wait(tasks)
    assert [task.exception() for task in tasks] == [None] * 30
    assert sorted(da.fetch(list(one))[0]) == list(range(30))


def test_serial_threads_take_turns():
    da.configure(engine="serial")
    one = da.shard(list)
    gate, started = threading.Event(), threading.Event()

    def hold(values):
        started.set()
        assert gate.wait(60)
        values.append(1)

    other = threading.Thread(target=lambda: da.spawn(hold, one))
    other.start()
    assert started.wait(60)
    second = da.spawn(list.append, one, 2)
    assert not second.done()
    gate.set()
    assert second.wait(60)
    other.join()
    assert da.fetch(list(one)) == [[1, 2]]
