"""`put`: values that tasks are given by a Ref."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from darray.runtime import contexts
from darray.runtime.arguments import captured, is_replaced, prepared, sealed
from darray.runtime.contexts import Options
from darray.runtime.engine import current_engine
from darray.runtime.refs import Ref
from darray.runtime.scopes import Scope
from darray.runtime.spaces import Placed, here
from darray.runtime.spawning import submit
from darray.runtime.tasks import DONE, Task

__all__ = ["put"]

T = TypeVar("T")


def _same(value: Any) -> Any:
    return value


# What a task is made of that has its value from the start.
_CALL = (_same, (), None, False)
_NAMED = Options(name="put")


def put(value: T, scope: Scope | None = None) -> Ref[T]:
    """Ref to a value as it is now, to be given to any number of tasks.

    Arrays, also in containers, are copied, unless nobody can write to them: they are read-only
    and so is what they are views of. Other objects go by reference. Tasks and refs in
    containers are replaced by their values. (NumPy's function of that name is ``np.put``.)

    Parameters
    ----------
    value : object
        Of a Ref, that Ref; of a task, the Ref to its value.
    scope : Scope, optional
        Where the value is put, and tasks that use it may run.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> a = np.ones(3)
    >>> ref = da.put(a)
    >>> a[:] = 7
    >>> da.spawn(np.sum, ref).result()
    np.float64(3.0)
    """
    if isinstance(value, Ref):
        if scope is None:
            return value
        raise TypeError(f"da.put() takes scope= for values, but {value!r} has its place already")
    frame = sys._getframe(1)
    if isinstance(value, Task):
        return Ref(value, scope=scope)
    kept = captured(value)
    engine = current_engine()
    if scope is None and not is_replaced(prepared(kept, [])):
        # It is where it is to be: nothing has to run.
        task: Task[Any] = Task(engine, _CALL, _NAMED, frame.f_code, frame.f_lasti)
        task._function = task._args = None
        kept = sealed(kept)
        task._value = Placed(kept, here.get()) if engine.has_spaces else kept
        task._state = DONE
        return Ref(task)
    changes = {"name": "put"} if scope is None else {"name": "put", "scope": scope}
    task = submit(engine, _same, (kept,), None, contexts.extended(changes), frame)
    return Ref(task, scope=scope)
