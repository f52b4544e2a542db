"""Scans as data: each element is what a ufunc makes of all elements up to it along an axis."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from darray.expr.building import astype
from darray.expr.nodes import Expression
from darray.kernels.programs import ErrorState
from darray.kernels.warnings_ledger import captured_errors

__all__ = ["Scan", "accumulate"]

# For which kinds of numbers ``f(f(a, b), c)`` is ``f(a, f(b, c))``: to the bit, but for sums of
# floats, which are as exact in either order. Products of floats are not here, of which a part
# alone may overflow where all together do not.
_ASSOCIATIVE: dict[np.ufunc, str] = {
    np.add: "biufc",
    np.multiply: "biu",
    np.maximum: "biufmM",
    np.minimum: "biufmM",
    np.fmax: "biufmM",
    np.fmin: "biufmM",
    np.logical_and: "b",
    np.logical_or: "b",
    np.logical_xor: "b",
    np.bitwise_and: "biu",
    np.bitwise_or: "biu",
    np.bitwise_xor: "biu",
}


class Scan(Expression, frozen=True, eq=False):
    """``ufunc.accumulate(operand, axis)``, whose operand has the dtype and cut of the result."""

    is_dear: ClassVar[bool] = True
    weight: ClassVar[int] = 16

    operand: Expression
    ufunc: np.ufunc
    axis: int
    errors: ErrorState

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is scanned."""
        return (self.operand,)

    @property
    def is_associative(self) -> bool:
        """Whether chunks can be scanned each for itself, and what came before be added then."""
        return self.dtype.kind in _ASSOCIATIVE.get(self.ufunc, "")


def accumulate(
    ufunc: np.ufunc, operand: Expression, axis: Any = 0, dtype: Any = None, out: Any = None
) -> Scan:
    """Expression of ``ufunc.accumulate(operand, axis, dtype)``, to be written to `out`.

    Raises
    ------
    AxisError, TypeError, ValueError
        As NumPy raises them.

    Examples
    --------
    >>> from darray.expr.building import captured
    >>> accumulate(np.add, captured(np.ones(3, "i1"))).dtype
    dtype('int64')
    """
    dimensions = len(operand.shape)
    kind_of_out = getattr(out, "dtype", None)
    if dtype is None and kind_of_out is not None and kind_of_out.kind not in "mM":
        dtype = kind_of_out
    kind = operand.dtype
    if dtype is not None and kind.kind == "c" and np.dtype(dtype).kind != "c":
        # The cast below says by itself that this discards the imaginary part.
        kind = np.dtype(dtype)
    # NumPy itself, given no elements, knows the dtype and what is wrong with the arguments.
    sample = ufunc.accumulate(np.empty((0,) * dimensions, kind), axis, dtype)
    if isinstance(axis, tuple):
        (axis,) = axis
    along = normalize_axis_index(0 if axis is None else axis, dimensions)
    operand = astype(operand, sample.dtype)
    return Scan(
        operand.shape, sample.dtype, operand.chunks, operand, ufunc, along, captured_errors()
    )
