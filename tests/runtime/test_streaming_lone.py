"""Values that come alone, which the source's driver hands from stage to stage."""

from __future__ import annotations

import queue
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import darray.runtime as da
from darray.runtime.streams import plain, stages
from darray.runtime.streams.lanes import DEAR, Lane
from tests.runtime.stream_programs import busy, until

pytestmark = pytest.mark.usefixtures("two_threads", "all_are_cheap")

END = object()


@pytest.fixture
def all_are_cheap(monkeypatch):
    """Calls of less than a millisecond are cheap, so that they are on a busy machine as well."""
    monkeypatch.setattr(plain, "DEAR", 1e-3)


class Boom(Exception):
    """What a stage raises."""


def is_handed():
    """Whether the calling stage is called within the turn of a source."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_call_lone":
            return True
        frame = frame.f_back
    return False


class Drops:
    """A source and a sink: each value is given when the one before has arrived."""

    def __init__(self):
        self.given = queue.Queue()
        self.arrived = queue.Queue()
        # Of each value that arrived, whether that was within the source's turn.
        self.handed = []

    def source(self):
        value = self.given.get(timeout=30)
        busy(20_000)
        return da.finish_stream(result="through") if value is END else value

    def generator(self):
        while (value := self.given.get(timeout=30)) is not END:
            busy(20_000)
            yield value
        return "through"

    def sink(self, value):
        self.handed.append(is_handed())
        self.arrived.put(value)

    def send(self, value):
        self.given.put(value)
        return self.arrived.get(timeout=30)

    def send_until(self, holds, value=0):
        """Send a value again and again until something holds; how often that was."""
        count = 0

        def sent():
            nonlocal count
            count += 1
            assert np.all(self.send(value) == value)
            return holds()

        until(sent)
        return count

    def end(self, region):
        self.given.put(END)
        assert region.wait(30)


def same(value):
    return value


def check_edges(region):
    for edge in region._edges:
        edge._check()
        assert not edge.items
        assert edge.sent == edge.received + edge.dropped


@pytest.mark.parametrize("kind", ["source", "generator"])
@pytest.mark.parametrize("length", [0, 3, 12])
def test_what_comes_alone_is_handed_through_all_stages(kind, length):
    drops = Drops()

    def add_one(value):
        return value + 1

    with da.spawn_streaming() as s:
        last = da.spawn(getattr(drops, kind))
        for _ in range(length):
            last = da.spawn(add_one, last)
        sink = da.spawn(lambda x: drops.sink(x - length), last)
    count = drops.send_until(lambda: drops.handed.count(True) >= 20)
    drops.end(s)
    assert s.tasks[0].result() == "through"
    assert sink.result() is None
    assert [edge.received for edge in s.statistics().edges] == [count] * (length + 1)
    assert [task.calls for task in s.statistics().tasks[1:]] == [count] * (length + 1)
    check_edges(s)


def test_an_array_is_handed_on_read_only_and_not_copied():
    drops, array = Drops(), np.arange(1000.0)
    seen = []
    with da.spawn_streaming() as s:
        last = da.spawn(same, da.spawn(drops.source))
        da.spawn(lambda x: (seen.append(x), drops.sink(x)), last)
    drops.send_until(lambda: True in drops.handed, array)
    drops.end(s)
    assert all(np.shares_memory(one, array) and not one.flags.writeable for one in seen)


def test_a_task_that_is_handed_on_stands_for_its_value():
    drops = Drops()
    tasks = [da.spawn(abs, -x) for x in range(3)]
    with da.spawn_streaming() as s:
        da.spawn(drops.sink, da.spawn(lambda x: tasks[x], da.spawn(drops.source)))
    for value in range(3):
        drops.handed.clear()
        drops.send_until(lambda: True in drops.handed, value)
    drops.end(s)


def test_a_full_buffer_holds_back_what_comes_alone():
    drops, handed = Drops(), []

    def middle(value):
        handed.append(is_handed())
        return value

    with da.spawn_streaming(buffer=1) as s:
        out = s.output(da.spawn(middle, da.spawn(drops.source)))

    def passed():
        drops.given.put(0)
        assert next(out) == 0
        return handed[-1]

    until(passed)
    for _ in range(5):
        drops.given.put(1)
    first, second = s._edges
    until(lambda: len(second.items) > 1 or (second.items and first.producer_waits))
    assert [len(first.items), len(second.items)] == [1, 1]
    assert [next(out) for _ in range(5)] == [1] * 5
    drops.end(s)
    check_edges(s)


def test_each_stage_keeps_a_context_of_its_own():
    calls, names = ContextVar("calls", default=0), []
    drops = Drops()

    def counting(value):
        calls.set(calls.get() + 1)
        names.append(da.current_task().name)
        return value

    def source():
        counting(None)
        return drops.source()

    def sink(value):
        counting(value)
        drops.sink((value, calls.get()))

    with da.spawn_streaming() as s:
        middle = da.spawn.options(name="middle")(counting, da.spawn.options(name="source")(source))
        da.spawn.options(name="sink")(sink, middle)
    for number in range(1, 50):
        assert drops.send(0) == (0, number)
    drops.end(s)
    assert True in drops.handed
    assert set(names) == {"source", "middle", "sink"}
    assert [names.count(one) for one in ("source", "middle", "sink")] == [50, 49, 49]


def test_an_output_is_given_what_comes_alone():
    drops = Drops()
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(drops.source))
    for number in range(50):
        drops.given.put(number)
        assert next(out) == number
    drops.end(s)
    assert list(out) == []


@pytest.mark.parametrize("how", ["raise", "finish", "evals", "cancel", "cancel source", "region"])
@pytest.mark.parametrize("kind", ["source", "generator"])
def test_a_stage_that_ends_in_a_call_that_is_handed_to_it(how, kind):
    drops = Drops()
    ended_at = []

    def last(value):
        drops.sink(value)
        if value < 0:
            ended_at.append(is_handed())
            if how == "raise":
                raise Boom
            if how == "finish":
                da.finish_stream(result="finished")
            if how == "region":
                s.cancel()
            if how.startswith("cancel"):
                (source if how == "cancel source" else da.current_task()).cancel()

    with da.spawn_streaming() as s:
        source = da.spawn(getattr(drops, kind))
        middle = da.spawn(same, source)
        options = {"max_evals": 40} if how == "evals" else {}
        sink = da.spawn.options(**options)(last, middle)
    count = drops.send_until(lambda: drops.handed[-1])
    drops.given.put(-1)
    if how == "evals":
        for _ in range(39 - count):
            drops.given.put(-1)
    with suppress(Boom, da.CancelledError):
        assert s.wait(30)
    # A source that was called again meanwhile is let go there, and comes back.
    drops.given.put(END)
    assert ended_at
    outcomes = {
        "raise": (type(None), type(None), Boom),
        "finish": (type(None),) * 3,
        "evals": (type(None),) * 3,
        "cancel": (type(None), type(None), da.CancelledError),
        "cancel source": (da.CancelledError,) * 3,
        "region": (da.CancelledError,) * 3,
    }[how]
    assert tuple(type(task.exception()) for task in (source, middle, sink)) == outcomes
    assert sink.result() == "finished" if how == "finish" else True
    check_edges(s)


def test_a_source_that_is_cancelled_does_not_disturb_the_call_that_it_made():
    drops, cancelled = Drops(), threading.Event()
    answers = []

    def sink(value):
        if is_handed() and value:
            drops.arrived.put("called")
            assert cancelled.wait(30)
            answers.append((da.current_task().name, da.spawn(abs, -1).result()))
        else:
            drops.sink(value)

    with da.spawn_streaming() as s:
        source = da.spawn(drops.source)
        da.spawn.options(name="sink")(sink, source)
    drops.send_until(lambda: drops.handed[-1])
    while drops.send(1) != "called":
        pass
    source.cancel()
    cancelled.set()
    with pytest.raises(da.CancelledError):
        s.wait(30)
    until(lambda: answers == [("sink", 1)])
    lane = source._stage.lane
    until(lambda: lane._drivers == 0)


@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("is_single", [True, False], ids=["handed on", "by the buffer"])
def test_a_call_that_takes_long_holds_up_no_stage_before_it(length, is_single):
    drops, may_go = Drops(), threading.Event()
    got, given, passed = [], [], []

    def source():
        given.append(None)
        return drops.source()

    def middle(value):
        if value == 1:
            passed.append(None)
        return value

    def sink(value):
        got.append(value)
        if value == 1 and got.count(1) == 1:
            drops.arrived.put("waits")
            assert may_go.wait(60)
        drops.sink(value)

    with da.spawn_streaming(buffer=4) as s:
        first = last = da.spawn(source)
        for _ in range(length):
            last = da.spawn(middle, last)
        da.spawn(sink, last)
        if not is_single:
            da.spawn(same, first)
    known = 1
    if is_single:
        known = drops.send_until(lambda: drops.handed[-1])
    else:
        drops.send(0)
    for _ in range(30):
        drops.given.put(1)
    assert drops.arrived.get(timeout=30) == "waits"
    # One is worked on, and each buffer on the way takes four more; then the source is held.
    until(lambda: len(given) == known + 1 + 4 * (length + 1))
    until(lambda: len(passed) >= length * 5)
    may_go.set()
    drops.end(s)
    assert got.count(1) == 30
    assert drops.arrived.qsize() == 30
    check_edges(s)


def test_a_cheap_stage_may_come_to_wait_for_its_source():
    ended = []

    def source():
        for value in range(40):
            busy(100_000)
            yield value
        return "all"

    def sink(value):
        if value == 20:
            ended.append(made.result())

    with da.spawn_streaming() as s:
        made = da.spawn(source)
        da.spawn(sink, made)
    assert s.wait(60)
    assert ended == ["all"]
    assert [edge.received for edge in s.statistics().edges] == [40]


def test_a_stage_beside_one_that_takes_long_is_come_to():
    drops, other = Drops(), threading.Event()

    def beside(value):
        return value == 1 and other.wait(60)

    def sink(value):
        if value == 1:
            other.set()
        drops.sink(value)

    with da.spawn_streaming() as s:
        source = da.spawn(drops.source)
        waited = s.output(da.spawn(beside, source))
        da.spawn(sink, source)
    for _ in range(5):
        drops.send(0)
    # What the lane still looks at by itself ends.
    until(lambda: all(plan.stage.lane._timed < 0 for plan in s._plans))
    drops.send(1)
    drops.end(s)
    assert list(waited) == [False] * 5 + [True]


def test_what_cannot_be_measured_fails_the_stage_that_gave_it():
    class Unsized(list):
        def __sizeof__(self):
            raise Boom

    drops, handed = Drops(), []

    def middle(value):
        handed.append(is_handed())
        return Unsized() if value < 0 else value

    with da.spawn_streaming() as s:
        source = da.spawn(drops.source)
        failing = da.spawn(middle, source)
        out = s.output(failing)

    def passed():
        drops.given.put(0)
        assert next(out) == 0
        return handed[-1]

    until(passed)
    drops.given.put(-1)
    with pytest.raises(Boom):
        next(out)
    drops.given.put(END)
    with pytest.raises(Boom):
        s.wait(30)
    assert handed[-1]
    assert isinstance(failing.exception(), Boom)
    assert source.exception() is None


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_that_wait_for_another_stage_let_it_run(threads):
    da.configure(threads=threads)
    tasks = {}

    def dear(value):
        busy(200_000)
        return value

    with da.spawn_streaming() as s:
        waiting = [
            da.spawn(lambda _: tasks["dear"].result(), da.spawn(iter([1]))) for _ in range(threads)
        ]
        tasks["dear"] = da.spawn(dear, da.spawn(iter(range(20))))
    assert s.wait(60)
    assert da.fetch(waiting) == [None] * threads


def test_an_output_that_is_closed_while_it_is_iterated_over_ends():
    ended = []
    for _ in range(100):
        with da.spawn_streaming() as s:
            out = s.output(da.spawn(int))
        begun = threading.Event()

        def take(out=out, begun=begun):
            for _ in out:
                begun.set()
            ended.append(True)

        thread = threading.Thread(target=take)
        thread.start()
        assert begun.wait(30)
        out.close()
        thread.join(30)
        assert s.wait(30)
    assert len(ended) == 100


class Pushed:
    """In place of a stage: pushes another one, when it runs, and does something else."""

    is_awaited = False
    cost = 2 * DEAR

    def __init__(self, then):
        self.then = then
        self.has_run = threading.Event()

    def is_through(self):
        return False

    def run(self, driver, call=None):
        self.then(driver)
        self.has_run.set()
        return False


def test_a_lane_that_a_driver_was_to_come_to_is_seen_to_where_that_is_let_go(two_threads):
    def spawn(lane, function):
        return da.spawn.options(occupancy=0 if lane is own else 1)(function, lane)

    shared = Lane(two_threads, spawn, 1)
    own = Lane(two_threads, spawn, 1, shared, is_turning=False, is_single=True)
    pushed = Pushed(lambda driver: None)
    pushed.cost = DEAR / 2

    def push(driver):
        shared.push(pushed, driver)
        with shared._lock:
            assert not shared._drivers
            assert shared._timed < 0
        threading.Thread(target=own.let_go).start()
        until(lambda: own._is_let_go)

    own.push(Pushed(push), None)
    assert pushed.has_run.wait(30)
    until(lambda: own._drivers == shared._drivers == 0)
    own._check()
    shared._check()


once = settings(
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


@once
@given(st.data())
def test_chains_give_what_lists_give(data):
    length = data.draw(st.integers(1, 11))
    count = data.draw(st.integers(1, 60))
    # How many values are under way at once: only of one does each come alone.
    ahead = data.draw(st.sampled_from([1, 1, 1, 2, 100]))
    kind = data.draw(st.sampled_from(["source", "generator"]))
    heavy = data.draw(st.booleans())
    how = data.draw(st.sampled_from(["", "raise", "finish", "evals"]))
    place = data.draw(st.integers(0, length - 1))
    at = data.draw(st.integers(0, count - 1))
    drops = Drops()

    def step(number):
        def call(value):
            if number == place and value == at:
                if how == "raise":
                    raise Boom
                if how == "finish":
                    da.finish_stream(np.int64(at) if heavy else at, result="finished")
            return value

        return call

    with da.spawn_streaming() as s:
        last = da.spawn(getattr(drops, kind))
        for number in range(length):
            options = {"max_evals": at + 1} if (how, number) == ("evals", place) else {}
            last = da.spawn.options(**options)(step(number), last)
        da.spawn(drops.sink, last)
    expected = list(range(at + (how != "raise") if how else count))
    seen = []
    for number in range(count):
        drops.given.put(np.int64(number) if heavy else number)
        if number + 1 - len(seen) >= ahead and len(seen) < len(expected):
            seen.append(drops.arrived.get(timeout=30))
    drops.given.put(END)
    if how == "raise":
        with pytest.raises(Boom):
            s.wait(30)
    else:
        assert s.wait(30)
    while not drops.arrived.empty():
        seen.append(drops.arrived.get())
    # What a failure overtakes is dropped.
    assert seen == expected[: len(seen)] if how == "raise" else seen == expected
    assert ahead > 1 or seen == expected
    check_edges(s)
    for task in s.tasks:
        stage = task._stage
        assert stage.is_over
        until(lambda lane=stage.lane: (lane._drivers, lane._helpers) == (0, 0))
        assert stage._state != stages.BUSY
        stage.lane._check()
