"""Reading and writing by masks and arrays of positions against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray import advanced_indexing
from darray.testing.strategies import advanced_indices, arrays, blocks_for, dtypes, shapes
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")

#: Ways to come by an array: in memory, computed, in chunks that tasks made, seen otherwise.
FORMS = {
    "memory": (lambda x: x, lambda a: a),
    "computed": (lambda x: x + x, lambda a: a + a),
    "blocks": (lambda x: x.map_blocks(np.copy), lambda a: a),
    "persisted": (lambda x: x.copy().persist(), lambda a: a),
    "view": (lambda x: x.T[..., ::-1] if x.ndim else x, lambda a: a.T[..., ::-1] if a.ndim else a),
}


@st.composite
def sources(draw, dtype="biuf"):
    """Draw a DArray and a NumPy array of the same values."""
    lazy, plain = draw(pairs(shapes(4, 5), dtypes(dtype)))
    ours, theirs = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    with np.errstate(all="ignore"):
        return ours(lazy), np.asarray(theirs(plain))


def given_lazily(draw, key):
    """Some of the arrays of `key` as DArrays."""
    parts = []
    for part in key:
        if isinstance(part, np.ndarray) and draw(st.integers(0, 2)) == 2:
            part = da.distribute(part, draw(blocks_for(part.shape)))
            if part.dtype == bool and draw(st.booleans()):
                part = part & True
        parts.append(part)
    return tuple(parts)


@given(st.data(), sources())
@settings(max_examples=200, deadline=None)
def test_reading(data, source):
    lazy, plain = source
    key = data.draw(advanced_indices(plain.shape))
    try:
        expected = plain[key]
    except IndexError:
        # Arrays that do not broadcast.
        with pytest.raises(IndexError):
            lazy[given_lazily(data.draw, key)]
        return
    with np.errstate(all="ignore"):
        found = lazy[given_lazily(data.draw, key)]
        assert found.shape == expected.shape
        assert tuple(map(sum, found.chunks)) == found.shape
        assert same_arrays(found.collect(), np.array(expected))


@given(st.data(), sources("biu"))
@settings(max_examples=100, deadline=None)
def test_wrong_keys(data, source):
    key = data.draw(advanced_indices(source[1].shape, wrong=True))
    check(lambda x: x[key], *([one] for one in source))


@st.composite
def assignable(draw, shape):
    """Draw values that mostly broadcast to `shape`."""
    own = tuple([draw(st.sampled_from([size, size, size, 1])) for size in shape])
    own = own[draw(st.sampled_from([0, 0, 0, len(own)])) :]
    if draw(st.integers(0, 5)) == 5:
        own = (1, *own)
    if draw(st.integers(0, 19)) == 19:
        own = (*own, 2)
    return draw(arrays(own, draw(dtypes("biu"))))


def write_in_order(array, key, values):
    """Assign as NumPy does, and of several values for an element, in C order, the last."""
    places = np.arange(array.size).reshape(array.shape)[key]
    before = array.copy()
    array[key] = values
    if values.ndim > places.ndim:
        values = values.reshape(values.shape[values.ndim - places.ndim :])
    flat = before.reshape(-1)
    flat[places.reshape(-1)] = np.broadcast_to(values, places.shape).reshape(-1)
    return before


@given(st.data(), sources("iu"))
@settings(max_examples=200, deadline=None)
def test_writing(data, source):
    lazy, plain = source[0].copy(), source[1].copy()
    key = data.draw(advanced_indices(plain.shape))
    try:
        shape = plain[key].shape
    except IndexError:
        with pytest.raises(IndexError):
            lazy[key] = 0
        return
    values = data.draw(assignable(shape))
    given = values
    if data.draw(st.booleans()):
        given = da.distribute(values, data.draw(blocks_for(values.shape)))
    chunks = lazy.chunks
    lazy_key = given_lazily(data.draw, key)
    try:
        expected = write_in_order(plain, key, values)
    except (TypeError, ValueError) as error:
        if 0 not in (*shape, *values.shape):
            with pytest.raises(type(error)):
                lazy[lazy_key] = given
        return
    lazy[lazy_key] = given
    assert lazy.chunks == chunks
    assert same_arrays(lazy.collect(), expected)


@given(st.data(), pairs(shapes(3, 4), dtypes("iufc")))
@settings(max_examples=100, deadline=None)
def test_writing_one_value_where_a_mask_is_true(data, pair):
    lazy, plain = pair
    dimensions = data.draw(st.integers(0, plain.ndim))
    mask = data.draw(arrays(plain.shape[:dimensions], "bool"))
    lazy[da.distribute(mask, data.draw(blocks_for(mask.shape)))] = 3
    plain = plain.copy()
    plain[mask] = 3
    assert same_arrays(lazy.collect(), plain)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_adding_at_positions(data):
    lazy, plain = data.draw(pairs(shapes(3, 5, min_dims=1, min_side=1), dtypes("iu")))
    plain = plain.copy()
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(plain))
    positions = order[: data.draw(st.integers(0, len(order)))]
    with np.errstate(all="ignore"):
        lazy[positions] += 1
        plain[positions] += 1
    assert same_arrays(lazy.collect(), plain)


def test_the_last_of_several_values_for_an_element_stays():
    x = da.zeros(10, blocks=3)
    x[np.repeat([7, 2, 7], 100)] = np.arange(300)
    assert x.collect().tolist() == [0, 0, 199, 0, 0, 0, 0, 299, 0, 0]
    x[[1, 1]] = [[5, 6]]
    assert float(x[1]) == 6


def test_views_are_written_through():
    x = da.zeros((4, 6), blocks=(2, 4))
    x[1:, ::2][[0, 2], [1, 1]] = 5
    x.T[[0]] = 7
    expected = np.zeros((4, 6))
    expected[1:, ::2][[0, 2], [1, 1]] = 5
    expected.T[[0]] = 7
    assert same_arrays(x.collect(), expected)


def test_what_is_read_is_a_copy():
    x = da.arange(6, blocks=2)
    y = x[[0, 1]]
    mask = x > 3
    z = x[mask]
    x[...] = 0
    assert y.collect().tolist() == [0, 1]
    assert z.collect().tolist() == [4, 5]


def test_keys_are_captured_by_value():
    x = da.arange(6, blocks=2) * 10
    positions, mask = np.array([1, 2]), np.array([True] + [False] * 5)
    y, z = x[positions], x[mask]
    positions[:] = 5
    mask[:] = True
    assert y.collect().tolist() == [10, 20]
    assert z.collect().tolist() == [0]


def test_memory_that_is_shared_is_read_as_it_was():
    plain = np.arange(6)
    x = da.wrap(plain, da.Blocks(2))
    positions = da.wrap(np.array([5, 0]), da.Blocks(1))
    mask = da.wrap(np.arange(6) > 3, da.Blocks(4))
    y, z, w = x[[5, 1]], x[mask], (x + 0)[positions]
    x[[5, 4, 0]] = 70
    mask[...] = True
    positions[...] = 1
    assert plain.tolist() == [70, 1, 2, 3, 70, 70]
    assert [one.collect().tolist() for one in (y, z, w)] == [[5, 1], [4, 5], [5, 0]]


def test_errors_of_positions_that_are_computed_are_raised_at_once():
    x = da.arange(6, blocks=2)
    with pytest.raises(IndexError, match="index 6 is out of bounds for axis 0 with size 6"):
        x[x + 1]
    with pytest.raises(IndexError, match="must be of integer"):
        x[x / 2]
    with pytest.raises(IndexError, match="boolean index did not match"):
        x[(x > 2)[:4]]
    bad = x.map_blocks(lambda block: 1 // 0, dtype=bool)
    with pytest.raises(ZeroDivisionError):
        x[bad]


def test_masks_are_computed_once():
    seen = []

    def large(block):
        seen.append(block.sum())
        return block > 2

    x = da.arange(6, blocks=2)
    mask = x.map_blocks(large, dtype=bool)
    assert x[mask].collect().tolist() == [3, 4, 5]
    assert (x * 2)[mask].collect().tolist() == [6, 8, 10]
    x[mask] = [7, 8, 9]
    assert x.collect().tolist() == [0, 1, 2, 7, 8, 9]
    assert sorted(seen) == [1, 5, 9]


def test_a_mask_that_changes_is_refused(monkeypatch):
    """Where it is too large to be kept it is computed twice, and has to be the same."""
    monkeypatch.setattr(advanced_indexing, "SMALL", 0)
    monkeypatch.setattr(advanced_indexing, "KEPT_SHARE", 2**60)
    rng = np.random.default_rng(0)
    steady = da.from_function(lambda i: i % 3, 4096, blocks=1024) == 0
    unsteady = da.from_function(lambda i: rng.random(i.shape), 4096, blocks=1024) < 0.5
    x = da.arange(4096, blocks=1024)
    assert same_arrays(x[steady].collect(), np.arange(0, 4096, 3))
    with pytest.raises(RuntimeError, match=r"persist\(\) it first"):
        x[unsteady].collect()


@pytest.mark.parametrize("dtype", ["U3", "M8[D]", "c8", ">f8", [("a", "i4"), ("b", "f8")]])
def test_elements_of_any_dtype(dtype):
    plain = np.arange(12).astype("i4").astype(dtype if isinstance(dtype, str) else "i4")
    if not isinstance(dtype, str):
        records = np.zeros(12, dtype)
        records["a"] = plain
        plain = records
    plain = plain.reshape(3, 4)
    x = da.distribute(plain, da.Blocks(2, 3))
    key = ([2, 0], [[1], [3]])
    assert (x[key].collect() == plain[key]).all()
    mask = np.arange(12).reshape(3, 4) % 5 == 0
    assert (x[mask].collect() == plain[mask]).all()
    expected = plain.copy()
    expected[mask] = plain[0, 1]
    x[mask] = plain[0, 1]
    assert (x.collect() == expected).all()
    expected[[1, 0]] = plain[:2]
    x[[1, 0]] = plain[:2]
    found = x.collect()
    assert found.dtype == expected.dtype
    assert (found == expected).all()
