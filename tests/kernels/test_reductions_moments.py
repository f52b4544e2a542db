"""Means and variances, chunk by chunk, against NumPy on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from numpy.typing import NDArray

from darray.kernels.moments import _deviations, _deviations_of_line
from darray.kernels.reduction_table import reduction_of
from darray.kernels.reduction_tiles import in_memory_order, strips
from darray.kernels.reductions import NO_VALUE
from darray.testing.strategies import dtypes, shapes, values
from tests.kernels.chunked import Case, Outcome, cases, compare, observe, reduce_chunks


def moderate(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw values whose squares even float16 can add."""
    if dtype.kind == "f":
        return st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.25, 10.0])
    if dtype.kind == "c":
        part = st.sampled_from([0.0, -1.0, 2.5, 7.0])
        return st.builds(complex, part, part)
    return values(dtype)


def with_nan(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw moderate values, one in four of them NaN."""
    ordinary = moderate(dtype)
    return (
        st.one_of(ordinary, ordinary, ordinary, st.just(np.nan)) if dtype.kind in "fc" else ordinary
    )


def with_infinity(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw moderate values, one in five of them infinite."""
    ordinary = moderate(dtype)
    return st.one_of(*[ordinary] * 4, st.just(-np.inf))


@given(st.data(), st.sampled_from([np.mean, np.nanmean]))
def test_means_are_numpys(data: DataObject, function: Any) -> None:
    dtype = data.draw(st.sampled_from([None, None, "float32", "complex128", "int64", "float16"]))
    elements = with_nan if function is np.nanmean else moderate
    case = data.draw(cases(dtypes(), elements, masked=True))
    ours, theirs = compare(case, function, lambda: reduction_of(function, dtype=dtype), dtype=dtype)
    if theirs.error is None:
        if case.array.dtype.kind != "m":  # NumPy's flag of 0 s / 0 depends on the array's length
            assert ours.flags == theirs.flags
        if dtype != "int64" or case.array.dtype.kind not in "fc":
            assert_close_mean(ours, theirs, case)


def assert_close_mean(ours: Outcome, theirs: Outcome, case: Case) -> None:
    a, b = ours.result, theirs.result
    assert a is not None
    assert b is not None
    if a.dtype.kind not in "fc":
        assert ((a == b) | ((a != a) & (b != b))).all()
        return
    kind = np.complex128 if case.array.dtype.kind == "c" else np.float64
    sizes = np.abs(case.array.astype(kind))
    size = float(np.where(np.isnan(sizes), 0, sizes).max(initial=0))
    if size > float(np.finfo(a.dtype).max) / 1000:
        return  # NumPy's own sum overflowed to infinity, which the order of adding decides
    eps = float(np.finfo(a.dtype).eps)
    assert np.allclose(a, b, rtol=0, atol=1000 * eps * size, equal_nan=True)


SPREADS = [np.var, np.std, np.nanvar, np.nanstd]


@given(st.data(), st.sampled_from(SPREADS))
def test_variances_are_numpys(data: DataObject, function: Any) -> None:
    skip_nan = function in (np.nanvar, np.nanstd)
    ddof = data.draw(st.sampled_from([0, 0, 1, 2, 0.5, -1]))
    case = data.draw(cases(dtypes("bfc"), with_nan if skip_nan else moderate, masked=True))
    ours, theirs = compare(case, function, lambda: reduction_of(function, ddof=ddof), ddof=ddof)
    a, b = ours.result, theirs.result
    assert a is not None
    assert b is not None
    # 5e-4 covers NumPy's own rounding of squares up to 150 in float16.
    eps = float(np.finfo(a.dtype).eps)
    assert np.allclose(a, b, rtol=40 * eps, atol=600 * eps, equal_nan=True)
    if skip_nan and case.array.dtype.kind != "b":
        assert not ours.flags
    elif ddof >= 0:  # below, NumPy divides 0 by 0 for a mean that it then uses nowhere
        assert ours.flags == theirs.flags


@given(cases(dtypes("iu"), values, masked=True), st.sampled_from(SPREADS))
def test_variances_of_any_integers_are_as_exact_as_float64(case: Case, function: Any) -> None:
    ours, theirs = compare(case, function, lambda: reduction_of(function))
    a, b = ours.result, theirs.result
    size = float(np.abs(case.array.astype(np.float64)).max(initial=0))
    scale = size if function in (np.std, np.nanstd) else size**2
    # Integers beyond 2**53 lose their last digits in float64, in NumPy and here.
    assert np.allclose(a, b, rtol=1e-13, atol=1e-13 * scale, equal_nan=True)  # type: ignore[arg-type]


@given(cases(dtypes("f"), with_infinity), st.sampled_from([*SPREADS, np.mean, np.nanmean]))
def test_infinities_give_what_numpys_two_passes_give(case: Case, function: Any) -> None:
    ours, theirs = compare(case, function, lambda: reduction_of(function))
    a, b = ours.result, theirs.result
    assert a is not None
    assert b is not None
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.array_equal(np.isinf(a), np.isinf(b))
    if function in (np.var, np.std, np.mean):
        assert ours.flags == theirs.flags


@pytest.mark.parametrize("pieces", [(6,), (3, 3), (1, 2, 3)])
@pytest.mark.parametrize("big", [1e200, -1.7e308])
def test_an_overflow_is_infinite_and_raises_its_flag(pieces: tuple[int, ...], big: float) -> None:
    case = Case(np.array([big, big, 0, 1, 2, big]), (pieces,), (0,), None, 2)
    ours, _ = compare(case, np.var, lambda: reduction_of(np.var))
    assert ours.result is not None
    assert ours.result[0] == np.inf
    assert ours.flags == {"overflow"}


def test_an_overflow_in_merging_alone_raises_its_flag() -> None:
    case = Case(np.array([-1e200, 1e200]), ((1, 1),), (0,), None, 2)
    ours, theirs = compare(case, np.var, lambda: reduction_of(np.var))
    assert ours.result is not None
    assert ours.result[0] == np.inf
    assert ours.flags == theirs.flags == {"overflow"}


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9, -1e12])
@pytest.mark.parametrize("trend", [0.0, 100.0])
def test_a_large_mean_costs_the_variance_no_digits(offset: float, trend: float) -> None:
    rng = np.random.default_rng(7)
    # Multiples of 2**-10 stay exact under the offset, so the true variance does not change.
    noise = np.round((rng.normal(0, 3, 40_000) + np.linspace(0, trend, 40_000)) * 1024) / 1024
    exact = noise.astype(np.longdouble).var()
    pieces = (1, 4999, 15_000, 20_000)
    case = Case(noise + offset, (pieces,), (0,), None, 2)
    ours = reduce_chunks(reduction_of(np.var), case, print)[0]
    assert abs(ours / exact - 1) < 1e-13


