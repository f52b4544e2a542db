"""Cancelling, as every engine does it."""

from __future__ import annotations

import threading
from typing import Any

from darray.runtime.errors import Failure
from darray.runtime.graphs import closure
from darray.runtime.refusals import cancellation
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, RUNNING, Task

__all__ = ["Stopping"]


class Stopping:
    """The part of an engine that cancels tasks.

    An engine has its schedule, the lock that guards it, and the three methods at the end.
    """

    _lock: threading.Lock
    _schedule: Schedule

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task`, which is abandoned if it runs; whether it is cancelled now.

        An abandoned one is finished at once, and what it gives is dropped.
        """
        self._cancel([task], begun=True)
        return task._state == CANCELLED

    def cancel_graph(self, tasks: list[Task[Any]], begun: bool = False) -> None:
        """Cancel those of `tasks`, and of all that they need, that have not begun.

        With `begun`, also those that run.
        """
        with self._lock:
            every = closure(tasks, followed=False)
        self._cancel(every, begun)

    def cancel_all(self) -> None:
        """Cancel every unfinished task."""
        with self._lock:
            every = self._begun_or_ready()
        self._cancel(every, begun=True)

    def _cancel(self, tasks: list[Task[Any]], begun: bool) -> None:
        finished: list[Task[Any]] = []
        running: list[Task[Any]] = []
        with self._lock:
            before = self._schedule.releases
            for task in tasks:
                if task._state == RUNNING and begun:
                    running.append(task)
                else:
                    finished += self._schedule.cancel(task)
            has_released = self._schedule.releases > before
        if has_released:
            self._fill_all()
        # These first: those that were promised are cancelled themselves, instead of failing when
        # they are told of the tasks that carry them out.
        for task in running:
            self._abandon(task, Failure(cancellation(task)), CANCELLED)
        self._tell(finished)

    def _begun_or_ready(self) -> list[Task[Any]]:
        """The unfinished tasks that need no others any more; lock held."""
        raise NotImplementedError

    def _fill_all(self) -> None:
        """See to it that tasks which are READY now are run."""
        raise NotImplementedError

    def _tell(self, finished: list[Task[Any]], abandoned: Task[Any] | None = None) -> None:
        """Drop what finished tasks were given and call their watchers, each exactly once."""
        raise NotImplementedError

    def _abandon(self, task: Task[Any], failure: Failure, state: int) -> None:
        """End a RUNNING task in `state`, although its function goes on."""
        raise NotImplementedError
