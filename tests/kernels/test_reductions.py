"""Reductions by ufuncs, chunk by chunk, against NumPy on the whole array."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from darray.kernels.reduction_table import REDUCTIONS, reduction_of
from darray.kernels.reductions import NO_VALUE, UfuncReduction, check_operand, fold
from darray.testing.strategies import dtypes, values
from tests.kernels.chunked import Case, cases, compare, equal, observe, reduce_chunks


def tame(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw values whose sums and products neither overflow nor depend on the order in a flag."""
    if dtype.kind not in "fc":
        return values(dtype)
    numbers = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.25, 2.0, np.inf])
    if dtype.kind == "f":
        return numbers
    finite = st.sampled_from([0.0, 0.5, -1.0, 2.0])
    return st.builds(complex, finite, finite)


def with_nan(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw tame values, one in four of them NaN."""
    if dtype.kind not in "fc":
        return values(dtype)
    tame_ones = tame(dtype)
    return st.one_of(tame_ones, tame_ones, tame_ones, st.just(np.nan))


def accumulating(function: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Draw dtype= and initial= for a sum or a product."""
    named = st.sampled_from([None, "int16", "float32", "complex128", "bool", "uint64"])
    start = st.sampled_from([NO_VALUE, NO_VALUE, 0, 3, 2.5, -1, 70000, np.nan, None])
    return st.fixed_dictionaries({"dtype": named, "initial": start})


@given(st.data(), st.sampled_from([np.sum, np.prod, np.nansum, np.nanprod]))
def test_sums_and_products_of_tame_values_are_numpys(data: DataObject, function: Any) -> None:
    parameters = data.draw(accumulating(function))
    elements = tame if function in (np.sum, np.prod) else with_nan
    case = data.draw(cases(dtypes(), elements, masked=True))
    ours, theirs = compare(
        case, function, lambda: reduction_of(function, **parameters), **parameters
    )
    if theirs.error is None:
        assert equal_up_to_rounding(ours.result, theirs.result)
        if case.array.dtype.kind == "f" and parameters["initial"] is NO_VALUE:
            assert ours.flags == theirs.flags


def equal_up_to_rounding(a: Any, b: Any) -> bool:
    if a.dtype.kind not in "fc":
        return equal(a, b)
    return bool(np.allclose(a, b, rtol=500 * np.finfo(a.dtype).eps, atol=0, equal_nan=True))


@given(cases(dtypes("f"), values), st.sampled_from([np.sum, np.nansum]))
def test_sums_of_any_floats_are_within_the_bound_of_summation(case: Case, function: Any) -> None:
    ours, theirs = compare(case, function, lambda: reduction_of(function))
    finite = np.where(np.isfinite(case.array), case.array, 0).astype(np.longdouble)
    size = np.abs(finite).sum(axis=case.axes, keepdims=True)
    # A sum of values that could overflow in some order is inf, -inf or nan in some other.
    sure = size < np.finfo(case.array.dtype).max / 2
    with np.errstate(invalid="ignore"):
        error = np.abs(ours.result.astype(np.longdouble) - theirs.result)  # type: ignore[union-attr]
    bound = 2 * case.array.size * np.finfo(case.array.dtype).eps * size
    same = (ours.result == theirs.result) | (
        np.isnan(ours.result) & np.isnan(theirs.result)  # type: ignore[arg-type]
    )
    assert ((error <= bound) | same | ~sure).all()


EXTREMA: list[Any] = [np.min, np.max, np.amin, np.amax, np.nanmin, np.nanmax]
EXTREMA += [np.minimum, np.maximum, np.fmin, np.fmax]


@given(st.data(), st.sampled_from(EXTREMA))
def test_extremes_are_numpys_to_the_bit(data: DataObject, function: Any) -> None:
    case = data.draw(cases(dtypes(), values, masked=True))
    initial = data.draw(st.sampled_from([NO_VALUE, NO_VALUE, None, 1, -3, 300, 2.5, np.nan]))
    if case.array.dtype.kind in "mM" and initial is not None and initial is not NO_VALUE:
        initial = case.array.dtype.type(5, np.datetime_data(case.array.dtype)[0])
    ours, theirs = compare(
        case, function, lambda: reduction_of(function, initial=initial), initial=initial
    )
    if theirs.error is None:
        assert equal(ours.result, theirs.result)
        if case.array.dtype.kind == "f":
            assert ours.flags == theirs.flags


@given(cases(dtypes(), values, masked=True), st.sampled_from([np.any, np.all]))
def test_truth_is_numpys(case: Case, function: Any) -> None:
    ours, theirs = compare(case, function, lambda: reduction_of(function))
    assert equal(ours.result, theirs.result)


@given(cases(dtypes(), values))
def test_counts_are_numpys(case: Case) -> None:
    ours, theirs = compare(case, np.count_nonzero, lambda: reduction_of(np.count_nonzero))
    assert equal(ours.result, theirs.result)


def test_nonzero_values_are_counted_under_a_mask() -> None:
    reduction = reduction_of(np.count_nonzero)
    array, mask = np.array([[1, 0], [2, 3]]), np.array([[True, True], [False, True]])
    (counts,) = reduction.partial(array, (1,), mask, (), (2, 2))
    assert counts.tolist() == [[1], [1]]


UFUNCS = [np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd, np.hypot, np.logaddexp]
UFUNCS += [np.logaddexp2, np.logical_and, np.logical_or, np.logical_xor, np.add, np.multiply]


@given(st.data(), st.sampled_from(UFUNCS))
def test_every_reorderable_ufunc_reduces_as_in_numpy(data: DataObject, ufunc: Any) -> None:
    case = data.draw(cases(dtypes("biufc"), tame, masked=True))
    initial = data.draw(st.sampled_from([NO_VALUE, NO_VALUE, 1, 5]))
    ours, theirs = compare(
        case, ufunc, lambda: reduction_of(ufunc, initial=initial), initial=initial
    )
    if theirs.error is None:
        assert equal_up_to_rounding(ours.result, theirs.result)


def test_objects_are_reduced_by_their_own_methods() -> None:
    array = np.array([[Fraction(1, 3), Fraction(2, 3)], [Fraction(5), Fraction(-1, 7)]])
    for where in (None, np.array([[True, False], [True, True]])):
        case = Case(array, ((1, 1), (2,)), (0,), where, 2)
        for function in (np.sum, np.max):
            _, theirs = compare(
                case, function, lambda f=function: reduction_of(f, initial=4), initial=4
            )
            ours = reduce_chunks(reduction_of(function, initial=4), case, print)
            assert equal(ours, theirs.result)
    scalar = Case(np.array(Fraction(1, 3), dtype=object), (), (), None, 2)
    assert reduce_chunks(reduction_of(np.sum), scalar, print)[()] == Fraction(1, 3)
    assert reduce_chunks(reduction_of(np.mean), scalar, print)[()] == Fraction(1, 3)


def test_texts_are_counted_and_asked_for_truth() -> None:
    case = Case(np.array(["a", "", "b"]), ((2, 1),), (0,), None, 2)
    for function in (np.any, np.all, np.count_nonzero):
        ours, theirs = compare(case, function, lambda f=function: reduction_of(f))
        assert equal(ours.result, theirs.result)


@pytest.mark.parametrize("ufunc", [np.subtract, np.power, np.left_shift, np.equal, np.arctan2])
def test_a_ufunc_that_is_not_reorderable_is_refused(ufunc: np.ufunc) -> None:
    with pytest.raises(NotImplementedError, match="collect the array"):
        reduction_of(ufunc)


@pytest.mark.parametrize("ufunc", [np.sqrt, np.divmod, np.matmul])
def test_a_ufunc_that_numpy_does_not_reduce_with_raises_numpys_error(ufunc: np.ufunc) -> None:
    theirs = observe(lambda _: ufunc.reduce(np.ones((2, 2))))
    assert theirs.error is not None
    with pytest.raises(type(theirs.error)):
        reduction_of(ufunc)


@pytest.mark.parametrize("name", ["U3", "M8[s]", "i4,f4"])
def test_a_dtype_that_numpy_refuses_is_refused_with_its_error(name: str) -> None:
    array = np.zeros(2, name)
    for function in REDUCTIONS:
        theirs = observe(lambda _, f=function: f(array))
        if theirs.error is not None:
            with pytest.raises(type(theirs.error)):
                check_operand(reduction_of(function), array.dtype, (2,), (0,))


@pytest.mark.parametrize("function", [*REDUCTIONS, np.add, np.fmax])
def test_reductions_are_plain_data(function: Any) -> None:
    reduction = reduction_of(function)
    copy = pickle.loads(pickle.dumps(reduction))
    assert copy == reduction
    assert hash(copy) == hash(reduction)
    assert reduction.name == function.__name__
    with pytest.raises((AttributeError, TypeError)):
        reduction.name = "other"  # type: ignore[misc]


def test_an_unknown_function_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotImplementedError, match=r"'median' is no reduction .* argmax"):
        reduction_of(np.median)


