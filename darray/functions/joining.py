"""Functions that join arrays, or repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from darray.dispatch import implements
from darray.expr import building, reshaping
from darray.functions.shapes import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to,
    expand_dims,
    handle_on,
    ravel,
    reshape,
)
from darray.handle import DArray, as_expression, write_results

__all__ = [
    "append",
    "column_stack",
    "concatenate",
    "dstack",
    "hstack",
    "repeat",
    "resize",
    "stack",
    "tile",
    "vstack",
]


@implements(np.concatenate)
def concatenate(
    arrays: Sequence[Any],
    /,
    axis: int | None = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: str = "same_kind",
) -> Any:
    """Arrays one after another along an axis, as `numpy.concatenate`.

    Examples
    --------
    >>> import darray as da
    >>> np.concatenate([da.arange(2), da.ones(2)]).collect()
    array([0., 1., 1., 1.])
    """
    parts = [as_expression(one) for one in arrays]
    if not parts:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        parts = [reshaping.reshape(part, (-1,)) for part in parts]
        axis = 0
    if any(not part.shape for part in parts):
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    dimensions = len(parts[0].shape)
    along = normalize_axis_index(axis, dimensions)
    for number, part in enumerate(parts):
        if len(part.shape) != dimensions:
            raise ValueError(
                "all the input array dimensions except for the concatenation axis must match "
                f"exactly, but the array at index 0 has {dimensions} dimension(s) and the array "
                f"at index {number} has {len(part.shape)} dimension(s)"
            )
        for i, (size, other) in enumerate(zip(parts[0].shape, part.shape, strict=True)):
            if i != along and size != other:
                raise ValueError(
                    "all the input array dimensions except for the concatenation axis must match "
                    f"exactly, but along dimension {i}, the array at index 0 has size {size} and "
                    f"the array at index {number} has size {other}"
                )
    kind = np.result_type(*(part.dtype for part in parts)) if dtype is None else np.dtype(dtype)
    result = building.concatenate(parts, along, kind, casting)
    return DArray.of(result) if out is None else write_results((result,), (out,))


@implements(np.stack)
def stack(
    arrays: Sequence[Any],
    axis: int = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: str = "same_kind",
) -> Any:
    """Arrays of one shape along a new axis, as `numpy.stack`.

    Examples
    --------
    >>> import darray as da
    >>> np.stack([da.arange(2), da.arange(2)], axis=1).collect()
    array([[0, 0],
           [1, 1]])
    """
    handles = [handle_on(one) for one in arrays]
    if not handles:
        raise ValueError("need at least one array to stack")
    if len({one.shape for one in handles}) != 1:
        raise ValueError("all input arrays must have the same shape")
    place = normalize_axis_index(axis, handles[0].ndim + 1)
    raised = [expand_dims(one, place) for one in handles]
    return concatenate(raised, axis=place, out=out, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """Arrays one below another, rows of one axis as rows of two, as `numpy.vstack`.

    Examples
    --------
    >>> import darray as da
    >>> np.vstack([da.arange(2), da.ones((1, 2))]).collect()
    array([[0., 1.],
           [1., 1.]])
    """
    return concatenate([atleast_2d(one) for one in tup], axis=0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """Arrays side by side, as `numpy.hstack`."""
    raised = [atleast_1d(one) for one in tup]
    along = 0 if raised and raised[0].ndim == 1 else 1
    return concatenate(raised, axis=along, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Sequence[Any]) -> Any:
    """Arrays one behind another along the third axis, as `numpy.dstack`."""
    return concatenate([atleast_3d(one) for one in tup], axis=2)


@implements(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Any:
    """Arrays side by side, those with one axis as columns, as `numpy.column_stack`."""
    handles = [handle_on(one) for one in tup]
    return concatenate([one if one.ndim > 1 else atleast_2d(one).T for one in handles], axis=1)


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Values put behind those of an array, as `numpy.append`."""
    return concatenate((arr, values), axis=axis)


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> DArray:
    """Every element several times, as `numpy.repeat` for one number of repeats.

    Examples
    --------
    >>> import darray as da
    >>> np.repeat(da.arange(3, blocks=2), 2).collect()
    array([0, 0, 1, 1, 2, 2])
    """
    array = ravel(a) if axis is None else atleast_1d(a)
    along = normalize_axis_index(0 if axis is None else axis, array.ndim)
    if np.size(repeats) != 1 or np.ndim(repeats) > 1:
        raise NotImplementedError(
            "np.repeat of a DArray takes one number of repeats for all elements; for several use "
            "it on np.asarray(x)"
        )
    (count,) = np.ravel(np.asarray(repeats)).astype(np.intp, casting="same_kind").tolist()
    if count < 0:
        raise ValueError("repeats may not contain negative values.")
    before, after = array.shape[: along + 1], array.shape[along + 1 :]
    spread = broadcast_to(expand_dims(array, along + 1), (*before, count, *after))
    repeated = reshape(spread, (*before[:-1], before[-1] * count, *after))
    return DArray.of(repeated.expression)


@implements(np.tile)
def tile(A: Any, reps: Any) -> DArray:
    """An array again and again along its axes, as `numpy.tile`.

    Examples
    --------
    >>> import darray as da
    >>> np.tile(da.arange(2), (2, 2)).collect()
    array([[0, 1, 0, 1],
           [0, 1, 0, 1]])
    """
    counts = [as_integer(one) for one in (reps if np.iterable(reps) else (reps,))]
    array = handle_on(A)
    axes = max(array.ndim, len(counts))
    sizes = (1,) * (axes - array.ndim) + array.shape
    counts = [1] * (axes - len(counts)) + counts
    if min(counts, default=0) < 0:
        raise ValueError("negative dimensions are not allowed")
    pairs = list(zip(counts, sizes, strict=True))
    raised = reshape(array, [size for _, own in pairs for size in (1, own)])
    spread = broadcast_to(raised, [size for pair in pairs for size in pair])
    tiled = reshape(spread, [count * own for count, own in pairs])
    return DArray.of(tiled.expression)


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> DArray:
    """The elements, again and again from the first, as another shape, as `numpy.resize`."""
    wanted = tuple([as_integer(one) for one in np.atleast_1d(new_shape).tolist()])
    if min(wanted, default=0) < 0:
        raise ValueError("all elements of `new_shape` must be non-negative")
    flat = ravel(a)
    count = int(np.prod(wanted, dtype=np.int64))
    if not flat.size or not count:
        return DArray.of(building.captured(np.zeros(wanted, flat.dtype)))
    return reshape(tile(flat, -(-count // flat.size))[:count], wanted).copy()
