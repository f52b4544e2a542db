"""What the tests of Dagger.jl prove of its tasks, in Python's terms: docs/reference/dagger.md."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
from collections import namedtuple
from contextvars import copy_context
from functools import reduce

import numpy as np
import pytest

import darray as arrays
import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime.spaces import HOST, brought, space_of
from tests.runtime.shared import Notes


@pytest.fixture
def three_workers():
    """The engine of three workers."""
    da.configure(engine="workers", workers=3, threads=2)
    return engines.current_engine()


def on(worker):
    return da.spawn.options(scope=da.scope(worker=worker))


def where(*_):
    return da.current_task().processor.worker


def same(value):
    return value


def fails(*_):
    raise LookupError("the root")


# Tasks


def test_handles_at_once_and_as_arguments(threads):
    """Behaviour 1."""
    gate = threading.Event()
    a = da.spawn(lambda: (gate.wait(60), 2 + 2)[1])
    b = da.spawn(sum, [2, 1, 2])
    c = da.spawn(operator.mul, a, b)
    assert not a.done()
    gate.set()
    assert da.fetch([a, b, c]) == [4, 5, 20]


def test_keyword_arguments(engine):
    """Behaviour 2."""
    a = np.arange(6.0).reshape(2, 3)
    assert da.spawn(np.sum, a, axis=0).result().tolist() == [3, 5, 7]
    assert da.spawn(np.add.reduce, a, axis=0, initial=2.0).result().tolist() == [5, 7, 9]
    with pytest.raises(TypeError, match="unknown"):
        da.spawn(np.sum, a, unknown=1).result()


def test_other_forms_are_functions(engine):
    """Behaviours 3 and 4."""
    made = namedtuple("Made", "a b")(1, [2, 3])
    assert da.spawn(np.multiply, np.ones(3), [1, 2, 3]).result().tolist() == [1, 2, 3]
    assert da.spawn(lambda x: x + 1, 2).result() == 3
    assert da.spawn(operator.getitem, [4, 5], 1).result() == 5
    assert da.spawn(getattr, made, "b").result() == [2, 3]
    task = da.spawn(lambda: {"a": 1, "b": [2, 3]})
    assert task["b"][1].result() == 3
    assert da.spawn(getattr, da.spawn(complex, 1, 2), "imag").result() == 2


def test_done_after_waiting_and_not_before(threads):
    """Behaviour 6."""
    gate = threading.Event()
    task = da.spawn(gate.wait, 60)
    assert not task.done()
    gate.set()
    assert task.wait()
    assert task.done()


@pytest.mark.parametrize("when", ["before", "after"])
def test_all_dependents_fail_whenever_they_are_spawned(engine, when):
    """Behaviours 7, 8 and 9."""
    root = da.spawn.options(name="root")(fails)
    if when == "after":
        root.wait()
    one = da.spawn(same, root)
    two = [da.spawn(operator.add, root, 1), da.spawn(operator.add, 1, root)]
    chain = da.spawn(same, da.spawn(same, da.spawn(same, one)))
    unrelated = da.spawn(int, 3)
    for task in (root, one, *two, chain, da.spawn(same, chain)):
        with pytest.raises(LookupError, match="the root") as caught:
            task.result()
        assert caught.value is root.exception()
    assert any("in task 'root'" in note for note in root.exception().__notes__)
    assert unrelated.result() == 3


def test_what_is_above_a_failure_keeps_its_value(engine):
    """Behaviour 10."""
    a, b = da.spawn(int, 1), da.spawn(int, 2)
    failed = [da.spawn(fails, a), da.spawn(fails, a, b)]
    left, right = da.spawn(abs, a), da.spawn(fails, a)
    bottom = da.spawn(max, left, right)
    da.wait([*failed, bottom])
    assert all(isinstance(one.exception(), LookupError) for one in (*failed, right, bottom))
    assert da.fetch([a, b, left]) == [1, 2, 1]
    assert da.spawn(operator.add, a, b).result() == 3


def test_tasks_spawned_on_any_worker_are_fetched_on_the_first(three_workers):
    """Behaviour 11."""
    for worker in da.workers():
        inner = on(worker)(lambda: da.spawn(operator.add, 20, da.spawn(int, 1))).result()
        assert inner.result() == 21
        assert da.spawn(abs, inner).result() == 21


def test_fib_of_ten(engine):
    """Behaviour 12."""

    def fib(n):
        if n < 2:
            return n
        return da.spawn(operator.add, da.spawn(fib, n - 1), da.spawn(fib, n - 2)).result()

    assert da.spawn(fib, 10).result() == 55


def test_failure_of_a_task_spawned_elsewhere(three_workers):
    """Behaviour 13."""

    def program():
        with da.options(scope=da.scope(worker=2)):
            failed = da.spawn(fails)
            return failed, da.spawn(same, failed)

    for task in on(1)(program).result():
        with pytest.raises(LookupError, match="the root") as caught:
            task.result()
        assert any("worker=2" in note for note in caught.value.__notes__)


def test_function_that_only_one_worker_has(three_workers):
    """Behaviour 14."""

    def count():
        yield 7

    here = count()
    tasks = [on(worker)(lambda: (here, where())[1]) for worker in (0, 1, 2, 0)]
    da.wait(tasks, timeout=60)
    assert da.fetch([tasks[0], tasks[3]]) == [0, 0]
    assert [type(task.exception()) for task in tasks[1:3]] == [TypeError, TypeError]
    # One that can be sent is, with what it was written with.
    step = 5
    assert da.fetch([on(worker)(lambda: where() + step) for worker in (0, 1, 2)]) == [5, 6, 7]


class Locked:
    """Something of one worker, such as a pointer: it is never pickled."""

    def __init__(self):
        self.home = where()
        self.address = id(self)

    def __reduce__(self):
        raise AssertionError("pickled")

    def __call__(self, number):
        assert (self.home, self.address) == (where(), id(self))
        return self.home, number + 1


def test_callable_of_one_worker_is_called_there(three_workers):
    """Behaviour 15."""
    locked = da.mutable(Locked, worker=1)
    assert da.spawn(locked, 5).result() == (1, 6)
    for worker in da.workers():
        nested = on(worker)(lambda: (where(), da.spawn(locked, da.spawn(int, 7))))
        spawner, task = nested.result()
        assert (spawner, task.result()) == (worker, (1, 8))
    with pytest.raises(da.SchedulingError, match="Mutable"):
        on(2)(locked, 5).result()


# Options


def ambient():
    return {one.worker for one in da.processors()}


def test_options_reach_coroutines_threads_and_other_workers(three_workers):
    """Behaviour 22."""

    async def local():
        later = asyncio.create_task(asyncio.sleep(0, ambient()))
        return await later, await asyncio.to_thread(ambient)

    async def inside():
        return ambient()

    seen = []

    with da.options(scope=da.scope(worker=2)):
        assert asyncio.run(local()) == ({2}, {2})
        thread = threading.Thread(target=copy_context().run, args=(lambda: seen.append(ambient()),))
        thread.start()
        thread.join()
        assert seen == [{2}]
        assert da.spawn(lambda: (where(), ambient())).result() == (2, {2})
        assert da.spawn(inside).result() == {2}
        # What a task is given for itself is not for the tasks that it spawns.
        assert on(1)(lambda: (where(), ambient())).result() == (1, {2})
    assert ambient() == {0, 1, 2}


def test_options_inside_a_task_override_and_keep_the_others(three_workers):
    """Behaviour 23."""

    def levels():
        return [da.spawn(where).result(), da.current_task()._options.priority]

    def program():
        with da.options(scope=da.scope(worker=1)):
            inner = da.spawn(levels).result()
        with da.options(priority=7):
            other = da.spawn(levels).result()
        return where(), inner, other, da.spawn(levels).result()

    with da.options(scope=da.scope(worker=2), priority=3):
        assert da.spawn(program).result() == (2, [1, 3], [2, 7], [2, 3])


def test_scope_reaches_the_tasks_of_tasks(three_workers):
    """Behaviour 24."""

    def increase(number):
        return where() + da.spawn(lambda x: x + where(), number).result()

    for worker in da.workers():
        with da.options(scope=da.scope(worker=worker)):
            assert da.spawn(increase, 1).result() == 1 + 2 * worker


# Large graphs


def test_many_fetch_one_task_and_late(threads):
    """Behaviour 30."""
    found = []

    def fetch(task):
        for _ in range(3):
            found.append(task.result(timeout=60))

    for number in range(20):
        gate = threading.Event()
        task = da.spawn(lambda gate=gate, number=number: (gate.wait(60), number)[1])
        fetchers = [threading.Thread(target=fetch, args=(task,)) for _ in range(16)]
        for one in fetchers:
            one.start()
        gate.set()
        for one in fetchers:
            one.join()
        assert found == [number] * 48
        found.clear()
        assert [task.result() for _ in range(5)] == [number] * 5


def test_tasks_that_fetch_one_task(threads):
    """Behaviour 30, inside tasks."""
    for number in range(20):
        task = da.spawn(same, number)
        fetching = [da.spawn(lambda task=task: da.fetch(task)) for _ in range(16)]
        assert da.fetch(fetching) == [number] * 16


def test_diamonds(engine):
    """Behaviour 31."""

    def diamond(number):
        top = da.spawn(same, number)
        left, right = da.spawn(operator.add, top, 1), da.spawn(operator.mul, top, 2)
        return da.spawn(operator.add, left, right)

    assert da.fetch([diamond(number) for number in range(64)]) == [3 * n + 1 for n in range(64)]
    assert da.spawn(lambda *four: sum(four), *[diamond(n) for n in range(4)]).result() == 22
    inside = [da.spawn(lambda n=number: diamond(n).result()) for number in range(64)]
    assert da.fetch(inside) == [3 * n + 1 for n in range(64)]
    da.configure()
    assert engine._schedule.outstanding == 0


def test_chain_of_five_hundred_of_which_the_last_is_held(engine):
    """Behaviour 32."""
    task = da.spawn(int, 0)
    for _ in range(500):
        task = da.spawn(operator.add, task, 1)
    assert task.result() == 500


def test_tree_over_a_thousand(engine):
    """Behaviour 33."""
    tasks = [da.spawn(int, 1) for _ in range(1000)]
    while len(tasks) > 1:
        tasks = [da.spawn(sum, tasks[i : i + 2]) for i in range(0, len(tasks), 2)]
    assert tasks[0].result() == 1000
    source = da.spawn(int, 5)
    assert da.fetch([da.spawn(operator.add, source, i) for i in range(32)]) == list(range(5, 37))


def test_waited_for_and_fetched_again(engine):
    """Behaviour 34."""
    task = da.spawn(lambda: da.spawn(int, 3))
    for _ in range(2):
        assert task.wait()
        assert da.wait([task, task]).done == {task}
        assert task.result().result() == 3
        assert da.fetch([task, task])[1] is task.result()


# Scopes of values


def test_value_of_a_worker_is_used_there_from_any_spawner(three_workers):
    """Behaviour 40."""
    for worker in da.workers():
        ref = da.put(5, scope=da.scope(worker=worker))
        assert da.spawn(where, ref).result() == worker
        for spawner in da.workers():
            nested = on(spawner)(lambda ref=ref: (where(), da.spawn(where, [ref]).result()))
            assert nested.result() == (spawner, worker)


def test_values_of_two_workers(three_workers):
    """Behaviour 41."""
    first, second, either = (da.put(1, scope=da.scope(workers=w)) for w in ([0], [1], [1, 2]))
    conflict = da.spawn(where, first, second)
    with pytest.raises(da.SchedulingError, match="no processor in common"):
        conflict.result()
    assert da.spawn(where, second, either).result() == 1
    exact = da.put(1, scope=da.scope(worker=1, thread=1))
    assert da.spawn(lambda *_: da.current_task().processor, exact, either).result() == (
        da.Processor(1, "cpu", 1)
    )
    with pytest.raises(da.SchedulingError, match="no processor in common"):
        da.spawn(where, exact, da.put(1, scope=da.scope(worker=1, thread=0))).result()


def test_scopes_of_tasks_and_results_by_worker(three_workers):
    """Behaviours 47, 48 and 49."""
    first, last = da.scope(workers=[0, 1]), da.scope(workers=[1, 2])
    assert da.spawn.options(scope=first)(where).result() in (0, 1)
    assert da.spawn.options(scope=first, compute_scope=da.scope(worker=2))(where).result() == 2
    made = da.spawn.options(compute_scope=first, result_scope=last)(where)
    assert made.result() == 1
    assert da.Ref(made).scope == last
    assert da.spawn.options(scope=da.scope(worker=2))(where, made).result() == 2
    ran = Notes()
    apart = da.spawn.options(compute_scope=da.scope(worker=0), result_scope=last)(ran.append, 1)
    with pytest.raises(da.SchedulingError, match="result_scope="):
        apart.result()
    assert ran == []


def test_function_and_arguments_of_workers(three_workers):
    """Behaviour 50: tasks run on every processor that both scopes have, and on no other."""

    def meet(_, met):
        met.wait(60)
        return da.current_task().processor

    pairs = [[0, 1], [1, 2], [0, 2]]
    for function, argument in itertools.product(pairs, repeat=2):
        called = da.put(meet, scope=da.scope(workers=function))
        given = da.put(1, scope=da.scope(workers=argument))
        common = sorted(set(function) & set(argument))
        processors = da.processors(da.scope(workers=common))
        met = threading.Barrier(len(processors))
        tasks = [da.spawn(called, given, met) for _ in processors]
        assert set(da.fetch(tasks)) == set(processors)


# Data that stays


def test_mutable_of_a_worker(three_workers):
    """Behaviours 3 and 51."""
    m = da.mutable(lambda: [0], worker=1)

    def change(values):
        values[0] = where()
        return where()

    assert da.spawn(change, m).result() == 1
    assert da.fetch(m) == [1]
    for worker in da.workers():
        assert on(worker)(lambda: da.spawn(change, m).result()).result() == 1
    for worker in (0, 2):
        with pytest.raises(da.SchedulingError, match="Mutable"):
            on(worker)(change, m).result()
    assert da.spawn(operator.setitem, m, 0, 5).wait()
    assert da.spawn(operator.getitem, m, 0).result() == 5


def test_shard_of_every_worker(three_workers):
    """Behaviour 52."""
    every = da.shard(where)
    assert [piece.task.processor.worker for piece in every] == da.workers() == da.fetch(list(every))
    assert [piece.scope for piece in every] == [da.scope(worker=one) for one in da.workers()]
    some = da.shard(where, workers=[2, 0])
    assert sorted(da.fetch(list(some))) == [0, 2]
    each = da.shard(lambda: da.current_task().processor, per_thread=True)
    assert da.fetch(list(each)) == da.processors()
    two = da.shard(lambda: da.current_task().processor, workers=[1], per_thread=True)
    assert da.fetch(list(two)) == da.processors(da.scope(worker=1))
    one = da.shard(where, scope=da.scope(worker=1, thread=0))
    assert da.fetch(list(one)) == [1]
    assert da.fetch([on(worker)(same, every) for worker in da.workers()]) == da.workers()


@pytest.mark.parametrize("per_thread", [False, True])
def test_pushes_to_a_sharded_histogram(three_workers, per_thread):
    """Behaviour 53."""
    bins = da.shard(lambda: np.zeros(10), per_thread=per_thread)

    def push(counts, number):
        counts[int(number)] += number

    with da.sync():
        for _ in range(100):
            da.spawn(push, bins, 5.2)
    total = bins.reduce(operator.add).result()
    assert total[5] == pytest.approx(520)
    assert reduce(operator.add, da.fetch(list(bins))).sum() == pytest.approx(520)


def test_files_are_read_and_written_where_tasks_run(three_workers, tmp_path, monkeypatch):
    """Behaviour 54."""
    np.save(tmp_path / "a.npy", np.arange(6.0))
    monkeypatch.chdir(tmp_path)
    for file in (arrays.File("a.npy"), arrays.File(tmp_path / "a.npy")):
        assert da.fetch(file).tolist() == [0, 1, 2, 3, 4, 5]
        for worker in da.workers():
            assert on(worker)(lambda x: (where(), x.sum()), file).result() == (worker, 15)
    written = on(1)(arrays.tofile, da.spawn(np.ones, 4), tmp_path / "b.npy").result()
    assert on(2)(same, written).result().tolist() == [1, 1, 1, 1]
    del file, written
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.npy", "b.npy"]


# Spaces, and seeing


def test_spaces_of_workers(three_workers):
    """Behaviour 126."""
    spaces = [space_of(one) for one in da.processors()]
    assert [one.worker for one in spaces] == [one.worker for one in da.processors()]
    assert len(set(spaces)) == len(da.workers())
    array = np.arange(5.0)
    held = [brought(array, HOST, space) for space in dict.fromkeys(spaces)]
    assert [np.shares_memory(array, one) for one in held] == [True, False, False]
    assert not np.shares_memory(held[1], held[2])
    back = on(0)(same, on(2)(same, on(1)(same, array))).result()
    np.testing.assert_array_equal(back, array)


def test_traces_tell_of_every_worker_until_they_end(three_workers):
    """Behaviour 127."""
    with da.trace() as tr:
        tasks = [on(worker)(int) for worker in da.workers() for _ in range(3)]
        da.wait(tasks)
    after = da.spawn(int)
    after.wait()
    table = tr.events()
    assert len(set(map(len, table.values()))) == 1
    ran = dict(zip(table["task"], table["worker"], strict=True))
    assert [ran[task.number] for task in tasks] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert after.number not in table["task"]


def test_options_are_read_where_tasks_are_spawned(engine):
    """Behaviours 22 and 25."""
    scope = da.scope(worker=0)
    assert da.get_option("priority", 7) == 7

    def read():
        return da.get_option("priority", 7), da.get_option("scope", "any")

    with da.options(priority=2):
        assert da.get_option("priority") == 2
        with da.options(scope=scope):
            inner = da.spawn(lambda: (read(), da.spawn(read).result()))
        outer = da.spawn.options(priority=5)(read)
    assert inner.result() == ((2, scope), (2, scope))
    assert outer.result() == (2, "any")
    with pytest.raises(TypeError, match="no option 'memory' of blocks"):
        da.get_option("memory")
