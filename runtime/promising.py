"""Promised tasks: those that are no one call, which whoever carries them out says the end of."""

from __future__ import annotations

from typing import Any, Protocol

from darray.runtime.processor import Processor
from darray.runtime.tasks import HELD, RUNNING, Task

__all__ = ["keep_promise", "promise"]


class Counts(Protocol):
    """What a schedule counts of them."""

    running: int
    blocked: int
    outstanding: int
    promised: dict[Task[Any], None]


def promise(schedule: Counts, task: Task[Any], processor: Processor) -> bool:
    """Make a HELD task RUNNING, though no seat runs it; whether it was not cancelled before.

    It counts as blocked: its end frees no memory that others wait for. The engine's lock is held.
    """
    if task._state != HELD:
        return False
    task._hold = None
    task._processor = processor
    task._state = RUNNING
    schedule.running += 1
    schedule.blocked += 1
    schedule.outstanding += 1
    schedule.promised[task] = None
    return True


def keep_promise(schedule: Counts, task: Task[Any]) -> None:
    """Forget that `task`, which ends now, was promised, if it was; the engine's lock is held."""
    if task in schedule.promised:
        del schedule.promised[task]
        schedule.blocked -= 1
