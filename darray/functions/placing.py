"""Functions that write elements by positions and masks into the array that they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from darray import advanced_indexing, flat_indexing
from darray.dispatch import implements
from darray.expr import building
from darray.expr.nodes import Expression
from darray.functions.indexing import along_axis, check_flat, positions_of, taken_positions
from darray.handle import DArray, as_expression, assigned

__all__ = [
    "copyto",
    "fill_diagonal",
    "place",
    "put",
    "put_along_axis",
    "putmask",
]


def in_numpy(function: Callable[..., Any], target: Any, *args: Any, **kwargs: Any) -> None:
    """Call NumPy's function on its own array with DArrays among the arguments computed."""
    values = [np.asarray(one) if isinstance(one, DArray) else one for one in args]
    named = {
        key: np.asarray(one) if isinstance(one, DArray) else one for key, one in kwargs.items()
    }
    function(target, *values, **named)


def check_safe(given: Any, dtype: np.dtype[Any]) -> None:
    """Refuse an array that NumPy does not cast to `dtype` because that is not safe."""
    is_array = isinstance(given, np.ndarray) or (isinstance(given, DArray) and not given.is_scalar)
    if is_array and not np.can_cast(given.dtype, dtype, "safe"):
        raise TypeError(
            f"Cannot cast array data from {given.dtype!r} to {dtype!r} according to the rule 'safe'"
        )


@implements(np.put)
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Write values at places in C order, as `numpy.put`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.zeros(4, blocks=2)
    >>> np.put(x, [0, -1], [7, 8])
    >>> x.collect()
    array([7., 0., 0., 8.])
    """
    if not isinstance(a, DArray):
        in_numpy(np.put, a, ind, v, mode=mode)
        return
    a.check_writeable()
    check_safe(ind, np.dtype(np.intp))
    a.replace(flat_indexing.put(a.expression, taken_positions(ind), assigned(v, a.dtype), mode))


@implements(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    """Write values, one after another, where a mask is true, as `numpy.place`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.arange(5, blocks=2)
    >>> np.place(x, x > 1, [7, 8])
    >>> x.collect()
    array([0, 1, 7, 8, 7])
    """
    if not isinstance(arr, DArray):
        in_numpy(np.place, arr, mask, vals)
        return
    arr.check_writeable()
    check_safe(vals, arr.dtype)
    values = assigned(vals, arr.dtype)
    arr.replace(flat_indexing.place(arr.expression, as_expression(mask), values))


@implements(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """Write values where a mask is true, each in its own place, as `numpy.putmask`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.arange(5, blocks=2)
    >>> np.putmask(x, x > 1, [7, 8])
    >>> x.collect()
    array([0, 1, 7, 8, 7])
    """
    if not isinstance(a, DArray):
        in_numpy(np.putmask, a, mask, values)
        return
    a.check_writeable()
    # A mask of another size is what NumPy tells of first.
    where = flat_indexing.mask_like(as_expression(mask), a.expression, "putmask")
    check_safe(values, a.dtype)
    given = assigned(values, a.dtype)
    a.replace(flat_indexing.putmask(a.expression, where, given))


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Write an array over another, as `numpy.copyto`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.zeros(3)
    >>> np.copyto(x, [1, 2, 3], where=[True, False, True])
    >>> x.collect()
    array([1., 0., 3.])
    """
    if not isinstance(dst, DArray):
        in_numpy(np.copyto, dst, src, casting=casting, where=where)
        return
    dst.check_writeable()
    if isinstance(src, DArray):
        values = building.astype(src.expression, dst.dtype, casting)
    else:
        converted = np.empty(np.shape(src), dst.dtype)
        np.copyto(converted, src, casting=casting)
        values = building.captured(converted)
    values = building.fitted(values, dst.shape)
    if where is not True:
        values = flat_indexing.chosen(_mask(where, dst.shape), values, dst.expression)
    dst.replace(values)


def _mask(where: Any, shape: tuple[int, ...]) -> Expression:
    """``where=`` as a mask for an array of `shape`."""
    check_safe(where, np.dtype(bool))
    mask = as_expression(where)
    try:
        return building.broadcast_to(flat_indexing.truth(mask), shape)
    except ValueError:
        raise ValueError(
            f"could not broadcast where mask from shape {mask.shape} into shape {shape}"
        ) from None


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Write values on the main diagonal, as `numpy.fill_diagonal`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.zeros((2, 2), blocks=1)
    >>> np.fill_diagonal(x, [7, 8])
    >>> x.collect()
    array([[7., 0.],
           [0., 8.]])
    """
    if not isinstance(a, DArray):
        in_numpy(np.fill_diagonal, a, val, wrap=wrap)
        return
    a.check_writeable()
    a.replace(flat_indexing.fill_diagonal(a.expression, assigned(val, a.dtype), wrap))


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """Write values at positions along an axis, each in its own line, as `numpy.put_along_axis`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.zeros((2, 2), blocks=1)
    >>> np.put_along_axis(x, np.array([[1], [0]]), 5, axis=1)
    >>> x.collect()
    array([[0., 5.],
           [5., 0.]])
    """
    if not isinstance(arr, DArray):
        in_numpy(np.put_along_axis, arr, indices, values, axis=axis)
        return
    arr.check_writeable()
    positions = positions_of(indices)
    given = assigned(values, arr.dtype)
    if axis is None:
        check_flat(positions)
        arr.replace(flat_indexing.put(arr.expression, positions, given))
        return
    number = normalize_axis_index(axis, arr.ndim)
    key = along_axis(arr.shape, positions, number)
    arr.replace(advanced_indexing.write(arr.expression, key, given))
