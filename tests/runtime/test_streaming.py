"""Streaming tasks: what they take and give, and how they end."""

from __future__ import annotations

import random

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime.arguments import register_argument
from darray.runtime.engine import current_engine
from tests.runtime.shared import Notes

pytestmark = pytest.mark.usefixtures("engine")

TEN = list(range(10))


class Loaded:
    """An argument that is loaded where the task runs, as a file is."""

    def __init__(self, loads):
        self.loads = loads


def load(argument):
    argument.loads.append(1)
    return "read"


register_argument(Loaded, load)


def numbers(count=10):
    return da.spawn(iter(range(count)))


# What a task takes and gives


def test_values_come_in_order_each_once():
    with da.spawn_streaming() as s:
        squares = da.spawn(lambda x: x * x, numbers(1000))
        out = s.output(squares)
    assert list(out) == [x * x for x in range(1000)]
    assert s.wait()


def test_body_as_a_function_returns_what_it_returns():
    def body():
        squares = da.spawn(lambda x: x * x, numbers())
        return da.spawn(lambda x: x, squares)

    assert da.spawn_streaming(body).result() is None


def test_constants_are_given_to_every_call():
    seen = []
    with da.spawn_streaming() as s:
        da.spawn.options(max_evals=10, scope=da.scope(worker=0))(
            lambda *args: seen.append(args), 0, 42, (42, 43)
        )
    s.wait()
    assert seen == [(0, 42, (42, 43))] * 10


def test_keywords_and_streams_in_containers():
    with da.spawn_streaming() as s:
        a, b = numbers(), da.spawn(lambda x: 10 * x, numbers())
        out = s.output(da.spawn(lambda pair, scale=1: sum(pair) * scale, [a, b], scale=a))
    assert list(out) == [11 * x * x for x in TEN]


def test_the_same_stream_twice_is_the_same_value_twice():
    with da.spawn_streaming() as s:
        a = numbers()
        out = s.output(da.spawn(lambda x, y, z: (x, y, z), a, a, z=a))
    assert list(out) == [(x, x, x) for x in TEN]


def test_tasks_and_refs_are_given_as_their_values():
    ref, task = da.put(np.arange(3.0)), da.spawn(pow, 2, 3)
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x, a, n: float(a.sum()) + n + x, numbers(3), ref, task))
    assert list(out) == [11.0, 12.0, 13.0]


def test_a_file_is_read_once(tmp_path):
    loads = Notes()
    argument = Loaded(loads)
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x, text: f"{text}{x}", numbers(1000), argument))
    assert list(out) == [f"read{x}" for x in range(1000)]
    assert list(loads) == [1]


def test_a_mutable_is_used_by_one_call_at_a_time():
    total = da.mutable(lambda: [0])

    def add(box, x):
        box[0] += x

    with da.spawn_streaming() as s:
        da.spawn(add, total, numbers(100))
        da.spawn(add, total, numbers(100))
    s.wait()
    assert da.fetch(total) == [9900]


def test_arrays_are_given_on_read_only():
    with da.spawn_streaming() as s:
        arrays = da.spawn(lambda x: np.full(3, x), numbers(3))
        writable = da.spawn(lambda a: a.flags.writeable, arrays)
        out = s.output(writable)
        whole = s.output(arrays)
    assert list(out) == [False] * 3
    assert [a.tolist() for a in whole] == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("value", [1.5, np.int32(3), 10**40, "text", (1, 2)])
def test_values_keep_their_types(value):
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x: x, da.spawn(iter([value] * 3))))
    values = list(out)
    assert values == [value] * 3
    assert {type(one) for one in values} == {type(value)}


def test_generator_functions_give_any_number_of_values():
    def repeated(x):
        for _ in range(x):
            yield x

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(repeated, numbers(5)))
    assert list(out) == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_async_functions_and_generators():
    async def count():
        for x in range(10):
            yield x

    async def double(x):
        return 2 * x

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(double, da.spawn(count)))
    assert list(out) == [2 * x for x in TEN]


