"""NumPy's reductions against NumPy: every spelling of axis, keepdims, where, initial, dtype."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.kernels.line_sums import sum_of_line
from darray.testing.strategies import arrays, blocks_for, dtypes, shapes
from tests.arrays.agreement import KNOWN_EARLY, check, observe, same_arrays
from tests.arrays.drawing import pairs

pytestmark = pytest.mark.usefixtures("engine")

SUMS = ["sum", "prod", "nansum", "nanprod"]
EXTREMES = ["min", "max", "amin", "amax", "nanmin", "nanmax"]
TRUTHS = ["any", "all"]
PLACES = ["argmin", "argmax", "nanargmin", "nanargmax"]
AVERAGES = ["mean", "nanmean"]
SPREADS = ["var", "std", "nanvar", "nanstd"]
INTEGERS = "biu"


@st.composite
def axes(draw, dimensions):
    """Draw what axis= takes for an array, and sometimes what it does not."""
    one = st.integers(-dimensions, max(0, dimensions - 1))
    several = st.lists(one, max_size=dimensions + 1).map(tuple)
    wrong = st.sampled_from([dimensions, -dimensions - 1, 1.0, (0, 0), [0]])
    return draw(st.none() | one | one | several | several | wrong)


def call(name, axis, **keywords):
    """Return a function that reduces; by NumPy's function, or by the method that has its name."""

    def reduce(array, *masks):
        given = dict(keywords)
        if masks:
            given["where"] = masks[0]
        return getattr(np, name)(array, axis=axis, **given)

    return reduce


@given(st.sampled_from(SUMS + EXTREMES + TRUTHS + PLACES + ["count_nonzero"]), st.data())
@settings(max_examples=250)
def test_exact_reductions(name, data):
    kinds = INTEGERS if name in SUMS else "biuf"
    lazy, plain = data.draw(pairs(shapes(max_side=4), dtypes(kinds)))
    keywords = {"keepdims": data.draw(st.booleans())}
    arguments = ()
    if name not in PLACES and name != "count_nonzero" and data.draw(st.booleans()):
        mask = data.draw(arrays(plain.shape, "bool"))
        arguments = (mask, data.draw(blocks_for(mask.shape)))
    if name not in PLACES + TRUTHS + ["count_nonzero"] and data.draw(st.booleans()):
        keywords["initial"] = data.draw(st.integers(0, 3))
    if name in SUMS and data.draw(st.booleans()):
        keywords["dtype"] = data.draw(st.sampled_from(["i8", "u2", "f8", "D"]))
    axis = data.draw(axes(plain.ndim))
    if isinstance(axis, tuple) and (plain.ndim == 0 or name.startswith("nanarg")):
        axis = None  # what of it NumPy refuses first depends on the values
    elif name.startswith("nanarg") and isinstance(axis, tuple | list):
        axis = None  # NumPy's error for several axes depends on the values; see the mistakes below
    reduce = call(name, axis, **keywords)
    plain_arguments = (plain, *arguments[:1])
    masks = (
        (da.distribute(*arguments),) if arguments and data.draw(st.booleans()) else arguments[:1]
    )
    check(reduce, (lazy, *masks), plain_arguments, {"all": "ignore"})


@given(st.sampled_from(["min", "max", "argmin", "any", "sum"]), st.data())
@settings(max_examples=100)
def test_reductions_of_times(name, data):
    lazy, plain = data.draw(pairs(shapes(max_side=4), dtypes("mM")))
    reduce = call(name, data.draw(axes(plain.ndim)))
    check(reduce, (lazy,), (plain,), {"all": "ignore"})


@given(st.sampled_from(AVERAGES + SPREADS + SUMS), st.data())
@settings(max_examples=200)
def test_float_reductions(name, data):
    """Within the error of summing in any order, which grows with the values' magnitude."""
    dtype = data.draw(dtypes("biufc"))
    numbers = st.integers(0, 1) if dtype.kind == "b" else st.integers(0, 20)
    lazy, plain = data.draw(pairs(shapes(max_side=4), dtype, numbers))
    keywords = {"keepdims": data.draw(st.booleans())}
    if name in SPREADS:
        keywords["ddof"] = data.draw(st.integers(0, 2))
    axis = data.draw(axes(plain.ndim))
    arguments = ()
    # NumPy lets the mean of an array without axes have an axis where there is a mask.
    if plain.ndim and data.draw(st.booleans()):
        arguments = (data.draw(arrays(plain.shape, "bool")),)
    reduce = call(name, axis, **keywords)
    errors = {"all": "ignore"}
    theirs = observe(lambda: reduce(plain, *arguments), errors)
    ours = observe(lambda: reduce(lazy, *arguments), errors)
    assert type(ours.error) is type(theirs.error), (ours.error, theirs.error)
    # Of no results nothing is computed, so that there is nothing to warn of.
    if any(one.size for one in theirs.arrays):
        assert ours.warnings == theirs.warnings
    if theirs.error is None:
        (mine,), (other,) = ours.arrays, theirs.arrays
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        eps = float(np.finfo(other.dtype).eps) if other.dtype.kind in "fc" else 0.0
        # Integers up to 20: sums are exact, and NumPy's two passes for the variance round once
        # for each of at most 4**4 squares of at most 400.
        np.testing.assert_allclose(mine, other, rtol=max(plain.size, 8) * eps, atol=4 * eps)


