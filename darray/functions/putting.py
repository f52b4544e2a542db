"""`put`: the name that NumPy and the runtime both have."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import numpy as np

from darray.runtime import Ref, Scope
from darray.runtime import put as put_value

__all__ = ["put"]

T = TypeVar("T")


@overload
def put(value: T, scope: Scope | None = None) -> Ref[T]: ...
@overload
def put(a: Any, ind: Any, v: Any, mode: str = ...) -> None: ...
def put(*args: Any, **kwargs: Any) -> Any:
    """Ref to a value as it is now; with indices and values, `numpy.put`.

    ``put(value, scope=None)`` keeps a value, arrays copied unless nobody can write to them, to be
    given to any number of tasks; with a scope, tasks that use it run there.
    ``put(a, ind, v, mode="raise")`` is `numpy.put`.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> ref = da.put(np.ones(3))
    >>> da.spawn(np.sum, ref).result()
    np.float64(3.0)
    >>> x = np.zeros(3)
    >>> da.put(x, [0, 2], 5)
    >>> x
    array([5., 0., 5.])
    """
    if len(args) > 2 or not kwargs.keys() <= {"value", "scope"}:
        return np.put(*args, **kwargs)
    return put_value(*args, **kwargs)
