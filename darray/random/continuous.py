"""Distributions of real numbers: the methods of `Generator` for them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from darray.blocks import BlocksLike
from darray.random.drawing import Drawing, Drawn, Real, Size, refuse_out

__all__ = ["ContinuousDistributions", "StandardDistributions"]


class StandardDistributions(Drawing):
    """Draws of reals in either precision, as `numpy.random.Generator` has them."""

    def random(
        self,
        size: Size = None,
        dtype: DTypeLike = np.float64,
        out: None = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """Evenly distributed from 0 to below 1, in float64 or float32.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> x = rng.random((100, 100), blocks=30)
        >>> x.dtype, bool(0.49 < x.mean() < 0.51)
        (dtype('float64'), True)
        """
        refuse_out("random", out)
        return self._draw("random", size, blocks, dtype=dtype)

    def standard_normal(
        self,
        size: Size = None,
        dtype: DTypeLike = np.float64,
        out: None = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """The normal distribution of mean 0 and deviation 1, in float64 or float32.

        Examples
        --------
        >>> import numpy as np
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> rng.standard_normal((4, 4), dtype=np.float32).dtype
        dtype('float32')
        """
        refuse_out("standard_normal", out)
        return self._draw("standard_normal", size, blocks, dtype=dtype)

    def standard_exponential(
        self,
        size: Size = None,
        dtype: DTypeLike = np.float64,
        method: Literal["zig", "inv"] = "zig",
        out: None = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """The exponential distribution of mean 1, in float64 or float32.

        `method` is the ziggurat ("zig") or the logarithm of uniform draws ("inv").

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool((rng.standard_exponential(100) >= 0).all())
        True
        """
        refuse_out("standard_exponential", out)
        return self._draw("standard_exponential", size, blocks, dtype=dtype, method=method)

    def standard_gamma(
        self,
        shape: Real,
        size: Size = None,
        dtype: DTypeLike = np.float64,
        out: None = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """The gamma distribution of scale 1, in float64 or float32.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(2.9 < rng.standard_gamma(3.0, size=10_000).mean() < 3.1)
        True
        """
        refuse_out("standard_gamma", out)
        return self._draw("standard_gamma", size, blocks, shape, dtype=dtype)


class ContinuousDistributions(StandardDistributions):
    """Draws of reals; parameters and results are those of `numpy.random.Generator`."""

    def uniform(
        self, low: Real = 0.0, high: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Evenly distributed from `low` to below `high`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> x = rng.uniform(-1, 1, size=(30, 40), blocks=10)
        >>> bool((abs(x) <= 1).all())
        True
        """
        return self._draw("uniform", size, blocks, low, high)

    def normal(
        self, loc: Real = 0.0, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The normal distribution of mean `loc` and standard deviation `scale`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> x = rng.normal([10.0, 50.0], 1.0, size=(1000, 2))
        >>> x.mean(axis=0).round().collect()
        array([10., 50.])
        """
        return self._draw("normal", size, blocks, loc, scale)

    def lognormal(
        self, mean: Real = 0.0, sigma: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """What has a normally distributed logarithm, of `mean` and deviation `sigma`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool((rng.lognormal(size=100) > 0).all())
        True
        """
        return self._draw("lognormal", size, blocks, mean, sigma)

    def exponential(
        self, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The exponential distribution of mean `scale`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(1.8 < rng.exponential(2.0, size=10_000).mean() < 2.2)
        True
        """
        return self._draw("exponential", size, blocks, scale)

    def gamma(
        self, shape: Real, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The gamma distribution of mean ``shape * scale``.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(5.8 < rng.gamma(3.0, 2.0, size=10_000).mean() < 6.2)
        True
        """
        return self._draw("gamma", size, blocks, shape, scale)

    def beta(self, a: Real, b: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """The beta distribution, of mean ``a / (a + b)``.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(0.2 < rng.beta(1.0, 3.0, size=10_000).mean() < 0.3)
        True
        """
        return self._draw("beta", size, blocks, a, b)

    def chisquare(self, df: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """The sum of the squares of `df` standard normal variables.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(2.8 < rng.chisquare(3, size=10_000).mean() < 3.2)
        True
        """
        return self._draw("chisquare", size, blocks, df)

    def noncentral_chisquare(
        self, df: Real, nonc: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Chi-square of `df` degrees of freedom and non-centrality `nonc`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(4.8 < rng.noncentral_chisquare(3, 2, size=10_000).mean() < 5.2)
        True
        """
        return self._draw("noncentral_chisquare", size, blocks, df, nonc)

    def f(
        self, dfnum: Real, dfden: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The ratio of two chi-square variables, each over its degrees of freedom.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> rng.f(2, 10, size=3).shape
        (3,)
        """
        return self._draw("f", size, blocks, dfnum, dfden)

    def noncentral_f(
        self,
        dfnum: Real,
        dfden: Real,
        nonc: Real,
        size: Size = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """The F distribution whose numerator has non-centrality `nonc`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> rng.noncentral_f(2, 10, 1.0, size=3).shape
        (3,)
        """
        return self._draw("noncentral_f", size, blocks, dfnum, dfden, nonc)

    def standard_cauchy(self, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Cauchy's distribution, of mode 0 and no mean.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> rng.standard_cauchy(size=(2, 2)).shape
        (2, 2)
        """
        return self._draw("standard_cauchy", size, blocks)

    def standard_t(self, df: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Student's t distribution of `df` degrees of freedom.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(abs(rng.standard_t(10, size=10_000).mean()) < 0.1)
        True
        """
        return self._draw("standard_t", size, blocks, df)

    def vonmises(
        self, mu: Real, kappa: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Angles, from -pi to pi, about `mu` with dispersion `kappa`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(0.9 < rng.vonmises(1.0, 4.0, size=10_000).mean() < 1.1)
        True
        """
        return self._draw("vonmises", size, blocks, mu, kappa)

    def pareto(self, a: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """The Pareto II, or Lomax, distribution of shape `a`, which begins at 0.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool((rng.pareto(3.0, size=100) >= 0).all())
        True
        """
        return self._draw("pareto", size, blocks, a)

    def weibull(self, a: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Weibull's distribution of shape `a` and scale 1.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool((rng.weibull(5.0, size=100) >= 0).all())
        True
        """
        return self._draw("weibull", size, blocks, a)

    def power(self, a: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """From 0 to 1, of a density as ``x ** (a - 1)``.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(0.7 < rng.power(3.0, size=10_000).mean() < 0.8)
        True
        """
        return self._draw("power", size, blocks, a)

    def laplace(
        self, loc: Real = 0.0, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The double exponential distribution about `loc`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(abs(rng.laplace(size=10_000).mean()) < 0.1)
        True
        """
        return self._draw("laplace", size, blocks, loc, scale)

    def gumbel(
        self, loc: Real = 0.0, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Gumbel's distribution of extreme values, of mode `loc`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> rng.gumbel(0.0, 2.0, size=5).shape
        (5,)
        """
        return self._draw("gumbel", size, blocks, loc, scale)

    def logistic(
        self, loc: Real = 0.0, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The logistic distribution of mean `loc`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(abs(rng.logistic(size=10_000).mean()) < 0.1)
        True
        """
        return self._draw("logistic", size, blocks, loc, scale)

    def rayleigh(
        self, scale: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The length of a vector of two normal variables of deviation `scale`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool((rng.rayleigh(size=100) >= 0).all())
        True
        """
        return self._draw("rayleigh", size, blocks, scale)

    def wald(
        self, mean: Real, scale: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """The inverse Gaussian distribution.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(1.9 < rng.wald(2.0, 10.0, size=10_000).mean() < 2.1)
        True
        """
        return self._draw("wald", size, blocks, mean, scale)

    def triangular(
        self, left: Real, mode: Real, right: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """From `left` to `right`, most often about `mode`.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> bool(0.9 < rng.triangular(0.0, 1.0, 2.0, size=10_000).mean() < 1.1)
        True
        """
        return self._draw("triangular", size, blocks, left, mode, right)
