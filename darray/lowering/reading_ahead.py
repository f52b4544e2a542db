"""Reading ahead: chunks that come from other machines, several on their way while others compute.

A task that reads such a chunk begins beside the processors, on a thread of its own, and takes one
when it has what it reads. It is admitted with all the memory that it will hold, so nothing is read
for which there is no room later, and nothing waits between reading and computing but in it. Each
stage has so many lanes, in which one task follows another: a task that is through lets the next
one of its lane begin to read, and so the slower of reading and computing sets the pace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from darray.lowering.hulls import Shown
from darray.lowering.loads import Load, Read
from darray.lowering.plans import Draft, Plan, Stage
from darray.runtime import limits, settings
from darray.runtime.engine import current_engine
from darray.runtime.pieces import Turn

__all__ = ["Lanes", "most_at_once", "reads_remote"]

# Tasks of a stage that read at once at the most: servers answer so many requests of one client side
# by side, and each takes a thread.
MOST = 32

# They take no more than this share of the memory, unless fewer than there are processors do.
SHARE = 2


class Lanes:
    """The lanes of one stage, in which its tasks follow each other."""

    def __init__(self, count: int) -> None:
        self._turns = [Turn() for _ in range(count)]
        self._taken = 0

    def following(self) -> Turn:
        """The lane of the next task."""
        turn = self._turns[self._taken % len(self._turns)]
        self._taken += 1
        return turn


def reads_remote(loads: Iterable[Load | Shown]) -> bool:
    """Whether one of `loads` is a read that waits for another machine."""
    return any([isinstance(load, Read) and load.is_remote for load in loads])


def is_remote(draft: Draft) -> bool:
    """Whether the task of `draft` reads from another machine."""
    pieces: Any = getattr(draft.call, "pieces", None)
    return pieces is not None and bool(pieces.is_remote)


def most_at_once(plan: Plan, stage: Stage) -> int:
    """How many tasks of `stage` read ahead at a time; 0 where they read nothing that takes long."""
    if not plan.reads_remote or not any(map(is_remote, stage.drafts)):
        return 0
    present = settings.current()
    if present.engine == "serial":
        return 0
    processors = sum([one.kind == "cpu" for one in current_engine().processors()])
    fitting = limits.task_memory(present) // SHARE // max(1, stage.memory)
    return max(processors, min(MOST, fitting))
