"""Mutables: values that stay where they were made, used by one task at a time, in order."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import settings


@pytest.fixture
def gate():
    """An event that tasks wait for, set at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()


def waits(value, started, gate, number):
    """Say that the task began, wait, append."""
    started.set()
    assert gate.wait(60)
    value.append(number)


@pytest.mark.usefixtures("engine")
def test_tasks_get_the_object_and_change_it():
    made = []

    def make():
        made.append(np.zeros(3))
        return made[0]

    m = da.mutable(make)
    assert da.spawn(lambda x: x is made[0] and x.flags.writeable, m).result()
    # What setitem returns is its value; a later task sees what it did.
    assert da.spawn(operator.setitem, m, 0, 5).result() is None
    assert da.spawn(operator.getitem, m, 0).result() == 5
    assert da.spawn(lambda *, x: float(x.sum()), x=m).result() == 5


@pytest.mark.usefixtures("engine")
def test_methods_and_the_object_itself_can_be_called():
    m = da.mutable(list)
    da.spawn(list.append, m, 3)
    m.call("extend", [4, 5])
    assert m.call("index", 4).result() == 1
    assert da.spawn(da.mutable(lambda: sum), m).result() == 12


@pytest.mark.usefixtures("engine")
def test_fetch_gives_a_copy_as_of_then():
    m = da.mutable(lambda: [np.zeros(2), {"n": [1]}])
    da.spawn(lambda x: x[1]["n"].append(2), m)
    before = da.fetch({"m": m, "both": [m, m]})
    da.spawn(lambda x: operator.setitem(x[0], 0, 7), m)
    assert before["m"][1] == {"n": [1, 2]}
    assert before["m"][0].tolist() == before["both"][1][0].tolist() == [0, 0]
    after = m.result()
    assert after[0].tolist() == [7, 0]
    after[0][1] = 9
    after[1]["n"].clear()
    assert da.fetch(m)[0].tolist() == [7, 0]
    assert da.fetch(m, copy=True)[1] == {"n": [1, 2]}
    assert da.fetch(m, raw=True) is m


@pytest.mark.usefixtures("engine")
def test_an_array_is_fetched_as_a_writable_copy():
    m = da.mutable(lambda: np.zeros(2))
    found = da.fetch(m)
    found[0] = 1
    assert da.fetch(m).tolist() == [0, 0]


@pytest.mark.usefixtures("engine")
def test_what_cannot_be_copied_is_not_fetched():
    m = da.mutable(threading.Lock)
    with pytest.raises(TypeError, match="pickle") as caught:
        da.fetch(m)
    assert any("da.In(mutable)" in note for note in caught.value.__notes__)
    assert da.spawn(lambda x: x.locked(), da.In(m)).result() is False


@pytest.mark.usefixtures("engine")
def test_who_only_reads_gets_a_view_that_is_read_only():
    m = da.mutable(lambda: np.zeros(2))
    assert not da.spawn(lambda x: x.flags.writeable, da.In(m)).result()
    assert da.spawn(lambda x: x.flags.writeable, da.InOut(m)).result()
    assert da.spawn(lambda x: x.flags.writeable, da.Out(m)).result()
    failing = da.spawn(operator.setitem, da.In(m), 0, 1)
    with pytest.raises(ValueError, match="read-only"):
        failing.result()
    # The same task reads and writes it: it writes.
    assert da.spawn(lambda a, b: b.flags.writeable, da.In(m), da.InOut(m)).result()


@pytest.mark.usefixtures("engine")
def test_mutables_in_containers():
    a, b = da.mutable(list), da.mutable(dict)
    da.spawn(lambda pair: pair["x"][0].append(1), {"x": [a, b]})
    da.spawn(lambda both: both[1].update(n=2), (a, b))
    assert da.fetch([a, b]) == [[1], {"n": 2}]
    assert da.spawn(lambda both: both[0] + [3], [da.In(a), 5]).result() == [1, 3]


