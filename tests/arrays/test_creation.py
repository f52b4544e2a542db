"""Arrays made of nothing, against NumPy."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import blocks_for, dtypes, shapes
from tests.arrays.agreement import assert_same, check, observe, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")

NUMBERS = (
    st.integers(-20, 20)
    | st.sampled_from([0.1, -0.25, 1 / 3, 1e-3, 2.5])
    | st.sampled_from([np.int8(3), np.float32(0.1), np.float16(1.5), np.int64(-4)])
)


def both(name, *arguments, blocks, **keywords):
    """Check that ``da.name`` does what ``np.name`` does, in a cut that fits."""
    theirs = observe(lambda: getattr(np, name)(*arguments, **keywords))
    ours = observe(lambda: getattr(da, name)(*arguments, blocks=blocks, **keywords))
    assert_same(ours, theirs)


@given(NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | dtypes("biufc"))
@settings(max_examples=300)
def test_arange(start, stop, step, dtype):
    if step is not None:
        assume(abs(float(step)) > 1e-4 or step == 0)
    given_arguments = (
        (start,) if stop is None else (start, stop) if step is None else (start, stop, step)
    )
    both("arange", *given_arguments, blocks=3, dtype=dtype)


@pytest.mark.parametrize(
    "arguments",
    [
        (np.datetime64("2020-01-01"), np.datetime64("2020-01-09")),
        (np.datetime64("2020-01-01"), np.datetime64("2020-01-09"), np.timedelta64(3, "D")),
        (np.datetime64("2020-01-01"), np.datetime64("2020-01-03"), np.timedelta64(5, "h")),
        (np.datetime64("2020-01-09"), np.datetime64("2020-01-01"), -2),
        (np.datetime64("2020-01-01"), 5),
        (np.timedelta64(9, "s"),),
        (np.timedelta64(9, "s"), np.timedelta64(1, "m"), np.timedelta64(7, "s")),
        (np.datetime64("2020-01-01"),),
        (5, 5 + 2**33, 2**30),
        (2**62, 2**62 + 9),
        (250, 300),
        (np.inf,),
        (0, 5, 0),
        (3, "a"),
    ],
)
def test_arange_of_times_and_extremes(arguments):
    both("arange", *arguments, blocks=3)


@pytest.mark.parametrize("dtype", ["?", "M8[D]", "m8[s]", "S1", "u1", "f2", "f4", "F"])
def test_arange_as(dtype):
    both("arange", 3, 260, blocks=100, dtype=dtype)
    both("arange", 2, blocks=1, dtype=dtype)


def test_arange_does_not_make_what_is_not_asked_for():
    assert int(da.arange(10**15, blocks=2**40)[-1]) == 10**15 - 1


@given(NUMBERS, NUMBERS, st.integers(-1, 9), st.booleans(), st.none() | dtypes("iufc"))
@settings(max_examples=200)
def test_linspace(start, stop, num, endpoint, dtype):
    if dtype is not None and dtype.kind == "u":
        start, stop = abs(start), abs(stop)
    both("linspace", start, stop, num, blocks=2, endpoint=endpoint, dtype=dtype)


def test_linspace_of_the_smallest_step():
    both("linspace", 0.0, 5e-324, 4, blocks=3)
    both("linspace", 0, 1, 2.5, blocks=2)


@given(st.integers(-1, 5), st.none() | st.integers(0, 5), st.integers(-6, 6), dtypes("biufc"))
@settings(max_examples=60)
def test_eye(rows, columns, k, dtype):
    both("eye", rows, columns, k, blocks=2, dtype=dtype)


@given(st.data(), shapes(), st.sampled_from(["zeros", "ones"]), dtypes())
@settings(max_examples=80)
def test_zeros_and_ones(data, shape, name, dtype):
    both(name, shape, blocks=data.draw(blocks_for(shape)), dtype=dtype)


@given(st.data(), shapes(max_dims=2, min_side=1), st.none() | dtypes())
@settings(max_examples=150)
def test_full(data, shape, dtype):
    value = data.draw(st.sampled_from([0, 300, -1, 2.5, True, np.nan, 1j, np.float32(0.1), 2**70]))
    both("full", shape, value, blocks=data.draw(blocks_for(shape)), dtype=dtype)


@pytest.mark.parametrize(
    "shape", [3, [2, 3], np.array([2, 3]), np.int8(4), 3.0, (2, 1.5), -1, (2, -3)]
)
@pytest.mark.parametrize("name", ["zeros", "ones"])
def test_shapes_are_given_as_in_numpy(name, shape):
    both(name, shape, blocks="auto")


def test_strings_are_filled_as_in_numpy():
    both("full", 3, "abc", blocks=2)
    both("full", 3, "abc", blocks=2, dtype="U")
    both("zeros", 3, blocks=2, dtype="U")


@given(pairs(shapes(max_dims=3)), st.none() | dtypes())
@settings(max_examples=60)
def test_alike(pair, dtype):
    for function in (np.zeros_like, np.ones_like):
        check(lambda x, f=function: f(x, dtype=dtype), *([one] for one in pair))
    check(lambda x: np.full_like(x, 1, dtype=dtype), *([one] for one in pair))
    lazy, plain = pair
    made = np.empty_like(lazy, dtype=dtype)
    assert (made.shape, made.dtype) == (plain.shape, np.empty_like(plain, dtype=dtype).dtype)
    assert made.chunks == np.ones_like(lazy).chunks == lazy.chunks
    assert np.zeros_like(lazy, shape=(7,)).shape == (7,)


@given(st.data(), shapes(max_dims=3))
@settings(max_examples=50)
def test_from_function(data, shape):
    def place(*indices):
        return sum((10**n * one for n, one in enumerate(indices)), start=0)

    made = da.from_function(place, shape, "i8", blocks=data.draw(blocks_for(shape)))
    expected = np.broadcast_to(np.fromfunction(place, shape, dtype="i8"), shape).copy()
    assert same_arrays(made.collect(), expected.astype("i8"))


def test_generated_arrays_are_not_there_until_they_are_needed():
    huge = da.ones((10**6, 10**6), blocks=1000)
    assert float(huge[5, 7:9].sum()) == 2.0
