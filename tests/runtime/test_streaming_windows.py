"""Windows by time."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray.runtime as da
from darray.runtime.streams.timed import Spans

# In eighths of a second, for which floats are exact.
EIGHTHS = st.integers(1, 24).map(lambda number: number / 8)


@given(EIGHTHS, EIGHTHS, st.lists(st.integers(0, 40), max_size=30), st.data())
def test_spans_have_the_values_that_came_within_them(length, step, gaps, data):
    times = [100.0 + sum(gaps[: place + 1]) / 8 for place in range(len(gaps))]
    spans = Spans(length, step)
    given_ones = []
    for place, time in enumerate(times):
        # Some are taken late: after others have come.
        if data.draw(st.booleans()):
            given_ones += all_due(spans, time)
        spans.add(time, place)
        spans._check()
    ends = times[-1] if times else 0.0
    given_ones += all_due(spans, ends)
    held = spans.new
    rest = spans.rest()
    expected, seen = [], set()
    for number in range(math.ceil((ends - times[0]) / step) + 1 if times else 0):
        start = times[0] + number * step
        span = [place for place, time in enumerate(times) if start <= time < start + length]
        if start + length <= ends:
            expected += [span] if span else []
            seen.update(span)
        elif span:
            # The first that is not over.
            assert rest == (span if set(span) - seen else [])
            assert held == len(set(span) - seen)
            break
    else:
        assert rest == []
    assert given_ones == expected


def all_due(spans, time):
    found = []
    while spans.due() is not None and spans.due() <= time:
        found.append(spans.take())
        spans._check()
    return found


def test_a_window_is_given_when_it_is_over_though_nothing_comes(threads):
    gate = threading.Event()

    def source():
        yield from (1, 2)
        gate.wait(60)
        yield 3

    with da.spawn_streaming() as s:
        out = s.output(da.window(da.spawn(source), seconds=0.1))
    assert next(out) == [1, 2]
    gate.set()
    assert list(out) == [[3]]
    assert s.wait(60)


def test_sliding_windows_have_a_value_as_often_as_it_is_in_them(threads):
    gate = threading.Event()

    def source():
        yield "only"
        gate.wait(60)

    with da.spawn_streaming() as s:
        out = s.output(da.window(da.spawn(source), seconds=0.2, step=0.05))
    # It is the first, so that the window which begins with it is the only one.
    assert next(out) == ["only"]
    gate.set()
    assert list(out) == []


def test_the_last_window_is_given_at_the_end(engine):
    with da.spawn_streaming() as s:
        out = s.output(da.window(da.spawn(iter(range(100))), seconds=1000.0))
    assert list(out) == [list(range(100))]
    assert s.wait(60)


def test_what_is_held_back_loses_no_value(threads):
    with da.spawn_streaming() as s:
        out = s.output(da.window(da.spawn(iter(range(20_000))), seconds=0.001), buffer=1)
    assert [value for one in out for value in one] == list(range(20_000))


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({}, TypeError, "window\\(\\) needs size=, a number of values, or seconds="),
        ({"size": 3, "seconds": 1.0}, TypeError, "one of the two, not size=3 and seconds=1.0"),
        ({"seconds": 0}, ValueError, "seconds= is a time above 0, not 0"),
        ({"seconds": math.inf}, ValueError, "seconds= is a time above 0, not inf"),
        ({"seconds": 1.0, "step": -1}, ValueError, "step= is a time above 0, not -1"),
        ({"size": 3, "step": 0.5}, ValueError, "step= is a number of values, 1 or more, not 0.5"),
    ],
)
def test_what_is_no_window_is_refused(given, error, told):
    with da.spawn_streaming() as s:
        numbers = da.spawn(iter([1]))
        with pytest.raises(error, match=told):
            da.window(numbers, **given)
    assert s.wait(60)
