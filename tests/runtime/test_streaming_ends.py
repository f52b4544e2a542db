"""Streams that go on: until they are cancelled, or nobody takes what they give."""

from __future__ import annotations

import random
import threading

import pytest

import darray.runtime as da
from tests.runtime.stream_programs import until

pytestmark = pytest.mark.usefixtures("threads")


def test_runs_until_all_is_cancelled():
    begun = threading.Event()

    def source():
        begun.set()
        return 1

    with da.spawn_streaming() as s:
        task = da.spawn(source)
    begun.wait()
    da.cancel_all()
    with pytest.raises(da.CancelledError):
        task.result()
    with pytest.raises(da.CancelledError):
        s.wait()


def test_cancelling_the_region():
    with da.spawn_streaming() as s:
        last = da.spawn(lambda x: x, da.spawn(random.random))
    assert not last.done()
    s.cancel()
    assert all(task.cancelled() for task in s.tasks)


def test_cancelling_one_task_cancels_those_that_need_it():
    with da.spawn_streaming() as s:
        source = da.spawn(random.random)
        middle = da.spawn(lambda x: x, source)
        last = da.spawn(lambda x: x, middle)
    middle.cancel()
    last.wait()
    source.wait()
    assert (middle.cancelled(), last.cancelled()) == (True, True)
    assert source.exception() is None
    with pytest.raises(da.CancelledError):
        s.wait()


def test_what_a_cancel_drops_is_counted_by_the_task_that_it_was_for():
    full = threading.Event()
    gate = threading.Event()

    def source():
        yield from range(6)
        full.set()
        gate.wait(60)

    def hold(x):
        gate.wait(60)

    with da.spawn_streaming(buffer=3) as s:
        first = da.spawn.options(name="first")(source)
        middle = da.spawn.options(name="middle", buffer=10)(lambda x: x, first)
        last = da.spawn.options(name="last", occupancy=0.0)(hold, da.buffered(middle, 10))
    assert full.wait(60)
    until(lambda: [edge.buffered for edge in s.statistics().edges] == [0, 5])
    middle.cancel()
    gate.set()
    assert last.exception() is not middle.exception()
    told = "5 value(s) that streaming task 'last' had been sent were dropped"
    assert last.exception().__notes__ == [told]
    assert told in middle.exception().__notes__


def test_a_consumer_that_ends_ends_its_producer():
    with da.spawn_streaming() as s:
        source = da.spawn(random.random)
        da.spawn.options(max_evals=10)(lambda x: x, source)
    assert s.wait(10)
    assert source.result() is None


def test_without_teardown_the_producer_goes_on():
    with da.spawn_streaming(teardown=False) as s:
        source = da.spawn(random.random)
        consumer = da.spawn.options(max_evals=10)(lambda x: x, source)
    consumer.result()
    assert not s.wait(0.05)
    s.cancel()
    assert source.cancelled()


def test_a_source_that_waits_for_ever_is_let_go():
    gate = threading.Event()

    def source():
        gate.wait()
        return 1

    with da.spawn_streaming() as s:
        waiting = da.spawn(source)
        both = da.spawn(lambda x, y: x, da.spawn(iter([])), waiting)
    both.result()
    waiting.result()
    assert s.wait(10)
    gate.set()


def test_a_wait_in_a_consumer_for_what_its_producer_gives_next():
    seen = threading.Event()

    def source():
        yield 1
        yield 2
        seen.wait()
        yield 3

    def look(x):
        if x == 2:
            seen.set()
        return x

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(look, da.spawn(source)))
    assert list(out) == [1, 2, 3]


def test_many_idle_streams_hold_no_processor():
    gate = threading.Event()
    with da.spawn_streaming() as s:
        for _ in range(50):
            da.spawn(lambda x: x, da.spawn.options(max_evals=1)(gate.wait))
    assert da.fetch(da.map(abs, [-1, -2, -3])) == [1, 2, 3]
    gate.set()
    assert s.wait(30)


def test_a_region_attaches_to_one_that_runs():
    with da.spawn_streaming() as first:
        source = da.spawn(iter(range(10**9)))
        da.spawn(lambda x: x, source)
    with da.spawn_streaming() as second:
        few = da.spawn.options(max_evals=100)(lambda x: x, second.attach(source))
        out = second.output(few)
    values = list(out)
    assert values == list(range(values[0], values[0] + 100))
    assert second.wait(10)
    assert not source.done()
    first.cancel()


def test_a_running_stream_that_is_given_is_attached():
    with da.spawn_streaming() as first:
        source = da.spawn(int)
    with da.spawn_streaming() as second:
        out = second.output(da.spawn.options(max_evals=5)(lambda x: x + 1, source))
    assert list(out) == [1] * 5
    assert first.wait(10), "nobody takes from it any more"


def test_a_stream_that_has_ended_attaches_as_one_without_values():
    with da.spawn_streaming() as first:
        source = da.spawn(iter([1, 2]))
    first.wait()
    with da.spawn_streaming() as second:
        out = second.output(second.attach(source))
    assert list(out) == []


def test_an_output_of_a_region_that_runs():
    with da.spawn_streaming() as s:
        source = da.spawn(iter(range(10**9)))
    with s.output(source) as out:
        first = next(out)
        assert [next(out) for _ in range(99)] == list(range(first + 1, first + 100))
    assert s.wait(10)


def test_what_each_edge_saw_is_told():
    with da.trace() as traced:
        with da.spawn_streaming() as s:
            source = da.spawn.options(name="source")(iter(range(1000)))
            da.spawn.options(name="sink")(lambda x: x, source)
        s.wait()
    (edge,) = s.statistics().edges
    assert (edge.producer, edge.consumer) == ("source", "sink")
    assert (edge.sent, edge.received, edge.dropped, edge.buffered) == (1000, 1000, 0, 0)
    assert edge.rate > 0
    assert "source  sink" in str(s.statistics())
    assert "1,000" in str(s.statistics())
    assert [task.calls for task in s.statistics().tasks] == [1000, 1000]
    (flow,) = traced.summary().edges
    assert (flow.producer, flow.consumer, flow.values) == ("source", "sink", 1000)
    assert "source -> sink" in str(traced.summary())


def test_a_value_made_after_the_end_is_dropped():
    begun, gate = threading.Event(), threading.Event()

    def source():
        begun.set()
        gate.wait(60)
        return 1

    with da.spawn_streaming() as s:
        da.spawn(lambda x: x, da.spawn(source))
    assert begun.wait(60)
    s.cancel()
    gate.set()
    lane = s.tasks[0]._stage.lane
    until(lambda: lane._drivers == 0)
    assert not s._edges[0].items
    s._edges[0]._check()
