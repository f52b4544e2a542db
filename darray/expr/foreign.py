"""Values of other libraries: which of them read as arrays, and which answer for themselves."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_array", "is_foreign", "is_pandas", "is_sparse"]


def is_sparse(value: Any) -> bool:
    """Whether `value` is a sparse array or matrix of SciPy.

    Examples
    --------
    >>> is_sparse([0, 1])
    False
    """
    # Who holds one has imported the module.
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(value))


def is_pandas(value: Any) -> bool:
    """Whether `value` is a Series, DataFrame, Index or extension array of pandas.

    Examples
    --------
    >>> is_pandas([0, 1])
    False
    """
    return _overrides_ufuncs(value) and hasattr(type(value), "__pandas_priority__")


def is_foreign(value: Any) -> bool:
    """Whether what a ufunc makes of `value` is for another library to say.

    Examples
    --------
    >>> is_foreign([0, 1]), is_foreign(np.ones(2))
    (False, False)
    """
    return _overrides_ufuncs(value) or is_sparse(value)


def _overrides_ufuncs(value: Any) -> bool:
    override = getattr(type(value), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return override is not np.ndarray.__array_ufunc__ and not isinstance(value, np.generic)


def as_array(value: Any) -> NDArray[Any]:
    """`value` as NumPy reads it, a plain array.

    Raises
    ------
    TypeError
        For arrays of other libraries that NumPy can only wrap, whole or element by element,
        as Python objects.
    NotImplementedError
        For masked arrays.

    Examples
    --------
    >>> as_array([1, 2])
    array([1, 2])
    """
    if isinstance(value, np.ma.MaskedArray):
        raise NotImplementedError(
            "a masked array's mask has no place in a DArray; fill it first: "
            "masked.filled(value), or use np.where and NaN"
        )
    name = type(value).__name__
    if is_sparse(value):
        raise TypeError(
            f"a {name} of SciPy, of shape {value.shape}, next to a DArray or as one would have to "
            "be made dense; do that where it fits in memory: sparse.toarray(), or give SciPy the "
            "values: np.asarray(x)"
        )
    array = np.asarray(value)
    if array.dtype == object and not isinstance(value, np.ndarray) and hasattr(value, "shape"):
        raise TypeError(
            f"the elements of this {name} of shape {value.shape} have no NumPy dtype in common "
            "and would become Python objects; convert it first, as with value.to_numpy(dtype=...) "
            "for pandas"
        )
    return array
