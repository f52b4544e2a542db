"""`trace`: the name that NumPy and the runtime both have."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from darray.runtime import Trace
from darray.runtime import trace as trace_tasks

__all__ = ["trace"]


@overload
def trace(*, limit: int = ...) -> Trace: ...
@overload
def trace(a: Any, /, *args: Any, **kwargs: Any) -> Any: ...
def trace(*args: Any, **kwargs: Any) -> Any:
    """Keep what the runtime does in a ``with`` block; of an array, the sum along a diagonal.

    ``with trace(limit=1_000_000) as tr`` makes a `Trace`, which keeps at most `limit` events.
    ``trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None)`` is `numpy.trace`.

    Examples
    --------
    >>> import darray as da
    >>> float(da.trace(da.eye(3, blocks=2)))
    3.0
    >>> with da.trace() as tr:
    ...     float(da.ones(6, blocks=3).sum())
    6.0
    >>> print(tr.gantt("sums.html"))  # doctest: +SKIP
    sums.html
    """
    if args or "a" in kwargs:
        return np.trace(*args, **kwargs)
    return trace_tasks(**kwargs)
