"""Cancelling tasks: several, all, or all but the first that succeeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from darray.runtime.arguments import prepared
from darray.runtime.engine import current_engine
from darray.runtime.spawning import as_completed
from darray.runtime.tasks import DONE, Task

__all__ = ["cancel", "cancel_all", "race"]

R = TypeVar("R")


def cancel(value: Any) -> None:
    """Cancel every task in `value`, and every unfinished task that those need.

    `value` is a task, a ref, or any nest of lists, tuples, dicts and sets of them. What
    becomes of each is what `Task.cancel` says. Tasks that others need as well are cancelled
    all the same, and these others with them; ``task.cancel()`` cancels the one task only.

    Examples
    --------
    >>> import darray as da
    >>> import threading
    >>> gate = threading.Event()
    >>> held = da.spawn(gate.wait)
    >>> after = da.spawn(print, held)
    >>> da.cancel(after)
    >>> isinstance(after.exception(), da.CancelledError)
    True
    >>> gate.set()
    """
    tasks: list[Task[Any]] = []
    prepared(value, tasks)
    engines = {task._engine: None for task in tasks if task._state < DONE}
    for engine in engines:
        engine.cancel_graph([task for task in tasks if task._engine is engine], begun=True)


def cancel_all() -> None:
    """Cancel every unfinished task of this process, the calling one included.

    New tasks run as ever afterwards.

    Examples
    --------
    >>> import darray as da
    >>> da.cancel_all()
    >>> da.spawn(abs, -1).result()
    1
    """
    current_engine().cancel_all()


def race(tasks: Iterable[Task[R]]) -> R:
    """Value of the task that succeeds first; the other tasks are cancelled.

    What the others need is not cancelled: somebody else may need it as well.

    Raises
    ------
    BaseException
        Where all fail, the exception of the task that failed first.
    ValueError
        Where there are no tasks.

    Examples
    --------
    >>> import darray as da
    >>> da.race([da.spawn(int, "no number"), da.spawn(int, "5")])
    5
    """
    runners = list(tasks)
    failed: list[Task[R]] = []
    for task in as_completed(runners):
        if task._state == DONE:
            for other in runners:
                other.cancel()
            return task.result()
        failed.append(task)
    if not failed:
        raise ValueError("race() needs at least one task")
    return failed[0].result()
