"""Sums of products of chunks, panel by panel, into an array of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels import blas
from darray.kernels.programs import ErrorState
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.limits import POOLS
from darray.runtime.spaces import register_measure

__all__ = ["Accumulator", "Contraction", "calls_gemm"]

# Multiplications of one product of matrices above which a call of gemm costs little beside it.
LARGE = 2**18


class Accumulator:
    """An array that the tasks of a chain add to, one after another.

    Tasks hand arrays on read-only; inside this they stay writable. Nobody else has it.
    """

    __slots__ = ("array",)

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.array: NDArray[Any] = np.empty(shape, dtype)


register_measure(Accumulator, lambda accumulator: int(accumulator.array.nbytes))


def calls_gemm(dtype: np.dtype[Any], rows: int, columns: int, depth: int) -> bool:
    """Whether products of matrices of these sizes are added up by gemm; loads it if so.

    Examples
    --------
    >>> calls_gemm(np.dtype(float), 2, 2, 2)
    False
    """
    is_large = min(rows, columns) > 1 and rows * columns * depth >= LARGE
    return is_large and blas.has_gemm(dtype)


@dataclass(frozen=True, slots=True)
class Contraction:
    """Which sums of products are meant, of chunks with the axes of `expr.products.Contract`.

    Attributes
    ----------
    batch, inner : int
        How many axes are batch axes, and are summed over.
    name : str
        The function that floating-point errors are said to be of.
    errors, ledger, origin
        How they are answered, and where they are noted.
    """

    batch: int
    inner: int
    name: str
    errors: ErrorState
    ledger: Ledger
    origin: int

    def add(
        self, total: NDArray[Any], left: NDArray[Any], right: NDArray[Any], mode: str = "add"
    ) -> None:
        """Add the products of two chunks to `total`; with mode "first" or "only", put them there.

        The results of "only" and of "first" may differ in their last bits.

        Raises
        ------
        FloatingPointError
            Where errors are to be raised.
        """
        batch, inner = self.batch, self.inner
        middle = left.ndim - inner
        m, k = math.prod(left.shape[batch:middle]), math.prod(left.shape[middle:])
        n = math.prod(right.shape[batch + inner :])
        sums = total.reshape(*total.shape[:batch], m, n)
        left = left.reshape(*left.shape[:batch], m, k)
        right = right.reshape(*right.shape[:batch], k, n)
        with (
            POOLS.restricted(),
            recording(self.errors, self.ledger, self.origin, self.name) as record,
        ):
            if mode != "only" and calls_gemm(total.dtype, m, n, k):
                blas.clear_errors()
                stack = total.shape[:batch]
                left = np.broadcast_to(left, (*stack, m, k))
                right = np.broadcast_to(right, (*stack, k, n))
                for place in np.ndindex(*stack):
                    blas.add_product(sums[place], left[place], right[place], mode == "add")
                record.report(blas.raised_errors())
            elif mode == "add":
                np.add(sums, np.matmul(left, right), out=sums)
            else:
                np.matmul(left, right, out=sums)

    def join(self, total: NDArray[Any], other: NDArray[Any]) -> None:
        """Add sums of other products to `total`."""
        with recording(self.errors, self.ledger, self.origin, self.name):
            np.add(total, other, out=total)

    def finished(self, total: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The result, rounded to `dtype`."""
        if total.dtype == dtype:
            return total
        with recording(self.errors, self.ledger, self.origin, self.name):
            return total.astype(dtype)
