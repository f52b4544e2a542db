"""The memory budget: which tasks may begin, given the bytes they will hold."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from darray.runtime.spilling import SMALLEST, is_storable
from darray.runtime.tasks import Task

__all__ = ["Budget", "Hold", "in_force", "make_room", "makers_of_room"]

# Called without arguments and with no lock held, before a task with a ``memory=`` option runs:
# who keeps memory that is not in the budget lets go of what tasks leave no room for.
makers_of_room: list[Callable[[], object]] = []

# The budget that was made last, while its engine is there.
_latest: weakref.ref[Budget] | None = None


def in_force() -> Budget | None:
    """The budget of the engine in use, if one was started.

    Without the engine's lock its numbers are read as they are just then.
    """
    return None if _latest is None else _latest()


def make_room() -> None:
    """Let those who keep memory make room for a task that was admitted."""
    for make in makers_of_room:
        make()


class Released(deque[int]):
    """The numbers of holds that were dropped, for a budget to read at its next admission.

    ``tell`` is called without arguments for each of them, by a finaliser.
    """

    tell: Callable[[], object] | None = None


class Hold:
    """Bytes of a finished task's result, given back when the task's handle is dropped."""

    __slots__ = ("_released", "number")

    def __init__(self, number: int, released: Released) -> None:
        self.number = number
        self._released = released

    def __del__(self) -> None:
        # May run on any thread at any moment, also while that thread holds the engine's
        # lock, so it only leaves word.
        self._released.append(self.number)
        tell = self._released.tell
        if tell is not None:
            tell()


# So that holds of all budgets have numbers of their own.
_numbers = itertools.count()


class Budget:
    """Bytes that tasks with a ``memory=`` option hold, kept within a limit.

    Touched only under the engine's lock, but for `Hold`.

    Invariants
    ----------
    * ``running`` is the sum of what the admitted, unfinished tasks asked for.
    * ``held`` is the sum of ``holders``: what finished tasks' results hold, those named in
      ``released`` included.
    * ``running + held <= limit`` after every admission. What another engine's results hold is
      counted from the beginning, and may alone be more.
    * ``candidates`` are some of the living holds, each with the task of the result.
    """

    def __init__(self, limit: int, tell: Callable[[], object] | None = None) -> None:
        self.limit = limit
        self.running = 0
        self.held = 0
        # Name and bytes of each living hold.
        self.holders: dict[int, tuple[str, int]] = {}
        # Those of results that may be written to disk instead.
        self.candidates: dict[int, weakref.ref[Task[Any]]] = {}
        # The tasks whose results are on their way there, and the bytes of these; whether any
        # went, and why the last one that could not get there did not.
        self.moving: dict[Task[Any], int] = {}
        self.has_spilled = False
        self.spill_failure = ""
        # Where its own holds leave word, and those that it took over.
        self.released = [Released()]
        self._tell = self.released[0].tell = tell
        # The budget that took over from this one, and what results hold of tasks that ended since
        # one was taken over: their threads leave word like finalisers, without the lock.
        self._successor: Budget | None = None
        self._late: deque[tuple[int, str, int, weakref.ref[Task[Any]] | None]] = deque()
        global _latest
        _latest = weakref.ref(self)

    def room(self) -> int:
        """Bytes that could be admitted now."""
        self._read_late()
        for released in self.released:
            while released:
                number = released.popleft()
                if number not in self.holders:
                    # It ended, and was dropped, since.
                    self._read_late()
                self.held -= self.holders.pop(number, ("", 0))[1]
                self.candidates.pop(number, None)
        return self.limit - self.running - self.held

    def admit(self, nbytes: int) -> bool:
        """Reserve `nbytes` if there is room; whether there was."""
        if nbytes > self.room():
            return False
        self.running += nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """Give a reservation of `nbytes` back."""
        self.running -= nbytes

    def hold(self, name: str, nbytes: int, task: Task[Any] | None = None) -> Hold:
        """Count `nbytes` for task `name`, which is finished, until the `Hold` is dropped.

        Where a `task` is given they are those of its value.
        """
        number = next(_numbers)
        is_candidate = task is not None and nbytes >= SMALLEST and is_storable(task._value)
        ref = weakref.ref(task) if task is not None and is_candidate else None
        if self._successor is not None:
            return self._successor._hold_late(number, name, nbytes, ref)
        self._note(number, name, nbytes, ref)
        return Hold(number, self.released[0])

    def _hold_late(
        self, number: int, name: str, nbytes: int, ref: weakref.ref[Task[Any]] | None
    ) -> Hold:
        if self._successor is not None:
            return self._successor._hold_late(number, name, nbytes, ref)
        self._late.append((number, name, nbytes, ref))
        return Hold(number, self.released[0])

    def _read_late(self) -> None:
        while self._late:
            self._note(*self._late.popleft())

    def _note(
        self, number: int, name: str, nbytes: int, ref: weakref.ref[Task[Any]] | None
    ) -> None:
        self.held += nbytes
        self.holders[number] = (name, nbytes)
        if ref is not None:
            self.candidates[number] = ref

    def take_over(self, former: Budget) -> None:
        """Count what the results hold that `former` counted, whose engine is closed.

        Called with the locks of both engines.
        """
        former._successor = self
        while former._late:
            self._late.append(former._late.popleft())
        # Without those that nobody uses there would be more of them with every engine.
        own = self.released if self.holders else []
        self.released = [*own, *former.released]
        for released in former.released:
            released.tell = self._tell
        self.held += former.held
        self.holders.update(former.holders)
        self.candidates.update(former.candidates)
        self.has_spilled |= former.has_spilled
        former.held, former.holders, former.candidates = 0, {}, {}
        former.released = [Released()]

    def counted(self) -> tuple[int, int]:
        """Bytes of running tasks and of results that are there now; asked without the lock."""
        words = [number for released in self.released.copy() for number in released.copy()]
        gone = [self.holders.get(number, ("", 0))[1] for number in words]
        late = [nbytes for _, _, nbytes, _ in self._late.copy()]
        return self.running, self.held + sum(late) - sum(gone)

    def described(self) -> str:
        """Who holds how much, the greatest first."""
        total: dict[str, tuple[int, int]] = {}
        for name, nbytes in self.holders.values():
            count, so_far = total.get(name, (0, 0))
            total[name] = (count + 1, so_far + nbytes)
        greatest = sorted(total.items(), key=lambda item: -item[1][1])
        parts = [
            f"{count} result(s) of {name!r} hold {nbytes:,}"
            for name, (count, nbytes) in greatest[:4]
        ]
        if len(greatest) > 4:
            rest = sum(nbytes for _, (_, nbytes) in greatest[4:])
            parts.append(f"results of other tasks hold {rest:,}")
        if self.running:
            parts.append(f"tasks that have begun hold {self.running:,}")
        return ", ".join(parts) or "nothing is held"

    def _check(self) -> None:
        self._read_late()
        assert self.running >= 0, "more was given back than was reserved"
        assert self.held == sum(nbytes for _, nbytes in self.holders.values())
        assert all(number in self.holders for released in self.released for number in released)
        assert set(self.candidates) <= set(self.holders)
        assert self.has_spilled or not self.moving
