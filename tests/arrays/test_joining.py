"""Joining, repeating, splitting and turning arrays against NumPy: bit for bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import dtypes, shapes
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")


def all_of(data, count, kind="biufc"):
    """Draw DArrays of shapes that go together more often than not, and their NumPy twins."""
    shape = data.draw(shapes(3, 3))
    lazy, plain = [], []
    for _ in range(count):
        other = list(shape)
        if other and data.draw(st.booleans()):
            other[data.draw(st.integers(0, len(other) - 1))] = data.draw(st.integers(0, 3))
        one, same = data.draw(pairs(tuple(other), dtypes(data.draw(st.sampled_from(kind)))))
        lazy.append(one)
        plain.append(same)
    return lazy, plain


STACKS = [np.vstack, np.hstack, np.dstack, np.column_stack]


@given(st.sampled_from(STACKS), st.data())
@settings(max_examples=80)
def test_stacks(stack, data):
    lazy, plain = all_of(data, data.draw(st.integers(1, 3)))
    keywords = {}
    if stack in (np.vstack, np.hstack) and data.draw(st.booleans()):
        keywords = {"dtype": data.draw(dtypes("fc")), "casting": "unsafe"}
    check(lambda *every: stack(every, **keywords), lazy, plain, {"all": "ignore"})


@given(st.data(), st.none() | st.integers(-3, 3))
@settings(max_examples=100)
def test_appending_and_flat_concatenation(data, axis):
    lazy, plain = all_of(data, 2)
    check(lambda a, b: np.append(a, b, axis), lazy, plain, {"all": "ignore"})
    check(lambda a, b: np.concatenate([a, b], axis=None), lazy, plain, {"all": "ignore"})


@given(pairs(shapes(3, 4)), st.integers(0, 3), st.none() | st.integers(-3, 3))
@settings(max_examples=80)
def test_repeat(pair, count, axis):
    check(lambda x: np.repeat(x, count, axis), *([one] for one in pair))
    check(lambda x: x.repeat(np.array([count]), axis=axis), *([one] for one in pair))


@given(pairs(shapes(3, 3)), st.lists(st.integers(-1, 3), max_size=4) | st.integers(0, 3))
@settings(max_examples=80)
def test_tile(pair, counts):
    # Without elements NumPy does not look at the numbers.
    assume(pair[1].size or np.min(counts, initial=0) >= 0)
    check(lambda x: np.tile(x, counts), *([one] for one in pair))


@given(pairs(shapes(3, 3)), st.lists(st.integers(-1, 5), max_size=3) | st.integers(0, 40))
@settings(max_examples=80)
def test_resize(pair, shape):
    check(lambda x: np.resize(x, shape), *([one] for one in pair))


def test_repeated_arrays_are_their_own():
    x = da.arange(3)
    for repeated in (np.repeat(x, 1), np.tile(x, 1), np.resize(x, 3)):
        repeated[0] = 7
    assert same_arrays(x.collect(), np.arange(3))


@pytest.mark.parametrize("repeats", [[1, 2, 3], np.ones((3, 1), int)])
def test_other_repeats_for_each_element_are_refused(repeats):
    with pytest.raises(NotImplementedError, match="one number of repeats"):
        np.repeat(da.arange(3), repeats)


SPLITS = {
    "split": np.split,
    "array_split": np.array_split,
    "hsplit": np.hsplit,
    "vsplit": np.vsplit,
    "dsplit": np.dsplit,
}


@given(st.sampled_from(sorted(SPLITS)), pairs(shapes(3, 4)), st.data())
@settings(max_examples=100)
def test_splits(name, pair, data):
    where = data.draw(st.integers(-1, 4) | st.lists(st.integers(-6, 6), max_size=3))
    axis = data.draw(st.sampled_from([(), (0,), (1,), (-1,), (3,)])) if "_" in name else ()
    check(lambda x: SPLITS[name](x, where, *axis), *([one] for one in pair))


def test_parts_are_views():
    x = da.arange(6)
    np.split(x, 2)[1][0] = 9
    np.unstack(np.reshape(x, (6, 1)), axis=1)[0][0] = 8
    assert same_arrays(x.collect(), np.array([8, 1, 2, 9, 4, 5]))


@given(pairs(shapes(3, 3)), st.integers(-4, 4))
@settings(max_examples=40)
def test_unstack(pair, axis):
    check(lambda x: np.unstack(x, axis=axis), *([one] for one in pair))


@given(pairs(shapes(4, 3)), st.integers(-5, 5), st.lists(st.integers(-4, 4), max_size=3))
@settings(max_examples=80)
def test_turning(pair, number, axes):
    check(lambda x: np.rot90(x, number, axes), *([one] for one in pair))
    check(lambda x: np.rot90(x, number), *([one] for one in pair))
    check(np.fliplr, *([one] for one in pair))
    check(np.flipud, *([one] for one in pair))
    start = axes[0] if axes else 0
    check(lambda x: np.rollaxis(x, number, start), *([one] for one in pair))


@given(st.data())
@settings(max_examples=40)
def test_axes_at_least(data):
    lazy, plain = all_of(data, data.draw(st.integers(1, 3)))
    for raised in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
        check(lambda *every, raised=raised: raised(*every), lazy, plain)
