"""Pieces: which tasks use which piece of a shard right now."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from darray.runtime.processor import Processor
from darray.runtime.tasks import DONE, Task

__all__ = ["Pieces"]


class Pieces:
    """Who uses the pieces of one shard: one task alone, or any number that only read.

    Which piece a task uses depends on where it runs, so it is known only when it begins.
    Changed under the lock of the engine that has the tasks.

    Parameters
    ----------
    per_thread : bool
        Whether each processor has a piece, not each worker.
    """

    __slots__ = ("_per_thread", "_users", "owner")

    def __init__(self, per_thread: bool) -> None:
        self._per_thread = per_thread
        # The schedule that has the tasks.
        self.owner: object = None
        # For each piece in use the tasks, each with whether it writes.
        self._users: dict[Hashable, dict[Task[Any], bool]] = {}

    def __bool__(self) -> bool:
        return any(task._state < DONE for users in self._users.values() for task in users)

    def place(self, processor: Processor) -> Hashable:
        """Which piece it is that tasks on `processor` use."""
        return processor if self._per_thread else processor.worker

    def in_the_way(self, processor: Processor, writes: bool) -> list[Task[Any]]:
        """Those using a piece so that a task on `processor` cannot use it as well."""
        users = self._users.get(self.place(processor))
        if not users:
            return []
        return [task for task, wrote in users.items() if writes or wrote]

    def enter(self, task: Task[Any], processor: Processor, writes: bool) -> None:
        """Note that `task` uses the piece of `processor` until it leaves."""
        self._users.setdefault(self.place(processor), {})[task] = writes

    def leave(self, task: Task[Any], processor: Processor) -> None:
        """Note that `task`, which ran on `processor`, is finished."""
        place = self.place(processor)
        users = self._users.get(place)
        if users is not None:
            users.pop(task, None)
            if not users:
                self._users.pop(place, None)

    def _check(self) -> None:
        for users in self._users.values():
            assert len(users) == 1 or not any(users.values()), "who writes is alone"
