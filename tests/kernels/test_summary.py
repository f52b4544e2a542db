"""The figures and the histogram of `darray describe`, against NumPy on the whole array."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from darray.kernels.binning import Histogram, counts_and_edges
from darray.kernels.reductions import Reduction, check_operand
from darray.kernels.summary import Summary
from darray.testing.strategies import dtypes, values
from tests.kernels.chunked import Case, cases, observe, reduce_chunks

REAL = dtypes("biuf")


def bounded(dtype: np.dtype[Any]) -> SearchStrategy[Any]:
    """Draw any integers, and floats whose squares are finite, with NaN and infinities."""
    if dtype.kind != "f":
        return values(dtype)
    numbers = st.floats(-1e4, 1e4, width=16).map(dtype.type)
    return st.one_of(*[numbers] * 6, st.sampled_from([np.nan, np.inf, -0.0]))


def exact_variance(line: NDArray[Any]) -> float:
    """Return the population variance of finite values, rounded once."""
    exact = [Fraction(value) for value in line.astype(object)]
    mean = sum(exact, Fraction(0)) / len(exact)
    return float(sum(((value - mean) ** 2 for value in exact), Fraction(0)) / len(exact))


@given(cases(REAL, bounded))
def test_every_figure_is_numpys_without_the_nans(case: Case) -> None:
    array, axes = case.array, case.axes
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    if array.size == 0 and all(array.shape[axis] for axis in kept):
        with pytest.raises(ValueError, match="zero-size array"):
            reduce_chunks(Summary(), case, print)
        return
    outcome = observe(lambda warn: reduce_chunks(Summary(), case, warn))
    assert outcome.error is None
    assert outcome.flags == set()
    assert outcome.warnings == []
    assert outcome.result is not None
    if outcome.result.size == 0:
        return
    lines = array.transpose(*kept, *axes).reshape(outcome.result.size, -1)
    for figures, line in zip(outcome.result.ravel(), lines, strict=True):
        check_figures(figures, line)


def check_figures(figures: Any, line: NDArray[Any]) -> None:
    there = line[line == line]
    assert figures["count"] == there.size
    assert figures["nans"] == line.size - there.size
    if there.size == 0:
        assert np.isnan([figures[name] for name in ("min", "max", "mean", "std")]).all()
        return
    assert figures["min"] == there.min()
    assert figures["max"] == there.max()
    wide = there.astype(np.float64)
    with np.errstate(invalid="ignore"):
        assert np.isclose(figures["mean"], wide.mean(), 1e-13, 1e-13 * np.abs(wide).max())
        if not np.isfinite(wide).all():
            assert np.isnan(figures["std"])
            return
    std = math.sqrt(exact_variance(wide))
    assert figures["std"] == pytest.approx(std, rel=1e-12, abs=1e-15 * float(np.abs(wide).max()))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "f2", "u1", "i8", "?"])
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("with_nan", [False, True])
def test_chunks_of_many_tiles(dtype: str, offset: int, with_nan: bool) -> None:
    rng = np.random.default_rng(5)
    array = rng.normal(offset, 3, (700, 900)).astype(dtype)
    if with_nan and array.dtype.kind == "f":
        array[rng.random(array.shape) < 0.001] = np.nan
        array[:, 17] = np.nan
    exact = array.astype(np.longdouble)
    for order in ("C", "F"):
        for axes in [(0,), (1,), (0, 1)]:
            chunk = np.asarray(array, order=order)  # type: ignore[call-overload]
            case = Case(chunk, ((300, 400), (900,)), axes, None, 2)
            ours = reduce_chunks(Summary(), case, print)
            some = (exact == exact).any(axis=axes, keepdims=True)
            shifted = np.where(some, exact, 0) - offset
            assert np.allclose(ours["std"][some], shifted_std(shifted, axes)[some], 1e-12, 0)
            assert np.array_equal(ours["nans"], (exact != exact).sum(axis=axes, keepdims=True))
            assert np.isnan(ours["mean"][~some]).all()


def shifted_std(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    mean = np.nanmean(array, axis=axes, keepdims=True)
    return np.asarray(np.sqrt(np.nanmean((array - mean) ** 2, axis=axes, keepdims=True)))


@pytest.mark.parametrize("width", [1, 3, 8, 50])
@pytest.mark.parametrize("height", [5, 4097, 70_001])
def test_short_rows_are_laid_side_by_side(width: int, height: int) -> None:
    rng = np.random.default_rng(height)
    array = rng.normal(10, 1, (height, width)).astype(np.float32)
    array[rng.random(array.shape) < 0.01] = np.nan
    case = Case(array, ((height,), (width,)), (0,), None, 2)
    ours = reduce_chunks(Summary(), case, print)
    wide = array.astype(np.float64)
    assert np.array_equal(ours["count"], (wide == wide).sum(axis=0, keepdims=True))
    assert np.array_equal(ours["min"], np.nanmin(array, axis=0, keepdims=True))
    assert np.array_equal(ours["max"], np.nanmax(array, axis=0, keepdims=True))
    assert np.allclose(ours["mean"], np.nanmean(wide, axis=0, keepdims=True), 1e-13, 0)
    assert np.allclose(ours["std"], np.nanstd(wide, axis=0, keepdims=True), 1e-12, 0)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_values_far_off_the_first_tile_and_constants_keep_their_digits(
    axes: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(1)
    array = np.zeros((1200, 1000))
    array[400:] = 1e9 + np.round(rng.normal(0, 1, (800, 1000)) * 1024) / 1024
    array[:, 5] = 0.1
    case = Case(array, ((1200,), (1000,)), axes, None, 2)
    ours = reduce_chunks(Summary(), case, print)
    exact = np.std(array.astype(np.longdouble), axis=axes, keepdims=True)
    assert np.allclose(ours["std"], exact, 1e-12, 1e-16)
    if axes == (0,):
        assert ours["std"][0, 5] == 0
        assert ours["mean"][0, 5] == 0.1


def test_squares_that_overflow_do_not_cost_the_deviation() -> None:
    array = np.tile([1e160, 1e160 * (1 + 2.0**-30)], 300_000)
    case = Case(array, ((600_000,),), (0,), None, 2)
    assert reduce_chunks(Summary(), case, print)["std"][0] == pytest.approx(1e160 * 2.0**-31)


def test_infinities_give_numpys_mean_and_a_std_of_nan_whatever_the_cuts() -> None:
    array = np.arange(600_000.0)
    array[[3, 500_000]] = np.inf
    for pieces in [(600_000,), (2, 599_998), (4, 300_000, 299_996)]:
        case = Case(array, (pieces,), (0,), None, 2)
        (figures,) = reduce_chunks(Summary(), case, print)
        assert figures["mean"] == figures["max"] == np.inf
        assert figures["min"] == 0
        assert np.isnan(figures["std"])


@pytest.mark.parametrize("reduction", [Summary(), Histogram()])
@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "U2", "O"])
def test_what_is_no_real_number_is_refused(reduction: Reduction, dtype: str) -> None:
    with pytest.raises(TypeError, match="real numbers and bool"):
        check_operand(reduction, np.dtype(dtype), (3,), (0,))


def test_a_summary_takes_no_mask_and_a_histogram_no_single_axis() -> None:
    with pytest.raises(TypeError, match="no argument 'where'"):
        check_operand(Summary(), np.dtype(float), (3,), (0,), masked=True)
    with pytest.raises(ValueError, match="along all axes"):
        Histogram().partial(np.zeros((2, 2)), (0,), None, (), (2, 2))
    with pytest.raises(ValueError, match="at least 2 bins"):
        Histogram(bins=1)


def histogram_of(array: NDArray[Any], bins: int) -> Any:
    axes = tuple(range(array.ndim))
    return Histogram(bins).partial(array, axes, None, (), array.shape)[0].reshape(1)[0]


@given(cases(REAL, values), st.sampled_from([2, 3, 16, 1024]))
def test_a_histogram_depends_on_no_cut_and_is_numpys(case: Case, bins: int) -> None:
    every = Case(case.array, case.chunks, tuple(range(case.array.ndim)), None, case.group)
    outcome = observe(lambda warn: reduce_chunks(Histogram(bins), every, warn))
    assert outcome.error is None
    assert outcome.flags == set()
    record = np.asarray(outcome.result).reshape(1)[0]
    assert record == histogram_of(case.array, bins)
    counts, edges = counts_and_edges(record)
    wide = case.array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    assert counts.sum() == finite.size
    assert record["nans"] == np.isnan(wide).sum()
    assert record["positive_infinities"] == (wide == np.inf).sum()
    assert record["negative_infinities"] == (wide == -np.inf).sum()
    exact = case.array.dtype.kind in "bf" or bool((np.abs(wide) < 2.0**53).all())
    if exact and np.isfinite(edges).all():
        assert np.array_equal(counts, np.histogram(finite, bins=edges)[0])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_integers_beyond_float64_are_binned_exactly(numbers: list[int]) -> None:
    check_integers(np.array(numbers, np.int64))


@given(st.lists(st.integers(2**63, 2**64 - 1), min_size=1, max_size=30))
def test_unsigned_integers_beyond_int64_are_binned_exactly(numbers: list[int]) -> None:
    check_integers(np.array(numbers, np.uint64))


def check_integers(array: NDArray[Any]) -> None:
    record = histogram_of(array, 16)
    numbers = [(int(v) >> int(record["exponent"])) - int(record["first"]) for v in array]
    expected = [numbers.count(i) for i in range(16)]
    assert record["counts"].tolist() == expected


def test_a_negative_value_too_small_to_scale_stays_below_0() -> None:
    array = np.array([-5e-324, 0.0, -0.0, 5e-324, 1000.0, -1000.0])
    counts, edges = counts_and_edges(histogram_of(array, 4))
    assert np.array_equal(counts, np.histogram(array, bins=edges)[0])
    assert counts.tolist() == [1, 1, 3, 1]


def test_a_histogram_of_many_tiles_and_of_a_mask() -> None:
    rng = np.random.default_rng(2)
    array = rng.normal(280, 10, (900, 1000)).astype(np.float32)
    counts, edges = counts_and_edges(histogram_of(array.T, 1024))
    assert 512 < len(counts) <= 1024
    assert np.array_equal(counts, np.histogram(array, bins=edges)[0])
    mask = array > 280
    (record,) = Histogram().partial(array, (0, 1), mask, (), array.shape)
    counts, edges = counts_and_edges(record)
    assert np.array_equal(counts, np.histogram(array[mask], bins=edges)[0])


def test_summaries_and_histograms_are_plain_data() -> None:
    for reduction in (Summary(), Histogram(64)):
        assert pickle.loads(pickle.dumps(reduction)) == reduction
        assert hash(reduction) == hash(pickle.loads(pickle.dumps(reduction)))
    assert Summary().name == "summary"
    assert Histogram().name == "histogram"
