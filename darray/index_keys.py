"""Keys of advanced indexing as NumPy reads them: what is a view, what is picked by value."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index as as_integer
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Shape

__all__ = ["Selection", "in_arrays", "normal_positions", "selection"]

_NO_INDEX = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) "
    "and integer or boolean arrays are valid indices"
)
_NO_INDEX_ARRAY = "arrays used as indices must be of integer (or boolean) type"


class Selection(Struct, frozen=True):
    """What a key selects: a view by its basic parts, and elements of the view by the others.

    Attributes
    ----------
    basic : tuple
        The key of the view, of integers, slices and None; the axes that are picked from are
        whole in it.
    place : int
        How many of the view's other axes come before those that picking gives.
    mask : tuple or None
        The first axis of the view that it is for, and the boolean array, where that is all
        that picks.
    arrays : tuple of tuples
        Otherwise, for each axis of the view that is picked from, its number and the positions,
        counted from 0. Where `shape` has no elements, these were not checked.
    shape : tuple of int
        What the arrays of positions broadcast to.
    """

    basic: tuple[Any, ...]
    place: int
    mask: tuple[int, Any] | None
    arrays: tuple[tuple[int, NDArray[np.intp]], ...]
    shape: Shape


def selection(
    key: tuple[Any, ...],
    shape: Shape,
    nonzero: Callable[[Any], tuple[NDArray[np.intp], ...]] = np.nonzero,
) -> Selection:
    """Read `key` as an index of an array of `shape`.

    Boolean arrays may be anything with a shape and a dtype; `nonzero` gives the positions of
    their true elements, which is asked for only where there are other arrays beside them.

    Raises
    ------
    IndexError
        Where and as NumPy raises it.

    Examples
    --------
    >>> import numpy as np
    >>> found = selection((slice(None), [1, -1], 0), (4, 3, 2))
    >>> found.basic, found.place, found.arrays
    ((slice(None, None, None), slice(None, None, None), 0), 1, ((1, array([1, 2])),))
    """
    parts = [_part(item) for item in key]
    if sum(part is ... for part in parts) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    used = sum(map(_axes_used, parts))
    if used > len(shape):
        raise IndexError(
            f"too many indices for array: array is {len(shape)}-dimensional, "
            f"but {used} were indexed"
        )
    if not any(part is ... for part in parts):
        parts.append(...)
    advanced = [part for part in parts if _is_advanced(part)]
    is_mask = len(advanced) == 1 and _is_mask(advanced[0])
    basic: list[Any] = []
    # Axes of the view so far, and those of them that nothing is picked from.
    seen = others = axis = 0
    place: int | None = None
    is_closed = is_apart = False
    mask: tuple[int, Any] | None = None
    found: list[tuple[int, int, NDArray[np.intp]]] = []
    for part in parts:
        if part is None or isinstance(part, slice) or part is ...:
            taken = [slice(None)] * (len(shape) - used) if part is ... else [part]
            basic += taken
            others += len(taken)
            seen += len(taken)
            axis += 0 if part is None else len(taken)
            is_closed = is_closed or place is not None
            continue
        # An integer beside arrays counts as one, for where the axes go.
        is_apart = is_apart or is_closed
        place = others if place is None else place
        if isinstance(part, bool):
            found.append((-1, -1, np.zeros(int(part), np.intp)))
        elif isinstance(part, int):
            _check_integer(part, shape, axis)
            basic.append(part)
            axis += 1
        elif not _is_mask(part):
            basic.append(slice(None))
            found.append((seen, axis, part))
            seen += 1
            axis += 1
        else:
            _check_mask(part.shape, shape, axis)
            dimensions = len(part.shape)
            basic += [slice(None)] * dimensions
            if is_mask and part.shape == shape[axis : axis + dimensions]:
                mask = (seen, part)
            else:
                none = (np.zeros(0, np.intp),) * dimensions
                for number, positions in enumerate(nonzero(part) if all(part.shape) else none):
                    found.append((seen + number, axis + number, positions))
            seen += dimensions
            axis += dimensions
    arrays, broadcast = _checked(found, shape)
    return Selection(tuple(basic), 0 if is_apart else place or 0, mask, arrays, broadcast)


def normal_positions(positions: NDArray[Any], length: int, axis: int) -> NDArray[np.intp]:
    """Return positions along an axis counted from 0, also those given from its end.

    Raises
    ------
    IndexError
        For the first one, in C order, that is out of bounds.

    Examples
    --------
    >>> normal_positions(np.array([0, -1]), 5, 0)
    array([0, 4])
    """
    if positions.size == 0:
        return positions.astype(np.intp, copy=False)
    least = int(positions.min())
    if least < -length or int(positions.max()) >= length:
        wrong = positions[(positions < -length) | (positions >= length)]
        raise IndexError(
            f"index {int(wrong.flat[0])} is out of bounds for axis {axis} with size {length}"
        )
    exact: NDArray[np.intp] = positions.astype(np.intp, copy=False)
    return np.where(exact < 0, exact + length, exact) if least < 0 else exact


def _part(item: Any) -> Any:
    """Return `item` as None, Ellipsis, slice, bool, int, array of positions, or boolean array."""
    if item is None or item is ... or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        return bool(item)
    dtype = getattr(item, "dtype", None)
    if not isinstance(item, np.ndarray):
        if dtype is not None and dtype.kind == "b" and len(item.shape):
            return item
        try:
            return as_integer(item)
        except TypeError:
            pass
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, np.ndarray):
        # A list without elements has no dtype of its own.
        array = array.astype(np.intp)
    if array.dtype.kind == "b":
        return array if array.ndim else bool(array)
    if array.dtype.kind not in "iu":
        raise IndexError(_NO_INDEX_ARRAY if isinstance(item, np.ndarray) else _NO_INDEX)
    return array.astype(np.intp, copy=False) if array.ndim else int(array)


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype.kind == "b"


def _is_advanced(part: Any) -> bool:
    return isinstance(part, bool) or hasattr(part, "dtype")


def _axes_used(part: Any) -> int:
    """How many axes of the array a part of a key stands for."""
    if part is None or part is ... or isinstance(part, bool):
        return 0
    return len(part.shape) if _is_mask(part) else 1


def _check_integer(part: int, shape: Shape, axis: int) -> None:
    if not -shape[axis] <= part < shape[axis]:
        raise IndexError(f"index {part} is out of bounds for axis {axis} with size {shape[axis]}")


def _check_mask(mask: Shape, shape: Shape, axis: int) -> None:
    for number, size in enumerate(mask):
        # NumPy lets masks pass that have no elements because of an axis of another length.
        if size not in (0, shape[axis + number]):
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + number}; size of "
                f"axis is {shape[axis + number]} but size of corresponding boolean axis is {size}"
            )


def _checked(
    found: list[tuple[int, int, NDArray[np.intp]]], shape: Shape
) -> tuple[tuple[tuple[int, NDArray[np.intp]], ...], Shape]:
    """The arrays of positions by axis of the view, counted from 0, and their broadcast shape."""
    shapes = [positions.shape for _, _, positions in found]
    try:
        broadcast = np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " ".join(str(one).replace(" ", "") for one in shapes)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {listed}"
        ) from None
    picked = [one for one in found if one[0] >= 0]
    if not math.prod(broadcast):
        # NumPy does not look at positions of which none is used.
        return tuple([(seen, positions) for seen, _, positions in picked]), broadcast
    return (
        tuple(
            [
                (seen, normal_positions(positions, shape[axis], axis))
                for seen, axis, positions in picked
            ]
        ),
        broadcast,
    )


def in_arrays(key: Any, known: type) -> Any:
    """`key` with the arrays in it that are neither NumPy's nor of the class `known` as NumPy's.

    Examples
    --------
    >>> in_arrays((slice(2), memoryview(b"ab")), list)[0]
    slice(None, 2, None)
    """
    parts = key if isinstance(key, tuple) else (key,)
    if not any(_is_foreign(one, known) for one in parts):
        return key
    found = tuple([np.asarray(one) if _is_foreign(one, known) else one for one in parts])
    return found if isinstance(key, tuple) else found[0]


def _is_foreign(part: Any, known: type) -> bool:
    is_array = hasattr(type(part), "__array__")
    return is_array and not isinstance(part, (np.ndarray, np.generic, known))
