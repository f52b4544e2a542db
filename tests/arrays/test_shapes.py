"""Indices, axes, joining and casting against NumPy: bit for bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import darray as da
from darray.testing.strategies import arrays, basic_indices, blocks_for, dtypes, shapes
from tests.arrays.agreement import check, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")


@given(st.data(), pairs())
@settings(max_examples=150)
def test_chains_of_indices(data, pair):
    lazy, plain = pair
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(basic_indices(plain.shape))
        if data.draw(st.booleans()):
            lazy, plain = lazy.T, plain.T
            key = data.draw(basic_indices(plain.shape))
        lazy, plain = lazy[key], np.asarray(plain[key])
        assert lazy.shape == plain.shape
    assert same_arrays(lazy.collect(), plain)


@given(st.data(), pairs())
@settings(max_examples=100)
def test_wrong_indices(data, pair):
    """Out of bounds, too many, or no indices at all: as NumPy, when built."""
    lazy, plain = pair
    most = max(plain.shape, default=0) + 1
    part = st.one_of(
        st.integers(-most - 1, most),
        st.builds(slice, st.integers(-most, most), st.none(), st.sampled_from([1, -1, 0])),
        st.sampled_from([..., None, 1.0, "a", object]),
    )
    key = tuple(data.draw(st.lists(part, max_size=plain.ndim + 1)))
    check(lambda x: x[key], (lazy,), (plain,))


AXES = {
    "transpose": (st.integers(-4, 4), 0, 5),
    "swapaxes": (st.integers(-4, 4), 2, 2),
    "squeeze": (st.integers(-4, 4), 0, 3),
    "expand_dims": (st.integers(-5, 5), 0, 3),
    "flip": (st.integers(-4, 4), 0, 4),
}


@given(st.sampled_from(sorted(AXES)), st.data(), pairs(shapes(max_side=3)))
@settings(max_examples=250)
def test_functions_of_axes(name, data, pair):
    element, least, most = AXES[name]
    axes = data.draw(st.lists(element, min_size=least, max_size=most))

    # Of two mistakes at once, which is named first is left open.
    normal = {one % max(1, pair[1].ndim) for one in axes}
    assume(len(normal) == len(axes) or all(-pair[1].ndim <= one < pair[1].ndim for one in axes))

    def call(array):
        if name == "swapaxes":
            return array.swapaxes(*axes)
        return getattr(np, name)(array, tuple(axes))

    check(call, *([one] for one in pair))


@given(st.data(), pairs(shapes(max_side=3)))
@settings(max_examples=100)
def test_moveaxis(data, pair):
    source, target = (data.draw(st.lists(st.integers(-3, 3), max_size=3)) for _ in range(2))
    check(lambda x: np.moveaxis(x, source, target), *([one] for one in pair))


@given(st.data(), pairs())
@settings(max_examples=100)
def test_axes_by_default_and_one_alone(data, pair):
    axis = data.draw(st.none() | st.integers(-4, 4))
    check(lambda x: np.flip(x, axis), *([one] for one in pair))
    check(lambda x: np.squeeze(x, axis), *([one] for one in pair))
    check(lambda x: (x.transpose(), x.T, x.squeeze()), *([one] for one in pair))


@given(st.data(), pairs(shapes(max_side=3)))
@settings(max_examples=150)
def test_broadcast_to(data, pair):
    lead = data.draw(st.lists(st.integers(-1, 4), max_size=2))
    shape = (*lead, *(data.draw(st.sampled_from([n, 3])) for n in pair[0].shape))
    check(lambda x: np.broadcast_to(x, shape) + x, *([one] for one in pair), {"all": "ignore"})


@given(st.data())
@settings(max_examples=60)
def test_broadcast_arrays(data):
    lazy, plain = zip(*(data.draw(pairs(shapes(3, 3))) for _ in range(3)), strict=True)
    check(lambda *every: np.broadcast_arrays(*every), lazy, plain)


@given(st.sampled_from([np.concatenate, np.stack]), st.data())
@settings(max_examples=150)
def test_joining(join, data):
    shape = list(data.draw(shapes(3, 4)))
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    lazy, plain = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        if join is np.concatenate and shape and -len(shape) <= axis < len(shape):
            shape[axis] = data.draw(st.integers(0, 3))
        if data.draw(st.integers(0, 9)) == 9:
            shape.append(2)
        one, other = data.draw(pairs(tuple(shape), dtypes(data.draw(st.sampled_from("biufcMm")))))
        lazy.append(other if lazy and data.draw(st.booleans()) else one)
        plain.append(other)
    keywords = {}
    if data.draw(st.booleans()):
        keywords = {"dtype": data.draw(dtypes()), "casting": data.draw(CASTINGS)}
    if not lazy:
        return
    check(lambda *every: join(every, axis=axis, **keywords), lazy, plain, {"all": "ignore"})


CASTINGS = st.sampled_from(["no", "equiv", "safe", "same_kind", "unsafe"])


@given(pairs(), dtypes() | st.sampled_from([np.dtype(">f8"), np.dtype("S3")]), CASTINGS)
@settings(max_examples=250)
def test_astype(pair, dtype, casting):
    # What a float too large for an integer type becomes depends on the loop that met it.
    plain = pair[1]
    if plain.dtype.kind in "fc" and dtype.kind in "iumM":
        assume(np.all(np.abs(plain) < 100))
    if plain.dtype.kind in "Mm" and dtype.kind in "Mm":
        assume(np.all(np.abs(plain.astype("i8")) < 10**5))
    check(lambda x: x.astype(dtype, casting=casting), *([one] for one in pair), {"all": "warn"})


@given(st.data(), pairs(shapes(3, 4)))
@settings(max_examples=150)
def test_where(data, pair):
    lazy, plain = pair
    mask = data.draw(arrays(plain.shape, "bool"))
    lazy_mask = da.distribute(mask, data.draw(blocks_for(mask.shape)))
    other = data.draw(st.sampled_from([plain[..., :1] if plain.ndim else plain, 3, 2.5, True]))
    sides = data.draw(st.sampled_from([(0, 1), (1, 0)]))

    def call(condition, array):
        given = (array, other)
        return np.where(condition, given[sides[0]], given[sides[1]])

    check(call, (lazy_mask, lazy), (mask, plain))
    check(call, (mask, lazy), (mask, plain))
    check(lambda m: np.where(m, 1, 2.5), (lazy_mask,), (mask,))


@given(st.data(), pairs(shapes(3, 4), dtypes("biuf")))
@settings(max_examples=200)
def test_clip_and_round(data, pair):
    column = pair[1][..., :1] if pair[1].ndim else pair[1]
    bound = st.none() | st.integers(-2, 300) | st.floats(-3, 3) | st.just(column)
    low, high = data.draw(bound), data.draw(bound)
    check(lambda x: np.clip(x, low, high), *([one] for one in pair), {"all": "ignore"})
    decimals = data.draw(st.integers(-2, 3))
    check(lambda x: x.round(decimals), *([one] for one in pair), {"all": "ignore"})


@given(pairs())
@settings(max_examples=80)
def test_real_and_imaginary_parts(pair):
    check(lambda x: (x.real, np.real(x), x.conj()), *([one] for one in pair))
    check(lambda x: (x.imag, np.imag(x)), *([one] for one in pair))


@given(st.data(), pairs())
@settings(max_examples=150)
def test_rechunk(data, pair):
    lazy, plain = pair
    for _ in range(data.draw(st.integers(1, 3))):
        blocks = data.draw(blocks_for(plain.shape))
        lazy = lazy.rechunk(blocks)
        assert da.distribute(plain, blocks).chunks == lazy.chunks
        if data.draw(st.booleans()):
            lazy, plain = lazy.T, plain.T
    assert same_arrays(lazy.collect(), plain)


@given(st.data(), pairs())
@settings(max_examples=60)
def test_map_blocks(data, pair):
    lazy, plain = pair
    other = da.distribute(plain, data.draw(blocks_for(plain.shape)))
    seen = lazy.map_blocks(lambda a, b: np.array(a == b) | (a != a), other, dtype=bool)
    assert seen.chunks == lazy.chunks
    assert same_arrays(seen.collect(), np.ones(plain.shape, bool))
