"""Kinds of processors: registered, used where a scope asks for them, removed again."""

from __future__ import annotations

import random
import threading

import pytest

import darray.runtime as da
from darray.runtime.processor import Processor
from tests.runtime.test_cancelling import Held, whole

pytestmark = pytest.mark.usefixtures("nothing_registered_afterwards")

NPU = da.scope(kind="npu")
EITHER = da.scope(kinds=["npu", "cpu"])


def here():
    return da.current_task().processor


def test_kind_that_opts_out_is_used_only_through_a_scope(one_worker):
    """Behaviour 26."""
    da.register_kind("npu", 1)
    assert {task.processor.kind for task in done(da.map(abs, range(50)))} == {"cpu"}
    assert {one.kind for one in da.fetch([spawn_on(NPU) for _ in range(20)])} == {"npu"}
    with da.options(scope=NPU):
        assert da.spawn(here).result() == Processor(0, "npu", 0)
        assert da.spawn(lambda: da.spawn(here).result()).result() == Processor(0, "npu", 0)
    assert spawn_on(da.ANY).result() in da.processors(da.ANY)


def test_kinds_come_and_go_while_the_engine_runs(one_worker):
    """Behaviour 39."""
    with pytest.raises(da.SchedulingError, match="kind='npu'"):
        spawn_on(NPU).result()
    da.register_kind("npu", 2)
    assert spawn_on(NPU).result().kind == "npu"
    assert len(da.processors(NPU)) == 2
    da.register_kind("npu", None)
    assert da.processors(NPU) == []
    with pytest.raises(da.SchedulingError, match=r"no processor is there.*wider scope"):
        spawn_on(NPU).result()
    assert spawn_on(EITHER).result().kind == "cpu"
    da.register_kind("npu", 1)
    assert spawn_on(NPU).result() == Processor(0, "npu", 0)
    assert da.workers() == [0]


def test_kinds_registered_before_the_engine_starts(one_worker):
    da.register_kind("npu", 1)
    da.configure()
    assert spawn_on(NPU).result() == Processor(0, "npu", 0)


def test_kind_that_is_used_by_default(one_worker):
    da.register_kind("npu", 2, default=True)
    assert set(da.processors(NPU)) < set(da.processors())
    assert spawn_on(da.scope(worker=0, kind="npu")).result().kind == "npu"
    assert NPU & da.DEFAULT
    assert {task.processor.kind for task in done(da.map(abs, range(50)))} <= {"cpu", "npu"}


def test_kind_that_is_used_by_default_takes_plain_tasks(one_thread):
    da.register_kind("npu", 1, default=True)
    held = Held(da.spawn.options(scope=da.scope(thread=0)))
    assert da.spawn(here).result() == Processor(0, "npu", 0)
    # Tasks for threads alone must not move there, where the same number of seats is left.
    pinned = spawn_on(da.scope(kind="cpu"))
    da.register_kind("other", 1, default=True)
    held.gate.set()
    assert pinned.result() == Processor(0, "cpu", 0)
    da.register_kind("npu", None)
    da.register_kind("other", None)
    assert {task.processor.kind for task in done(da.map(abs, range(200)))} == {"cpu"}
    whole(one_thread)


def test_processor_runs_one_task_at_a_time_beside_the_threads(two_threads):
    da.register_kind("npu", 1)
    held = [Held(da.spawn.options(scope=da.scope(thread=index))) for index in (0, 1)]
    running, most = [], []

    def work():
        running.append(1)
        most.append(len(running))
        running.pop()
        return here().kind

    with da.options(scope=NPU):
        assert set(da.fetch([da.spawn(work) for _ in range(200)])) == {"npu"}
    assert max(most) == 1
    for one in held:
        one.gate.set()
    whole(two_threads)


def test_task_waits_for_what_it_spawns_on_other_kinds(one_worker):
    da.register_kind("npu", 1)

    def outer():
        inner = [da.spawn(here), spawn_on(NPU), da.spawn(lambda: spawn_on(NPU).result())]
        return [here(), *da.fetch(inner)]

    with da.options(scope=da.DEFAULT):
        kinds = [one.kind for one in da.spawn.options(scope=NPU)(outer).result()]
    assert kinds == ["npu", "cpu", "npu", "npu"]


def test_kind_that_is_removed_finishes_what_it_runs(two_threads):
    da.register_kind("npu", 1)
    held = Held(da.spawn.options(scope=NPU))
    queued = [spawn_on(NPU) for _ in range(3)]
    either = [spawn_on(NPU | da.scope(thread=0)) for _ in range(3)]
    needs = da.spawn.options(scope=NPU)(abs, da.spawn(len, held.task))
    after = da.spawn(str, queued[0])
    da.register_kind("npu", None)
    for one in (*queued, after):
        with pytest.raises(da.SchedulingError, match=r"kind='npu'\), but no processor is there"):
            one.result()
    assert {one.kind for one in da.fetch(either)} == {"cpu"}
    assert held.task.running()
    held.gate.set()
    assert held.task.result() == "late"
    with pytest.raises(da.SchedulingError, match="no processor is there"):
        needs.result()
    whole(two_threads)