def test_an_ordinary_task_is_given_the_result_once():
    with da.spawn_streaming() as s:
        end = da.spawn(lambda x: da.finish_stream(result=123) if x == 5 else x, numbers())
    first, second = da.spawn(lambda x: x + 1, end), da.spawn(lambda x: x + 2, end)
    assert (first.result(), second.result()) == (124, 125)
    assert s.wait()


def test_the_current_task_is_the_streaming_one():
    with da.spawn_streaming() as s:
        named = da.spawn.options(name="asks")(lambda x: da.current_task().name, numbers(2))
        out = s.output(named)
    assert list(out) == ["asks", "asks"]


def test_ordinary_tasks_inside_a_streaming_one():
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x: da.spawn(pow, x, 2).result(), numbers()))
    assert list(out) == [x * x for x in TEN]


# The topologies of Dagger.jl's tests: each consumer gets exactly ten values.


def pair(x, y):
    return (x, y)


def test_one_consumer_and_one_by_itself():
    with da.spawn_streaming() as s:
        outs = [s.output(numbers()), s.output(numbers())]
    assert [list(out) for out in outs] == [TEN, TEN]


def test_a_chain():
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(lambda x: x + 1, numbers()))
    assert list(out) == [x + 1 for x in TEN]


def test_one_producer_with_two_consumers():
    with da.spawn_streaming() as s:
        x = numbers()
        outs = [s.output(x), s.output(da.spawn(lambda x: -x, x))]
    assert [list(out) for out in outs] == [TEN, [-x for x in TEN]]


def test_two_producers_with_one_consumer():
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(pair, numbers(), numbers()))
    assert list(out) == [(x, x) for x in TEN]


def test_two_producers_a_middle_and_a_consumer():
    with da.spawn_streaming() as s:
        middle = da.spawn(pair, numbers(), numbers())
        out = s.output(da.spawn(sum, middle))
    assert list(out) == [2 * x for x in TEN]


def test_a_diamond():
    with da.spawn_streaming() as s:
        x = numbers()
        y, z = da.spawn(lambda x: x + 1, x), da.spawn(lambda x: x + 2, x)
        out = s.output(da.spawn(pair, y, z))
    assert list(out) == [(x + 1, x + 2) for x in TEN]


def test_two_producers_a_middle_and_two_consumers():
    with da.spawn_streaming() as s:
        middle = da.spawn(pair, numbers(), numbers())
        outs = [s.output(da.spawn(sum, middle)), s.output(da.spawn(max, middle))]
    assert [list(out) for out in outs] == [[2 * x for x in TEN], TEN]


# How it ends


@pytest.mark.parametrize("most", [1, 100])
def test_max_evals_ends_the_task(most):
    with da.spawn_streaming() as s:
        source = da.spawn.options(max_evals=most)(random.random)
        out = s.output(source)
    values = list(out)
    assert len(values) == most
    assert all(0 <= one < 1 for one in values)
    assert source.result() is None


def test_max_evals_of_nothing_is_refused():
    with pytest.raises(ValueError, match="max_evals= is a number of calls, 1 or more, not 0"):
        da.spawn.options(max_evals=0)


@pytest.mark.parametrize("returns", [True, False])
def test_finish_stream_gives_value_and_result(returns):
    def few(x):
        if x < 3:
            return x
        if returns:
            return da.finish_stream("last", result="done")
        da.finish_stream("last", result="done")
        return "never"

    with da.spawn_streaming() as s:
        source = numbers(1000)
        end = da.spawn(few, source)
        out = s.output(end)
    assert list(out) == [0, 1, 2, "last"]
    assert end.result() == "done"
    assert source.result() is None
    assert s.wait()


def test_finish_stream_outside_a_streaming_task():
    with pytest.raises(RuntimeError, match="outside a streaming task"):
        da.finish_stream()
    with pytest.raises(RuntimeError, match="outside a streaming task"):
        da.spawn(da.finish_stream).result()


def test_what_a_generator_returns_is_the_result():
    def source():
        yield 1
        return "through"

    with da.spawn_streaming():
        task = da.spawn(source)
    assert task.result() == "through"


