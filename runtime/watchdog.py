"""The watchdog: a warning where threads wait and nothing goes on, that says what for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from darray.runtime.events import Event, Subscription, TaskBegan, TaskEnded, TaskFailed, subscribe
from darray.runtime.explaining import Survey, explained, explained_wait, seconds_text
from darray.runtime.tasks import Task

__all__ = ["Watchdog"]


class _Ear:
    """Hears the first task that begins or ends, and nothing after it.

    Two looks at the tasks that run do not tell of a short one between them. Events are made
    only while somebody listens: this one does so from one look to the next, or to the first
    event, which is all that a program with much to do ever sees of it.
    """

    def __init__(self) -> None:
        self.heard = False
        self._subscription: Subscription | None = None
        self._subscription = subscribe(self)

    def __call__(self, event: Event) -> None:
        if isinstance(event, TaskBegan | TaskEnded | TaskFailed):
            self.heard = True
            self.close()

    def close(self) -> None:
        """Listen no more."""
        # None where an event came before `subscribe` returned: the next one ends it.
        if self._subscription is not None:
            self._subscription.close()


class Watchdog:
    """Sees, through the eyes of the threads that wait, how long nothing has gone on.

    It has no thread: a thread that waits looks up from time to time anyway, and calls
    `look` then. What goes on is told by the tasks that run, by how many are not finished,
    and by an `_Ear`; nothing is noted when a task begins or ends.

    Parameters
    ----------
    survey : callable
        Returns what the engine does; takes its lock.
    seconds : float or None
        After how long a silence the log is told; None for never.
    """

    def __init__(self, survey: Callable[[], Survey], seconds: float | None) -> None:
        # Guards all below; taken before the engine's lock, those of events and of numbers.
        # Nothing is told, logged or named while it is held.
        self._lock = threading.Lock()
        self._survey = survey
        self._seconds = seconds
        # Who waits, and for which tasks.
        self._waits: dict[object, Sequence[Task[Any]]] = {}
        # When each task that runs was first seen to run, by its number.
        self._seen: dict[int, float] = {}
        self._ear: _Ear | None = None
        # Since when nothing went on, None while nobody waits; what was seen last; how long
        # the silence must last before the next warning.
        self._since: float | None = None
        self._running: frozenset[int] = frozenset()
        self._outstanding = 0
        self._patience = seconds or 0.0

    def explain(self, task: Task[Any]) -> str:
        """Why `task` is in the state that it is in."""
        with self._lock:
            seen, ages = self._looked(monotonic())
        return explained(task, seen, ages)

    def look(self, waiter: object, tasks: Sequence[Task[Any]]) -> None:
        """Note that `waiter` still waits for `tasks`; warn where nothing has gone on for long.

        Where `tasks` is empty it waits for all.
        """
        if self._seconds is None:
            return
        with self._lock:
            self._waits[waiter] = tasks
            now = monotonic()
            seen, ages = self._looked(now)
            silence = self._silence(now, seen.outstanding)
            if silence < self._patience:
                return
            # The same silence is told of again when it has lasted twice as long.
            self._patience = 2 * silence
            waits = list(self._waits.values())
        every = [task for one in waits for task in (one or seen.running)]
        logging.getLogger("darray").warning(
            "no task has begun or ended for %s, while %s:\n%s\n"
            "(da.configure(watchdog=...) sets after how many seconds this is told, 0 for never)",
            seconds_text(silence),
            "a thread waits" if len(waits) == 1 else f"{len(waits)} threads wait",
            explained_wait(every, seen, ages),
        )

    def leave(self, waiter: object) -> None:
        """Note that `waiter` waits no more."""
        with self._lock:
            self._waits.pop(waiter, None)
            if not self._waits:
                self._since = None
                if self._ear is not None:
                    self._ear.close()
                    self._ear = None

    def abandon(self) -> None:
        """See nothing of the engine any more: this is a child of a fork, which has none."""
        self._lock = threading.Lock()
        self._survey = _nothing
        self._waits.clear()

    def _looked(self, now: float) -> tuple[Survey, dict[Task[Any], float]]:
        """What goes on, and how long each task that runs has run at least; lock held."""
        seen = self._survey()
        numbers = {task: task.number for task in seen.running}
        self._seen = {number: self._seen.get(number, now) for number in numbers.values()}
        return seen, {task: now - self._seen[number] for task, number in numbers.items()}

    def _silence(self, now: float, outstanding: int) -> float:
        """For how many seconds nothing has gone on; lock held."""
        running = frozenset(self._seen)
        heard = self._ear is not None and self._ear.heard
        if heard or running != self._running or outstanding < self._outstanding:
            self._since = now
            self._patience = self._seconds or 0.0
        elif self._since is None:
            # What was told of the same silence before nobody waited is not told sooner again.
            self._since = now
        self._running, self._outstanding = running, outstanding
        if self._ear is not None and self._ear.heard:
            self._ear.close()
            self._ear = None
        if self._ear is None:
            self._ear = _Ear()
        return now - self._since


def _nothing() -> Survey:
    """What goes on in an engine that is gone."""
    return Survey(0, {}, closed=True)
