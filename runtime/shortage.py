"""Shortage: who waits for the memory of other threads' tasks, on an engine without own threads."""

from __future__ import annotations

import gc
import threading
from time import monotonic
from typing import Any

from darray.runtime.tasks import DONE, RUNNING, Task
from darray.runtime.waiting import LOOKING_UP, Stack

__all__ = ["PATIENCE", "RunningTasks", "Shortage"]

# Seconds for which a thread waits for memory while no task ends: those that run may wait for it in
# ways that nobody sees, such as locks of the user's.
PATIENCE = 60.0


class RunningTasks:
    """The tasks whose functions are being called, and the threads that wait for their memory.

    Every method is called with the engine's lock held. A thread waits only while another one goes
    on, that is, runs a task and waits neither for memory nor for tasks, and for `PATIENCE` at most
    while no task ends (`Shortage`). So of threads that wait for each other the last one does not,
    and its task fails.

    Invariants
    ----------
    * ``stacks`` has the tasks whose functions are called, each with the stack of its thread.
    * ``is_stopped`` is true of a stack while its thread waits for something else than tasks.
    * ``ends`` is the number of calls that have ended.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.stacks: dict[Task[Any], Stack] = {}
        self.ends = 0
        # Told whenever a task ends or its thread begins to wait.
        self.changed = threading.Condition(lock)

    def begin(self, task: Task[Any], stack: Stack) -> None:
        """Note that the function of `task` is about to be called."""
        self.stacks[task] = stack

    def end(self, task: Task[Any]) -> None:
        """Note that the task's function is through."""
        if self.stacks.pop(task, None) is not None:
            self.ends += 1
            self.changed.notify_all()

    def note_wait(self) -> None:
        """Have those who wait for memory find out that one more thread waits."""
        self.changed.notify_all()


class Shortage:
    """A thread, which runs the stack `own`, that finds no memory and waits for others to free some.

    Used by that thread alone. Results in reference cycles were just collected.
    """

    def __init__(self, running: RunningTasks, own: Stack) -> None:
        self._running = running
        self._own = own
        # How many calls had ended when it was looked for memory, since when that many have, and
        # how many had when results in cycles were collected.
        self._ends = self._collected = running.ends
        self._since = monotonic()
        self._is_told = False

    def look(self) -> None:
        """Note that memory is looked for now."""
        if self._ends != self._running.ends:
            self._ends = self._running.ends
            self._since = monotonic()

    def wait(self) -> bool:
        """Wait a little for a task of another thread to end; whether that may help. Lock held."""
        running, own, before = self._running, self._own, self._own.is_stopped
        if self._ends != running.ends:
            return True
        try:
            own.is_stopped = True
            if not self._is_told:
                # Others that wait may find that nothing will be freed. Told again and again, by
                # each of several, they would never rest.
                self._is_told = True
                running.note_wait()
            stacks = [stack for task, stack in running.stacks.items() if task._state == RUNNING]
            if not any(map(_goes_on, stacks)) or monotonic() - self._since > PATIENCE:
                return False
            running.changed.wait(LOOKING_UP)
            return True
        finally:
            own.is_stopped = before

    def collect(self) -> bool:
        """Collect results in cycles of what has ended meanwhile; whether any has."""
        if self._collected == self._ends:
            return False
        self._collected = self._ends
        gc.collect()
        return True


def _goes_on(stack: Stack) -> bool:
    """Whether its thread waits for nothing that is not there."""
    # Coroutines take from it what they await without the lock.
    awaited = tuple(stack.awaited)
    is_waiting = stack.arrival is not None and stack.arrival.missing > 0
    is_awaiting = awaited and all(task._state < DONE for task in awaited)
    return not (stack.is_stopped or is_waiting or is_awaiting)
