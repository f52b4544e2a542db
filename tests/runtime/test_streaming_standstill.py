"""Streams of which no task can go on are given up, and no others are."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import darray.runtime as da
from darray.runtime.streams import standstill
from darray.runtime.streams.standstill import _may_stand_still
from tests.runtime.stream_programs import until


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch):
    """A look every few milliseconds: much sooner than where the time does not matter."""
    monkeypatch.setattr(standstill, "SOON", 0.005)
    monkeypatch.setattr(standstill, "LATE", 0.02)


def numbers(count=1000):
    return da.spawn.options(name="numbers")(iter(range(count)))


def pair(*values):
    return values


def same(value):
    return value


TOLD = "streaming tasks wait for one another for ever: 'both' for a value of 'batch'; 'batch' for a"


def test_a_stream_as_it_is_and_in_batches(engine):
    with da.spawn_streaming(buffer=5) as s:
        x = numbers()
        both = da.spawn.options(name="both")(pair, x, da.batch(x, 100))
    with pytest.raises(da.DeadlockError, match=TOLD) as raised:
        s.wait(60)
    assert "'numbers' for room in its buffer to 'both', full with 5 value(s)" in str(raised.value)
    assert "give it a bigger buffer, da.buffered(stream, buffer=...)" in str(raised.value)
    assert any("streaming task 'both' had been sent were dropped" in one for one in notes(raised))
    assert both.exception() is raised.value
    # What others take of it is not lost.
    assert x.exception() is None


def notes(raised):
    return raised.value.__notes__


def test_with_room_for_what_a_window_needs_it_goes_on(engine):
    with da.spawn_streaming(buffer=5) as s:
        x = numbers(300)
        out = s.output(da.spawn(pair, da.buffered(x, 100), da.window(x, 100, step=1)))
    assert [first for first, _ in out] == list(range(201))


def test_a_stream_that_ends_before_its_buffer_is_full_goes_on(engine):
    with da.spawn_streaming(buffer=5) as s:
        x = numbers(4)
        out = s.output(da.spawn(pair, x, da.batch(x, 100)))
    assert list(out) == [(0, [0, 1, 2, 3])]


@pytest.mark.parametrize("how", ["join", "generator", "async", "parallel"])
def test_two_ways_of_different_length_to_each_kind_of_task(engine, how):
    async def awaited(*values):
        return values

    def several(*values):
        yield values

    with da.spawn_streaming(buffer=2) as s:
        x = numbers()
        late = da.window(da.spawn(same, x), 7, step=1)
        if how == "join":
            # Of the two keys none is the other's.
            out = da.join(x, late, key=(same, tuple), most=10**6)
        elif how == "parallel":
            out = s.map(pair, x, late, parallel=3)
        else:
            out = da.spawn(awaited if how == "async" else several, x, late)
        out = s.output(out)
    if how == "join":
        assert list(out) == []
    else:
        with pytest.raises(da.DeadlockError, match="'window' for a value of 'same'"):
            list(out)


def test_between_workers(workers):
    last = da.spawn.options(scope=da.scope(worker=da.workers()[-1]))
    with da.spawn_streaming(buffer=3) as s:
        x = numbers()
        last(pair, x, da.batch(last(same, x), 10))
    with pytest.raises(da.DeadlockError, match="for room in its buffer to"):
        s.wait(60)


def test_what_takes_from_a_task_that_is_held_back_goes_on(engine):
    with da.spawn_streaming(buffer=5) as s:
        x = numbers(300)
        both = da.spawn(pair, x, da.batch(x, 100))
        others = s.output(da.spawn(same, x), buffer=1000)
    assert list(others) == list(range(300))
    with pytest.raises(da.DeadlockError):
        both.result(60)


def test_ways_through_two_regions(threads):
    with da.spawn_streaming(buffer=3) as first:
        x = numbers(10**9)
        late = da.window(x, 50)
    with da.spawn_streaming(buffer=3) as second:
        both = da.spawn(pair, x, late)
    with pytest.raises(da.DeadlockError):
        second.wait(60)
    assert isinstance(both.exception(), da.DeadlockError)
    assert first.wait(60)


def test_one_that_waits_for_a_source_outside_is_not_given_up(threads):
    """It ends in order when that does, without a value."""
    gate = threading.Event()

    def silent():
        gate.wait(60)
        return
        yield

    with da.spawn_streaming(buffer=2) as s:
        x = numbers(10**9)
        both = da.spawn(pair, x, da.batch(x, 100), da.spawn(silent))
    assert not s.wait(0.3)
    gate.set()
    assert s.wait(60)
    assert both.result() is None


def test_one_whose_output_the_caller_may_close_is_not_given_up(threads):
    with da.spawn_streaming(buffer=2) as s:
        x = numbers(10**9)
        out = s.output(da.spawn(pair, x, da.batch(x, 100)))
    assert not s.wait(0.3)
    out.close()
    assert s.wait(60)


def test_one_whose_batch_comes_in_time_is_not_given_up(threads):
    with da.spawn_streaming(buffer=2) as s:
        x = numbers(10**9)
        batches = da.batch(x, 100, seconds=0.3)
        out = s.output(da.spawn.options(max_evals=1)(pair, x, batches))
    ((first, batch),) = out
    assert first == 0
    # All for which there was room until then.
    assert batch == list(range(len(batch)))
    assert s.wait(60)


def test_one_that_waits_in_its_call_is_not_given_up(threads):
    gate = threading.Event()

    def slowly(value):
        gate.wait(60)
        return value

    with da.spawn_streaming(buffer=2) as s:
        x = numbers(20)
        y = da.spawn.options(occupancy=0.0)(slowly, x)
        out = s.output(da.spawn(pair, x, y))
    assert not s.wait(0.3)
    gate.set()
    assert list(out) == [(one, one) for one in range(20)]


@pytest.mark.parametrize(
    ("built", "may"),
    [
        (lambda x: da.spawn(pair, x), False),
        (lambda x: [da.spawn(same, x) for _ in range(3)], False),
        (lambda x: da.merge(x, numbers()), False),
        (lambda x: da.spawn(pair, x, da.spawn(same, x)), True),
        (lambda x: da.spawn(pair, x, da.buffered(x, 3)), True),
    ],
    ids=["chain", "fan-out", "merge", "two ways", "two buffers"],
)
def test_only_regions_with_two_ways_are_looked_at(engine, built, may):
    with da.spawn_streaming() as s:
        built(numbers(3))
        assert not _may_stand_still([plan.stage for plan in s._plans[:1]])
    assert s.wait(60)
    # Their stages still know their edges.
    assert _may_stand_still([task._stage for task in s.tasks]) is may


# Against a model


@dataclass
class Steps:
    """One way from the source to the task that takes all ways, as lists of (name, numbers)."""

    steps: list
    buffers: list


STEPS = st.one_of(
    st.just(("same",)),
    st.tuples(st.just("window"), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.just("batch"), st.integers(1, 6)),
    st.tuples(st.just("some"), st.integers(1, 4)),
)


@st.composite
def ways(draw):
    steps = draw(st.lists(STEPS, max_size=3))
    return Steps(steps, [draw(st.integers(1, 6)) for _ in range(len(steps) + 1)])


def some_of(nth):
    def some(value):
        if number(value) % nth == 0:
            yield value

    return some


def number(value):
    return number(value[0]) if isinstance(value, list) else value


@dataclass
class ModelStep:
    """A step of the model: what it holds, what it has given and what of that has no room yet."""

    step: tuple
    held: list = field(default_factory=list)
    given: deque = field(default_factory=deque)
    skip: int = 0
    new: int = 0

    def take(self, value):
        name, *sizes = self.step
        if name == "same":
            self.given.append(value)
        elif name == "some":
            if number(value) % sizes[0] == 0:
                self.given.append(value)
        else:
            size, step = sizes[0], sizes[-1]
            if self.skip:
                self.skip -= 1
                return
            self.held.append(value)
            self.new += 1
            if len(self.held) == size:
                self.given.append(list(self.held))
                self.new = 0
                del self.held[: min(step, size)]
                self.skip = max(0, step - size)

    def rest(self):
        if self.new:
            self.given.append(list(self.held))
            self.new = 0


def modelled(count, all_ways):
    """The rows that the last task sees, and whether it stands still."""
    edges = [[deque() for _ in way.buffers] for way in all_ways]
    ended = [[False] * len(way.buffers) for way in all_ways]
    steps = [[ModelStep(step) for step in way.steps] for way in all_ways]
    rows, sent = [], 0
    while True:
        moved = False
        # A source is asked for a value, and so found to have none, when there is room for it.
        has_room = all(
            len(one[0]) < way.buffers[0] for one, way in zip(edges, all_ways, strict=True)
        )
        if has_room and not ended[0][0]:
            moved = True
            if sent == count:
                for one in ended:
                    one[0] = True
            else:
                for edge in edges:
                    edge[0].append(sent)
                sent += 1
        for edge, over, way, some in zip(edges, ended, all_ways, steps, strict=True):
            for place, step in enumerate(some):
                if len(edge[place + 1]) >= way.buffers[place + 1] or over[place + 1]:
                    continue
                if step.given:
                    edge[place + 1].append(step.given.popleft())
                elif edge[place]:
                    step.take(edge[place].popleft())
                elif over[place]:
                    step.rest()
                    over[place + 1] = not step.given
                else:
                    continue
                moved = True
        if all(edge[-1] for edge in edges):
            rows.append(tuple([edge[-1].popleft() for edge in edges]))
            moved = True
        elif any(over[-1] and not edge[-1] for edge, over in zip(edges, ended, strict=True)):
            return rows, False
        if not moved:
            return rows, True


@settings(
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(st.integers(0, 40), st.lists(ways(), min_size=2, max_size=3))
def test_just_those_are_given_up_that_stand_still_in_a_model(engine, count, all_ways):
    expected, stands = modelled(count, all_ways)
    rows = []
    with da.spawn_streaming() as s:
        source = numbers(count)
        last = []
        for way in all_ways:
            stream = source
            for (name, *sizes), buffer in zip(way.steps, way.buffers, strict=False):
                taken = da.buffered(stream, buffer)
                stream = {
                    "same": lambda taken, sizes: da.spawn(same, taken),
                    "some": lambda taken, sizes: da.spawn(some_of(*sizes), taken),
                    "window": lambda taken, sizes: da.window(taken, *sizes),
                    "batch": lambda taken, sizes: da.batch(taken, *sizes),
                }[name](taken, sizes)
            last.append(da.buffered(stream, way.buffers[-1]))
        out = s.output(da.spawn(pair, *last))
    try:
        for row in out:
            rows.append(row)
    except da.DeadlockError:
        assert stands
    else:
        assert not stands
    assert [tuple(row) for row in rows] == expected
    for one in s.tasks:
        one.wait(60)
    until(lambda: not engine.unfinished())


def test_endless_streams_that_flow_are_looked_at_and_left_alone(threads):
    with da.spawn_streaming(buffer=3) as s:
        x = da.spawn(itertools.count())
        y = da.spawn(same, da.spawn(same, x))
        out = s.output(da.spawn(pair, x, y), buffer=1)
    assert list(itertools.islice(out, 500)) == [(one, one) for one in range(500)]
    s.cancel()
