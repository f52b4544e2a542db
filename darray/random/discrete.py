"""Distributions of integers: the methods of `Generator` for them."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from darray.blocks import BlocksLike
from darray.random.drawing import Drawing, Drawn, Real, Size

__all__ = ["DiscreteDistributions"]


class DiscreteDistributions(Drawing):
    """Draws of integers; parameters and results are those of `numpy.random.Generator`."""

    def integers(
        self,
        low: Real,
        high: Real = None,
        size: Size = None,
        dtype: DTypeLike = np.int64,
        endpoint: bool = False,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """Integers from `low` to below `high`, or to `high` with `endpoint`; from 0 to `low`.

        Examples
        --------
        >>> import darray as da
        >>> dice = da.random.default_rng(0).integers(1, 6, size=1000, endpoint=True)
        >>> int(dice.min()), int(dice.max())
        (1, 6)
        """
        if high is None:
            low, high = 0, low
        return self._draw("integers", size, blocks, low, high, dtype=dtype, endpoint=endpoint)

    def binomial(
        self, n: Real, p: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Successes among `n` trials of probability `p`.

        Examples
        --------
        >>> import darray as da
        >>> heads = da.random.default_rng(0).binomial(10, 0.5, size=1000)
        >>> bool(4.8 < heads.mean() < 5.2)
        True
        """
        return self._draw("binomial", size, blocks, n, p)

    def negative_binomial(
        self, n: Real, p: Real, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> Drawn:
        """Failures before `n` successes of probability `p`.

        Examples
        --------
        >>> import darray as da
        >>> da.random.default_rng(0).negative_binomial(3, 0.5, size=(4, 2)).shape
        (4, 2)
        """
        return self._draw("negative_binomial", size, blocks, n, p)

    def poisson(self, lam: Real = 1.0, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Events in an interval in which `lam` are expected.

        Examples
        --------
        >>> import darray as da
        >>> counts = da.random.default_rng(0).poisson([1.0, 100.0], size=(1000, 2))
        >>> bool((counts.mean(axis=0) > [0.9, 99.0]).all())
        True
        """
        return self._draw("poisson", size, blocks, lam)

    def geometric(self, p: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Trials until the first success of probability `p`, at least one.

        Examples
        --------
        >>> import darray as da
        >>> int(da.random.default_rng(0).geometric(0.5, size=1000).min())
        1
        """
        return self._draw("geometric", size, blocks, p)

    def hypergeometric(
        self,
        ngood: Real,
        nbad: Real,
        nsample: Real,
        size: Size = None,
        *,
        blocks: BlocksLike = "auto",
    ) -> Drawn:
        """Good ones among `nsample` taken, without replacement, of `ngood` and `nbad`.

        Examples
        --------
        >>> import darray as da
        >>> int(da.random.default_rng(0).hypergeometric(5, 2, 3, size=1000).max())
        3
        """
        return self._draw("hypergeometric", size, blocks, ngood, nbad, nsample)

    def zipf(self, a: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """Zipf's distribution, where ``k`` has a probability as ``k ** -a``.

        Examples
        --------
        >>> import darray as da
        >>> int(da.random.default_rng(0).zipf(4.0, size=1000).min())
        1
        """
        return self._draw("zipf", size, blocks, a)

    def logseries(self, p: Real, size: Size = None, *, blocks: BlocksLike = "auto") -> Drawn:
        """The logarithmic series distribution, where ``k`` has a probability as ``p ** k / k``.

        Examples
        --------
        >>> import darray as da
        >>> int(da.random.default_rng(0).logseries(0.6, size=1000).min())
        1
        """
        return self._draw("logseries", size, blocks, p)

    def bytes(self, length: int) -> builtins.bytes:
        """`length` random bytes, drawn at once.

        Examples
        --------
        >>> import darray as da
        >>> len(da.random.default_rng(0).bytes(10))
        10
        """
        drawn: Any = self._stream().bytes(length)
        return bytes(drawn)
