"""Graphs of tasks: what some need, and what needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from darray.runtime.tasks import DONE, Task

__all__ = ["closure", "following"]


def closure(tasks: Iterable[Task[Any]], followed: bool = True) -> list[Task[Any]]:
    """The unfinished tasks among `tasks` and all that they need, the needed ones last.

    Without those that they only follow, where `followed` is false.
    """
    found: dict[Task[Any], None] = {}
    pending = list(tasks)
    while pending:
        task = pending.pop()
        if task._state < DONE and task not in found:
            found[task] = None
            if task._needs is not None:
                if followed or not hasattr(task, "_after"):
                    pending.extend(task._needs)
                else:
                    pending.extend([one for one in task._needs if one not in task._after])
    return list(found)


def following(tasks: Iterable[Task[Any]]) -> list[Task[Any]]:
    """The unfinished tasks among `tasks` and all that need them, or follow them."""
    found: dict[Task[Any], None] = {}
    pending = list(tasks)
    while pending:
        task = pending.pop()
        if task._state < DONE and task not in found:
            found[task] = None
            pending.extend(task._dependents or ())
    return list(found)
