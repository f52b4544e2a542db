"""Sums of lines are as exact as NumPy's, raise its flags, and are the same whoever asks."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.kernels.line_sums import FEWEST, is_line, sum_of_line
from darray.kernels.moments import Mean
from darray.kernels.quick_reductions import of_all
from darray.kernels.reducing import Reducer
from darray.kernels.reductions import UfuncReduction
from darray.kernels.row_sums import partial_of_stack
from darray.kernels.warnings_ledger import Ledger

WARN = ("warn", "warn", "ignore", "warn", None)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64]),
    st.integers(FEWEST, 3 * FEWEST),
    st.floats(-1e3, 1e3),
    st.integers(0, 2**32),
    st.sampled_from([1, 1, 2, 3, -1, -2]),
)
def test_sums_are_exact(dtype, size, mean, seed, step):
    values = np.random.default_rng(seed).normal(mean, 1.0, abs(step) * size).astype(dtype)
    values = values[::step]
    values = values if is_line(values) else values.copy()
    exact = math.fsum(values.tolist())
    magnitude = math.fsum(np.abs(values).tolist())
    # Some hundred roundings at the most: 32 within BLAS, 7 bits and 19 within NumPy's own.
    error = abs(float(sum_of_line(values)) - exact)
    assert error <= 64 * np.finfo(dtype).eps * magnitude
    assert sum_of_line(values).dtype == dtype


def test_what_is_no_line():
    many = np.ones(4 * FEWEST)
    assert is_line(many)
    assert is_line(np.asfortranarray(many.reshape(4, -1)))
    assert is_line(many[::-3])
    for other in (
        many[: FEWEST - 1],
        many.astype("f4")[::2],
        many.reshape(4, -1)[:, ::2],
        many.reshape(4, -1)[:, 1:],
        many.astype(">f8"),
        many.astype(complex),
        many.astype(int),
        many.astype("f2"),
    ):
        assert not is_line(other)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [FEWEST, FEWEST + 1, 5 * FEWEST + 511])
@pytest.mark.parametrize("reduction", [UfuncReduction(np.add), Mean(), Mean(dtype=np.dtype("f8"))])
def test_every_way_gives_the_same_bits(dtype, size, reduction):
    values = np.random.default_rng(1).random(size).astype(dtype)
    whole = reduction.finish(reduction.partial(values, (0,), None, (), ()), print)
    short = of_all(reduction, values)
    assert short is None or np.asarray(short).tobytes() == whole.tobytes()
    chunks = np.random.default_rng(2).random((4, size)).astype(dtype)
    reducer = Reducer(reduction, (0,), WARN, 0)
    stacked = partial_of_stack(reducer, chunks, Ledger())
    if stacked is not None:
        apart = reduction.combine([reduction.partial(one, (0,), None, (), ()) for one in chunks])
        assert [one.tobytes() for one in stacked] == [one.tobytes() for one in apart]


@pytest.mark.parametrize(
    ("spoilt", "kind"),
    [([1e308] * 10, "overflow"), ([np.inf, -np.inf], "invalid value"), ([np.inf], None)],
    ids=["overflow", "invalid", "infinite"],
)
def test_what_is_not_finite_warns_as_numpy_does(spoilt, kind):
    values = np.ones(FEWEST)
    values[: len(spoilt)] = spoilt
    for reduce in (sum_of_line, lambda a: float(da.distribute(a).sum())):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = reduce(values)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(found, values.sum())
        assert [str(one.message) for one in caught] == (
            [] if kind is None else [f"{kind} encountered in reduce"]
        )


def test_a_finite_sum_raises_no_flag():
    values = np.full(FEWEST, 5e-324)
    with np.errstate(all="raise"):
        assert sum_of_line(values) == FEWEST * 5e-324