def test_chunks_larger_than_a_tile_and_in_any_memory_order() -> None:
    rng = np.random.default_rng(3)
    array = rng.normal(5, 2, (40, 70, 60)).astype(np.float32)
    array[3, 5, 7] = np.nan
    mask = rng.random(array.shape) < 0.7
    for order in [(0, 1, 2), (2, 0, 1), (1, 2, 0)]:
        turned = array.transpose(order)
        for axes in [(0,), (1,), (2,), (0, 2), (0, 1, 2), (1, 2), ()]:
            for where in (None, mask.transpose(order)):
                case = Case(turned, tuple([(n,) for n in turned.shape]), axes, where, 2)
                for function in (np.nanvar, np.var):
                    ours, _ = compare(case, function, lambda f=function: reduction_of(f))
                    wide = Case(turned.astype(float), case.chunks, axes, where, 2)
                    _, exact = compare(wide, function, lambda f=function: reduction_of(f))
                    # A line of up to 4200 float32 values added one after another, as in NumPy.
                    assert np.allclose(
                        ours.result,
                        exact.result,
                        rtol=1e-5,
                        atol=1e-12,
                        equal_nan=True,  # type: ignore[arg-type]
                    )


@given(st.data(), st.integers(1, 40))
def test_tiles_cover_every_element_once(data: DataObject, size: int) -> None:
    shape = data.draw(shapes(max_side=7))
    axes = tuple(sorted(data.draw(st.sets(st.sampled_from(range(len(shape))))))) if shape else ()
    seen: NDArray[np.int64] = np.zeros(shape, np.int64)
    results = np.zeros([1 if a in axes else n for a, n in enumerate(shape)], np.int64)
    for strip, tiles in strips(shape, axes, size):
        results[(*strip, ...)] += 1
        for tile in tiles:
            seen[(*tile, ...)] += 1
            assert seen[(*tile, ...)].any(axis=axes, keepdims=True).shape == results[strip].shape
    assert (seen == 1).all()
    assert (results == 1).all()