def test_the_shorter_input_ends_the_task():
    with da.spawn_streaming() as s:
        out = s.output(da.spawn(pair, numbers(3), numbers(1000)))
    assert list(out) == [(0, 0), (1, 1), (2, 2)]
    assert s.wait()


def test_an_exception_fails_the_task_and_those_that_need_it():
    def refuse(x):
        if x == 5:
            raise ValueError("no five")
        return x

    with da.spawn_streaming() as s:
        source = numbers(1000)
        bad = da.spawn(refuse, source)
        after = da.spawn(lambda x: x, bad)
        other = s.output(numbers())
    assert list(other) == TEN
    with pytest.raises(ValueError, match="no five") as raised:
        after.result()
    assert raised.value is bad.exception()
    assert "in task" in str(raised.value.__notes__)
    assert raised.traceback[-1].name == "refuse"
    source.wait()
    assert source.exception() is None
    with pytest.raises(ValueError, match="no five"):
        s.wait()


def test_what_a_failure_drops_is_counted():
    def refuse(x):
        raise ValueError("none at all")

    with da.spawn_streaming():
        bad = da.spawn.options(buffer=4)(refuse, numbers(4))
    bad.wait()
    assert any("3 value(s)" in note for note in bad.exception().__notes__)


def test_an_output_gives_what_came_before_the_failure():
    def source():
        yield from range(3)
        raise ValueError("over")

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(source))
    assert [next(out) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="over"):
        next(out)


def test_a_block_that_raises_begins_nothing():
    called = []
    tasks = []

    def body():
        tasks.append(da.spawn(lambda x: called.append(x), numbers()))
        raise KeyError("block")

    with pytest.raises(KeyError):
        da.spawn_streaming(body)
    assert isinstance(tasks[0].exception(), da.CancelledError)
    assert called == []


def test_waiting_in_the_block_is_refused():
    with da.spawn_streaming():
        task = numbers()
        with pytest.raises(da.SchedulingError, match="held by a queue"):
            task.result()


def test_spawning_after_the_block_is_ordinary():
    with da.spawn_streaming() as s:
        numbers()
    assert da.spawn(abs, -1).result() == 1
    s.wait()
    with pytest.raises(RuntimeError, match="entered before"):
        s.__enter__()


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "no size", True])
def test_buffers_of_no_size_are_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        da.spawn_streaming(buffer=wrong)


def test_what_is_neither_function_nor_iterator_is_refused():
    with pytest.raises(TypeError, match="neither callable nor an iterator"), da.spawn_streaming():
        da.spawn([1, 2, 3])


def test_max_evals_lets_a_generator_go_on_to_its_end():
    def repeated(x):
        yield from [x] * 100

    async def repeated_async(x):
        for _ in range(100):
            yield x

    for function in (repeated, repeated_async):
        with da.spawn_streaming() as s:
            out = s.output(da.spawn.options(max_evals=2)(function, numbers()))
        assert list(out) == [0] * 100 + [1] * 100


@pytest.mark.parametrize("buffer", [1, 3])
def test_an_async_generator_that_is_held_back_goes_on(buffer):
    closed = Notes()

    async def count():
        try:
            for x in range(10):
                yield x
        finally:
            closed.append("closed")

    with da.spawn_streaming(buffer=buffer) as s:
        out = s.output(da.spawn(count))
    assert list(out) == TEN
    assert s.wait(60)
    assert closed == ["closed"]


def test_a_generator_that_nobody_takes_from_any_more_is_closed():
    closed = Notes()

    def count():
        try:
            yield from range(1000)
        finally:
            closed.append("plain")

    async def count_async():
        try:
            for x in range(1000):
                yield x
        finally:
            closed.append("async")

    for function in (count, count_async):
        with da.spawn_streaming(buffer=2) as s:
            out = s.output(da.spawn(function))
        assert next(out) == 0
        out.close()
        assert s.wait(60)
    engine = current_engine()
    assert engine.wait(engine.unfinished(), 60)
    assert closed == ["plain", "async"]
