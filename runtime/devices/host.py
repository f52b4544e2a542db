"""The host's memory: NumPy arrays, how they are measured, frozen and copied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.runtime.arguments import register_frozen
from darray.runtime.spaces import register_measure

__all__ = ["copy", "freeze", "measure"]


def freeze(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of `array`, whose own flags stay as they are."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def copy(array: NDArray[Any]) -> NDArray[Any]:
    """A writable copy of `array`."""
    return array.copy(order="K")


def measure(array: NDArray[Any]) -> int:
    """Bytes of the array's elements; of a broadcast array, those that are there."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return min(array.nbytes, int(owner.nbytes))


register_frozen(np.ndarray, freeze, copy)
register_measure(np.ndarray, measure)
