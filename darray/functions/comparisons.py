"""Whether arrays are equal, or nearly so."""

from __future__ import annotations

from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.handle import DArray, as_expression

__all__ = ["allclose", "array_equal", "array_equiv", "isclose"]


def _comparable(value: Any) -> Any:
    """`value` with dtype and shape; Python's numbers stay what they are."""
    if isinstance(value, DArray | int | float | complex):
        return value
    return DArray.of(as_expression(value))


@implements(np.isclose)
def isclose(
    a: Any, b: Any, rtol: Any = 1.0e-5, atol: Any = 1.0e-8, equal_nan: bool = False
) -> DArray:
    """Whether elements are equal within tolerances, as `numpy.isclose`.

    Examples
    --------
    >>> import darray as da
    >>> np.isclose(da.arange(3, blocks=2), [0, 1 + 1e-9, 2.1]).collect()
    array([ True,  True, False])
    """
    if not isinstance(rtol, DArray) and not isinstance(atol, DArray):
        # NumPy itself says what is wrong with tolerances.
        np.isclose(0.0, 0.0, rtol, atol)
    x, y, rtol, atol = map(_comparable, (a, b, rtol, atol))
    if isinstance(y, DArray):
        if y.dtype.kind != "m":
            # The absolute value of the least integer is none.
            y = y.astype(np.result_type(y, 1.0), copy=False)
    elif isinstance(y, int):
        y = float(y)
    with np.errstate(invalid="ignore"):
        near = np.less_equal(np.abs(x - y), atol + rtol * np.abs(y)) & np.isfinite(y) | (x == y)
        if equal_nan:
            near = near | (np.isnan(x) & np.isnan(y))
    return near if isinstance(near, DArray) else DArray.result_of(as_expression(near))


@implements(np.allclose)
def allclose(
    a: Any, b: Any, rtol: Any = 1.0e-5, atol: Any = 1.0e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are equal within tolerances, as `numpy.allclose`; computed at once.

    Examples
    --------
    >>> import darray as da
    >>> np.allclose(da.ones(4, blocks=2) / 3 * 3, 1)
    True
    """
    return bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    """Whether arrays have one shape and equal elements, as `numpy.array_equal`; computed at once.

    Examples
    --------
    >>> import darray as da
    >>> np.array_equal(da.arange(3, blocks=2), [0, 1, 2])
    True
    """
    first, second = _as_handle(a1), _as_handle(a2)
    if first.shape != second.shape:
        return False
    same = first == second
    if equal_nan and not (first.dtype.kind in "biu" and second.dtype.kind in "biu"):
        same = same | (np.isnan(first) & np.isnan(second))
    return bool(np.all(same))


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> bool:
    """Whether arrays are equal once broadcast, as `numpy.array_equiv`; computed at once."""
    first, second = _as_handle(a1), _as_handle(a2)
    try:
        np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        return False
    return bool(np.all(first == second))


def _as_handle(value: Any) -> DArray:
    return value if isinstance(value, DArray) else DArray.of(as_expression(value))
