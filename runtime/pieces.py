"""Pieces: which tasks use which piece of a shard, or any other thing in turn, right now."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any

from darray.runtime.processor import Processor
from darray.runtime.tasks import DONE, READY, RUNNING, Task

__all__ = ["Pieces", "Turn", "check_shared", "is_free", "users_in_the_way", "waits_for_turn"]


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


class Turn:
    """Which of the tasks that use one thing alone, in any order, is next, and which wait.

    A task is next from when it could begin until it is finished, however it ends. Changed under
    the lock of the engine that has the tasks.

    Invariants, checked by `_check`
    -------------------------------
    * ``user`` is a task that is READY, in a queue, or RUNNING; none waits if there is no user.
    * ``waiting`` has every READY task that could begin but for this turn, and perhaps some that
      are no longer READY or wait for another turn now.
    """

    __slots__ = ("owner", "user", "waiting")

    def __init__(self) -> None:
        # The schedule that has the tasks.
        self.owner: Any = None
        self.user: Task[Any] | None = None
        self.waiting: deque[Task[Any]] = deque()

    def __bool__(self) -> bool:
        return self.user is not None

    def pass_on(self, task: Task[Any]) -> None:
        """Let the next task have the turn if `task`, which is finished, had it."""
        if self.user is not task:
            return
        self.user = None
        while self.waiting and not self:
            following = self.waiting.popleft()
            if following._state == READY:
                self.owner.release(following)

    def _check(self) -> None:
        user = self.user
        assert user is None or READY <= user._state < DONE, "who has the turn is not finished"
        assert user is not None or not any(one._state == READY for one in self.waiting)


def waits_for_turn(task: Task[Any], in_turn: dict[Task[Any], None]) -> bool:
    """Have `task`, which could begin, be next in all its turns; else it waits for one of them.

    All or none, so that no two tasks wait for each other. Those that wait are kept `in_turn`.
    """
    for turn in task._turns:
        if turn.user is not None and turn.user is not task:
            turn.waiting.append(task)
            in_turn[task] = None
            return True
    for turn in task._turns:
        turn.user = task
    in_turn.pop(task, None)
    return False


def users_in_the_way(
    pieces: Iterable[tuple[Pieces, bool]], processor: Processor
) -> list[Task[Any]]:
    """Those that must end before a task on `processor` uses `pieces`, or writes them."""
    return [task for one, writes in pieces for task in one.in_the_way(processor, writes)]


def is_free(task: Task[Any], processor: Processor) -> bool:
    """Whether `task` could begin on `processor` as far as what it shares with others goes."""
    pieces = getattr(task, "_pieces", {}).items()
    return _is_next(task) and not users_in_the_way(pieces, processor)


def _is_next(task: Task[Any]) -> bool:
    return not hasattr(task, "_turns") or all([turn.user is task for turn in task._turns])


def check_shared(task: Task[Any], is_queued: bool, is_in_turn: bool) -> None:
    """Assert what holds of the pieces and turns of `task`, which is in a queue or not."""
    assert is_in_turn == (task._state == READY and not _is_next(task))
    turns = getattr(task, "_turns", ())
    if task._state == READY:
        waits = any(task in turn.waiting for turn in turns)
        assert is_queued if _is_next(task) else waits, "a ready task is in a queue"
    if task._state == RUNNING:
        assert _is_next(task), "who runs has its turns"
    for turn in turns:
        turn._check()
    for pieces in getattr(task, "_pieces", ()):
        is_user = any(task in users for users in pieces._users.values())
        assert is_user == (task._state == RUNNING), "who runs uses its piece"
        pieces._check()