def test_processor_that_comes_back_is_the_same(two_threads):
    da.register_kind("npu", 1)
    held = Held(da.spawn.options(scope=NPU))
    da.register_kind("npu", None)
    da.register_kind("npu", 2)
    queued = [spawn_on(NPU) for _ in range(10)]
    assert {one.index for one in da.fetch(queued)} == {1}
    held.gate.set()
    held.task.wait()
    assert len(two_threads._seats.every) == 4
    whole(two_threads)


def test_priorities_and_memory_hold_on_other_kinds(two_threads):
    da.register_kind("npu", 1)
    held = Held(da.spawn.options(scope=NPU))
    order = []
    with da.options(scope=NPU):
        tasks = [
            da.spawn.options(priority=priority, memory=1000)(order.append, priority)
            for priority in (0, 2, 1)
        ]
    held.gate.set()
    da.wait(tasks)
    assert order == [2, 1, 0]
    whole(two_threads)


def test_kinds_change_under_load(two_threads):
    """Whatever comes and goes, every task is finished, and none runs outside its scope."""
    seed = random.Random(5)
    scopes = [None, NPU, EITHER, da.scope(thread=1), da.ANY, da.scope(kind="odd")]
    tasks, ended = [], threading.Event()

    def change():
        for _ in range(15):
            for kind, default in (("npu", False), ("odd", True)):
                da.register_kind(kind, 1 + default, default=default)
                da.spawn(int).result()
            da.register_kind("npu", None)
            da.register_kind("odd", None)
        ended.set()

    changer = threading.Thread(target=change)
    changer.start()
    while not ended.is_set():
        scope = seed.choice(scopes)
        spawn = da.spawn if scope is None else da.spawn.options(scope=scope)
        need = tasks[-1][1] if tasks and seed.random() < 0.3 else None
        tasks.append((scope, spawn(lambda _: here(), need)))
        if len(tasks) % 50 == 0:
            tasks[-1][1].wait()
    changer.join()
    da.wait([task for _, task in tasks])
    for scope, task in tasks:
        if task.exception() is None:
            assert task.result() == task.processor
            assert scope is None or task.processor in scope
        else:
            assert isinstance(task.exception(), da.SchedulingError)
    whole(two_threads)


@pytest.mark.parametrize("seed", range(8))
def test_random_work_on_several_kinds(two_threads, seed):
    """Nested waits, small occupancies, memory, priorities, cancelling: nothing is left behind."""
    da.register_kind("npu", 2)
    chance = random.Random(seed)
    scopes = [None, NPU, EITHER, da.scope(thread=0), da.ANY]

    def spawn(*needs, depth=2):
        scope = chance.choice(scopes)
        given = {} if scope is None else {"scope": scope}
        if chance.random() < 0.2:
            given["occupancy"] = chance.choice([0, 0.5])
        if chance.random() < 0.2:
            given["priority"] = chance.choice([-1, 1])
        if chance.random() < 0.2:
            given["memory"] = 1000
        make = da.spawn.options(**given) if given else da.spawn
        return make(work, scope, depth, *needs)

    def work(scope, depth, *needs):
        assert here() in (da.DEFAULT if scope is None else scope)
        if depth == 0 or chance.random() < 0.6:
            return 1 + sum(needs)
        return sum(da.fetch([spawn(depth=depth - 1) for _ in range(3)]))

    tasks = []
    for _ in range(300):
        needs = chance.sample(tasks[-10:], k=min(len(tasks), chance.choice([0, 0, 1, 2])))
        tasks.append(spawn(*needs))
        if chance.random() < 0.03:
            chance.choice(tasks).cancel()
    da.wait(tasks)
    failures = [task.exception() for task in tasks if not task.cancelled()]
    assert not any(failures)
    assert sum(task.cancelled() for task in tasks) < len(tasks)
    whole(two_threads)


@pytest.mark.parametrize(
    ("name", "count", "error", "match"),
    [
        ("cpu", 2, ValueError, "configure"),
        ("npu", 0, ValueError, "1 or more"),
        ("npu", True, ValueError, "1 or more"),
        ("npu", "2", ValueError, "1 or more"),
        ("", 2, TypeError, "as text"),
        ("none", None, ValueError, "no kind 'none' is registered"),
    ],
)
def test_wrong_kinds_are_refused(name, count, error, match):
    with pytest.raises(error, match=match):
        da.register_kind(name, count)


def test_kind_is_registered_once():
    da.register_kind("npu", 1)
    with pytest.raises(ValueError, match=r"remove it first: register_kind\('npu', None\)"):
        da.register_kind("npu", 1)


def spawn_on(scope):
    return da.spawn.options(scope=scope)(here)


def done(tasks):
    da.wait(tasks)
    return tasks
