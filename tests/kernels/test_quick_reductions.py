"""Reductions without partial results: to the bit what the partial results give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darray.kernels.moments import Variance
from darray.kernels.quick_reductions import of_axes
from darray.kernels.reduction_table import REDUCTIONS, reduction_of
from darray.runtime.boxes import whole
from tests.arrays.agreement import same_arrays

SHAPES = [(1,), (7,), (5000,), (70_000,), (3, 5), (40, 30), (2, 3, 4)]
QUICK = [np.sum, np.prod, np.max, np.any, np.mean, np.std, np.var, np.argmax, np.argmin]
QUICK.append(np.count_nonzero)


def general(reduction, array, axes):
    """What the partial result of all gives, without the reduced axes."""
    partial = reduction.partial(array, axes, None, whole(array.shape), array.shape)
    found = np.asarray(reduction.finish(partial, lambda message: None))
    return found.reshape([n for a, n in enumerate(array.shape) if a not in axes])


def values_of(shape, dtype, special):
    generator = np.random.default_rng(len(shape))
    array = (10 * generator.standard_normal(shape)).astype(dtype)
    if special is not None and np.dtype(dtype).kind in "fc":
        array.reshape(-1)[-1] = special
    array.flags.writeable = False
    return array


@given(
    st.sampled_from(list(REDUCTIONS)),
    st.sampled_from(SHAPES),
    st.sampled_from(["f8", "f4", "f2", "i4", "u1", "?", "c16", ">f8"]),
    st.sampled_from([None, np.nan, np.inf, 1e-310]),
    st.booleans(),
    st.data(),
)
def test_quick_ways_give_the_bits_of_partial_results(
    function, shape, dtype, special, is_transposed, data
):
    array = values_of(shape, dtype, special)
    array = array.T if is_transposed else array
    reduction = reduction_of(function)
    axes = tuple(range(array.ndim))
    if data.draw(st.booleans()) and "arg" not in reduction.name:
        axes = (data.draw(st.integers(0, array.ndim - 1)),)
    with np.errstate(all="ignore"):
        found = of_axes(reduction, array, axes)
        if found is not None:
            assert same_arrays(np.asarray(found), general(reduction, array, axes))


@pytest.mark.parametrize("function", QUICK)
def test_the_commonest_take_the_quick_way(function):
    array = values_of((5000,), "f8", None)
    with np.errstate(over="ignore"):
        assert of_axes(reduction_of(function), array, (0,)) is not None


@pytest.mark.parametrize("value", [0.0, 5e-324, -0.0])
def test_quotients_that_may_lose_digits_are_left_to_numpy(value):
    array = np.full(3, value)
    assert of_axes(reduction_of(np.mean), array, (0,)) is None
    assert of_axes(reduction_of(np.std), array, (0,)) is None
    assert of_axes(Variance(ddof=5), np.arange(3.0), (0,)) is None
