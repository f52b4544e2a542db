"""Memory of results on the way is used again only where nobody sees them any more."""

import numpy as np
import pytest

import darray as da
from darray.kernels.table import _kernels, kernel


@pytest.mark.parametrize("blocks", [20_000, 200_000])
def test_views_of_results_on_the_way_keep_their_values(blocks):
    values = np.arange(200_000.0) + 1j
    x = da.distribute(values, da.Blocks(blocks))
    z = x * 2
    w = z + 1
    np.testing.assert_array_equal((w * z.real).collect(), (values * 2 + 1) * (values * 2).real)
    w = np.square(z)
    np.testing.assert_array_equal((w + z.imag).collect(), np.square(values * 2) + (values * 2).imag)
    numbers = np.arange(200_000)
    y = da.distribute(numbers, da.Blocks(blocks)) * 2.0
    expected = np.sqrt(numbers * 2.0) + (numbers * 2.0).view("i8")
    np.testing.assert_array_equal((np.sqrt(y) + y.view("i8")).collect(), expected)


@pytest.fixture
def own_kernels():
    before = dict(_kernels["cpu"])
    yield
    _kernels["cpu"].clear()
    _kernels["cpu"].update(before)


@pytest.mark.usefixtures("own_kernels")
@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_kernel_of_ones_own_runs_whatever_the_size(size):
    @kernel(np.cbrt, on="cpu")
    def seven(x):
        return np.full_like(x, 7)

    @kernel(np.positive, on="cpu")
    def handed_on(x):
        return x

    x = da.distribute(np.ones(size), da.Blocks(size))
    assert (np.cbrt(x).collect() == 7).all()
    y = np.sqrt(x) + 2
    z = np.positive(y)
    w = z + 1
    assert ((y * w).collect() == 12).all()
    assert ((np.positive(x) + 1).collect() == 2).all()


def test_reductions_at_once_are_kept_in_their_cut():
    values = np.arange(1e6).reshape(1000, 1000)
    x = da.distribute(values, da.Blocks(1000, 500))
    y = da.distribute(values, da.Blocks(250, 250))
    total = x.sum(axis=0, keepdims=True)
    total.collect()
    assert da.fetch(da.spawn(np.shape, total.blocks[0, 0])) == (1, 500)
    sums = values.sum(axis=0, keepdims=True)
    np.testing.assert_allclose((y / total).collect(), values / sums)
    means = values.mean(axis=0, keepdims=True)
    centred = x - x.mean(axis=0, keepdims=True)
    centred.collect()
    np.testing.assert_allclose(
        ((centred * y).sum(axis=1)).collect(), ((values - means) * values).sum(axis=1)
    )


@pytest.mark.parametrize(
    "condition",
    [
        np.array(["", "a"] * 50_000),
        np.array([b"", b"a"] * 50_000),
        np.array([None, 1, 0, "", []] * 20_000, object),
        np.array([(0,), (1,)] * 50_000, [("a", "i4")]),
        np.array([0, 5] * 50_000, "m8[s]"),
    ],
    ids=["str", "bytes", "object", "structured", "timedelta"],
)
def test_conditions_of_all_kinds(condition):
    x, y = np.random.default_rng(0).random((2, 100_000))
    blocks = da.Blocks(100_000)
    found = np.where(da.distribute(condition, blocks), da.distribute(x, blocks), y)
    np.testing.assert_array_equal(found.collect(), np.where(condition, x, y))


def test_extremes_of_two_arrays_warn_of_nothing():
    x = da.distribute(np.arange(100_000.0), da.Blocks(100_000))
    assert np.maximum(x, 3).collect()[0] == 3
    assert float((np.minimum(x, 3) + 1).sum()) == 3 * 1 + 3 + 99_997 * 4


def test_half_precision_sums_are_not_rounded_on_the_way():
    values = np.r_[np.ones(200_000), -np.ones(200_000)].astype("f2")
    x = da.distribute(values, da.Blocks(400_000))
    assert float((x * 1).sum()) == float((values * 1).sum()) == 0.0


def test_the_first_operand_is_computed_first():
    values = np.array([-1.0, 0.0] * 1000)
    x = da.distribute(values, da.Blocks(1000))
    with np.errstate(all="raise"):
        both = np.sqrt(x) + np.log(x)
    with pytest.raises(FloatingPointError, match="invalid value encountered in sqrt"):
        both.collect()


def test_squares_of_truth_values():
    values = np.array([True, False])
    assert (da.distribute(values, da.Blocks(2)) ** 2).dtype == (values**2).dtype


def test_an_array_that_a_function_keeps_is_not_a_chunk():
    kept = np.zeros(40_000)
    x = da.distribute(np.arange(80_000.0), da.Blocks(40_000))
    y = x.map_blocks(lambda block: kept).persist()
    y.wait()
    kept[...] = 5
    assert not y.collect().any()
    views = []

    def seen(block):
        made = block + 1
        views.append(made[:10])
        return made

    z = x.map_blocks(seen).persist()
    z.wait()
    for view in views:
        view[...] = -1
    np.testing.assert_array_equal(z.collect(), np.arange(1.0, 80_001.0))