@given(cases(dtypes("i"), values))
def test_a_result_in_memory_order_is_restored_to_the_arrays_own(case: Case) -> None:
    walk = in_memory_order(case.array, case.axes)
    ours = walk.restore(np.asarray(walk.array.max(axis=walk.axes, keepdims=True, initial=-5)))
    assert np.array_equal(ours, case.array.max(axis=case.axes, keepdims=True, initial=-5))


def test_correction_is_another_name_of_ddof() -> None:
    assert reduction_of(np.var, correction=1) == reduction_of(np.var, ddof=1)
    with pytest.raises(ValueError, match="can't be provided simultaneously"):
        reduction_of(np.nanstd, ddof=1, correction=1)
    assert reduction_of(np.var, correction=NO_VALUE) == reduction_of(np.var)


@pytest.mark.parametrize(("operand", "dtype"), [("f8", "i8"), ("i4", "i8"), ("c16", "f8")])
def test_a_dtype_that_would_round_the_mean_is_refused(operand: str, dtype: str) -> None:
    with pytest.raises(NotImplementedError, match="leave dtype out"):
        reduction_of(np.var, dtype=dtype).result_dtype(np.dtype(operand))


def test_a_ddof_that_is_no_number_raises_numpys_error() -> None:
    theirs = observe(lambda _: np.var([1.0], ddof="a"))  # type: ignore[call-overload]
    with pytest.raises(type(theirs.error)):  # type: ignore[arg-type]
        reduction_of(np.var, ddof="a").result_dtype(np.dtype(float))


@pytest.mark.parametrize("function", [np.mean, np.var, np.nanmean, np.nanvar])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_nothing_warns_as_in_numpy(function: Any, shape: tuple[int, ...]) -> None:
    chunks = tuple([(n,) for n in shape])
    for kind in (float, int, np.float16):
        for axes in [(0,), tuple(range(len(shape))), (len(shape) - 1,)]:
            case = Case(np.zeros(shape, kind), chunks, axes, None, 2)
            ours, theirs = compare(case, function, lambda: reduction_of(function))
            assert np.array_equal(ours.result, theirs.result, equal_nan=True)  # type: ignore[arg-type]
            assert ours.flags == theirs.flags


@given(
    st.lists(st.floats(width=32) | st.sampled_from([1e-40, 3e38, 0.0]), min_size=1, max_size=40),
    st.sampled_from(["f4", "f8", "i8", "?"]),
    st.floats(-10, 10),
)
def test_deviations_of_a_line_are_those_of_any_chunk_bit_for_bit(numbers, dtype, shift):
    with np.errstate(all="ignore"):
        chunk = np.array(numbers).astype(dtype)
        about = np.array([shift], np.float32 if dtype == "f4" else np.float64)
        count = np.array([len(numbers)])
        expected = _deviations(chunk, None, (0,), about, count)
        found = _deviations_of_line(chunk, about)
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
