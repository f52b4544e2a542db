"""NumPy's functions that read by positions and masks, and those that write so, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import arrays, blocks_for, dtypes, shapes
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")


def lists_of(least, most, size=6):
    return st.lists(st.integers(least, most), max_size=size)


@st.composite
def positions(draw, length):
    """Draw positions as `np.take` is given them: a number, a list, an array of some axes."""
    dtype = draw(st.sampled_from(["int64", "int64", "int8", "bool", "uint64", "float64"]))
    shape = draw(st.sampled_from([(), (3,), (2, 2), (0,), (1, 3)]))
    elements = {"bool": st.booleans(), "uint64": st.integers(0, length)}.get(
        dtype, st.integers(-length - 1, length)
    )
    found = np.array(draw(st.lists(elements, min_size=12, max_size=12)))
    return np.resize(found, shape).astype(dtype)


@given(st.data(), pairs(shapes(3, 4)), st.sampled_from(["raise", "wrap", "clip", "no such"]))
@settings(max_examples=80, deadline=None)
def test_take(data, pair, mode):
    one = pair[1]
    most = max(1, one.ndim)
    axis = data.draw(st.none() | st.integers(-most, most - 1))
    length = one.size if axis is None or not one.ndim else one.shape[axis]
    # NumPy never comes to an end where it wraps positions around nothing.
    assume(mode != "wrap" or length)
    indices = data.draw(positions(length))
    given = data.draw(st.sampled_from([indices, indices.tolist(), da.distribute(indices)]))
    plain = np.asarray(given) if isinstance(given, da.DArray) else given
    check(lambda x, i: np.take(x, i, axis, mode=mode), (pair[0], given), (pair[1], plain))


def test_take_into_an_array():
    with pytest.raises(np.exceptions.AxisError):
        np.take(da.zeros(3), [0], axis=1)
    plain = np.arange(12.0).reshape(3, 4)
    x = da.distribute(plain, da.Blocks(2, 2))
    out = np.zeros((3, 2))
    assert np.take(x, [3, 0], axis=1, out=out) is out
    assert (out == plain[:, [3, 0]]).all()
    y = da.zeros((3, 2), blocks=1)
    assert x.take([3, 0], axis=1, out=y) is y
    assert (y.collect() == out).all()
    assert np.take(plain, da.arange(2), axis=0).tolist() == plain[:2].tolist()
    assert int(da.arange(5).take(3)) == 3


@given(st.data(), pairs(shapes(3, 4, min_dims=1)))
@settings(max_examples=50, deadline=None)
def test_take_along_axis(data, pair):
    plain = pair[1]
    axis = data.draw(st.none() | st.integers(-plain.ndim, plain.ndim - 1))
    if axis is None:
        indices = np.array(data.draw(lists_of(-plain.size, plain.size)), int)
    else:
        shape = list(plain.shape)
        shape[axis] = data.draw(st.integers(0, 3))
        if data.draw(st.integers(0, 4)) == 4:
            shape[data.draw(st.integers(0, plain.ndim - 1))] = 1
        indices = data.draw(arrays(tuple(shape), "int8")) % (plain.shape[axis] + 1)
    lazy = da.distribute(indices, data.draw(blocks_for(indices.shape)))
    check(lambda x, i: np.take_along_axis(x, i, axis), (pair[0], lazy), (plain, indices))
    check(lambda x: np.take_along_axis(x, indices / 2, axis), (pair[0],), (plain,))


@given(pairs(shapes(4, 4)))
@settings(max_examples=50, deadline=None)
def test_places_of_what_is_not_zero(pair):
    for function in (np.nonzero, np.flatnonzero, np.argwhere, np.where):
        check(function, *([one] for one in pair))
    check(lambda x: x.nonzero(), *([one] for one in pair))
    if pair[1].ndim:
        lazy, plain = pair
        assert same_arrays(lazy[np.nonzero(lazy)].collect(), plain[np.nonzero(plain)])


@given(st.data(), pairs(shapes(3, 4)))
@settings(max_examples=50, deadline=None)
def test_compress_and_extract(data, pair):
    plain = pair[1]
    axis = data.draw(st.none() | st.integers(-4, 3))
    kinds = data.draw(st.sampled_from([st.booleans(), st.integers(0, 2), st.floats(0, 1)]))
    condition = data.draw(st.lists(kinds, max_size=6))
    check(lambda x: np.compress(condition, x, axis), *([one] for one in pair))
    if condition:
        lazy = da.distribute(np.array(condition), da.Blocks(2))
        given = (lazy, pair[0]), (np.array(condition), plain)
        check(lambda c, x: np.compress(c, x, axis), *given)
        check(np.extract, *given)
    mask = data.draw(arrays(plain.shape, "bool"))
    check(np.extract, (da.distribute(mask), pair[0]), (mask, plain))


@given(st.data(), pairs(shapes(3, 3), dtypes("iu")), st.sampled_from(["raise", "wrap", "clip"]))
@settings(max_examples=50, deadline=None)
def test_choose(data, pair, mode):
    numbers, plain = pair
    if mode != "raise" or data.draw(st.booleans()):
        # NumPy wraps by subtracting again and again.
        numbers, plain = numbers % 5, np.asarray(plain % plain.dtype.type(5))
    choices = [
        data.draw(arrays(plain.shape, data.draw(dtypes("iuf")))),
        5,
        plain[..., :1] if plain.ndim else plain,
    ]
    lazy = [da.distribute(choices[0], data.draw(blocks_for(plain.shape))), *choices[1:]]
    check(lambda a, *c: np.choose(a, c, mode=mode), (numbers, *lazy), (plain, *choices))
    check(lambda a: np.choose(a, []), (numbers,), (plain,))


@given(st.data(), pairs(shapes(3, 4), dtypes("if")))
@settings(max_examples=40, deadline=None)
def test_select(data, pair):
    default = data.draw(st.sampled_from([0, 1.5, -1]))
    others = data.draw(arrays(pair[1].shape, data.draw(dtypes("if"))))
    check(lambda x: np.select([x > 3, x < 1], [x, others], default), *([one] for one in pair))
    check(lambda x: np.select([x > 3, x < 1], [x, 7], default), *([one] for one in pair))
    check(lambda x: np.select([x > 3], [x, x]), *([one] for one in pair))
    check(lambda x: np.select([x.astype("f8")], [x]), *([one] for one in pair))


def test_products_of_axes():
    plain = np.arange(30).reshape(5, 6)
    x = da.distribute(plain, da.Blocks(2, 4))
    rows, mask = da.arange(4, blocks=2)[::-1], x[0] % 2 == 1
    key = np.ix_(rows, mask)
    assert all(type(part) is np.ndarray for part in key)
    expected = plain[np.ix_([3, 2, 1, 0], plain[0] % 2 == 1)]
    assert same_arrays(x[key].collect(), expected)
    x[key] += 100
    assert int(x[3, 1]) == plain[3, 1] + 100


@given(st.data(), pairs(shapes(4, 4)))
@settings(max_examples=50, deadline=None)
def test_diagonals(data, pair):
    offset = data.draw(st.integers(-5, 5))
    axes = data.draw(st.tuples(st.integers(-5, 4), st.integers(-5, 4)))
    check(lambda x: np.diagonal(x, offset, *axes), *([one] for one in pair))
    check(lambda x: (x.diagonal(offset),), *([one] for one in pair))
    check(lambda x: np.diag(x, offset), *([one] for one in pair))
    if pair[1].dtype.kind in "biu":
        check(lambda x: np.trace(x, offset, *axes), *([one] for one in pair))


# Writing


def check_writing(write, lazy, plain, *arguments):
    """Check that ``write(array, *arguments)`` does to a DArray what it does to an array."""
    plain = plain.copy()
    lazy = lazy.copy()
    ours = [one[0] if isinstance(one, tuple) else one for one in arguments]
    theirs = [one[1] if isinstance(one, tuple) else one for one in arguments]
    with np.errstate(all="ignore"):
        try:
            write(plain, *theirs)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            with pytest.raises(type(error)):
                write(lazy, *ours)
            return
        before = plain.copy()
        write(lazy, *ours)
        assert same_arrays(lazy.collect(), plain)
        # NumPy's own arrays are written to, too.
        write(before, *ours)
        assert same_arrays(before, plain)


@given(st.data(), pairs(shapes(3, 4), dtypes("iu")), st.sampled_from(["raise", "wrap", "clip"]))
@settings(max_examples=50, deadline=None)
def test_put(data, pair, mode):
    indices = data.draw(positions(pair[1].size))
    values = data.draw(arrays(data.draw(shapes(2, 3)), "int8"))
    lazy = da.distribute(indices), da.distribute(values)
    check_writing(
        lambda a, i, v: np.put(a, i, v, mode), *pair, (lazy[0], indices), (lazy[1], values)
    )
    check_writing(lambda a: np.put(a, [0, 0], [1, 2]), *pair)
    check_writing(lambda a: np.put(a, [0], 1, mode="no such"), *pair)


@pytest.mark.parametrize("function", [np.place, np.putmask])
@given(data=st.data(), pair=pairs(shapes(3, 4), dtypes("iu")))
@settings(max_examples=40, deadline=None)
def test_place_and_putmask(function, data, pair):
    plain = pair[1]
    mask = data.draw(arrays(plain.shape, data.draw(st.sampled_from(["bool", "int8"]))))
    if data.draw(st.integers(0, 4)) == 4:
        mask = mask.reshape(-1)[: data.draw(st.sampled_from([plain.size, 1]))]
    dtype = "int16" if mask.shape == plain.shape else "bool"
    values = data.draw(arrays(data.draw(st.sampled_from([(), (0,), (2,), (9, 2)])), dtype))
    if data.draw(st.booleans()):
        values = np.resize(values, plain.shape) if values.size else values
    lazy = da.distribute(mask), da.distribute(values)
    check_writing(function, *pair, (lazy[0], mask), (lazy[1], values))


@given(st.data(), pairs(shapes(3, 4), dtypes("iuf")))
@settings(max_examples=50, deadline=None)
def test_copyto(data, pair):
    shape = pair[1].shape
    own = tuple([data.draw(st.sampled_from([size, size, 1, 3])) for size in shape])
    source = data.draw(arrays(own, data.draw(dtypes("iu"))))
    where = data.draw(arrays(shape[data.draw(st.integers(0, len(shape))) :], "bool"))
    casting = data.draw(st.sampled_from(["same_kind", "unsafe", "safe"]))
    lazy = da.distribute(source), da.distribute(where)
    check_writing(
        lambda a, s, w: np.copyto(a, s, casting, w), *pair, (lazy[0], source), (lazy[1], where)
    )
    check_writing(lambda a, s: np.copyto(a, s, casting), *pair, (lazy[0], source))
    for value in (3, 2.5, 300, np.int64(1), [1], [[[[1]]]]):
        check_writing(lambda a, v: np.copyto(a, v), *pair, value)
    check_writing(lambda a: np.copyto(a, 1, where=[1, 0]), *pair)


@given(st.data(), pairs(shapes(3, 5), dtypes("iu")))
@settings(max_examples=50, deadline=None)
def test_fill_diagonal(data, pair):
    values = data.draw(arrays(data.draw(st.sampled_from([(), (1,), (3,), (2, 2)])), "int8"))
    wrap = data.draw(st.booleans())
    check_writing(lambda a, v: np.fill_diagonal(a, v, wrap), *pair, (da.distribute(values), values))


@pytest.mark.parametrize("shape", [(3, 3, 3), (9, 2), (2, 9), (2, 2, 2, 2)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonals_of_any_shape(shape, wrap):
    plain = np.zeros(shape)
    check_writing(
        lambda a: np.fill_diagonal(a, [1, 2], wrap),
        da.distribute(plain, da.Blocks(*[2] * len(shape))),
        plain,
    )


@given(st.data(), pairs(shapes(3, 4, min_dims=1, min_side=1), dtypes("iu")))
@settings(max_examples=40, deadline=None)
def test_put_along_axis(data, pair):
    plain = pair[1]
    axis = data.draw(st.none() | st.integers(-plain.ndim, plain.ndim - 1))
    if axis is None:
        indices = np.array([data.draw(st.integers(-plain.size, plain.size))])
    else:
        # Of positions that come twice in a line NumPy promises no last one.
        shape = list(plain.shape)
        shape[axis] = 1
        indices = data.draw(arrays(tuple(shape), "int8")) % (plain.shape[axis] + 1)
    values = data.draw(arrays(data.draw(st.sampled_from([(), (1,), indices.shape])), "int8"))
    lazy = (da.distribute(indices), indices), (da.distribute(values), values)
    check_writing(lambda a, i, v: np.put_along_axis(a, i, v, axis), *pair, *lazy)


def test_what_is_read_only_is_not_written_to():
    x = da.zeros(3)
    x.setflags(write=False)
    for write in (
        lambda: np.put(x, [0], 1),
        lambda: np.place(x, x == 0, 1),
        lambda: np.putmask(x, x == 0, 1),
        lambda: np.copyto(x, 1),
        lambda: np.put_along_axis(x, np.array([0]), 1, 0),
        lambda: x.__setitem__([0], 1),
        lambda: x.put([0], 1),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert x.collect().tolist() == [0, 0, 0]
