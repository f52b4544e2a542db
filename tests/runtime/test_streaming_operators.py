"""Operators on streams, and calls made in parallel."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import darray.runtime as da
from tests.runtime.shared import Notes

pytestmark = pytest.mark.usefixtures("engine")


def given(values):
    return da.spawn(iter(values))


def run(operate):
    """All that a stream gives, which `operate` makes in a block."""
    with da.spawn_streaming() as s:
        out = s.output(operate())
    values = list(out)
    assert s.wait(60)
    return values


# Merging


def test_merge_gives_all_values_of_each_in_order():
    values = run(lambda: da.merge(given(range(100)), given(range(1000, 1050)), given([])))
    assert [one for one in values if one < 1000] == list(range(100))
    assert [one for one in values if one >= 1000] == list(range(1000, 1050))


def test_merge_of_the_same_stream_twice_gives_each_value_twice():
    def twice():
        stream = given(range(20))
        return da.merge(stream, stream)

    assert sorted(run(twice)) == sorted([*range(20), *range(20)])


@pytest.mark.parametrize("buffer", [1, 64])
def test_merge_takes_from_all_where_one_always_has_something(buffer):
    """An endless stream, and a slow consumer, do not keep others from coming."""
    with da.spawn_streaming(buffer=buffer) as s:
        endless = da.spawn(itertools.repeat(0))
        other = given(range(1, 51))
        out = s.output(da.merge(endless, other), buffer=1)
    seen = []
    for _, value in zip(range(20_000), out, strict=False):
        seen.append(value)
        if value == 50:
            break
    out.close()
    assert s.wait(60)
    assert [one for one in seen if one] == list(range(1, 51))


def test_merge_of_nothing_is_refused():
    with pytest.raises(TypeError, match="at least one stream"), da.spawn_streaming():
        da.merge()


def test_operators_belong_into_a_block():
    with da.spawn_streaming() as s:
        stream = given(range(3))
    s.wait()
    with pytest.raises(RuntimeError, match="belongs into the block"):
        da.merge(stream)
    with pytest.raises(TypeError, match="takes streaming tasks"), da.spawn_streaming():
        da.merge([1, 2, 3])


# Joining


def first(pair):
    return pair[0]


def test_join_pairs_the_first_with_the_first_of_a_key():
    a = [("x", 1), ("y", 2), ("x", 3), ("z", 4)]
    b = [("z", 10), ("x", 20), ("x", 30), ("w", 40)]
    rows = run(lambda: da.join(given(a), given(b), key=first))
    assert sorted(rows) == [(a[0], b[1]), (a[2], b[2]), (a[3], b[0])]


def test_join_of_three_with_a_key_for_each():
    keys = (first, lambda number: number, len)
    rows = run(
        lambda: da.join(given([(1, "a"), (2, "b")]), given([2, 1]), given(["x", "xy"]), key=keys)
    )
    assert sorted(rows) == [((1, "a"), 1, "x"), ((2, "b"), 2, "xy")]


def test_join_ends_when_no_tuple_can_come_any_more():
    with da.spawn_streaming() as s:
        endless = da.spawn(itertools.count())
        out = s.output(da.join(endless, given([3, 5]), key=lambda value: value))
    assert list(out) == [(3, 3), (5, 5)]
    assert s.wait(60)


def test_join_holds_back_the_input_of_which_too_many_wait():
    calls = Notes()

    def source():
        for value in itertools.count():
            calls.append(value)
            yield value

    def late():
        yield from (9, 8, 7)

    with da.spawn_streaming(buffer=2) as s:
        out = s.output(da.join(da.spawn(source), da.spawn(late), key=abs, most=10))
    assert sorted(out) == [(7, 7), (8, 8), (9, 9)]
    assert s.wait(60)
    # Ten that wait, three that went, two in the buffer, and one that was made meanwhile.
    assert len(calls) <= 17


def test_join_that_can_never_go_on_is_an_error():
    with da.spawn_streaming() as s:
        joined = da.join(
            da.spawn(itertools.count(0, 2)), da.spawn(itertools.count(1, 2)), key=abs, most=5
        )
        out = s.output(joined)
    with pytest.raises(ValueError, match=r"join\(\) holds \[5, 5\] values of its streams"):
        list(out)
    with pytest.raises(ValueError, match="greater most="):
        s.wait(60)


def test_a_key_that_raises_fails_the_join():
    with da.spawn_streaming() as s:
        joined = da.join(given([1]), given(["no number"]), key=lambda value: value + 1)
    with pytest.raises(TypeError):
        joined.result()
    with pytest.raises(TypeError):
        s.wait(60)


@pytest.mark.parametrize("wrong", [5, (abs,), (abs, 1)])
def test_keys_that_are_none_are_refused(wrong):
    with pytest.raises(TypeError, match="key= is one function"), da.spawn_streaming():
        da.join(given([1]), given([1]), key=wrong)


# Batches and windows


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_batches_of_so_many(most):
    values = list(range(20))
    expected = [values[start : start + most] for start in range(0, 20, most)]
    assert run(lambda: da.batch(given(values), most)) == expected


def test_batches_of_nothing():
    assert run(lambda: da.batch(given([]), 3)) == []


def test_a_batch_that_is_full_waits_for_no_time():
    values = run(lambda: da.batch(given(range(10)), 5, seconds=1000))
    assert values == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("wrong", [0, -1, "soon"])
def test_times_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="seconds= is a time above 0"), da.spawn_streaming():
        da.batch(given([1]), 2, seconds=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_counts_that_are_none_are_refused(wrong):
    for operate in (da.batch, da.window):
        with pytest.raises(ValueError, match="is a number of values"), da.spawn_streaming():
            operate(given([1]), wrong)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
@pytest.mark.parametrize("step", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 10, 23])
def test_windows(size, step, count):
    values = list(range(count))
    windows = run(lambda: da.window(given(values), size, step))
    step = step or size
    whole = [values[start : start + size] for start in range(0, count - size + 1, step)]
    assert windows[: len(whole)] == whole
    # A last one, shorter, where values are left that were in none.
    covered = whole[-1][-1] + 1 if whole else 0
    start = len(whole) * step
    assert windows[len(whole) :] == ([values[start:]] if max(start, covered) < count else [])


# Calls in parallel


def test_parallel_calls_keep_their_order():
    def work(x):
        for _ in range((x * 7919) % 5000):
            pass
        return x

    assert run(lambda: da.spawn.options(parallel=4)(work, given(range(100)))) == list(range(100))


def test_map_in_parallel():
    with da.spawn_streaming() as s:
        out = s.output(s.map(pow, given(range(10)), given([2] * 10), parallel=3))
    assert list(out) == [x * x for x in range(10)]


def test_an_exception_of_a_parallel_call_comes_after_the_values_before():
    def work(x):
        if x == 20:
            raise ValueError("twenty")
        return x

    with da.spawn_streaming() as s:
        task = da.spawn.options(parallel=4)(work, da.spawn(itertools.count()))
        out = s.output(task)
    values = []
    with pytest.raises(ValueError, match="twenty"):
        values.extend(iter(lambda: next(out), None))
    with pytest.raises(ValueError, match="twenty"):
        s.wait(60)
    assert isinstance(task.exception(), ValueError)


@pytest.mark.parametrize("is_async", [False, True])
def test_finish_stream_in_a_parallel_call(is_async):
    def work(x):
        return da.finish_stream(-1, result="done") if x == 20 else x

    async def work_async(x):
        await asyncio.sleep(0)
        return work(x)

    with da.spawn_streaming() as s:
        task = da.spawn.options(parallel=4)(
            work_async if is_async else work, da.spawn(itertools.count())
        )
        out = s.output(task)
    assert list(out) == [*range(20), -1]
    assert task.result() == "done"
    assert s.wait(60)


def test_parallel_sources_make_so_many_calls():
    assert run(lambda: da.spawn.options(parallel=3, max_evals=20)(lambda: 5)) == [5] * 20


@pytest.mark.parametrize("parallel", [0, -1, 2.5, True])
def test_parallel_of_no_number_is_refused(parallel):
    with pytest.raises((TypeError, ValueError), match="parallel="):
        da.spawn.options(parallel=parallel)


def test_parallel_generators_are_refused():
    def source(x):
        yield x

    with pytest.raises(TypeError, match="each of which gives one value"), da.spawn_streaming():
        da.spawn.options(parallel=2)(source, given([1]))


def test_parallel_calls_of_a_mutable_are_refused():
    box = da.mutable(list)
    with pytest.raises(TypeError, match="cannot all use a mutable"), da.spawn_streaming():
        da.spawn.options(parallel=2)(lambda box, x: x, box, given([1]))
