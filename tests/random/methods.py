"""Every method of NumPy's generator that draws an array, with arguments and SciPy's law of it."""

from __future__ import annotations

import numpy as np
from scipy import stats

CONTINUOUS = {
    "random": ((), {}, stats.uniform()),
    "random32": ((), {"dtype": np.float32}, stats.uniform()),
    "uniform": ((-2.0, 3.0), {}, stats.uniform(-2, 5)),
    "standard_normal": ((), {}, stats.norm()),
    "standard_normal32": ((), {"dtype": np.float32}, stats.norm()),
    "normal": ((1.0, 2.0), {}, stats.norm(1, 2)),
    "lognormal": ((0.5, 0.75), {}, stats.lognorm(0.75, scale=np.exp(0.5))),
    "standard_exponential": ((), {}, stats.expon()),
    "standard_exponential32": ((), {"dtype": np.float32, "method": "inv"}, stats.expon()),
    "exponential": ((3.0,), {}, stats.expon(scale=3)),
    "standard_gamma": ((2.5,), {}, stats.gamma(2.5)),
    "standard_gamma32": ((0.5,), {"dtype": np.float32}, stats.gamma(0.5)),
    "gamma": ((0.7, 2.0), {}, stats.gamma(0.7, scale=2)),
    "beta": ((0.5, 2.0), {}, stats.beta(0.5, 2)),
    "chisquare": ((3.0,), {}, stats.chi2(3)),
    "noncentral_chisquare": ((3.0, 1.5), {}, stats.ncx2(3, 1.5)),
    "f": ((4.0, 9.0), {}, stats.f(4, 9)),
    "noncentral_f": ((4.0, 9.0, 1.5), {}, stats.ncf(4, 9, 1.5)),
    "standard_cauchy": ((), {}, stats.cauchy()),
    "standard_t": ((5.0,), {}, stats.t(5)),
    "vonmises": ((0.5, 2.0), {}, stats.vonmises(2.0, loc=0.5)),
    "pareto": ((3.0,), {}, stats.lomax(3)),
    "weibull": ((1.5,), {}, stats.weibull_min(1.5)),
    "power": ((2.5,), {}, stats.powerlaw(2.5)),
    "laplace": ((1.0, 2.0), {}, stats.laplace(1, 2)),
    "gumbel": ((1.0, 2.0), {}, stats.gumbel_r(1, 2)),
    "logistic": ((1.0, 2.0), {}, stats.logistic(1, 2)),
    "rayleigh": ((2.0,), {}, stats.rayleigh(scale=2)),
    "wald": ((2.0, 3.0), {}, stats.invgauss(2 / 3, scale=3)),
    "triangular": ((-1.0, 0.5, 2.0), {}, stats.triang(0.5, loc=-1, scale=3)),
}

DISCRETE = {
    "integers": ((-5, 12), {}, stats.randint(-5, 12)),
    "integers8": ((0, 9), {"dtype": np.uint8, "endpoint": True}, stats.randint(0, 10)),
    "integers16": ((-3, 7), {"dtype": np.int16}, stats.randint(-3, 7)),
    "integers32": ((0, 1000), {"dtype": np.uint32}, stats.randint(0, 1000)),
    "integers_bool": ((0, 2), {"dtype": bool}, stats.randint(0, 2)),
    "binomial": ((20, 0.3), {}, stats.binom(20, 0.3)),
    "binomial_large": ((200, 0.3), {}, stats.binom(200, 0.3)),
    "negative_binomial": ((4, 0.4), {}, stats.nbinom(4, 0.4)),
    "poisson": ((3.5,), {}, stats.poisson(3.5)),
    "poisson_large": ((35.0,), {}, stats.poisson(35)),
    "geometric": ((0.2,), {}, stats.geom(0.2)),
    "hypergeometric": ((15, 25, 10), {}, stats.hypergeom(40, 15, 10)),
    "zipf": ((3.0,), {}, stats.zipf(3)),
    "logseries": ((0.6,), {}, stats.logser(0.6)),
}

VECTORS = {
    "multinomial": ((20, [0.2, 0.3, 0.5]), {}),
    "multivariate_hypergeometric": (([8, 5, 7], 6), {}),
    "dirichlet": (([0.5, 1.0, 2.0],), {}),
    "multivariate_normal": (([1.0, -1.0], [[2.0, 0.6], [0.6, 1.0]]), {}),
}

# Arguments that are arrays in place of the numbers above.
ARRAYS = {
    "normal_arrays": (([0.0, 10.0, 20.0], [[1.0], [2.0]] * 50), {}),
    "poisson_arrays": (([0.1, 5.0, 50.0],), {}),
    "integers_arrays": (([0, 10, 100], [5, 20, 300]), {}),
    "standard_gamma_arrays": (([0.3, 1.0, 10.0],), {}),
    "multinomial_arrays": (([1, 10, 100], [0.25, 0.75]), {}),
}


def draw(rng, name, arguments, options, size, **more):
    """Call the method that `name` begins with."""
    method = name.rstrip("0123456789")
    for suffix in ("_bool", "_large", "_arrays"):
        method = method.removesuffix(suffix)
    return getattr(rng, method)(*arguments, size=size, **options, **more)


EVERY = {
    **{name: case[:2] for name, case in {**CONTINUOUS, **DISCRETE}.items()},
    **VECTORS,
    **ARRAYS,
}
