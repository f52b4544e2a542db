"""Distributions of vectors: the methods of `Generator` for them."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darray.blocks import BlocksLike, Shape
from darray.handle import DArray
from darray.random.drawing import Drawing, Real, Size, as_shape
from darray.random.draws import Draws, Parameter
from darray.random.streams import Stream
from darray.random.tiles import Tile

__all__ = ["MultivariateDistributions"]


class _Gaussian(Draws, frozen=True):
    """Draws of normal vectors, given their mean and a factor of their covariance."""

    def draw(self, generator: np.random.Generator, start: Shape, shape: Shape) -> NDArray[Any]:
        """The draws from `start` on that have `shape`."""
        mean, factor = [one.value for one in self.parameters]
        normal = generator.standard_normal((*shape, len(factor)))
        # Not a product by BLAS: its bits depend on the number of rows, and so on the box.
        result: NDArray[Any] = np.einsum("...i,ij->...j", normal, factor, optimize=False)
        result += mean
        return result

    def fill(self, stream: Stream, tile: Tile, place: NDArray[Any]) -> bool:
        """Never into the place itself."""
        return False


class MultivariateDistributions(Drawing):
    """Draws of vectors, which lie along the last axis of the result.

    Without a size the result is a DArray of one vector.
    """

    def multinomial(
        self, n: Real, pvals: ArrayLike, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> DArray:
        """How often each outcome comes, of probabilities `pvals`, in `n` trials.

        Examples
        --------
        >>> import darray as da
        >>> counts = da.random.default_rng(0).multinomial(20, [0.5, 0.25, 0.25], size=100)
        >>> counts.shape, bool((counts.sum(axis=1) == 20).all())
        ((100, 3), True)
        """
        return self._draw_array("multinomial", size, blocks, [(n, 0), (pvals, 1)], {})

    def multivariate_hypergeometric(
        self,
        colors: ArrayLike,
        nsample: int,
        size: Size = None,
        method: Literal["marginals", "count"] = "marginals",
        *,
        blocks: BlocksLike = "auto",
    ) -> DArray:
        """How many of each colour are among `nsample` taken, without replacement, of `colors`.

        Examples
        --------
        >>> import darray as da
        >>> taken = da.random.default_rng(0).multivariate_hypergeometric([5, 3, 2], 4, size=100)
        >>> bool((taken.sum(axis=1) == 4).all())
        True
        """
        values = [(colors, 1), (nsample, 0)]
        return self._draw_array(
            "multivariate_hypergeometric", size, blocks, values, {"method": method}
        )

    def dirichlet(
        self, alpha: ArrayLike, size: Size = None, *, blocks: BlocksLike = "auto"
    ) -> DArray:
        """Shares that add up to 1, of concentrations `alpha`.

        Examples
        --------
        >>> import darray as da
        >>> shares = da.random.default_rng(0).dirichlet([1.0, 2.0, 3.0], size=100)
        >>> bool((abs(shares.sum(axis=1) - 1) < 1e-12).all())
        True
        """
        return self._draw_array("dirichlet", size, blocks, [(alpha, 1)], {})

    def multivariate_normal(
        self,
        mean: ArrayLike,
        cov: ArrayLike,
        size: Size = None,
        check_valid: Literal["warn", "raise", "ignore"] = "warn",
        tol: float = 1e-8,
        *,
        method: Literal["svd", "eigh", "cholesky"] = "svd",
        blocks: BlocksLike = "auto",
    ) -> DArray:
        """Normal vectors of a mean and covariance, which is factorised at the call.

        Examples
        --------
        >>> import darray as da
        >>> rng = da.random.default_rng(0)
        >>> x = rng.multivariate_normal([1.0, 5.0], [[2.0, 1.0], [1.0, 2.0]], size=10_000)
        >>> x.mean(axis=0).round().collect()
        array([1., 5.])
        """
        if isinstance(mean, DArray) or isinstance(cov, DArray):
            raise NotImplementedError(
                "multivariate_normal() factorises the covariance at the call; collect the mean "
                "and covariance first: np.asarray(x)"
            )
        center = np.array(mean, float)
        covariance = np.array(cov, float)
        # NumPy's own checks; whether the covariance is valid is looked at below, once.
        asked = np.random.Generator(np.random.SFC64(0))
        asked.multivariate_normal(center, covariance, 0, "ignore", tol, method=method)
        factor = _factor(covariance, check_valid, tol, method)
        shape = () if size is None else as_shape(size)
        parameters = (Parameter(center, 1), Parameter(factor, 2))
        key = self._bit_generator.next_key()
        single = center.shape
        draws = _Gaussian(
            key, "multivariate_normal", parameters, (), shape, single, np.dtype(float)
        )
        return self._array(draws, blocks)


def _factor(covariance: NDArray[Any], check_valid: str, tol: float, method: str) -> NDArray[Any]:
    """The matrix whose product with itself, transposed from the left, is the covariance."""
    if check_valid not in ("warn", "raise", "ignore"):
        raise ValueError("check_valid must equal 'warn', 'raise', or 'ignore'")
    if method == "cholesky":
        return np.ascontiguousarray(np.linalg.cholesky(covariance).T)
    if method == "eigh":
        values, vectors = np.linalg.eigh(covariance)
        is_valid = not np.any(values < -tol)
        factor = (vectors * np.sqrt(np.abs(values))).T
    else:
        _, values, rows = np.linalg.svd(covariance)
        is_valid = np.allclose((rows.T * values) @ rows, covariance, rtol=tol, atol=tol)
        factor = np.sqrt(values)[:, None] * rows
    if not is_valid and check_valid == "raise":
        raise ValueError("covariance is not symmetric positive-semidefinite.")
    if not is_valid and check_valid == "warn":
        warnings.warn(
            "covariance is not symmetric positive-semidefinite.", RuntimeWarning, stacklevel=3
        )
    return np.ascontiguousarray(factor)
