"""Values that stay on one of several workers: mutables, pieces of shards, puts, regions."""

from __future__ import annotations

import operator
import threading

import numpy as np
import pytest

import darray as arrays
import darray.runtime as da
from tests.runtime.shared import Notes, on, where

pytestmark = pytest.mark.usefixtures("workers")


def address(array):
    return da.current_task().processor.worker, array.ctypes.data


def test_a_mutable_is_made_there_and_never_copied():
    made = da.mutable(lambda: np.zeros(4), worker=1)
    places = {da.spawn(address, made).result() for _ in range(5)}
    assert {worker for worker, _ in places} == {1}
    assert len(places) == 1
    for number in range(10):
        da.spawn(operator.setitem, made, number % 4, number)
    assert da.fetch(made).tolist() == [8, 9, 6, 7]
    da.fetch(made)[0] = -1
    assert da.fetch(made)[0] == 8


def test_a_mutable_in_another_scope_is_a_conflict():
    made = da.mutable(list, worker=1)
    with pytest.raises(da.SchedulingError, match=r"scope\(worker=0\).*Mutable") as caught:
        on(0)(list.append, made, 1).result()
    assert "scope= of the task" in str(caught.value)
    assert da.fetch(made) == []


def test_tasks_of_every_worker_use_a_mutable_in_order():
    made = da.mutable(list, worker=1)

    def spawns(number):
        da.spawn(list.append, made, number).wait()
        return where()

    for number in range(6):
        on(number % len(da.workers()))(spawns, number).result()
    assert da.fetch(made) == list(range(6))
    read = [da.spawn(lambda x: (where(), sum(x)), da.In(made)) for _ in range(4)]
    assert da.fetch(read) == [(1, 15)] * 4


def test_waiting_for_a_mutable_that_is_held_is_a_deadlock():
    made = da.mutable(list, worker=1)

    def holds(value):
        return da.spawn(list.append, made, 1).result()

    with pytest.raises(da.DeadlockError):
        da.spawn(holds, made).result()
    assert da.spawn(len, da.In(made)).result() <= 1


def test_what_a_mutable_is_given_crosses():
    made = da.mutable(dict, worker=1)
    array = np.arange(3.0)
    da.spawn(operator.setitem, made, "a", array).wait()
    da.spawn(operator.setitem, made, "b", on(0)(np.ones, 2)).wait()
    array[0] = 7
    kept = da.fetch(made)
    assert (kept["a"].tolist(), kept["b"].tolist()) == ([0, 1, 2], [1, 1])


def test_a_shard_has_a_piece_on_every_worker():
    shard = da.shard(where)
    assert da.fetch(list(shard)) == da.workers()
    assert da.fetch(shard.map(lambda piece: piece == where())) == [True] * len(da.workers())
    for worker in da.workers():
        assert on(worker)(lambda piece: piece, shard).result() == worker
    assert da.spawn(lambda piece: piece == where(), shard).result()
    assert shard.reduce(operator.add).result() == sum(da.workers())


def test_a_shard_on_some_workers_keeps_tasks_there():
    shard = da.shard(lambda: [0], workers=[1])
    assert {da.spawn(where, shard).result() for _ in range(8)} == {1}
    with pytest.raises(da.SchedulingError, match=r"worker=0.*Shard"):
        on(0)(where, shard).result()
    with pytest.raises(da.SchedulingError, match="9"):
        da.shard(list, workers=[1, 9])


def test_pieces_of_threads():
    shard = da.shard(lambda: da.current_task().processor, per_thread=True)
    assert da.fetch(list(shard)) == da.processors()
    mine = da.spawn(lambda piece: piece == da.current_task().processor, shard)
    assert mine.result()


