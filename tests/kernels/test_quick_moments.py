"""Moments in one pass are as exact as NumPy's in two, or are not given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.kernels.quick_moments import quick_moments


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64]),
    st.integers(65_536, 200_000),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32),
)
def test_moments_are_exact(dtype, size, mean, spread, seed):
    values = np.random.default_rng(seed).normal(mean, spread, size).astype(dtype)
    found = quick_moments(values)
    assert found is not None
    shift, offset, squares = found
    exact = values.astype(np.longdouble)
    true_mean = exact.mean()
    true_squares = np.square(exact - true_mean).sum()
    eps = np.finfo(dtype).eps
    # NumPy's own mean is rounded once to the dtype; the squares bear some hundred roundings.
    assert abs(shift + offset - true_mean) <= 4 * eps * max(abs(true_mean), spread)
    assert abs(squares - true_squares) <= 200 * eps * true_squares


@pytest.mark.parametrize(
    "values",
    [
        np.ones(1000),
        np.ones(200_000)[::2],
        np.ones(100_000, np.float16),
        np.ones(100_000, complex),
        np.full(100_000, np.nan),
        np.full(100_000, 1e200),
        np.r_[np.ones(99_999), -np.inf],
    ],
    ids=["few", "strided", "float16", "complex", "nan", "overflow", "infinity"],
)
def test_what_takes_two_passes(values):
    with np.errstate(all="raise"):
        assert quick_moments(values) is None


def test_a_constant_has_no_deviations():
    shift, offset, squares = quick_moments(np.full(100_001, 3.7))
    assert shift + offset == pytest.approx(3.7, rel=1e-15)
    assert 0 <= squares <= 1e-20


@pytest.mark.parametrize("mean", [0.0, 0.5, 1e8])
def test_standard_deviations_of_large_chunks(mean):
    values = np.random.default_rng(3).normal(mean, 1.0, (500, 800))
    x = da.distribute(values, (250, 800))
    assert float(x.std()) == pytest.approx(values.std(), rel=1e-13)
    assert float((x * 2).var(ddof=1)) == pytest.approx((values * 2).var(ddof=1), rel=1e-13)
    with np.errstate(under="raise"):
        assert float(x.std()) == pytest.approx(values.std(), rel=1e-13)
