"""Refs: values put by hand, asked for raw, pinned, released, returned by tasks."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import darray.runtime as da


class Thing:
    """Something that can be referred to weakly."""


@pytest.mark.usefixtures("engine")
def test_put_captures_arrays_by_value():
    a = np.ones(3)
    nest = {"a": a, "list": [a[:2]]}
    one, several = da.put(a), da.put(nest)
    a[:] = 7
    nest["list"].append(5)
    assert da.fetch(one).tolist() == [1, 1, 1]
    told = da.spawn(lambda x: (x["a"].sum(), x["list"][0].sum()), several)
    assert told.result() == (3, 2)
    assert not da.fetch(one).flags.writeable
    assert a.flags.writeable


@pytest.mark.usefixtures("engine")
def test_put_copies_no_array_that_nobody_can_write_to():
    a = np.ones(3)
    view = a.view()
    view.flags.writeable = False
    assert not np.shares_memory(da.fetch(da.put(view)), a)
    a.flags.writeable = False
    assert np.shares_memory(da.fetch(da.put(a)), a)
    assert np.shares_memory(da.fetch(da.put(a[1:])), a)
    thing = Thing()
    assert da.fetch(da.put(thing)) is thing


@pytest.mark.usefixtures("engine")
def test_put_of_a_ref_a_task_and_nests_of_them():
    ref = da.put(5)
    assert da.put(ref) is ref
    with pytest.raises(TypeError, match="has its place already"):
        da.put(ref, scope=da.scope(thread=0))
    task = da.spawn(abs, -3)
    assert da.put(task) == da.Ref(task)
    assert da.fetch(da.put([ref, {"t": task}])) == [5, {"t": 3}]


@pytest.mark.usefixtures("engine")
def test_put_in_a_scope_keeps_tasks_there():
    ref = da.put(5, scope=da.scope(thread=0))
    tasks = [da.spawn(abs, ref) for _ in range(5)]
    assert da.fetch(tasks) == [5] * 5
    assert {task.processor.index for task in tasks} == {0}
    away = da.spawn.options(scope=da.scope(worker=3))(abs, da.put(5, scope=da.scope(worker=0)))
    with pytest.raises(da.SchedulingError, match="no processor in common"):
        away.result()


@pytest.mark.usefixtures("engine")
def test_put_in_blocks():
    with da.spawn_datadeps():
        ref = da.put(np.ones(2))
        out = np.zeros(2)
        da.spawn(np.add, ref, 1, da.Out(out))
    assert out.tolist() == [2, 2]
    with da.sync(), da.spawn_bulk():
        ref = da.put(4)
        assert ref.result() == 4


@pytest.mark.usefixtures("engine")
def test_raw_gives_refs_and_waits():
    tasks = [da.spawn(abs, -1), da.spawn(abs, -2)]
    ref = da.put(3)
    one, nest = da.fetch((tasks[0], {"both": [*tasks, ref, 4]}), raw=True)
    assert one == da.Ref(tasks[0])
    assert nest == {"both": [one, da.Ref(tasks[1]), ref, 4]}
    assert all(task.done() for task in tasks)
    assert da.fetch(nest) == {"both": [1, 2, 3, 4]}
    assert da.fetch({tasks[0]}, raw=True) == {one}
    with pytest.raises(ZeroDivisionError):
        da.fetch([da.spawn(divmod, 1, 0)], raw=True)


@pytest.mark.usefixtures("engine")
def test_refs_are_equal_by_their_task():
    task = da.spawn(abs, -1)
    assert da.Ref(task) == da.Ref(task) != da.Ref(da.spawn(abs, -1))
    assert len({da.Ref(task), da.Ref(task)}) == 1
    assert da.Ref(task) != task


def test_what_a_ref_tells(threads):
    gate = threading.Event()
    ref = da.Ref(da.spawn(lambda: (gate.wait(60), np.zeros(10))[1]))
    assert ref.nbytes is None
    assert not ref.done()
    with pytest.raises(TimeoutError):
        ref.result(timeout=0)
    gate.set()
    assert ref.result().tolist() == [0] * 10
    assert ref.done()
    assert ref.nbytes == 80
    failed = da.Ref(da.spawn(divmod, 1, 0))
    with pytest.raises(ZeroDivisionError):
        failed.result()
    assert failed.nbytes is None
    assert da.mutable(lambda: np.zeros(10)).nbytes in (None, 80)


def test_holders_are_the_tasks_that_need_it(threads):
    gate, started = threading.Event(), threading.Event()
    ref = da.put(5)

    def hold(*_):
        started.set()
        return gate.wait(60)

    running = da.spawn.options(name="running")(hold, ref)
    assert started.wait(60)
    waiting = da.spawn.options(name="waiting")(abs, da.spawn(max, [ref, 3], running))
    named = da.spawn.options(name="nested", after=running)(lambda *, x: x, x={"k": [ref]})
    assert sorted(one.split(",")[0] for one in ref.holders()) == [
        "task 'max'",
        "task 'nested'",
        "task 'running'",
    ]
    ref.pin()
    ref.pin()
    assert ref.holders()[-1] == "pinned 2 times"
    with pytest.raises(RuntimeError, match="still held: task "):
        ref.release()
    gate.set()
    da.wait([waiting, named])
    with pytest.raises(RuntimeError, match="pinned 2 times"):
        ref.release()
    ref.unpin()
    da.Ref(ref.task).unpin()
    with pytest.raises(ValueError, match="more often than pin"):
        ref.unpin()
    assert ref.holders() == []
    ref.release()


def test_what_another_engine_made_has_holders_too(threads):
    gate, started = threading.Event(), threading.Event()
    ref = da.put(5)
    da.configure(threads=1)

    def hold(_):
        started.set()
        return gate.wait(60)

    task = da.spawn(hold, ref)
    assert started.wait(60)
    assert len(ref.holders()) == 1
    gate.set()
    task.wait()
    assert ref.holders() == []


@pytest.mark.usefixtures("engine")
def test_what_was_released_is_gone_and_its_use_an_error():
    thing = Thing()
    alive = weakref.ref(thing)
    ref = da.put(thing)
    del thing
    assert da.spawn(isinstance, ref, Thing).result()
    ref.release()
    ref.release()
    gc.collect()
    assert alive() is None
    used = [da.spawn(len, ref), da.spawn(len, [ref]), da.spawn(abs, ref.task)]
    for task in used:
        with pytest.raises(da.RefReleasedError, match=r"was released at .*test_refs\.py"):
            task.result()
    with pytest.raises(da.RefReleasedError):
        da.fetch(ref)
    with pytest.raises(da.RefReleasedError):
        ref.result()
    assert ref.nbytes is None


@pytest.mark.usefixtures("engine")
def test_releasing_frees_the_memory_that_counts():
    da.configure(memory_limit="1GB")
    task = da.spawn.options(memory=1000)(bytes, 900)
    task.wait()
    budget = task._engine._schedule.budget
    before = budget.room()
    da.Ref(task).release()
    assert budget.room() > before


def test_what_is_not_there_is_not_released(threads):
    gate = threading.Event()
    ref = da.Ref(da.spawn(gate.wait, 60))
    with pytest.raises(RuntimeError, match="no value yet"):
        ref.release()
    gate.set()
    failed = da.Ref(da.spawn(divmod, 1, 0))
    failed.task.wait()
    failed.release()
    assert isinstance(failed.task.exception(), ZeroDivisionError)


@pytest.mark.usefixtures("engine")
def test_a_mutable_is_held_by_the_tasks_on_it():
    m = da.mutable(list)
    assert da.spawn(lambda _: [one[:6] for one in m.holders()], m).result() == ["task '"]
    da.fetch(m)
    m.release()
    assert isinstance(da.spawn(len, m).exception(), da.RefReleasedError)


@pytest.mark.usefixtures("engine")
def test_a_task_that_returns_a_ref_has_its_value():
    ref = da.put(np.arange(3))
    task = da.spawn(lambda: ref)
    assert da.fetch(task).tolist() == [0, 1, 2]
    assert da.spawn(np.sum, task).result() == 3
    assert da.fetch(da.spawn(lambda: da.Ref(da.spawn(abs, -4)))) == 4
    # Inside a container it stays.
    assert da.fetch(da.spawn(lambda: [ref])) == [ref]
    assert isinstance(da.spawn(lambda: da.Ref(da.spawn(divmod, 1, 0))).exception(), ArithmeticError)
    with da.options(priority=1):
        assert da.fetch(da.spawn(lambda: ref)).tolist() == [0, 1, 2]
    endless = da.spawn(lambda: da.Ref(da.current_task()))
    assert isinstance(endless.exception(), da.DeadlockError)
    m = da.mutable(list)
    assert da.spawn(lambda: m).result() is m


@pytest.mark.usefixtures("engine")
def test_so_has_an_async_one():
    gate = threading.Event()

    async def done():
        return da.put(5)

    async def failed():
        return da.Ref(da.spawn(divmod, 1, 0))

    async def itself():
        return da.Ref(da.current_task())

    assert da.spawn(abs, da.spawn(done)).result() == 5
    assert isinstance(da.spawn(failed).exception(), ZeroDivisionError)
    assert isinstance(da.spawn(itself).exception(), da.DeadlockError)
    if da.spawn(int)._engine.__class__.__name__ == "ThreadsEngine":
        later = da.spawn(gate.wait, 60)

        async def unfinished():
            return da.Ref(later)

        task = da.spawn(unfinished)
        assert not task.wait(0.01)
        gate.set()
        assert task.result() is True


@pytest.mark.usefixtures("engine")
def test_awaiting_what_needs_the_awaiting_task_is_a_deadlock():
    m = da.mutable(list)

    async def hold(_):
        return await da.spawn(len, m)

    assert isinstance(da.spawn(hold, m).exception(), da.DeadlockError)
    assert da.fetch(m) == []
