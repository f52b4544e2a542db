"""Events: what consumers are told, and that they cannot do harm."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import darray.runtime as da
from darray.runtime import events
from darray.runtime.batches import Batch


def test_began_ended_failed(engine):
    seen = []
    with da.subscribe(seen.append):
        good = da.spawn.options(name="good")(int)
        good.wait()
        bad = da.spawn.options(name="bad")(int, "x")
        bad.wait()
        da.configure()
    assert [type(event) for event in seen] == [
        da.TaskSpawned,
        da.TaskBegan,
        da.TaskEnded,
        da.TaskSpawned,
        da.TaskBegan,
        da.TaskFailed,
    ]
    assert [event.name for event in seen] == ["good"] * 3 + ["bad"] * 3
    assert [event.task for event in seen] == [good.number] * 3 + [bad.number] * 3
    assert seen[0].time <= seen[1].time == seen[2].began <= seen[2].time
    assert seen[0].spawned_at == good.spawned_at
    assert seen[2].processor == good.processor
    assert seen[5].exception is bad.exception()
    assert events.consumers == ()


def test_several_consumers_and_nobody_afterwards(engine):
    first, second = [], []
    with da.subscribe(first.append):
        with da.subscribe(second.append):
            da.spawn(int).wait()
        da.spawn(int).wait()
        da.configure()
    da.spawn(int).wait()
    assert len(first) == 6
    assert len(second) in (2, 3)


def test_same_consumer_twice(engine):
    seen = []
    told = seen.append
    with da.subscribe(told), da.subscribe(told):
        da.spawn(int).wait()
        da.configure()
    assert len(seen) == 6


def test_raising_consumer_is_logged_and_reaches_no_task(engine, caplog):
    def bad(event):
        raise LookupError("from a consumer")

    with caplog.at_level(logging.ERROR, "darray"), da.subscribe(bad):
        assert da.spawn(int, 3).result() == 3
    assert "from a consumer" in caplog.text


def test_dependents_of_a_failed_task_do_not_begin(engine):
    seen = []
    with da.subscribe(seen.append):
        failed = da.spawn(int, "x")
        da.wait([da.spawn(abs, failed) for _ in range(5)])
        da.configure()
    ran = [event for event in seen if not isinstance(event, da.TaskSpawned)]
    assert [type(event) for event in ran] == [da.TaskBegan, da.TaskFailed]
    assert [event.needs for event in seen if event not in ran] == [(), *[(failed.number,)] * 5]


def test_every_task_is_told_once(threads):
    seen = []
    with da.subscribe(seen.append):
        with da.sync():
            for _ in range(500):
                da.spawn(lambda: da.spawn(int).result())
        da.configure()
    began = [event.task for event in seen if isinstance(event, da.TaskBegan)]
    ended = [event.task for event in seen if isinstance(event, da.TaskEnded)]
    assert len(began) == len(ended) == 1000
    assert set(began) == {event.task for event in seen if isinstance(event, da.TaskSpawned)}


@pytest.mark.parametrize("cls", [da.TasksPlanned, da.ValueMoved])
def test_events_are_plain_values(cls):
    fields = cls.__struct_fields__
    assert cls(*range(len(fields))) == cls(*range(len(fields)))


def test_a_subscription_lasts_until_it_is_closed():
    seen = []
    subscription = da.subscribe(seen.append)
    da.spawn(abs, -1).result()
    subscription.close()
    subscription.close()
    count = len(seen)
    da.spawn(abs, -1).result()
    assert count == len(seen) == 3


def test_spawned_tasks_tell_what_they_need(engine):
    early = da.spawn(int, 1)
    early.wait()
    seen = []
    with da.subscribe(seen.append):
        one = da.spawn.options(memory=1000)(int, 1)
        total = da.spawn.options(after=early)(sum, [one, early])
        total.wait()
    spawned = [event for event in seen if isinstance(event, da.TaskSpawned)]
    assert [event.needs for event in spawned] == [(), (one.number, early.number, early.number)]
    assert [event.memory for event in spawned] == [1000, 0]


def test_batches_tell_what_they_spawn(engine):
    seen = []
    with da.subscribe(seen.append):
        batch = Batch(engine)
        two = batch.spawn(None, pow, (2, 1), [])
        eight = batch.spawn(None, pow, (two, 3), [two])
        batch.submit()
        assert eight.result() == 8
    spawned = [event for event in seen if isinstance(event, da.TaskSpawned)]
    assert [event.task for event in spawned] == [two.number, eight.number]
    assert [event.needs for event in spawned] == [(), (two.number,)]


def test_numbers_are_not_used_again(engine):
    seen = []
    with da.subscribe(seen.append):
        for _ in range(100):
            da.spawn(int).result()
    assert len({event.task for event in seen if isinstance(event, da.TaskEnded)}) == 100


def test_number_of_a_task_nobody_heard_of_is_given_once(engine):
    task = da.spawn(int)
    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda _: task.number, range(100)))
    assert numbers == {task.number}


def test_waits_inside_tasks_are_told(two_threads):
    seen = []
    gate = threading.Event()

    def waiting():
        inner = da.spawn(gate.wait, 60)
        while not inner.running():
            da.wait([da.spawn(int)])
        da.spawn.options(occupancy=0)(gate.set)
        return inner.result()

    with da.subscribe(seen.append):
        outer = da.spawn(waiting)
        assert outer.result(60)
    waits = [event for event in seen if isinstance(event, da.TaskWaited)]
    assert {event.task for event in waits} == {outer.number}
    assert all(event.began <= event.time for event in waits)
    assert all(event.processor == outer.processor for event in waits)
