"""Functions of axes and shapes: views of the elements, and their reshapes."""

from __future__ import annotations

from collections.abc import Callable
from operator import index as as_integer
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from darray.blocks import BlocksLike
from darray.dispatch import implements
from darray.expr import building, reshaping
from darray.handle import DArray, as_expression
from darray.index_maps import IndexMap
from darray.view_steps import Reshaping

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "handle_on",
    "moveaxis",
    "ndim",
    "ravel",
    "rechunk",
    "reshape",
    "rollaxis",
    "rot90",
    "shape",
    "size",
    "squeeze",
    "swapaxes",
    "transpose",
]


def handle_on(a: Any) -> DArray:
    """`a` if it is a DArray, or one of its values.

    Examples
    --------
    >>> handle_on([1, 2]).shape
    (2,)
    """
    return a if isinstance(a, DArray) else DArray.of(as_expression(a))


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> DArray:
    """View with the axes in another order."""
    array = handle_on(a)
    return array.seen(IndexMap.transpose(axes, array.shape))


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> DArray:
    """View with two axes exchanged."""
    array = handle_on(a)
    order = list(range(array.ndim))
    first, second = (normalize_axis_index(axis, array.ndim) for axis in (axis1, axis2))
    order[first], order[second] = second, first
    return transpose(array, order)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> DArray:
    """View with axes moved to other places."""
    array = handle_on(a)
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
    array = handle_on(a)
    return array.seen(IndexMap.insert_axes(axis, array.shape))


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> DArray:
    """View without axes of length 1."""
    array = handle_on(a)
    if array.ndim == 0 and not isinstance(axis, tuple) and axis in (0, -1):
        # NumPy lets arrays without axes have one here.
        axis = None
    return array.seen(IndexMap.drop_axes(axis, array.shape))


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> DArray:
    """View with the elements along axes in reverse order."""
    array = handle_on(m)
    axes = building.normal_axes(axis, array.ndim)
    backwards = slice(None, None, -1)
    return array[tuple(backwards if i in axes else slice(None) for i in range(array.ndim))]


@implements(np.fliplr)
def fliplr(m: Any) -> DArray:
    """View with the elements along the second axis in reverse order."""
    array = handle_on(m)
    if array.ndim < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(array, 1)


@implements(np.flipud)
def flipud(m: Any) -> DArray:
    """View with the elements along the first axis in reverse order."""
    array = handle_on(m)
    if array.ndim < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(array, 0)


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> DArray:
    """View turned `k` times from the first of `axes` towards the second.

    Examples
    --------
    >>> import darray as da
    >>> np.rot90(np.reshape(da.arange(4), (2, 2))).collect()
    array([[1, 3],
           [0, 2]])
    """
    array = handle_on(m)
    pair = tuple(axes)
    if len(pair) != 2:
        raise ValueError("len(axes) must be 2.")
    if pair[0] == pair[1] or abs(pair[0] - pair[1]) == array.ndim:
        raise ValueError("Axes must be different.")
    if not all(-array.ndim <= axis < array.ndim for axis in pair):
        raise ValueError(f"Axes={pair} out of range for array of ndim={array.ndim}.")
    turns = k % 4
    if turns == 2:
        return flip(array, pair)
    if turns == 0:
        return array[...]
    return swapaxes(flip(array, pair[1 if turns == 1 else 0]), *pair)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> DArray:
    """View with an axis moved in front of the one at `start`."""
    array = handle_on(a)
    number = normalize_axis_index(axis, array.ndim)
    place = start + array.ndim if start < 0 else start
    if not 0 <= place <= array.ndim:
        raise np.exceptions.AxisError(
            f"'start' arg requires {-array.ndim} <= start < {array.ndim + 1}, "
            f"but {start} was passed in"
        )
    return moveaxis(array, number, place - 1 if number < place else place)


