"""Progress: what an engine without threads of its own runs, and who waits for its memory."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from darray.runtime.tasks import DONE, RUNNING, Task
from darray.runtime.waiting import LOOKING_UP, Stack

__all__ = ["PATIENCE", "Progress"]

# Seconds for which a thread waits for memory while no task ends: those that run may wait for it in
# ways that nobody sees, such as locks of the user's.
PATIENCE = 60.0


class Progress:
    """The tasks whose functions are being called, and the threads that wait for their memory.

    Every method is called with the engine's lock held. A thread waits only while another one goes
    on, that is, runs a task and waits neither for memory nor for tasks, and for `PATIENCE` at most
    while no task ends. So of threads that wait for each other the last one does not, and its task
    fails.

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
        self._changed = threading.Condition(lock)

    def begin(self, task: Task[Any], stack: Stack) -> None:
        """Note that the function of `task` is about to be called."""
        self.stacks[task] = stack

    def end(self, task: Task[Any]) -> None:
        """Note that the task's function is through."""
        if self.stacks.pop(task, None) is not None:
            self.ends += 1
            self._changed.notify_all()

    def note_wait(self) -> None:
        """Have those who wait for memory find out that one more thread waits."""
        self._changed.notify_all()

    def wait(self, own: Stack, ends: int, since: float) -> bool:
        """Wait a little for another task to end than `ends` have; whether that may help.

        The thread, which runs the stack `own`, has waited `since` that many had ended.
        """
        if ends != self.ends:
            return True
        own.is_stopped = True
        # Others that wait may find that nothing will be freed.
        self._changed.notify_all()
        try:
            running = [stack for task, stack in self.stacks.items() if task._state == RUNNING]
            if not any(map(_goes_on, running)) or monotonic() - since > PATIENCE:
                return False
            self._changed.wait(LOOKING_UP)
            return True
        finally:
            own.is_stopped = False


def _goes_on(stack: Stack) -> bool:
    """Whether its thread waits for nothing that is not there."""
    # Coroutines take from it what they await without the lock.
    awaited = tuple(stack.awaited)
    is_waiting = stack.arrival is not None and stack.arrival.missing > 0
    is_awaiting = awaited and all(task._state < DONE for task in awaited)
    return not (stack.is_stopped or is_waiting or is_awaiting)
