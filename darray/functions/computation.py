"""Computing several arrays together."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from darray.cell import is_fleeting
from darray.handle import DArray, as_expression
from darray.lowering import computing

__all__ = ["collect", "compute", "map_blocks"]


def compute(*arrays: Any) -> tuple[NDArray[Any], ...]:
    """Compute arrays together, so that what they share is computed and read once.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> x = da.arange(10, blocks=5)
    >>> da.compute(x.min(), x.max(), x.mean())
    (array(0), array(9), array(4.5))
    """
    return tuple(computing.compute([as_expression(one) for one in arrays]))


def collect(array: Any) -> NDArray[Any]:
    """Compute one array; a fresh NumPy array.

    Examples
    --------
    >>> import darray as da
    >>> da.collect(da.ones(2) + 1)
    array([2., 2.])
    """
    keeps = not isinstance(array, DArray) or not is_fleeting(array)
    return computing.compute([as_expression(array)], keeps=keeps)[0]


def map_blocks(function: Any, array: Any, *others: Any, **keywords: Any) -> DArray:
    """Array of ``function(block)`` for every block; see `DArray.map_blocks`.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> da.map_blocks(np.sort, da.arange(3)[::-1]).collect()
    array([0, 1, 2])
    """
    handle = array if isinstance(array, DArray) else DArray.of(as_expression(array))
    return handle.map_blocks(function, *others, **keywords)
