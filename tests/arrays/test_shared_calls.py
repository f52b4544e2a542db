"""Equal parts of an expression are computed once, wherever they were written twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.lowering.fusion import fuse

SIZE = 200


def calls(array):
    return len(fuse([array.expression], array.shape).program.instructions)


@pytest.fixture
def x():
    return da.distribute(np.linspace(-2.0, 2.0, SIZE), 60)


def test_equal_calls_are_one(x):
    assert calls((x * 2 + 1) * (x * 2 + 1)) == 3
    assert calls(np.sqrt(abs(x)) + np.sqrt(abs(x))) == 3
    assert calls(np.where(x > 0, x, 1) - np.where(x > 0, x, 1)) == 3
    assert calls(x.astype("f4") + x.astype("f4")) == 2
    assert calls(x[1:] * 2 + x[1:] * 2) == 2


def test_calls_that_differ_are_two(x):
    assert calls((x * 2) + (x * 2.0)) == 3
    assert calls(x * 0.0 + x * -0.0) == 3
    assert calls(x * np.float32(2) + x * np.float64(2)) == 3
    assert calls(x[1:] * 2 + x[:-1] * 2) == 3
    assert calls(x.astype("f4") + x.astype("f8").astype("f4")) <= 3
    with np.errstate(all="ignore"):
        quiet = x / x
    with np.errstate(all="raise"):
        strict = x / x
    assert calls(quiet + strict) == 3
    first, second = np.divmod(x, 3)
    assert calls(first + second) == 3


def test_functions_that_may_give_another_result_are_called_each_time(x):
    counted = np.frompyfunc(lambda value: value, 1, 1)
    assert calls(counted(x) + counted(x)) == 3


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_sharing_never_changes_a_value(data):
    values = np.random.default_rng(0).normal(size=SIZE)
    values[:4] = [np.nan, np.inf, 0.0, -0.0]
    pairs = [(values, da.distribute(values, 60))]
    functions = [
        np.add,
        np.multiply,
        np.subtract,
        lambda a, b: np.where(a > b, a, b),
        lambda a, b: a * 0.0 + b,
        lambda a, b: a * -0.0 - b,
        lambda a, b: (a * np.float32(0.1)).astype("f4") + b,
    ]
    with np.errstate(all="ignore"):
        for _ in range(data.draw(st.integers(2, 8))):
            (a, x), (b, y) = data.draw(st.sampled_from(pairs)), data.draw(st.sampled_from(pairs))
            function = data.draw(st.sampled_from(functions))
            pairs.append((function(a, b), function(x, y)))
            # The same once more, as another expression.
            pairs.append((function(a, b), function(x, y)))
        expected = pairs[-1][0] + pairs[-2][0]
        found = pairs[-1][1] + pairs[-2][1]
    np.testing.assert_array_equal(found.collect(), expected)
    np.testing.assert_array_equal(np.signbit(found.collect()), np.signbit(expected))
