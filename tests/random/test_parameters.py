"""Parameters: arrays of every kind, and what is refused, with NumPy's errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import darray as da
from darray.random import default_rng
from tests.random.conftest import running


def test_array_of_parameters_goes_with_its_element():
    scale = np.repeat([1.0, 100.0], 50_000)
    x = default_rng(0).normal(0, scale, blocks=7919).collect()
    assert stats.kstest(x / scale, "norm").pvalue > 1e-3
    many = default_rng(0).poisson(np.array([[1.0], [1000.0]]), size=(2, 5000)).collect()
    assert many.shape == (2, 5000)
    assert abs(many.mean(axis=1) / [1, 1000] - 1).max() < 0.1


def test_parameters_are_captured_by_value():
    scale = np.ones(10)
    x = default_rng(0).normal(0, scale)
    before = x.tolist()
    scale[:] = 1000
    assert x.tolist() == before


@pytest.mark.parametrize("cut", ["auto", 1000, (77, 1024), ((1, 699), (1024,))])
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_chunked_parameters_give_the_numbers_of_those_in_memory(cut, engine):
    loc = np.arange(700.0 * 1024).reshape(700, 1024) * 10
    scale = np.linspace(1, 2, 1024)
    expected = default_rng(6).normal(loc, scale).collect()
    shape = default_rng(6).standard_gamma(scale, size=(700, 1024)).collect()
    with running(engine=engine, threads=2):
        chunked = da.distribute(loc, da.Blocks(93, 401))
        x = default_rng(6).normal(chunked, scale, blocks=cut)
        assert x.chunks == da.zeros((700, 1024), blocks=cut).chunks
        np.testing.assert_array_equal(x.collect(), expected)
        np.testing.assert_array_equal(x[5:6, 1000:].collect(), expected[5:6, 1000:])
        y = default_rng(6).standard_gamma(da.distribute(scale, 100), size=(700, 1024), blocks=cut)
        np.testing.assert_array_equal(y.collect(), shape)


def test_chunked_parameters_without_axes_or_elements():
    rng = default_rng(6)
    x = rng.normal(da.ones(1000).sum(), 1.0)
    assert x.shape == ()
    assert abs(float(x) - 1000) < 10
    assert rng.poisson(da.zeros(0)).collect().tolist() == []
    assert rng.normal(da.zeros((0, 3)), np.ones(3)).collect().shape == (0, 3)
    assert rng.integers(da.zeros((), int), 5, size=3).shape == (3,)


def test_bad_values_of_chunked_parameters_raise_when_they_are_computed():
    x = default_rng(0).normal(0, da.full(10, -1.0))
    with pytest.raises(ValueError, match="scale < 0"):
        x.collect()
    with pytest.raises(ValueError, match="scale < 0"):
        default_rng(0).normal(da.zeros(3), -1.0)


BAD = [
    ("normal", (0, -1), {}),
    ("normal", (0, [1, -1]), {}),
    ("normal", (0, [1, -1]), {"size": (7, 2)}),
    ("normal", ("a",), {}),
    ("normal", ([0, 1, 2], 1), {"size": 2}),
    ("normal", ([0, 1, 2], [1, 2]), {}),
    ("normal", (), {"size": -1}),
    ("normal", (), {"size": 2.5}),
    ("normal", (), {"size": (2, 2.5)}),
    ("normal", (), {"size": True}),
    ("uniform", (0, np.inf), {}),
    ("exponential", (-1,), {}),
    ("gamma", (-1,), {}),
    ("beta", (0, 1), {}),
    ("triangular", (3, 2, 1), {}),
    ("vonmises", (0, -1), {}),
    ("random", (), {"dtype": int}),
    ("standard_normal", (), {"dtype": np.float16}),
    ("integers", (5, 5), {}),
    ("integers", ([5, 1], [5, 2]), {}),
    ("integers", ([5, 1], [5, 2]), {"size": (7, 2)}),
    ("integers", (0, 300), {"dtype": np.uint8}),
    ("integers", (10,), {"dtype": float}),
    ("integers", (10,), {"dtype": ">i8"}),
    ("binomial", (-1, 0.5), {}),
    ("binomial", (5, 1.5), {}),
    ("binomial", ([-1, 2], 0.5), {}),
    ("negative_binomial", (0, 0.5), {}),
    ("poisson", (-1,), {}),
    ("poisson", (1e300,), {}),
    ("geometric", (0,), {}),
    ("hypergeometric", (5, 5, 11), {}),
    ("zipf", (1.0,), {}),
    ("logseries", (1.0,), {}),
    ("multinomial", (3, [0.9, 0.9, 0.1]), {}),
    ("multinomial", (-3, [0.5, 0.5]), {}),
    ("multinomial", ([1, 2], [0.5, 0.5]), {"size": 3}),
    ("multivariate_hypergeometric", ([3, 4], 9), {}),
    ("multivariate_hypergeometric", ([3, -4], 1), {}),
    ("multivariate_hypergeometric", ([3, 4], 1), {"method": "x"}),
    ("dirichlet", ([-1, 2],), {}),
    ("dirichlet", ([[1, 2]],), {}),
    ("multivariate_normal", ([0, 1], np.eye(3)), {}),
    ("multivariate_normal", ([0, 1], [[1, 2], [2, 1]]), {"check_valid": "raise"}),
    ("multivariate_normal", ([0, 1], [[1, 2], [2, 1]]), {"check_valid": "?"}),
    ("multivariate_normal", ([0, 1], [[1, 2], [2, 1]]), {"method": "cholesky"}),
    ("multivariate_normal", ([0, 1], np.eye(2)), {"method": "chol"}),
    ("choice", (0,), {}),
    ("choice", (-1, 3), {}),
    ("choice", (3.5, 3), {}),
    ("choice", ([], 3), {}),
    ("choice", (3, 4), {"replace": False}),
    ("choice", (5, 3), {"p": [1, 2]}),
    ("choice", (3, 3), {"p": [0.5, 0.2, 0.2]}),
    ("choice", (3, 3), {"p": [1.5, -0.5, 0]}),
    ("choice", (3, 3), {"p": [0.5, 0.5, 0], "replace": False}),
    ("choice", (np.eye(3), 3), {"axis": 2}),
    ("permutation", (3.5,), {}),
    ("permutation", ("abc",), {}),
    ("permutation", ([[1, 2]],), {"axis": 2}),
    ("permuted", (5,), {}),
    ("permuted", (np.eye(3),), {"axis": 2}),
    ("shuffle", (5,), {}),
    ("shuffle", ((1, 2),), {}),
    ("spawn", (-1,), {}),
]


SIZED = {"normal", "integers", "poisson", "binomial", "multinomial", "dirichlet", "beta"}


def error_of(rng, method, arguments, options):
    """The type of what a method raises for bad arguments."""
    try:
        getattr(rng, method)(*arguments, **options)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return type(error)
    return None


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda i: f"{BAD[i][0]}-{i}")
@pytest.mark.parametrize("size", [None, 7])
def test_bad_parameters_raise_what_numpy_raises_at_the_call(number, size):
    method, arguments, options = BAD[number]
    if size is not None and "size" not in options and method in SIZED:
        options = {**options, "size": size}
    expected = error_of(np.random.default_rng(0), method, arguments, options)
    assert expected is not None
    assert error_of(default_rng(0), method, arguments, options) is expected


def test_no_draw_is_counted_for_arguments_that_are_refused():
    rng = default_rng(0)
    with pytest.raises(ValueError, match="scale"):
        rng.normal(0, -1, size=5)
    assert rng.random(3).tolist() == default_rng(0).random(3).tolist()


def test_out_is_refused_by_name():
    rng = default_rng(0)
    out = np.empty(3)
    for method in ("random", "standard_normal", "standard_exponential"):
        with pytest.raises(NotImplementedError, match=r"out=.*assign"):
            getattr(rng, method)(3, out=out)
    with pytest.raises(NotImplementedError, match="assign"):
        rng.standard_gamma(1.0, 3, out=out)
    with pytest.raises(NotImplementedError, match="assign"):
        rng.permuted(np.eye(3), axis=0, out=out)


def test_invalid_covariance_warns_in_the_line_of_the_caller():
    with pytest.warns(RuntimeWarning, match="positive-semidefinite") as caught:
        default_rng(0).multivariate_normal([0, 1], [[1, 2], [2, 1]], size=3)
    assert caught[0].filename == __file__


def test_numpys_signatures_are_kept():
    for name in dir(np.random.Generator):
        if not name.startswith("_"):
            assert hasattr(default_rng(0), name), name
    x = default_rng(0).standard_exponential(5, np.float32, "inv")
    assert x.dtype == np.float32
    assert default_rng(0).integers(3, 9, 5, np.int16, True).dtype == np.int16
    assert default_rng(0).multivariate_hypergeometric([2, 3], 4, 5, "count").shape == (5, 2)
