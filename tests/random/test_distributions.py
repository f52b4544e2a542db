"""Draws follow their laws: moments, Kolmogorov-Smirnov, chi-square."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from darray.random import default_rng
from tests.random.methods import CONTINUOUS, DISCRETE, VECTORS, draw

# Several tiles, the last not whole. The seed is fixed: a right law fails a test at this level
# for one seed in a thousand.
SIZE = (300, 301)
LEVEL = 1e-3


def seed_of(name):
    return sum(map(ord, name))


def assert_moments(values, law):
    """Compare mean and variance with the law's, in standard errors of the sample."""
    mean, variance, _, kurtosis = (float(one) for one in law.stats("mvsk"))
    if np.isfinite(variance):
        assert abs(values.mean() - mean) < 4 * np.sqrt(variance / values.size)
    # The variance of two values, of kurtosis -2, follows from the mean.
    if np.isfinite(kurtosis) and kurtosis > -2:
        spread = variance * np.sqrt((kurtosis + 2) / values.size)
        assert abs(values.var() - variance) < 4 * spread


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distribution(name):
    arguments, options, law = CONTINUOUS[name]
    values = draw(default_rng(seed_of(name)), name, arguments, options, SIZE).collect()
    values = values.ravel().astype(float)
    if name == "vonmises":
        # SciPy's angles go half a turn to either side of their mean, NumPy's of 0.
        values = (values - arguments[0] + np.pi) % (2 * np.pi) - np.pi + arguments[0]
    assert stats.kstest(values, law.cdf).pvalue > LEVEL
    assert_moments(values, law)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_distribution(name):
    arguments, options, law = DISCRETE[name]
    values = draw(default_rng(seed_of(name)), name, arguments, options, SIZE).collect()
    values = values.ravel().astype(int)
    # Values that are expected fewer than ten times go together, on either side.
    low, high = (int(law.ppf(share)) for share in (10 / values.size, 1 - 10 / values.size))
    places = np.arange(low, high + 1)
    expected = law.pmf(places)
    expected[0], expected[-1] = law.cdf(low), law.sf(high - 1)
    observed = np.bincount(np.clip(values, low, high) - low, minlength=len(places))
    assert stats.chisquare(observed, expected * values.size).pvalue > LEVEL
    assert_moments(values, law)


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name):
    arguments, options = VECTORS[name]
    law = {
        "multinomial": stats.multinomial,
        "multivariate_hypergeometric": stats.multivariate_hypergeom,
        "dirichlet": stats.dirichlet,
        "multivariate_normal": stats.multivariate_normal,
    }[name]
    parameters = {"multinomial": arguments, "dirichlet": arguments}.get(name, arguments)
    x = draw(default_rng(seed_of(name)), name, arguments, options, SIZE).collect()
    x = x.reshape(-1, x.shape[-1])
    if name == "multivariate_normal":
        mean, covariance = map(np.asarray, parameters)
    else:
        mean = np.asarray(law.mean(*parameters))
        covariance = np.asarray(law.cov(*parameters))
    errors = np.sqrt(np.diag(covariance) / len(x))
    assert (np.abs(x.mean(axis=0) - mean) < 4 * errors).all()
    centred = x - mean
    for i in range(x.shape[1]):
        for j in range(i + 1):
            products = centred[:, i] * centred[:, j]
            error = products.std() / np.sqrt(len(x))
            assert abs(products.mean() - covariance[i, j]) < 4 * error
    if name == "multivariate_normal":
        standard = np.linalg.solve(np.linalg.cholesky(covariance), centred.T)
        assert stats.kstest(standard.ravel(), "norm").pvalue > LEVEL
        assert stats.kstest((standard**2).sum(axis=0), stats.chi2(2).cdf).pvalue > LEVEL


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_multivariate_normal_by_each_factor(method):
    covariance = np.array([[2.0, 0.9, 0.1], [0.9, 1.0, -0.2], [0.1, -0.2, 0.5]])
    x = default_rng(8).multivariate_normal(np.zeros(3), covariance, 50_000, method=method)
    np.testing.assert_allclose(np.cov(x.collect().T), covariance, atol=0.05)


def test_draws_of_one_generator_are_independent():
    rng = default_rng(21)
    first, second = rng.standard_normal(10**5), rng.standard_normal(10**5)
    child = rng.spawn(1)[0].standard_normal(10**5)
    for one, other in ((first, second), (first, child), (second, child)):
        assert stats.pearsonr(one.collect(), other.collect()).pvalue > LEVEL


def test_random_bytes():
    values = np.frombuffer(default_rng(2).bytes(100_000), np.uint8)
    assert stats.chisquare(np.bincount(values, minlength=256)).pvalue > LEVEL
