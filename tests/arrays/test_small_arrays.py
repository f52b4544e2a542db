"""Arrays of a tile at most: computed where they are collected, as NumPy computes them."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.expr import building
from darray.expr.nodes import Memory
from darray.lowering.at_once import applies
from darray.lowering.walking import walk_of
from tests.arrays.agreement import check, same_arrays

# More than WORTH_REUSE bytes as float64, so that results are written over operands.
LONG = 5000

OPERATIONS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    np.maximum,
    np.arctan2,
    lambda x, y: np.where(x > y, x, y),
    lambda x, y: x - y.mean(),
    lambda x, y: np.sqrt(x) + y,
    lambda x, y: x[::-1] * y,
    lambda x, y: x + y.max(keepdims=True),
    lambda x, y: (x * 2 - y) / x.sum(),
    lambda x, y: x.astype(np.float32) + y.argmin(),
    lambda x, y: x**2 - 3 * y,
]


def no_chunks(_):
    return None


@given(st.data(), st.sampled_from([0, 1, 7, LONG]), st.sampled_from(["f8", "f4", "i8", "c16"]))
def test_programs_give_what_numpy_gives_and_warn_of_it(data, size, dtype):
    generator = np.random.default_rng(data.draw(st.integers(0, 3)))
    plain = [(100 * generator.standard_normal(size)).astype(dtype) for _ in range(2)]
    if np.dtype(dtype).kind == "f" and size > 1:
        plain[0][:2] = data.draw(st.sampled_from([(np.inf, 0), (np.nan, -0.0), (1e30, -1e-30)]))
    steps = data.draw(
        st.lists(
            st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 9), st.integers(0, 9)),
            min_size=1,
            max_size=5,
        )
    )

    def build(*arrays):
        found = list(arrays)
        for operation, one, other in steps:
            found.append(operation(found[one % len(found)], found[other % len(found)]))
        return tuple(found[2:])

    check(build, tuple(da.distribute(one) for one in plain), tuple(plain))


def test_what_is_walked_is_also_what_explain_tells():
    x = da.distribute(np.arange(8.0))
    for array in (x + 1, x.sum(), x[::2], np.where(x > 3, x, x.mean())):
        assert walk_of([array.expression], no_chunks, 30) is not None
        assert applies(array.expression)
    large, cut = da.ones(1 << 16, blocks=-1), da.ones(8, blocks=4)
    for array in (large + 1, cut + 1, (x + 1)[::2]):
        assert walk_of([array.expression], no_chunks, 30) is None


def test_what_a_function_hands_on_is_not_written_over():
    values = np.arange(float(LONG))
    made = building.elementwise(np.add, [building.captured(values), 1.0])[0]
    handed_on = building.elementwise(np.asarray, [made])[0]
    doubled = building.elementwise(np.multiply, [made, 2.0])[0]
    both = building.elementwise(np.subtract, [doubled, handed_on])[0]
    assert same_arrays(da.DArray.of(both).collect(), values + 1)


def test_results_that_are_asked_for_are_not_written_over():
    values = np.arange(float(LONG))
    x = da.distribute(values)
    first = x + 1
    second = first * 2
    both = da.compute(first, second)
    assert same_arrays(both[0], values + 1)
    assert same_arrays(both[1], (values + 1) * 2)
    assert same_arrays(first.collect(), values + 1)


def test_results_that_are_kept_are_not_written_over():
    values = np.arange(float(LONG))
    y = (da.distribute(values) + 1).persist()
    y.wait()
    assert same_arrays((y * 2).collect(), (values + 1) * 2)
    assert same_arrays((y - y).collect(), values * 0)
    assert same_arrays(y.collect(), values + 1)
    # Kept with the expression, as a statement that changes an array leaves it.
    z = da.distribute(values)
    z += 1
    before = z.copy()
    z.persist()
    z *= 3
    assert same_arrays((before * 1).collect(), values + 1)
    assert same_arrays(z.collect(), (values + 1) * 3)


def test_what_reductions_give_stays_with_them():
    x = da.distribute(np.arange(8.0))
    total = x.sum(keepdims=True)
    assert same_arrays((x / total).collect(), np.arange(8.0) / 28)
    assert total.expression.kept is not None
    assert same_arrays((x - total).collect(), np.arange(8.0) - 28)


def test_each_result_is_an_array_of_its_own():
    x = da.distribute(np.arange(4.0))
    y = x + 1
    total = building.elementwise(np.asarray, [x.sum(keepdims=True).expression])[0]
    arrays = da.compute(y, y, da.DArray.of(total), x.sum(keepdims=True), x[:])
    for array in arrays:
        array[...] = -1
    assert same_arrays(y.collect(), np.arange(4.0) + 1)
    assert same_arrays(x.collect(), np.arange(4.0))
    again = da.compute(y, y, da.DArray.of(total))
    again[0][...] = -1
    assert same_arrays(again[1], np.arange(4.0) + 1)
    assert same_arrays(again[2], np.array([6.0]))


@pytest.mark.parametrize("dtype", ["u1", "i1"])
def test_numbers_that_do_not_fit_are_refused_also_after_others(dtype):
    x = da.distribute(np.arange(3).astype(dtype))
    for number in (0, 1, 127):
        assert (x + number).dtype == dtype
    for number in (-129, 70000):
        with pytest.raises(OverflowError):
            x + number
    assert (x + True).dtype == dtype
    assert (x + 1.0).dtype == (np.arange(3).astype(dtype) + 1.0).dtype
    assert (x + np.int64(1)).dtype == np.int64


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c16"])
@pytest.mark.parametrize("exponent", [2, -1, 0.5, 1, 3, 2.0, 0, True])
def test_powers_are_what_numpys_operator_computes(dtype, exponent):
    plain = np.array([0, 1.5, 1e200, -3 + 0.7j, 2 + 0.1j])
    with np.errstate(over="ignore"):
        plain = (plain if dtype == "c16" else plain.real).astype(dtype)

    def in_place(x):
        y = x.copy()
        y **= exponent
        return y

    for operation in (lambda x: x**exponent, in_place):
        check(operation, (da.distribute(plain),), (plain,))


def test_a_cut_array_is_no_walk():
    array = np.arange(8.0)
    array.flags.writeable = False
    node = building.elementwise(np.add, [Memory((8,), array.dtype, ((4, 4),), array), 1])[0]
    assert walk_of([node], no_chunks, 30) is None


REDUCTIONS = {
    "sum": np.sum,
    "mean": np.mean,
    "std": np.std,
    "max": np.max,
    "argmax": np.argmax,
    "columns": lambda x: x.mean(axis=0),
    "kept axes": lambda x: x.min(axis=-1, keepdims=True),
    "divisor": lambda x: np.nanvar(x, ddof=1.5),
    "reversed": lambda x: x.sum(axis=0, keepdims=True)[..., ::-1],
    "repeated": lambda x: np.broadcast_to(x.sum(axis=0), (2, *x.shape[1:])),
    "too few": lambda x: np.var(x, ddof=x.size),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("shape", [(7,), (90, 70), (1000, 700)])
def test_a_reduction_of_an_array_in_memory_is_as_numpys_and_an_array_of_its_own(name, shape):
    reduce = REDUCTIONS[name]
    plain = np.random.default_rng(0).standard_normal(shape)
    with np.errstate(divide="ignore"):
        reduced = reduce(da.distribute(plain))
    if name == "too few":
        silent = np.errstate(divide="ignore")
        with silent, pytest.warns(RuntimeWarning, match="Degrees of freedom <= 0"):
            expected = np.asarray(reduce(plain))
        with pytest.warns(RuntimeWarning, match="Degrees of freedom <= 0"):
            found = reduced.collect()
    else:
        expected, found = np.asarray(reduce(plain)), reduced.collect()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.flags.writeable
    assert found.flags.c_contiguous
    found[...] = 3
    np.testing.assert_allclose(reduced.collect(), expected, rtol=1e-12)


def test_quotients_that_lose_digits_tell_of_it():
    small = da.distribute(np.array([5e-324, 0.0, 0.0]))
    with np.errstate(under="raise"):
        mean, variance = small.mean(), da.distribute(np.array([1e-160, 0.0, 0.0])).var()
    for one in (mean, variance):
        with pytest.raises(FloatingPointError, match="underflow"):
            one.collect()
