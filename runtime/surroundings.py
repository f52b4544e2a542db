"""Where the calling code runs: in which task, and among which processors and workers."""

from __future__ import annotations

from typing import Any, cast

from darray.runtime import contexts
from darray.runtime.engine import current_engine
from darray.runtime.narrowing import ambient_scope
from darray.runtime.processor import Processor
from darray.runtime.scopes import Scope
from darray.runtime.tasks import Task

__all__ = ["current_task", "processors", "workers"]


def current_task() -> Task[Any]:
    """The task that the calling code is part of.

    Raises
    ------
    RuntimeError
        Outside a task.

    Examples
    --------
    >>> import darray as da
    >>> da.spawn.options(name="load")(lambda: da.current_task().name).result()
    'load'
    """
    running = current_engine().current_task()
    if running is None:
        raise RuntimeError("current_task() was called outside a task")
    streaming = contexts.streaming.get()
    if streaming is not None and streaming[0] is running:
        return cast("Task[Any]", streaming[1])
    return running


def processors(scope: Scope | None = None) -> list[Processor]:
    """The processors of a scope; by default those that a task spawned here may use.

    These are the ones of the scope that `options` gives the block, else those used by
    default. ``processors(ANY)`` are all.

    Examples
    --------
    >>> import darray as da
    >>> da.processors(da.scope(worker=0, thread=0))
    [Processor(worker=0, kind='cpu', index=0)]
    """
    if scope is None:
        scope = ambient_scope()
    return [one for one in current_engine().processors() if one in scope]


def workers() -> list[int]:
    """Numbers of the workers: the processes with processors. This process is worker 0.

    Examples
    --------
    >>> import darray as da
    >>> da.workers()
    [0]
    """
    return sorted({one.worker for one in current_engine().processors()})
