"""Functions of axes and shapes: views, and arrays joined."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from darray.blocks import BlocksLike
from darray.dispatch import implements
from darray.expr import building
from darray.handle import DArray, as_expression, write_results
from darray.index_maps import IndexMap

__all__ = [
    "broadcast_arrays",
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flip",
    "moveaxis",
    "ndim",
    "rechunk",
    "shape",
    "size",
    "squeeze",
    "stack",
    "swapaxes",
    "transpose",
]


def _handle(a: Any) -> DArray:
    return a if isinstance(a, DArray) else DArray.of(as_expression(a))


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> DArray:
    """View with the axes in another order."""
    array = _handle(a)
    return array.seen(IndexMap.transpose(axes, array.shape))


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> DArray:
    """View with two axes exchanged."""
    array = _handle(a)
    order = list(range(array.ndim))
    first, second = (normalize_axis_index(axis, array.ndim) for axis in (axis1, axis2))
    order[first], order[second] = second, first
    return transpose(array, order)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> DArray:
    """View with axes moved to other places."""
    array = _handle(a)
    moved = normalize_axis_tuple(source, array.ndim, "source")
    places = normalize_axis_tuple(destination, array.ndim, "destination")
    if len(moved) != len(places):
        raise ValueError(
            "`source` and `destination` arguments must have the same number of elements"
        )
    order = [axis for axis in range(array.ndim) if axis not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return transpose(array, order)


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> DArray:
    """View with axes of length 1 put in."""
    array = _handle(a)
    return array.seen(IndexMap.insert_axes(axis, array.shape))


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> DArray:
    """View without axes of length 1."""
    array = _handle(a)
    if array.ndim == 0 and not isinstance(axis, tuple) and axis in (0, -1):
        # NumPy lets arrays without axes have one here.
        axis = None
    return array.seen(IndexMap.drop_axes(axis, array.shape))


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> DArray:
    """View with the elements along axes in reverse order."""
    array = _handle(m)
    axes = building.normal_axes(axis, array.ndim)
    backwards = slice(None, None, -1)
    return array[tuple(backwards if i in axes else slice(None) for i in range(array.ndim))]


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> DArray:
    """View of an array broadcast to a shape."""
    handle = _handle(array)
    sizes = tuple([as_integer(one) for one in (shape if np.ndim(shape) else (shape,))])
    return handle.seen(IndexMap.broadcast(handle.shape, sizes))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[DArray, ...]:
    """Views of arrays broadcast against each other."""
    handles = [_handle(one) for one in args]
    shape = np.broadcast_shapes(*(one.shape for one in handles))
    return tuple([broadcast_to(one, shape) for one in handles])


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
        if any(len(part.shape) != 1 for part in parts):
            raise NotImplementedError(
                "np.concatenate(axis=None) of arrays with several axes, which flattens them, is "
                "not there yet; give an axis"
            )
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
    handles = [_handle(one) for one in arrays]
    if not handles:
        raise ValueError("need at least one array to stack")
    if len({one.shape for one in handles}) != 1:
        raise ValueError("all input arrays must have the same shape")
    place = normalize_axis_index(axis, handles[0].ndim + 1)
    raised = [expand_dims(one, place) for one in handles]
    return concatenate(raised, axis=place, out=out, dtype=dtype, casting=casting)


@implements(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    """Length of each axis."""
    return _handle(a).shape


@implements(np.ndim)
def ndim(a: Any) -> int:
    """Number of axes."""
    return _handle(a).ndim


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    """Number of elements, or of those along an axis."""
    lengths = _handle(a).shape
    if axis is None:
        return int(np.prod(lengths, dtype=np.int64))
    return int(np.prod([lengths[i] for i in building.normal_axes(axis, len(lengths))]))


def rechunk(array: Any, blocks: BlocksLike) -> DArray:
    """The same array in another cut; see `DArray.rechunk`."""
    return _handle(array).rechunk(blocks)
