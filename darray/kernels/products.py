"""Sums of products of chunks, panel by panel, into an array of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.kernels import blas
from darray.kernels.programs import ErrorState
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.devices.host_buffers import empty
from darray.runtime.limits import POOLS
from darray.runtime.spaces import register_measure

__all__ = ["Accumulator", "Contraction", "calls_gemm"]

# Multiplications of one product of matrices above which a call of gemm costs little beside it.
LARGE = 2**18


class Accumulator(Struct, frozen=True):
    """An array that the tasks of a chain add to, one after another.

    Tasks hand arrays on read-only; inside this they stay writable. Nobody else has it, or
    where ``is_placed`` it is a part of the caller's array.
    """

    array: NDArray[Any]
    is_placed: bool

    @classmethod
    def at(
        cls, place: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Accumulator:
        """One in the caller's array, if there is a `place`, or of its own."""
        if place is not None:
            return cls(place, True)
        return cls(empty(shape, dtype), False)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, the caller's not counted."""
        return 0 if self.is_placed else self.array.nbytes


register_measure(Accumulator, lambda accumulator: int(accumulator.nbytes))


def calls_gemm(dtype: np.dtype[Any], rows: int, columns: int, depth: int) -> bool:
    """Whether products of matrices of these sizes are added up by gemm; loads it if so.

    Examples
    --------
    >>> calls_gemm(np.dtype(float), 2, 2, 2)
    False
    """
    is_large = min(rows, columns) > 1 and rows * columns * depth >= LARGE
    return is_large and blas.has_gemm(dtype)


class Contraction(Struct, frozen=True):
    """Which sums of products are meant, of chunks with the axes of `expr.products.Contract`.

    Attributes
    ----------
    batch, inner : int
        How many axes are batch axes, and are summed over.
    dtype : numpy.dtype
        That of the result.
    name : str
        The function that floating-point errors are said to be of.
    errors, ledger, origin
        How they are answered, and where they are noted.
    """

    batch: int
    inner: int
    dtype: np.dtype[Any]
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

    def result(self, accumulator: Accumulator) -> NDArray[Any] | None:
        """The sums, rounded to the dtype of the result; None where they are in their place."""
        total = accumulator.array
        if accumulator.is_placed:
            return None
        if total.dtype == self.dtype:
            return total
        with recording(self.errors, self.ledger, self.origin, self.name):
            return total.astype(self.dtype)