@given(st.data(), st.sampled_from([np.add, np.multiply, np.maximum, np.logical_or, np.bitwise_xor]))
@settings(max_examples=100)
def test_reduce_of_ufuncs(data, ufunc):
    lazy, plain = data.draw(pairs(shapes(max_side=4), dtypes(INTEGERS)))
    keywords = {}
    if data.draw(st.booleans()):
        keywords["axis"] = data.draw(axes(plain.ndim))
    if data.draw(st.booleans()):
        keywords["keepdims"] = data.draw(st.booleans())
    check(lambda x: ufunc.reduce(x, **keywords), (lazy,), (plain,))


@given(st.sampled_from([*SUMS[:2], *EXTREMES[:2], *TRUTHS, *PLACES[:2], "mean", "std"]), pairs())
@settings(max_examples=60)
def test_methods_are_functions(name, pair):
    lazy, plain = pair
    if plain.dtype.kind in "fc":
        return (
            check(lambda x: np.isnan(getattr(x, name)()), (lazy,), (plain,), {"all": "ignore"})
            if name in ("min", "max")
            else None
        )
    if plain.dtype.kind in "iu" and name in ("mean", "std"):
        return None
    return check(lambda x: getattr(x, name)(), (lazy,), (plain,), {"all": "ignore"})


@pytest.mark.parametrize("name", [*SUMS, *EXTREMES[:2], *AVERAGES, *SPREADS, *TRUTHS, *PLACES[:2]])
def test_results_go_into_numpy_arrays(name):
    plain = np.arange(12.0).reshape(3, 4)
    lazy = da.distribute(plain, da.Blocks(2, 3))
    expected = getattr(np, name)(plain, axis=0)
    out = np.empty_like(expected)
    assert getattr(np, name)(lazy, axis=0, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-14)
    with pytest.raises(ValueError, match="shape"):
        getattr(np, name)(lazy, axis=0, out=np.empty(3, expected.dtype))


def test_what_numpy_refuses_is_refused_when_built():
    x = da.zeros((3, 4), blocks=2)
    empty = da.zeros((0, 4))
    wrong = [
        (lambda: x.sum(axis=2), np.exceptions.AxisError),
        (lambda: x.sum(axis=(0, 0)), ValueError),
        (lambda: x.sum(axis=0.5), TypeError),
        (lambda: x.argmin(axis=(0, 1)), TypeError),
        (lambda: np.nanargmin(x, axis=(0, 1)), TypeError),
        (lambda: empty.min(), ValueError),
        (lambda: empty.argmax(axis=0), ValueError),
        (lambda: x.min(where=x > 0), ValueError),
        (lambda: x.sum(where=np.ones(5, bool)), ValueError),
        (lambda: np.sum(x, foo=1), TypeError),
        (lambda: np.add.reduce(x, axis=7), np.exceptions.AxisError),
        (lambda: da.arange(3).astype("M8[D]").sum(), TypeError),
        (lambda: da.zeros(3, "u1").sum(dtype="u1", initial=300), OverflowError),
    ]
    for build, error in wrong:
        with pytest.raises(error):
            build()
    assert np.exceptions.AxisError in KNOWN_EARLY


def test_where_may_be_a_darray_in_reduce():
    x, mask = da.arange(6, blocks=4), da.arange(6, blocks=5) % 2 == 0
    assert int(np.add.reduce(x, where=mask)) == 6
    assert int(np.sum(x, where=mask)) == 6
    assert same_arrays(np.max(x, where=mask, initial=-1).collect(), np.array(4))


def test_a_reduction_may_be_of_a_reduction():
    plain = np.arange(60).reshape(3, 4, 5)
    x = da.distribute(plain, da.Blocks(2, 3, 2))
    assert same_arrays(
        (x - x.max(axis=1, keepdims=True)).sum(axis=0).min().collect(),
        np.asarray((plain - plain.max(axis=1, keepdims=True)).sum(axis=0).min()),
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_of_large_chunks_are_those_of_their_lines(dtype):
    values = np.random.default_rng(4).random((40, 10_000)).astype(dtype)
    x = da.distribute(values, (10, 10_000))
    first, second, third, last = [sum_of_line(one) for one in np.split(values, 4)]
    expected = (first + second) + (third + last)
    # To the bit, whichever engine computes them.
    assert x.sum().collect() == expected
    assert (x + 0).sum().collect() == pytest.approx(expected, rel=1e-5)
    assert x.mean().collect() == np.true_divide(expected, values.size, dtype=dtype)
