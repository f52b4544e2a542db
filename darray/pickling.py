"""Arrays as pickles, which hold values and how they are cut, and no plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from darray.blocks import Chunks
from darray.expr import building
from darray.expr.nodes import Expression, Memory
from darray.lowering import computing
from darray.runtime import MemoryLimitError, limits, settings
from darray.runtime.devices.host_buffers import is_own

__all__ = ["restored", "values_to_pickle"]

# A pickle is made in memory, beside the values, so these must fit this share of it.
PICKLED_SHARE = 4


def values_to_pickle(expression: Expression) -> NDArray[Any]:
    """The values of an expression, read-only, for a pickle to hold.

    Raises
    ------
    MemoryLimitError
        When they take more than a quarter of the memory limit.

    Examples
    --------
    >>> import darray as da
    >>> values_to_pickle((da.arange(3, blocks=2) + 1).expression)
    array([1, 2, 3])
    """
    nbytes = math.prod(expression.shape) * expression.dtype.itemsize
    room = limits.memory_limit(settings.current()) // PICKLED_SHARE
    if nbytes > room:
        raise MemoryLimitError(
            f"pickling an array computes it, and the {nbytes:,} bytes of this one of shape "
            f"{expression.shape} are more than {room:,}, a quarter of the memory limit; write it "
            "with da.tofile(x, path) and pickle the path, or raise memory_limit"
        )
    if isinstance(expression, Memory) and not expression.is_shared:
        return expression.array
    values = computing.compute([expression])[0]
    # Pickled as bytes, these are shared with the bytes when they are read.
    values.flags.writeable = False
    return values


def restored(of: Callable[[Expression], Any], values: NDArray[Any], chunks: Chunks) -> Any:
    """The array of pickled values; ``of(expression)`` makes it.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> restored(da.DArray.of, np.arange(3), ((2, 1),)).chunks
    ((2, 1),)
    """
    if is_own(values):
        # Nobody else has what was read for this array alone.
        values.flags.writeable = False
    return of(building.captured(values, chunks))
