"""Sums, products, extremes, averages: NumPy's reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.expr import building
from darray.expr.nodes import Expression
from darray.handle import DArray, argument_of, as_expression, write_results
from darray.kernels.extrema import ArgExtremum
from darray.kernels.mean_squares import MeanSquare
from darray.kernels.reduction_table import REDUCTIONS, reduction_of
from darray.kernels.reductions import NO_VALUE, Reduction

__all__ = ["reduced"]


def reduced(
    function: Callable[..., Any],
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    where: Any = True,
    **parameters: Any,
) -> Any:
    """`function`, one of `REDUCTIONS`, of a DArray.

    Examples
    --------
    >>> import darray as da
    >>> reduced(np.sum, da.arange(4), dtype=float).collect()
    array(6.)
    """
    given = {key: value for key, value in parameters.items() if value is not NO_VALUE}
    mean = given.pop("mean", None)
    reduction = reduction_of(function, **given)
    keep = bool(keepdims) if keepdims is not NO_VALUE else False
    mask = True if where is NO_VALUE else argument_of(where)
    operand = as_expression(a)
    if mean is not None:
        operand, reduction, mask = _about(operand, reduction, mean, mask)
    result = building.reduce(operand, reduction, axis, keep, mask)
    if out is None:
        return DArray.result_of(result)
    if isinstance(reduction, ArgExtremum) and not np.can_cast(out.dtype, np.intp, "safe"):
        raise TypeError(
            f"Cannot cast array data from {out.dtype!r} to {np.dtype(np.intp)!r} according to "
            "the rule 'safe'"
        )
    return write_results((result,), (out,))


def _about(
    operand: Expression, reduction: Any, mean: Any, where: Any
) -> tuple[Expression, Reduction, Any]:
    """Variance about a mean that is given: the squared distances, what reduces them, the mask."""
    values = DArray.of(operand)
    skips_nan = reduction.skip_nan and operand.dtype.kind in "fc"
    if skips_nan:
        where = np.logical_not(np.isnan(values)) & (where if where is True else _handle(where))
    distance = np.subtract(values, mean)
    if distance.shape != operand.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {operand.shape} doesn't match the "
            f"broadcast shape {distance.shape}"
        )
    if distance.dtype.kind == "c":
        square = np.square(distance.real) + np.square(distance.imag)
    else:
        square = np.square(distance)
    dtype = reduction.dtype
    if dtype is None and operand.dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    squares = MeanSquare(dtype, False, reduction.ddof, reduction.root, skips_nan)
    return square.expression, squares, where if where is True else argument_of(where)


def _handle(value: Any) -> Any:
    return DArray.of(value) if isinstance(value, Expression) else value


def _registered(function: Callable[..., Any], positions: tuple[str, ...]) -> None:
    """Let `function` of a DArray be reduced; `positions` are its parameters after the array."""
    plain = reduction_of(function)

    @implements(function)
    def apply(a: Any, *args: Any, **kwargs: Any) -> Any:
        is_plain = len(args) + len(kwargs) < 2 and (not kwargs or "axis" in kwargs)
        if is_plain and isinstance(a, DArray):
            axis = args[0] if args else kwargs.get("axis")
            if axis is None or type(axis) is int:
                return DArray.result_of(building.reduce_plainly(a.expression, plain, axis))
        if len(args) > len(positions):
            raise TypeError(
                f"{function.__name__}() takes at most {len(positions) + 1} positional arguments, "
                f"not {len(args) + 1}"
            )
        return reduced(function, a, **dict(zip(positions, args, strict=False)), **kwargs)


_POSITIONS: dict[Callable[..., Any], tuple[str, ...]] = {
    np.sum: ("axis", "dtype", "out", "keepdims", "initial", "where"),
    np.prod: ("axis", "dtype", "out", "keepdims", "initial", "where"),
    np.nansum: ("axis", "dtype", "out", "keepdims", "initial", "where"),
    np.nanprod: ("axis", "dtype", "out", "keepdims", "initial", "where"),
    np.min: ("axis", "out", "keepdims", "initial", "where"),
    np.max: ("axis", "out", "keepdims", "initial", "where"),
    np.amin: ("axis", "out", "keepdims", "initial", "where"),
    np.amax: ("axis", "out", "keepdims", "initial", "where"),
    np.nanmin: ("axis", "out", "keepdims", "initial", "where"),
    np.nanmax: ("axis", "out", "keepdims", "initial", "where"),
    np.any: ("axis", "out", "keepdims", "where"),
    np.all: ("axis", "out", "keepdims", "where"),
    np.count_nonzero: ("axis", "keepdims"),
    np.argmin: ("axis", "out", "keepdims"),
    np.argmax: ("axis", "out", "keepdims"),
    np.nanargmin: ("axis", "out", "keepdims"),
    np.nanargmax: ("axis", "out", "keepdims"),
    np.mean: ("axis", "dtype", "out", "keepdims", "where"),
    np.nanmean: ("axis", "dtype", "out", "keepdims", "where"),
    np.var: ("axis", "dtype", "out", "ddof", "keepdims", "where", "mean", "correction"),
    np.std: ("axis", "dtype", "out", "ddof", "keepdims", "where", "mean", "correction"),
    np.nanvar: ("axis", "dtype", "out", "ddof", "keepdims", "where", "mean", "correction"),
    np.nanstd: ("axis", "dtype", "out", "ddof", "keepdims", "where", "mean", "correction"),
}

for _function in REDUCTIONS:
    _registered(_function, _POSITIONS[_function])