def test_the_initial_value_enters_once_however_often_it_is_cut() -> None:
    for pieces in [(6,), (1, 1, 4), (2, 2, 2)]:
        case = Case(np.arange(6), (pieces,), (0,), None, 2)
        assert reduce_chunks(reduction_of(np.sum, initial=100), case, print).tolist() == [115]


def test_an_initial_array_without_axes_is_a_scalar() -> None:
    assert hash(UfuncReduction(np.add, initial=np.array(4))) == hash(
        UfuncReduction(np.add, initial=np.int64(4))
    )


def test_a_mask_without_an_identity_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="does not have an identity"):
        check_operand(reduction_of(np.min), np.dtype(float), (4,), (0,), masked=True)
    user = np.frompyfunc(lambda a, b: a + b, 2, 1, identity=None)
    with pytest.raises(NotImplementedError, match="needs an identity"):
        check_operand(reduction_of(user, initial=1), np.dtype(object), (4,), (0,), masked=True)


def test_a_long_fold_keeps_the_rounding_of_pairwise_summation() -> None:
    parts = [np.full(1, 0.1, np.float32) for _ in range(4096)]
    assert fold(np.add, parts)[0] == np.float32(0.1) * 4096


def test_a_real_dtype_for_complex_values_warns_once_and_not_in_partial() -> None:
    array = np.array([1 + 2j, 3 - 1j])
    reduction = reduction_of(np.sum, dtype="float64")
    with pytest.warns(np.exceptions.ComplexWarning):
        assert reduction.result_dtype(array.dtype) == np.float64
    assert reduction.partial(array, (0,), None, (), ())[0].tolist() == [4.0]
