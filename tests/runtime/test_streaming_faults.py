"""What goes wrong in a stream stays where it belongs, and is told."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import suppress

import numpy as np
import pytest

import darray.runtime as da
from tests.runtime.stream_programs import until

pytestmark = pytest.mark.usefixtures("engine")


def numbers(count=10):
    return da.spawn(iter(range(count)))


class Unpicklable:
    """What cannot go to another worker, or what cannot arrive there."""

    def __init__(self, arrives):
        self.arrives = arrives

    def __reduce__(self):
        if self.arrives:
            return (refuse_to_arrive, ())
        raise ValueError("does not go")


def refuse_to_arrive():
    raise ValueError("does not arrive")


def test_an_array_as_the_only_argument():
    with da.spawn_streaming() as s:
        out = s.output(da.spawn.options(max_evals=2)(np.sum, np.arange(3.0)))
    assert list(out) == [3.0, 3.0]


def test_a_generator_keeps_its_context_between_turns():
    def source():
        with np.errstate(divide="ignore"):
            for number in range(1, 1001):
                yield float(np.float64(number) / 0)

    with da.spawn_streaming(buffer=2) as s:
        out = s.output(da.spawn(source), buffer=1)
    assert list(out) == [float("inf")] * 1000
    assert np.geterr()["divide"] == "warn"


@pytest.mark.parametrize("takes", [False, True])
def test_an_async_generator_keeps_its_context_between_turns(takes):
    seen = contextvars.ContextVar("seen", default=0)

    async def source(count=1000):
        with np.errstate(divide="ignore"):
            for _ in range(count):
                await asyncio.sleep(0)
                seen.set(seen.get() + 1)
                yield seen.get(), float(np.float64(1) / 0), da.current_task() is not None

    with da.spawn_streaming(buffer=2) as s:
        values = da.spawn(source, da.spawn(iter([200, 300]))) if takes else da.spawn(source, 500)
        out = s.output(values, buffer=1)
    assert list(out) == [(number, float("inf"), True) for number in range(1, 501)]
    assert seen.get() == 0
    assert np.geterr()["divide"] == "warn"


def test_an_async_generator_that_others_leave_is_closed_in_its_context():
    ended = []

    async def source():
        with np.errstate(divide="ignore"):
            try:
                for number in range(1000):
                    yield number
            finally:
                ended.append(np.geterr()["divide"])

    with da.spawn_streaming(buffer=2) as s:
        few = da.spawn.options(max_evals=3)(lambda x: x, da.spawn(source))
        out = s.output(few, buffer=1)
    assert list(out) == [0, 1, 2]
    assert s.wait(60)
    until(lambda: ended == ["ignore"])


def test_an_index_error_of_a_task_that_was_given_fails_the_stream():
    def tasks():
        for number in range(5):
            yield da.spawn(lambda x: (10, 11, 12)[x], number)

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x, y: (x, y), da.spawn(tasks), numbers(5)))
    with pytest.raises(IndexError):
        list(out)


def test_a_block_that_raises_ends_its_outputs():
    outputs = []

    def body():
        outputs.append(current.output(numbers()))
        raise KeyError("block")

    current = da.spawn_streaming()
    with pytest.raises(KeyError), current:
        body()
    with pytest.raises(da.CancelledError):
        next(outputs[0])


def test_a_generator_that_raises_when_it_is_closed_disturbs_nobody(caplog):
    def source():
        try:
            yield from range(1000)
        finally:
            raise KeyError("at last")

    with caplog.at_level(logging.ERROR, "darray"), da.spawn_streaming() as s:
        first = da.spawn(source)
        da.spawn.options(max_evals=3)(lambda x: x, first)
        other = s.output(da.spawn(lambda x: x, numbers(100)))
    assert list(other) == list(range(100))
    assert s.wait(60)
    assert first.exception() is None
    # The thread that ran it closes it, which may be after its task has ended.
    until(lambda: "at last" in caplog.text)


def test_a_task_of_another_block_that_has_not_ended_is_refused():
    with da.spawn_streaming():
        outer = numbers()
        with pytest.raises(RuntimeError, match="has not ended"):
            da.spawn_streaming(lambda: da.spawn(abs, outer))


def test_a_stream_that_has_ended_gives_nothing():
    with da.spawn_streaming() as s:
        ended = numbers(3)
    s.wait()
    called = []
    with da.spawn_streaming() as s:
        da.spawn(lambda x: called.append(x), ended)
    assert s.wait(60)
    assert called == []


def test_the_first_failure_is_raised():
    def late(x):
        early.wait()
        raise ValueError("late")

    def soon(x):
        raise KeyError("early")

    with da.spawn_streaming() as s:
        source = numbers()
        early = da.spawn.options(name="early")(soon, source)
        da.spawn.options(scope=da.scope(worker=0))(lambda x: late(x), numbers())
    with pytest.raises(KeyError, match="early"):
        s.wait()


@pytest.mark.parametrize(
    "options",
    [{"buffer": 3}, {"max_evals": 3}, {"parallel": 2}, {"when_full": "latest"}],
    ids=lambda options: next(iter(options)),
)
def test_options_of_streams_are_refused_elsewhere(options):
    with pytest.raises(TypeError, match="is for tasks of a"):
        da.spawn.options(**options)(abs, -1)


def test_retries_of_what_gives_several_values_are_refused():
    def several(x):
        yield x

    with da.spawn_streaming(), pytest.raises(TypeError, match="retries= calls a plain function"):
        da.spawn.options(retries=1, retry_on=(ValueError,))(several, numbers())


def test_retries_let_the_end_through():
    def few(x):
        return x if x < 3 else da.finish_stream()

    with da.spawn_streaming() as s:
        retrying = da.spawn.options(retries=5, retry_on=(BaseException,))
        out = s.output(retrying(few, numbers()))
    assert list(out) == [0, 1, 2]


def test_buffers_of_what_takes_no_streams_are_refused():
    with da.spawn_streaming(), pytest.raises(TypeError, match="it takes no streams"):
        da.spawn.options(buffer=3)(int)


def test_a_buffered_stream_is_refused_by_an_ordinary_task():
    with da.spawn_streaming() as s:
        source = numbers()
    s.wait()
    with pytest.raises(TypeError, match="give an ordinary task the streaming task itself"):
        da.spawn(abs, da.buffered(source)).result()


def test_a_body_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="takes a function, or nothing, not 8"):
        da.spawn_streaming(8)


@pytest.mark.parametrize("arrives", [True, False])
def test_what_cannot_go_to_another_worker_fails_one_of_the_two(workers, arrives):
    with da.spawn_streaming() as s:
        values = da.spawn(iter([1, Unpicklable(arrives), 3]))
        there = da.spawn.options(scope=da.scope(worker=1))(lambda x: 1, values)
        other = s.output(da.spawn(lambda x: x, numbers()))
    assert list(other) == list(range(10))
    there.wait()
    assert isinstance(there.exception(), ValueError)
    with pytest.raises(ValueError, match="does not"):
        s.wait()


def test_the_values_that_no_task_saw_are_counted():
    def refuse(x):
        raise ValueError("none at all")

    with da.spawn_streaming() as s:
        source = da.spawn.options(name="source")(iter(range(6)))
        middle = da.spawn.options(name="middle", buffer=6)(lambda x: x, source)
        da.spawn.options(name="last", buffer=2)(refuse, middle)
    with pytest.raises(ValueError, match="none at all") as raised:
        s.wait()
    (note,) = [one for one in raised.value.__notes__ if "no task saw" in one]
    seen = {(edge.producer, edge.consumer): edge for edge in s.statistics().edges}
    for (producer, consumer), edge in seen.items():
        assert edge.sent == edge.received + edge.dropped
        assert (f"{producer} -> {consumer}: {edge.dropped}" in note) == bool(edge.dropped)
    assert seen["middle", "last"].received == 1


def taken(output):
    """The values that an output gives before the error of its task."""
    values = []
    with suppress(ValueError):
        values.extend(iter(output))
    return values


@pytest.mark.parametrize("kind", ["batch", "window", "join"])
def test_the_values_that_an_operator_holds_are_counted(kind):
    """Each that was given is in what the operator gave, or among those that are told of."""

    def some(x):
        if x == 7:
            raise ValueError("no more")
        return x

    with da.spawn_streaming(buffer=3) as s:
        values = da.spawn.options(name="values")(some, numbers(20))
        held = {
            "batch": lambda: da.batch(values, 4),
            "window": lambda: da.window(values, 4, step=4),
            "join": lambda: da.join(values, key=lambda x: x),
        }[kind]()
        out = s.output(held, buffer=100)
    given = [one for value in taken(out) for one in value]
    with pytest.raises(ValueError, match="no more") as raised:
        s.wait()
    assert raised.value is held.exception()
    told = "value(s) that streaming task"
    counts = [int(one.split()[0]) for one in raised.value.__notes__ if f"{told} '{kind}'" in one]
    assert sum(counts) == 7 - len(given)
    edge = next(one for one in s.statistics().edges if one.consumer == kind)
    lost = edge.received - len(given)
    assert any(f"held by {kind}: {lost}" in one for one in raised.value.__notes__) == bool(lost)


def test_a_shard_is_used_by_the_piece_where_a_call_runs():
    counts = da.shard(lambda: [0])

    def count(piece, x):
        piece[0] += x

    with da.spawn_streaming() as s:
        da.spawn(count, counts, numbers(100))
        da.spawn(count, counts, numbers(100))
    assert s.wait(60)
    assert sum(piece[0] for piece in da.fetch(list(counts))) == 9900