@pytest.mark.usefixtures("engine")
def test_a_task_that_fails_does_not_fail_the_next():
    m = da.mutable(list)

    def fail(x):
        x.append(1)
        raise ArithmeticError

    failed = da.spawn(fail, m)
    assert da.spawn(len, m).result() == 1
    assert isinstance(failed.exception(), ArithmeticError)
    # But one that needs its value does.
    assert isinstance(da.spawn(lambda x, y: x, m, failed).exception(), ArithmeticError)
    assert da.spawn(len, m).result() == 1


@pytest.mark.usefixtures("engine")
def test_where_making_it_fails_so_do_all_tasks_on_it():
    m = da.mutable(lambda: 1 // 0)
    for task in (da.spawn(len, m), da.spawn(len, da.In(m))):
        assert isinstance(task.exception(), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        da.fetch(m)
    with da.spawn_datadeps() as region:
        pass
    with pytest.raises(ZeroDivisionError), da.spawn_datadeps():
        da.spawn(len, da.In(m))
    assert region._failures == []


@pytest.mark.usefixtures("engine")
def test_what_is_refused():
    with pytest.raises(TypeError, match=r"wrap it: da\.mutable\(lambda: x\)"):
        da.mutable([1, 2])
    with pytest.raises(TypeError, match="not both"):
        da.mutable(list, worker=0, scope=da.scope(thread=0))
    with pytest.raises(da.SchedulingError, match="no processor is there"):
        da.mutable(list, worker=7)
    m = da.mutable(list)
    with pytest.raises(TypeError, match=r"only what da\.mutable or da\.shard returns"):
        da.spawn(len, da.InOut([1]))
    with pytest.raises(TypeError, match="annotated"):
        da.spawn(len, da.Deps(m, da.InOut("x")))
    with pytest.raises(ValueError, match="leave retries= out"):
        da.spawn.options(retries=1, retry_on=(OSError,))(len, m)
    assert da.spawn.options(retries=1, retry_on=(OSError,))(len, da.In(m)).result() == 0
    with pytest.raises(TypeError, match="not both"):
        da.fetch(m, copy=True, raw=True)


@pytest.mark.usefixtures("engine")
def test_it_is_made_and_used_at_its_home():
    m = da.mutable(list, worker=0)
    assert m.task.wait(60)
    assert m.task.processor.worker == 0
    away = da.spawn.options(scope=da.scope(worker=1))(len, m)
    with pytest.raises(da.SchedulingError, match="Mutable"):
        away.result()
    here = da.mutable(list, scope=da.scope(thread=0))
    tasks = [da.spawn(list.append, here, i) for i in range(10)]
    assert da.fetch(here) == list(range(10))
    assert {task.processor.index for task in tasks} == {0}
    assert here.scope <= da.scope(thread=0)


@pytest.mark.usefixtures("engine")
def test_an_async_make_and_async_tasks():
    async def make():
        await asyncio.sleep(0)
        return []

    async def append(x, number):
        before = len(x)
        await asyncio.sleep(0)
        assert len(x) == before
        x.append(number)

    m = da.mutable(make)
    for number in range(5):
        da.spawn(append, m, number)
    assert da.fetch(m) == [0, 1, 2, 3, 4]


def test_tasks_run_one_at_a_time_and_readers_side_by_side(threads, gate):
    m = da.mutable(list)
    started = threading.Event()
    first = da.spawn(waits, m, started, gate, 1)
    assert started.wait(60)
    second = da.spawn(list.append, m, 2)
    assert not second.wait(0.02)
    gate.set()
    meeting = threading.Barrier(2)
    readers = [da.spawn(lambda x: (meeting.wait(60), list(x))[1], da.In(m)) for _ in range(2)]
    last = da.spawn(list.append, m, 3)
    assert da.fetch(readers) == [[1, 2], [1, 2]]
    assert da.fetch(m) == [1, 2, 3]
    assert all(task.done() for task in (first, second, last))
    threads._check()


def test_one_cancelled_while_it_waits_leaves_the_order(threads, gate):
    m = da.mutable(list)
    started = threading.Event()
    first = da.spawn(waits, m, started, gate, 1)
    assert started.wait(60)
    second = da.spawn(list.append, m, 2)
    reader = da.spawn(list, da.In(m))
    third = da.spawn(list.append, m, 3)
    assert second.cancel()
    fourth = da.spawn(list.append, m, 4)
    assert third.cancel()
    another = da.spawn(list, da.In(m))
    assert not fourth.wait(0.02)
    assert not reader.done()
    threads._check([first, second, reader, third, fourth, another])
    gate.set()
    assert da.fetch([reader, another]) == [[1], [1, 4]]


def test_who_follows_readers_follows_those_whom_a_cancelled_task_held_apart(threads, gate):
    m = da.mutable(list)
    started = threading.Event()
    reader = da.spawn(lambda x: (started.set(), gate.wait(60), list(x))[2], da.In(m))
    assert started.wait(60)
    between = da.spawn(list.append, m, 1)
    another = da.spawn(list, da.In(m))
    last = da.spawn(list.append, m, 2)
    assert between.cancel()
    assert another.result() == []
    assert not last.wait(0.02)
    threads._check([reader, between, another, last])
    gate.set()
    assert reader.result() == []
    assert da.fetch(m) == [2]


def test_one_cancelled_while_it_runs_keeps_it_until_it_returns(threads, gate):
    m = da.mutable(list)
    started = threading.Event()
    first = da.spawn(waits, m, started, gate, 1)
    assert started.wait(60)
    second = da.spawn(list.append, m, 2)
    assert not first.cancel()
    assert not second.wait(0.02)
    gate.set()
    assert da.fetch(m) == [1, 2]
    late = da.spawn.options(timeout=0.01)(waits, m, threading.Event(), gate, 3)
    assert late.result() is None


def test_cancelling_a_task_does_not_cancel_those_it_only_follows(threads, gate):
    m = da.mutable(list)
    started = threading.Event()
    first = da.spawn(waits, m, started, gate, 1)
    assert started.wait(60)
    second, third = [da.spawn(list.append, m, number) for number in (2, 3)]
    da.cancel(third)
    assert third.cancelled()
    gate.set()
    assert da.fetch(m) == [1, 2]
    assert first.result() is second.result() is None


@pytest.mark.usefixtures("engine")
def test_waiting_for_a_task_on_what_one_holds_is_a_deadlock():
    m, n = da.mutable(list), da.mutable(list)

    def hold(_):
        return da.spawn(len, m).result()

    def fetching(_):
        return da.fetch(m)

    def indirectly(_):
        after = da.spawn(abs, da.spawn(len, m))
        return da.fetch(after)

    def by_way_of_another(_):
        return da.spawn(hold, n).result()

    def reading(_):
        # One that only reads runs beside it.
        return da.spawn(len, da.In(m)).result()

    for function in (hold, fetching, indirectly, by_way_of_another):
        assert isinstance(da.spawn(function, m).exception(), da.DeadlockError), function
    assert da.spawn(reading, da.In(m)).result() == 0
    assert isinstance(da.spawn(hold, da.In(m)).exception(), da.DeadlockError)
    assert da.fetch(m) == []


def test_two_tasks_that_wait_for_each_other(threads):
    m, n = da.mutable(list), da.mutable(list)
    meeting = threading.Barrier(2)

    def hold(_, other):
        meeting.wait(60)
        task = da.spawn(len, other)
        meeting.wait(60)
        return task.result()

    outcomes = [one.exception() for one in (da.spawn(hold, m, [0]), da.spawn(hold, n, [0]))]
    assert outcomes == [None, None]

    def hold_and_wait(_, key):
        meeting.wait(60)
        task = da.spawn(len, {"m": m, "n": n}[key])
        meeting.wait(60)
        return task.result()

    tasks = [da.spawn(hold_and_wait, m, "n"), da.spawn(hold_and_wait, n, "m")]
    found = [task.exception() for task in tasks]
    assert any(isinstance(one, da.DeadlockError) for one in found)
    assert da.fetch([m, n]) == [[], []]


@pytest.mark.usefixtures("engine")
def test_a_task_spawned_by_one_that_holds_it_runs_afterwards():
    m = da.mutable(list)

    def hold(x):
        tasks = [da.spawn(list.append, m, number) for number in (2, 3)]
        x.append(1)
        assert not any(task.done() for task in tasks)
        return tasks

    def fail(x):
        da.spawn(list.append, m, 5)
        x.append(4)
        raise ArithmeticError

    da.spawn(hold, m).result()
    da.spawn(fail, m).wait()
    assert da.fetch(m) == [1, 2, 3, 4, 5]


def test_serial_threads_take_turns(gate):
    da.configure(engine="serial")
    m = da.mutable(list)
    started = threading.Event()
    other = threading.Thread(target=lambda: da.spawn(waits, m, started, gate, 1))
    other.start()
    assert started.wait(60)
    second = da.spawn(list.append, m, 2)
    third = da.spawn(list.append, m, 3)
    assert not second.done()
    assert second.cancel()
    fourth = da.spawn(list.append, m, 4)
    gate.set()
    assert third.wait(60)
    assert fourth.wait(60)
    other.join()
    assert da.fetch(m) == [1, 3, 4]


@pytest.mark.usefixtures("engine")
def test_a_region_orders_it_by_its_bytes_and_with_tasks_outside():
    m = da.mutable(lambda: np.zeros((4, 4)))
    da.spawn(np.ndarray.fill, m, 1)
    with da.spawn_datadeps():
        da.spawn(np.add, da.In(m), 1, da.InOut(m))
        da.spawn(lambda x: operator.setitem(x, (0, 1), 5), da.Deps(m, da.InOut(np.triu)))
        seen = da.spawn(lambda x: x[0, 1], m)
        assert not da.spawn(lambda x: x.flags.writeable, m).result()
        assert not da.spawn(lambda x: x[0].flags.writeable, [m]).result()
        with pytest.raises(TypeError, match="annotate whole arguments"):
            da.spawn(len, [da.InOut(m)])
    da.spawn(np.ndarray.fill, m, 9)
    assert seen.result() == 5
    assert (da.fetch(m) == 9).all()


def test_parts_of_one_run_side_by_side_in_a_region(threads):
    m = da.mutable(lambda: np.zeros((4, 4)))
    m.task.wait()
    meeting = threading.Barrier(2)

    def meet(x, row):
        meeting.wait(60)
        x[row] = row

    with da.spawn_datadeps():
        for row in (1, 2):
            part = functools.partial(lambda x, row: x[row], row=row)
            da.spawn(meet, da.Deps(m, da.InOut(part)), row)
    assert da.fetch(m)[:, 0].tolist() == [0, 1, 2, 0]
    threads._check()


@pytest.mark.usefixtures("engine")
def test_in_blocks_of_spawns():
    m = da.mutable(list)
    with da.spawn_bulk():
        tasks = [da.spawn(list.append, m, number) for number in range(5)]
    with da.spawn_sequential():
        tasks += [da.spawn(list.append, m, number) for number in range(5, 8)]
    with da.sync():
        da.spawn(list.append, m, 8)
    with da.options(priority=3):
        da.spawn(list.append, m, 9)
    assert da.fetch(m) == list(range(10))
    assert all(task._options.keeps for task in tasks)


@pytest.mark.usefixtures("engine")
def test_what_a_queue_held_too_long_is_refused():
    m = da.mutable(list)

    class Holding:
        def enqueue(self, submissions, outside):
            self.held = (submissions, outside)

    queue = Holding()
    with da.options(queue=queue):
        held = da.spawn(list.append, m, 1)
    later = da.spawn.options(after=held)(list.append, m, 2)
    submissions, outside = queue.held
    outside(submissions)
    assert isinstance(held.exception(), da.DeadlockError)
    assert isinstance(later.exception(), da.DeadlockError)
    assert da.fetch(m) == []


@pytest.mark.usefixtures("engine")
def test_it_outlives_its_engine():
    m = da.mutable(list)
    da.spawn(list.append, m, 1)
    engines.close()
    da.configure(engine=settings.current().engine, threads=1)
    da.spawn(list.append, m, 2)
    assert da.fetch(m) == [1, 2]


def test_what_an_engine_left_behind_is_refused(threads, gate):
    m, one = da.mutable(list), da.shard(list)
    started = threading.Event()
    first = da.spawn(lambda x, y: waits(x, started, gate, 1), m, one)
    assert started.wait(60)
    second = da.spawn(list.append, m, 2)
    ended = threading.Event()
    first.add_done_callback(lambda _: ended.set())
    engines.close(finish=False)
    for kept in (m, one):
        with pytest.raises(RuntimeError, match="of an engine use which is gone"):
            da.spawn(len, kept).result()
    gate.set()
    assert ended.wait(60)
    assert not second.done()
    with pytest.raises(RuntimeError, match="of an engine use which is gone"):
        da.spawn(len, m).result()
    assert da.spawn(len, one).result() == 0
    # What is ready there now is no work for which threads would be started, again and again.
    assert threads._seats.fill() is None


def test_what_is_done_is_not_kept(threads):
    m = da.mutable(list)
    tasks = [da.spawn(list.append, m, number) for number in range(50)]
    da.wait(tasks)
    engines.close()
    assert m.line._last is None
    assert not m.line._party_of
    assert not any(hasattr(task, "_after") or hasattr(task, "_uses") for task in tasks)


@pytest.mark.usefixtures("nothing_registered_afterwards", "one_worker")
def test_values_stay_on_processors_of_other_kinds():
    da.register_kind("npu", 2)
    there = da.scope(kind="npu")
    made = da.mutable(lambda: [da.current_task().processor.kind], scope=there)
    da.spawn.options(scope=there)(list.append, made, 1).wait()
    made.call("append", 2)
    assert da.fetch(made) == ["npu", 1, 2]
    shard = da.shard(lambda: da.current_task().processor.kind, scope=there)
    assert set(da.fetch(list(shard))) == {"npu"}
    assert shard.reduce(lambda a, b: a).result() == "npu"


def test_coroutines_that_wait_for_what_the_other_holds(threads):
    first, second = da.mutable(list), da.mutable(list)
    met = threading.Barrier(2)

    def crossing(other):
        async def use(value):
            await asyncio.get_running_loop().run_in_executor(None, met.wait, 60)
            return await da.spawn(len, other)

        return use

    tasks = [da.spawn(crossing(second), first), da.spawn(crossing(first), second)]
    errors = [task.exception(60) for task in tasks]
    assert [isinstance(one, da.DeadlockError) for one in errors].count(True) == 1
    assert da.spawn(len, first).result() == 0


def test_a_coroutine_that_holds_a_value_is_cancelled_where_it_waits(threads):
    held, free = da.mutable(list), da.mutable(list)
    gate, began = threading.Event(), threading.Event()
    slow = da.spawn(lambda value: gate.wait(60), free)

    async def use(value):
        began.set()
        return await da.spawn(len, free)

    task = da.spawn(use, held)
    began.wait(60)
    task.cancel()
    assert isinstance(task.exception(60), da.CancelledError)
    assert da.spawn(len, held).result(60) == 0
    gate.set()
    slow.wait()


@pytest.mark.usefixtures("engine")
def test_a_part_by_itself_is_refused():
    made = da.mutable(lambda: [1, 2, 3])
    with pytest.raises(TypeError, match=r"give a task the whole"):
        made[1:]


@pytest.mark.usefixtures("engine")
def test_refs_are_waited_for_as_their_tasks_are():
    made, put = da.mutable(list), da.put(1)
    done, not_done = da.wait([made, put])
    assert (len(done), not_done) == (2, set())
    assert {one.result() for one in da.as_completed([put])} == {1}
    with pytest.raises(TypeError, match="can be waited for, but not 3"):
        da.wait([3])
