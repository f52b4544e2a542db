"""Refusals: why a task cannot run, or not be finished, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darray.runtime.budget import Budget
from darray.runtime.errors import (
    CancelledError,
    DeadlockError,
    Failure,
    MemoryLimitError,
    SchedulingError,
)
from darray.runtime.processor import Processor
from darray.runtime.spilling import asked
from darray.runtime.tasks import RUNNING, Task

__all__ = [
    "cancellation",
    "conflicting",
    "foreign",
    "no_room",
    "nowhere",
    "out_of_order",
    "too_big",
]


def cancellation(task: Task[Any]) -> CancelledError:
    """What is raised for `task` where it is cancelled now."""
    when = "while it ran" if task._state == RUNNING else "before it ran"
    return CancelledError(f"{_named(task)}, was cancelled {when}")


def conflicting(task: Task[Any], conflict: str) -> Failure:
    """Why `task` fails whose scopes exclude one another."""
    return Failure(SchedulingError(f"{_named(task)}, may run nowhere: {conflict}"))


def nowhere(task: Task[Any], present: Sequence[Processor]) -> Failure:
    """Why `task` fails for want of a processor; those that are `present` will not do."""
    assert task._options is not None
    known = ", ".join(map(repr, present[:8]))
    more = f" and {len(present) - 8} more" if len(present) > 8 else ""
    return Failure(
        SchedulingError(
            f"{_named(task)}, may run in {task._options.scope!r}, but no processor is there; "
            f"there are {known}{more}; try a wider scope"
        )
    )


def foreign(task: Task[Any]) -> Failure:
    """Why `task` fails that uses in place what an engine uses which is gone."""
    return Failure(
        RuntimeError(
            f"{_named(task)}, uses a value that unfinished tasks of an engine use which is gone "
            "(this process was forked, or darray reconfigured); make it again here"
        )
    )


def out_of_order(task: Task[Any], earlier: Task[Any]) -> Failure:
    """Why `task` fails that a queue held back until one that needs it was in line before it."""
    return Failure(
        DeadlockError(
            f"{_named(task)}, was held by a queue, while {earlier!r}, which needs it, was "
            "submitted and uses the same mutable: submit tasks on one mutable in the order in "
            "which they need each other"
        )
    )


def too_big(task: Task[Any], budget: Budget) -> Failure:
    """Why `task` fails that needs more memory than there is."""
    assert task._options is not None
    return Failure(
        MemoryLimitError(
            f"{_named(task)}, needs {task._options.memory:,} bytes, more than the "
            f"{budget.limit:,} that the memory limit leaves for all tasks together; use smaller "
            "Blocks, or raise memory_limit"
        )
    )


def no_room(task: Task[Any], budget: Budget) -> Failure:
    """Why `task` fails for want of memory: who holds what."""
    assert task._options is not None
    read = asked(task) - task._options.memory
    needed = f"{task._options.memory:,} bytes"
    if read:
        needed += f" and {read:,} for what it is given, which is on disk"
    return Failure(
        MemoryLimitError(
            f"{_named(task)}, needs {needed}, and nothing that runs will "
            f"free them: of the {budget.limit:,} that the memory limit leaves for tasks, "
            f"{budget.described()}. {budget.spill_failure}Let results go "
            "that are not needed, use smaller Blocks, or raise memory_limit"
        )
    )


def _named(task: Task[Any]) -> str:
    return f"task {task.name!r}, spawned at {task.spawned_at}"
