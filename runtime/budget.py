"""The memory budget: which tasks may begin, given the bytes they will hold."""

from __future__ import annotations

from collections import deque

__all__ = ["Budget", "Hold"]


class Hold:
    """Bytes of a finished task's result, given back when the task's handle is dropped."""

    __slots__ = ("_released", "nbytes")

    def __init__(self, nbytes: int, released: deque[int]) -> None:
        self.nbytes = nbytes
        self._released = released

    def __del__(self) -> None:
        # May run on any thread at any moment, also while that thread holds the engine's
        # lock, so it only leaves word; the budget reads it at the next admission.
        self._released.append(self.nbytes)


class Budget:
    """Bytes that tasks with a ``memory=`` option hold, kept within a limit.

    Touched only under the engine's lock, but for `Hold`.

    Invariants
    ----------
    * ``running`` is the sum of what the admitted, unfinished tasks asked for.
    * ``held`` is the sum of the living `Hold` objects and of those in ``released``.
    * ``running + held <= limit`` after every admission.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.held = 0
        self.released: deque[int] = deque()

    def admit(self, nbytes: int) -> bool:
        """Reserve `nbytes` if there is room; whether there was."""
        while self.released:
            self.held -= self.released.popleft()
        if self.running + self.held + nbytes > self.limit:
            return False
        self.running += nbytes
        return True

    def finish(self, nbytes: int, result_nbytes: int) -> Hold | None:
        """Give a reservation of `nbytes` back, but for the task's result."""
        self.running -= nbytes
        if not result_nbytes:
            return None
        self.held += result_nbytes
        return Hold(result_nbytes, self.released)

    def _check(self) -> None:
        assert self.running >= 0, "more was given back than was reserved"
        assert self.held >= sum(self.released), "more was released than was held"
