"""Functions that split an array into views of its parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.functions.shapes import handle_on, moveaxis
from darray.handle import DArray

__all__ = ["array_split", "dsplit", "hsplit", "split", "unstack", "vsplit"]


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[DArray]:
    """Views of parts that need not be equally long, as `numpy.array_split`.

    Examples
    --------
    >>> import darray as da
    >>> [part.shape for part in np.array_split(da.arange(5), 2)]
    [(3,), (2,)]
    """
    array = handle_on(ary)
    length = array.shape[axis]
    along = axis % array.ndim
    if np.ndim(indices_or_sections):
        edges = [0, *indices_or_sections, length]
    else:
        count = int(indices_or_sections)
        if count <= 0:
            raise ValueError("number sections must be larger than 0.")
        size, rest = divmod(length, count)
        edges = [number * size + min(number, rest) for number in range(count + 1)]
    before = (slice(None),) * along
    return [array[(*before, slice(start, stop))] for start, stop in pairwise(edges)]


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[DArray]:
    """Views of parts, equally long where their number is given, as `numpy.split`.

    Examples
    --------
    >>> import darray as da
    >>> [part.shape for part in np.split(da.arange(6), [1, 4])]
    [(1,), (3,), (2,)]
    """
    array = handle_on(ary)
    if not np.ndim(indices_or_sections) and array.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(array, indices_or_sections, axis)


@implements(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[DArray]:
    """Views of parts along the second axis, or the only one, as `numpy.hsplit`."""
    array = handle_on(ary)
    if array.ndim == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(array, indices_or_sections, 1 if array.ndim > 1 else 0)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[DArray]:
    """Views of parts along the first axis, as `numpy.vsplit`."""
    array = handle_on(ary)
    if array.ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(array, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[DArray]:
    """Views of parts along the third axis, as `numpy.dsplit`."""
    array = handle_on(ary)
    if array.ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(array, indices_or_sections, 2)


@implements(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[DArray, ...]:
    """Views of the parts at each index of an axis, as `numpy.unstack`.

    Examples
    --------
    >>> import darray as da
    >>> len(np.unstack(da.ones((2, 3)), axis=1))
    3
    """
    array = handle_on(x)
    if array.ndim == 0:
        raise ValueError("Input array must be at least 1-d.")
    return tuple(moveaxis(array, axis, 0))
