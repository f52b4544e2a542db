"""argmin, argmax and their nan-variants, chunk by chunk, against NumPy on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from darray.kernels.extrema import ArgExtremum
from darray.kernels.reduction_table import reduction_of
from darray.kernels.reductions import check_operand
from darray.runtime.boxes import whole
from darray.testing.strategies import dtypes, values
from tests.kernels.chunked import Case, cases, compare, equal, reduce_chunks


def with_ties(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw from few values, so that extremes are there more than once."""
    if dtype.kind == "f":
        return st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf])
    if dtype.kind == "c":
        part = st.sampled_from([0.0, 1.0, np.nan, np.inf])
        return st.builds(complex, part, part)
    if dtype.kind in "mM":
        return values(dtype)
    return st.integers(0, 2).map(dtype.type)


def numpys(function: Any) -> Any:
    """Return the function, taking the axes of a case: one of them, or all."""

    def call(array: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        return function(array, axis=None if len(axis) != 1 else axis[0], keepdims=keepdims)

    return call


ARGS = [np.argmin, np.argmax, np.nanargmin, np.nanargmax]


@given(cases(dtypes(), with_ties, one_or_all=True), st.sampled_from(ARGS))
def test_the_first_extreme_of_the_whole_array_wins(case: Case, function: Any) -> None:
    ours, theirs = compare(case, numpys(function), lambda: reduction_of(function))
    if theirs.error is None:
        assert equal(ours.result, theirs.result)


@given(cases(dtypes(), values, one_or_all=True), st.sampled_from(ARGS))
def test_the_place_of_any_extreme_is_numpys(case: Case, function: Any) -> None:
    ours, theirs = compare(case, numpys(function), lambda: reduction_of(function))
    if theirs.error is None:
        assert equal(ours.result, theirs.result)


def test_a_tie_between_chunks_goes_to_the_first_in_c_order_not_to_the_first_chunk() -> None:
    array = np.zeros((4, 4))
    array[1, 3] = array[2, 0] = array[3, 1] = 7
    case = Case(array, ((4,), (1, 1, 1, 1)), (0, 1), None, 2)
    assert reduce_chunks(reduction_of(np.argmax), case, print).tolist() == [[7]]


def test_several_of_the_axes_give_the_flat_index_over_these() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)[::-1]
    case = Case(array, ((1, 1), (1, 2), (4,)), (0, 2), None, 2)
    flat = array.transpose(1, 0, 2).reshape(3, 8).argmin(axis=1)
    assert reduce_chunks(reduction_of(np.argmin), case, print).ravel().tolist() == flat.tolist()


def test_a_box_with_a_step_counts_in_elements_of_the_whole_array() -> None:
    part = reduction_of(np.argmax).partial(
        np.array([1, 5, 2]), (0,), None, (slice(4, 10, 2),), (12,)
    )
    assert part[1].tolist() == [6]


def test_nothing_but_nan_is_an_error_only_when_no_chunk_has_more() -> None:
    reduction = reduction_of(np.nanargmin)
    array = np.array([np.nan, np.nan, np.nan, 4.0])
    case = Case(array, ((2, 2),), (0,), None, 2)
    assert reduce_chunks(reduction, case, print).tolist() == [3]
    with pytest.raises(ValueError, match="All-NaN slice encountered"):
        reduce_chunks(reduction, Case(array[:3], ((2, 1),), (0,), None, 2), print)


def test_texts_and_objects_have_extremes() -> None:
    for array in (np.array(["b", "a", "a"]), np.array([3, 1, 1], dtype=object)):
        case = Case(array, ((1, 2),), (0,), None, 2)
        assert reduce_chunks(reduction_of(np.argmin), case, print).tolist() == [1]


@pytest.mark.parametrize("function", [np.nanmin, np.nanmax, np.nanmean, np.nanvar, np.std])
def test_objects_that_would_need_nan_or_roots_are_refused(function: Any) -> None:
    with pytest.raises(NotImplementedError, match="convert it with astype"):
        reduction_of(function).result_dtype(np.dtype(object))


def test_a_mask_is_no_argument_of_argmin() -> None:
    with pytest.raises(TypeError, match="no argument 'where'"):
        check_operand(reduction_of(np.argmin), np.dtype(float), (3,), (0,), masked=True)


@pytest.mark.parametrize("axes", [(0,), (0, 1), (1,)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "?", "c16", "M8[s]"])
def test_read_only_chunks_are_looked_at_in_place(dtype, axes):
    chunk = np.random.default_rng(0).integers(0, 9, (50, 40)).astype(dtype)
    read_only = chunk.copy()
    read_only.flags.writeable = False
    box = whole(chunk.shape)
    for largest in (False, True):
        index = ArgExtremum(largest)
        expected = index.partial(chunk, axes, None, box, chunk.shape)
        found = index.partial(read_only, axes, None, box, chunk.shape)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not read_only.flags.writeable