def test_a_histogram_over_the_workers():
    """Behaviour 53: what is pushed to a sharded histogram by tasks that say not where they run."""
    histogram = da.shard(lambda: np.zeros(10, dtype=int))

    def push(counts, numbers):
        np.add.at(counts, np.asarray(numbers) // 10, 1)

    numbers = np.random.default_rng(0).integers(0, 100, 10_000)
    parts = np.array_split(numbers, 50)
    with da.sync():
        for part in parts:
            da.spawn(push, histogram, part)
    total = histogram.reduce(np.add).result()
    np.testing.assert_array_equal(total, np.histogram(numbers, 10, (0, 100))[0])
    assert sum(piece.sum() for piece in da.fetch(list(histogram))) == 10_000


def test_put_and_raw_fetches_move_nothing():
    moved = Notes()
    large = on(1)(np.ones, 100_000)
    large.wait()
    with da.subscribe(moved.append):
        ref = da.fetch(large, raw=True)
        assert (type(ref), ref.nbytes) == (da.Ref, 800_000)
        assert da.spawn(where, ref).result() == 1
    sizes = [one.nbytes for one in moved if isinstance(one, da.ValueMoved)]
    assert all(size < 10_000 for size in sizes)
    assert da.fetch(ref).sum() == 100_000
    put = da.put(np.arange(5), scope=da.scope(worker=1))
    assert on(1)(lambda x: (where(), int(x.sum())), put).result() == (1, 10)
    inside = on(1)(lambda: da.put(np.arange(4)))
    assert on(0)(np.sum, inside).result() == 6


def test_a_region_keeps_to_the_memory_that_it_orders():
    a = np.zeros(6)

    def add(x, number):
        x += number
        return where()

    with da.spawn_datadeps():
        done = [da.spawn(add, da.InOut(a[i::2]), i + 1) for i in range(2)]
        total = da.spawn(np.sum, a)
    assert da.fetch(done) == [0, 0]
    assert (a.tolist(), float(total.result())) == ([1, 2] * 3, 9.0)
    with pytest.raises(da.SchedulingError, match="what the region orders"), da.spawn_datadeps():
        on(1)(add, da.InOut(a), 1)


def test_a_region_orders_mutables_of_other_workers():
    first, second = da.mutable(list, worker=1), da.mutable(list, worker=0)

    def both(target, source):
        target.append(len(source))

    with da.spawn_datadeps():
        for number in range(3):
            da.spawn(list.append, da.InOut(first), number)
        da.spawn(list.append, da.InOut(second), 5)
        seen = da.spawn(lambda x: list(x), da.In(first))
    assert seen.result() == [0, 1, 2]
    assert (da.fetch(first), da.fetch(second)) == ([0, 1, 2], [5])
    with pytest.raises(da.SchedulingError, match="Mutable"), da.spawn_datadeps():
        da.spawn(both, da.InOut(first), da.In(second))


def test_a_region_inside_a_task_of_another_worker():
    def work():
        a = np.zeros(4)
        with da.spawn_datadeps():
            for number in range(1, 4):
                task = da.spawn(lambda x, n: (x.__iadd__(n), where())[1], da.InOut(a), number)
        return a, task.result(), where()

    a, ran, here = on(1)(work).result()
    assert (a.tolist(), ran, here) == ([6] * 4, 1, 1)


def test_values_written_in_a_region_move_to_their_writer():
    def add(x, number):
        x += number

    with da.spawn_datadeps():
        made = on(1)(np.zeros, 3)
        on(0)(add, da.InOut(made), 1)
        on(1)(add, da.InOut(made), 2)
        seen = on(0)(np.sum, made)
    assert made.result().tolist() == [3, 3, 3]
    assert float(seen.result()) == 9


def test_cancelling_and_abandoning_on_other_workers():
    gate, began = threading.Event(), threading.Event()

    def hold():
        began.set()
        gate.wait(60)
        return "late"

    held = on(1)(hold)
    after = on(0)(str, held)
    began.wait(60)
    assert held.cancel()
    with pytest.raises(da.CancelledError):
        after.result()
    gate.set()
    assert on(1)(where).result() == 1
    assert da.race([on(0)(int, "x"), on(1)(int, "5")]) == 5


def add(x, number):
    x += number


def test_what_was_brought_can_be_written_and_its_views_show_it():
    made = on(1)(np.ones, 6)
    made.wait()
    with da.spawn_datadeps():
        part = da.spawn(lambda x: x[::2], made)
        da.spawn(add, da.InOut(made), 1)
        seen = da.spawn(lambda x: x.tolist(), part)
    assert seen.result() == [2, 2, 2]
    view = on(0)(lambda x: x[::2], on(1)(np.ones, 6))
    same = on(1)(lambda x: x, da.put(np.ones(3)))
    da.wait([view, same])
    with da.spawn_datadeps():
        da.spawn(add, da.InOut(view), 1)
        on(1)(add, da.InOut(same), 2)
    assert (view.result().tolist(), same.result().tolist()) == ([2, 2, 2], [3, 3, 3])


def test_a_ref_that_a_coroutine_returns_crosses():
    made = on(0)(lambda: [[1, 2]])
    made.wait()

    async def give():
        return da.Ref(made)

    given = on(1)(give)
    on(1)(lambda value: value[0].append(99), given).wait()
    assert made.result() == [[1, 2]]


def test_arrays_are_computed_where_they_are_asked_for_or_not_at_all():
    x = arrays.arange(4000, blocks=1000) + 1
    where_asked = da.spawn(lambda: (float((x * 2).sum()), where()))
    assert where_asked.result()[0] == 2 * sum(range(1, 4001))
    inside = on(1)(lambda: (float((x + arrays.ones(4000, blocks=1000)).sum()), where()))
    assert inside.result() == (sum(range(2, 4002)), 1)
    for options in ({"scope": da.scope(worker=1)}, {"compute_scope": da.scope(worker=1)}):
        (name,) = options
        with (
            pytest.raises(da.SchedulingError, match=f"{name}=.*on worker 0"),
            da.options(**options),
        ):
            np.asarray(x.sum())


def test_chunks_are_written_where_their_array_is():
    x = arrays.zeros(6, blocks=3)
    chunk = x.blocks[0]

    def write():
        with da.spawn_datadeps():
            da.spawn(add, da.InOut(chunk), 1)

    with pytest.raises(ValueError, match=r"task on worker 1 .* an array on worker 0"):
        on(1)(write).result()
    assert x.collect().tolist() == [0] * 6

    def own():
        y = arrays.zeros(6, blocks=3)
        with da.spawn_datadeps():
            da.spawn(add, da.InOut(y.blocks[1]), 2)
        return y.collect().tolist()

    assert on(1)(own).result() == [0, 0, 0, 2, 2, 2]
    write()
    assert x.collect().tolist() == [1, 1, 1, 0, 0, 0]
