"""Streams between workers: by credit, and what becomes of them when a worker is lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime.engine import current_engine
from tests.runtime.shared import Notes


@pytest.fixture(autouse=True)
def three_workers():
    da.configure(engine="workers", workers=3, threads=2)


def on(*workers, **options):
    return da.spawn.options(scope=da.scope(workers=workers), **options)


def test_values_are_pickled_between_workers():
    shown = Notes()
    with da.spawn_streaming() as s:
        arrays = da.spawn(iter([np.arange(3), np.arange(3)]))
        here = da.spawn(lambda a: shown.append(a), arrays)
        there = on(1)(lambda a: (da.current_task().processor.worker, a.sum()), arrays)
        out = s.output(there)
    values = list(out)
    here.result()
    assert [int(total) for _, total in values] == [3, 3]
    assert s.statistics().tasks[2].calls == 2


def test_what_is_under_way_is_bounded():
    gate, calls = threading.Event(), Notes()

    def source():
        for number in range(100):
            calls.append(number)
            yield number

    def hold(x):
        gate.wait()
        return x

    with da.spawn_streaming() as s:
        out = s.output(on(1, buffer=4)(hold, on(0)(source)), buffer=4)
    gate.set()
    assert list(out) == list(range(100))
    way = s.statistics().edges[0]
    assert (way.sent, way.received, way.buffered) == (100, 100, 0)


def test_no_more_values_than_the_credit_allows():
    gate, begun, calls = threading.Event(), threading.Event(), Notes()

    def source():
        for number in range(100):
            calls.append(number)
            yield number

    def hold(x):
        begun.set()
        gate.wait()
        return x

    with da.spawn_streaming() as s:
        on(1, buffer=4)(hold, on(0)(source))
    begun.wait()
    da.spawn(abs, -1).result()
    # Four are under way, one of them in the call; the fifth call waits for room.
    assert len(calls) <= 5
    gate.set()
    assert s.wait(30)
    assert len(calls) == 100


@pytest.mark.parametrize("restartable", [True, False])
def test_a_worker_is_lost(restartable):
    reached, go_on = threading.Event(), threading.Event()

    def work(x):
        if x == 50 and not go_on.is_set():
            reached.set()
            go_on.wait()
        return (x, da.current_task().number > 0)

    with da.spawn_streaming() as s:
        source = on(0)(iter(range(200)))
        middle = on(1, 2, restartable=restartable, name="middle")(work, source)
        out = s.output(middle)
    reached.wait()
    engine = current_engine()
    (place,) = {plan.space.worker for plan in s._plans if plan.stage.task is middle}
    engine.lose(place)
    go_on.set()
    if restartable:
        assert [x for x, _ in out] == list(range(200))
        assert s.wait(30)
        assert middle.result() is None
        return
    with pytest.raises(da.WorkerLostError, match=r"worker \d, on which"):
        list(out)
    with pytest.raises(da.WorkerLostError, match=r"of \d+ values that .* sent \d+ were used"):
        middle.result()
    with pytest.raises(da.WorkerLostError):
        s.wait(30)


def test_a_lost_worker_with_no_other_in_the_scope():
    reached, go_on = threading.Event(), threading.Event()

    def work(x):
        reached.set()
        go_on.wait()
        return x

    with da.spawn_streaming() as s:
        middle = on(1, restartable=True)(work, on(0)(iter(range(10))))
    reached.wait()
    current_engine().lose(1)
    go_on.set()
    with pytest.raises(da.WorkerLostError, match="no processor is in"):
        middle.result()
    assert not s.tasks[0].exception()


def test_tasks_of_other_workers_go_on():
    reached, go_on = threading.Event(), threading.Event()

    def work(x):
        reached.set()
        go_on.wait()
        return x

    with da.spawn_streaming() as s:
        on(1)(work, on(0)(iter(range(10))))
        out = s.output(on(2)(lambda x: x + 1, on(0)(iter(range(10)))))
    reached.wait()
    current_engine().lose(1)
    go_on.set()
    assert list(out) == list(range(1, 11))
    assert da.workers() == [0, 2]
    assert da.spawn(abs, -1).result() == 1


def test_consumers_that_are_ahead_of_what_was_told_see_each_value_once():
    reached, go_on = threading.Event(), threading.Event()

    def work(x, y):
        if x == 91 and not go_on.is_set():
            reached.set()
            go_on.wait()
        return x + y

    with da.spawn_streaming() as s:
        first, second = on(0)(iter(range(300))), on(0)(iter(range(300)))
        middle = on(1, 2, restartable=True, buffer=3)(work, first, second)
        out = s.output(middle, buffer=2)
    taken = [next(out) for _ in range(90)]
    reached.wait()
    current_engine().lose(middle._stage.space.worker)
    go_on.set()
    assert [*taken, *out] == [2 * x for x in range(300)]
    assert s.wait(30)