@implements(np.reshape)
def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> DArray:
    """The elements as another shape, as `numpy.reshape`: a view where NumPy gives one.

    A DArray counts as C-contiguous, and views of it have the strides that NumPy's would have.
    The cut follows that of `a`: see
    `darray.expr.reshaping.reshape_cut`.

    Examples
    --------
    >>> import darray as da
    >>> np.reshape(da.arange(6, blocks=3), (2, -1)).collect()
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    array = handle_on(a)
    wanted = reshaping.reshaped_shape(array.shape, shape, order)
    layout = array.layout()
    if (order or "C").upper() == "A":
        order = "F" if layout.flags.fnc else "C"
    step = Reshaping(array.shape, wanted, order)
    try:
        step.of(layout)
    except ValueError:
        if copy is False:
            raise
        copy = True
    if copy or array.is_scalar:
        return DArray.of(step.read(array.expression))
    index_map = reshaping.index_map_between(array.shape, wanted)
    return array.through(step, wanted, array.dtype) if index_map is None else array.seen(index_map)


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> DArray:
    """The elements as one axis, as `numpy.ravel`.

    Examples
    --------
    >>> import darray as da
    >>> np.ravel(da.ones((2, 3), blocks=1)).shape
    (6,)
    """
    array = handle_on(a)
    if (order or "C").upper() != "K":
        found = reshape(array, -1, order)
    else:
        # The order of the elements in memory, if no axis ran backwards.
        strides = array.layout().strides
        axes = sorted(range(array.ndim), key=lambda i: -abs(strides[i]))
        found = reshape(transpose(array, axes), -1)
    # Unlike a reshape, the result is contiguous.
    return found if found.layout().flags.c_contiguous else found.copy()


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> DArray:
    """View of an array broadcast to a shape."""
    handle = handle_on(array)
    sizes = tuple([as_integer(one) for one in (shape if np.ndim(shape) else (shape,))])
    return handle.seen(IndexMap.broadcast(handle.shape, sizes))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[DArray, ...]:
    """Views of arrays broadcast against each other."""
    handles = [handle_on(one) for one in args]
    shape = np.broadcast_shapes(*(one.shape for one in handles))
    return tuple([broadcast_to(one, shape) for one in handles])


def _each(function: Callable[[DArray], DArray], arrays: tuple[Any, ...]) -> Any:
    """What `function` makes of the only array, or of each of several."""
    found = tuple([function(handle_on(one)) for one in arrays])
    return found[0] if len(found) == 1 else found


@implements(np.atleast_1d)
def atleast_1d(*arys: Any) -> Any:
    """Views with one axis at least."""
    return _each(lambda one: one if one.ndim else reshape(one, (1,)), arys)


@implements(np.atleast_2d)
def atleast_2d(*arys: Any) -> Any:
    """Views with two axes at least, added in front."""
    return _each(
        lambda one: one if one.ndim > 1 else reshape(one, (1, one.size)),
        arys,
    )


@implements(np.atleast_3d)
def atleast_3d(*arys: Any) -> Any:
    """Views with three axes at least, added on both sides."""

    def raised(one: DArray) -> DArray:
        if one.ndim > 2:
            return one
        return reshape(one, (*one.shape, 1) if one.ndim == 2 else (1, one.size, 1))

    return _each(raised, arys)


@implements(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    """Length of each axis."""
    return handle_on(a).shape


@implements(np.ndim)
def ndim(a: Any) -> int:
    """Number of axes."""
    return handle_on(a).ndim


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    """Number of elements, or of those along an axis."""
    lengths = handle_on(a).shape
    if axis is None:
        return int(np.prod(lengths, dtype=np.int64))
    return int(np.prod([lengths[i] for i in building.normal_axes(axis, len(lengths))]))


def rechunk(array: Any, blocks: BlocksLike) -> DArray:
    """The same array in another cut; see `DArray.rechunk`."""
    return handle_on(array).rechunk(blocks)
