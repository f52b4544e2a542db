"""Streams among ordinary tasks, in other blocks, inside one another, and traced."""

from __future__ import annotations

import itertools
import threading

import pytest

import darray.runtime as da
from tests.runtime.shared import Notes


def where(x):
    return da.current_task().processor.worker


def work(x):
    for _ in range(2_000):
        pass
    return x


def test_busy_streams_leave_processors_to_ordinary_tasks(threads):
    with da.spawn_streaming() as s:
        for _ in range(4):
            da.spawn(work, da.spawn(work, da.spawn(itertools.count())))
    # One after another, so that each waits for its turn anew.
    for x in range(50):
        assert da.spawn(work, x).result(60) == x
    assert da.fetch(da.map(work, range(200))) == list(range(200))
    s.cancel()


def test_busy_ordinary_tasks_leave_processors_to_streams(threads):
    ended = threading.Event()
    calls = Notes()

    def again():
        calls.append(1)
        work(0)
        if not ended.is_set():
            da.spawn(again)

    for _ in range(8):
        da.spawn(again)
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(work, da.spawn(work, da.spawn(iter(range(500))))))
    values = list(out)
    ended.set()
    assert values == list(range(500))
    assert s.wait(60)
    assert calls


def test_streams_of_one_region_share_processors(threads):
    """Four endless ones, each much slower than a turn, all come on."""
    seen = [Notes() for _ in range(4)]
    all_came = threading.Event()

    def look(notes, x):
        for _ in range(50_000):
            pass
        notes.append(x)
        if all(len(one) >= 5 for one in seen):
            all_came.set()

    with da.spawn_streaming() as s:
        for notes in seen:
            da.spawn.options(scope=da.scope(worker=0))(look, notes, da.spawn(itertools.count()))
    assert all_came.wait(60)
    s.cancel()


def test_a_greater_priority_goes_first(one_thread):
    order = []
    gate, begun = threading.Event(), threading.Event()

    def hold():
        begun.set()
        gate.wait(60)

    held = da.spawn(hold)
    assert begun.wait(60)
    with da.spawn_streaming() as s:
        da.spawn.options(priority=-1, max_evals=1, occupancy=1.0)(lambda: order.append("low"))
        da.spawn.options(priority=1, max_evals=1, occupancy=1.0)(lambda: order.append("high"))
    gate.set()
    held.result()
    assert s.wait(60)
    assert order == ["high", "low"]


# Other blocks


def test_sync_waits_for_the_tasks_of_a_region(engine):
    with da.sync(), da.spawn_streaming() as s:
        last = da.spawn(work, da.spawn(iter(range(300))))
    assert last.done()
    assert s.wait(0)


def test_sync_raises_what_a_region_fails_with(engine):
    def fail(x):
        raise ValueError("no stream")

    with pytest.raises(ValueError, match="no stream"), da.sync(), da.spawn_streaming():
        da.spawn(fail, da.spawn(iter([1])))


def test_options_reach_the_tasks_of_a_region(engine):
    last = da.workers()[-1]
    with da.options(scope=da.scope(worker=last)), da.spawn_streaming() as s:
        out = s.output(da.spawn(where, da.spawn(iter([1]))))
    assert list(out) == [last]


def test_a_region_inside_a_task(engine):
    def inside():
        with da.spawn_streaming() as s:
            out = s.output(da.spawn(lambda x: x + 1, da.spawn(iter(range(100)))))
        return sum(out)

    assert da.fetch([da.spawn(inside) for _ in range(4)]) == [5050] * 4


def test_a_region_inside_a_streaming_task(engine):
    def inside(count):
        with da.spawn_streaming() as s:
            out = s.output(da.spawn(lambda x: x + 1, da.spawn(iter(range(count)))))
        values = list(out)
        s.wait()
        return sum(values)

    with da.spawn_streaming() as outer:
        out = outer.output(da.spawn(inside, da.spawn(iter(range(20)))))
    assert list(out) == [count * (count + 1) // 2 for count in range(20)]
    assert outer.wait(60)


def test_a_region_inside_the_block_of_another(engine):
    with da.spawn_streaming() as outer:
        numbers = da.spawn(iter(range(10)))
        with da.spawn_streaming() as inner:
            out = inner.output(da.spawn(lambda x: -x, da.spawn(iter(range(5)))))
        assert list(out) == [0, -1, -2, -3, -4]
        values = outer.output(da.spawn(lambda x: 2 * x, numbers))
    assert list(values) == list(range(0, 20, 2))
    assert inner.wait(60)
    assert outer.wait(60)


def test_a_finish_inside_an_inner_region_ends_that_alone(engine):
    def inside(x):
        with da.spawn_streaming():
            end = da.spawn(lambda y: da.finish_stream(result=x) if y == 3 else y, numbers())
        return end.result()

    def numbers():
        return da.spawn(iter(range(10)))

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(inside, numbers()))
    assert list(out) == list(range(10))


def test_cancel_all_ends_every_region(threads):
    regions = []
    begun = threading.Semaphore(0)

    def look(x):
        begun.release()
        return x

    for _ in range(3):
        with da.spawn_streaming() as s:
            da.spawn(look, da.spawn(itertools.count()))
        regions.append(s)
    for _ in range(3):
        assert begun.acquire(timeout=60)
    da.cancel_all()
    for s in regions:
        with pytest.raises(da.CancelledError):
            s.wait(60)
        assert all(task.cancelled() for task in s.tasks)
    assert da.spawn(abs, -1).result() == 1


def test_cancelling_a_consumer_in_the_block(engine):
    with da.spawn_streaming() as s:
        numbers = da.spawn(iter(range(10)))
        lost = da.spawn(lambda x: x, numbers)
        lost.cancel()
        out = s.output(numbers)
    assert list(out) == list(range(10))
    assert lost.cancelled()


def test_a_trace_around_a_stream(engine):
    with da.trace() as trace, da.sync(), da.spawn_streaming():
        named = da.spawn.options(name="doubled")
        named(lambda x: 2 * x, da.spawn(iter(range(100))))
    assert "doubled" in str(trace.summary())
