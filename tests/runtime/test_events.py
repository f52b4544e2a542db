"""Events: what consumers are told, and that they cannot do harm."""

from __future__ import annotations

import logging

import pytest

import darray.runtime as da
from darray.runtime import events


def test_began_ended_failed(engine):
    seen = []
    with da.subscribe(seen.append):
        good = da.spawn.options(name="good")(int)
        good.wait()
        bad = da.spawn.options(name="bad")(int, "x")
        bad.wait()
        da.configure()
    assert [type(event) for event in seen] == [
        da.TaskBegan,
        da.TaskEnded,
        da.TaskBegan,
        da.TaskFailed,
    ]
    assert [event.name for event in seen] == ["good", "good", "bad", "bad"]
    assert [event.task for event in seen] == [id(good)] * 2 + [id(bad)] * 2
    assert seen[0].time == seen[1].began <= seen[1].time
    assert seen[1].processor == good.processor
    assert seen[3].exception is bad.exception()
    assert events.consumers == ()


def test_several_consumers_and_nobody_afterwards(engine):
    first, second = [], []
    with da.subscribe(first.append):
        with da.subscribe(second.append):
            da.spawn(int).wait()
        da.spawn(int).wait()
        da.configure()
    da.spawn(int).wait()
    assert len(first) == 4
    assert len(second) in (1, 2)


def test_same_consumer_twice(engine):
    seen = []
    told = seen.append
    with da.subscribe(told), da.subscribe(told):
        da.spawn(int).wait()
        da.configure()
    assert len(seen) == 4


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
    assert len(seen) == 2


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
    assert count == len(seen) == 2
