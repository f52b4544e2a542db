"""Turns: which tasks a new one has to follow that uses the same value in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from darray.runtime.tasks import DONE, Task

__all__ = ["READING", "Line", "conflict", "follow_instead", "leave", "line_up", "related"]

# What tasks that only read have in common: they use a value side by side.
READING = "reading"


class _Party:
    """Tasks that use a value side by side, or one that uses it alone."""

    __slots__ = ("share", "tasks")

    def __init__(self, share: object) -> None:
        self.share = share
        self.tasks: dict[Task[Any], None] = {}


class Line:
    """The unfinished tasks that use one value in place, in the order in which they may.

    A task uses it under a *share*: None for one that uses it alone; any other object for those
    that use it side by side with all that have the same share and stand next to them: those
    that read, and the tasks of one region, which orders them itself.

    Changed under the lock of the engine that has the tasks. A signal may break a change off;
    what is left then is left by the task all the same.

    Invariants, checked by `_check`
    -------------------------------
    * Every unfinished task of the line is in one party, and no other is, but where a signal
      came between; an unfinished task of one party waits, perhaps through others, for all
      those of earlier parties whose share differs.
    """

    __slots__ = ("_parties", "_party_of", "owner")

    def __init__(self) -> None:
        # The schedule that has the tasks.
        self.owner: object = None
        self._parties: dict[_Party, None] = {}
        self._party_of: dict[Task[Any], _Party] = {}

    def __bool__(self) -> bool:
        return any(task._state < DONE for task in self._party_of)

    def ahead(self, share: object) -> Iterator[Task[Any]]:
        """The unfinished tasks that one which comes now, under `share`, follows directly."""
        nearest: _Party | None = None
        for party in reversed(self._parties):
            if nearest is None:
                if share is not None and party.share is share:
                    continue
            elif nearest.share is None or party.share is not nearest.share:
                return
            unfinished = [task for task in party.tasks if task._state < DONE]
            if unfinished:
                nearest = party
                yield from unfinished

    def enter(self, task: Task[Any], share: object) -> None:
        """Add `task`, which follows those `ahead`."""
        party = next(reversed(self._parties), None)
        if party is None or share is None or party.share is not share:
            party = _Party(share)
        self._party_of[task] = party
        self._parties[party] = None
        party.tasks[task] = None

    def leave(self, task: Task[Any]) -> None:
        """Remove `task`, which is finished."""
        party = self._party_of.get(task)
        if party is not None:
            party.tasks.pop(task, None)
            if not party.tasks:
                self._parties.pop(party, None)
            del self._party_of[task]

    def _check(self) -> None:
        seen: list[tuple[object, Task[Any]]] = []
        for party in self._parties:
            assert party.share is not None or len(party.tasks) <= 1, "who is alone is alone"
            unfinished = [task for task in party.tasks if task._state < DONE]
            for task in unfinished:
                assert self._party_of[task] is party
                earlier = [one for share, one in seen if share is None or share is not party.share]
                assert not earlier or set(earlier) <= _needed(task), "a task follows all ahead"
            seen += [(party.share, task) for task in unfinished]


def _needed(task: Task[Any]) -> set[Task[Any]]:
    """All tasks that `task` needs, also through others."""
    found: set[Task[Any]] = set()
    pending = list(task._needs or ())
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(one._needs or ())
    return found


def related(one: Task[Any], other: Task[Any]) -> bool:
    """Whether two tasks, the second of which has uses, use the same value in place."""
    uses = getattr(one, "_uses", None)
    return uses is not None and any(line in other._uses for line in uses)


def conflict(one: Task[Any], other: Task[Any]) -> bool:
    """Whether two tasks that have uses may not use what they have in common side by side."""
    return any(
        share is None or other._uses[line] is not share
        for line, share in one._uses.items()
        if line in other._uses
    )


def line_up(task: Task[Any], needs: Sequence[Task[Any]]) -> list[Task[Any]]:
    """Let `task` stand in the lines of what it uses in place; all that it waits for."""
    uses = task._uses.items()
    task._after = {
        one: None for line, share in uses for one in line.ahead(share) if one not in needs
    }
    for line, share in uses:
        line.enter(task, share)
    return [*needs, *task._after]


def leave(task: Task[Any]) -> None:
    """Take a finished task from the lines it stands in, and from its pieces of shards."""
    if hasattr(task, "_uses"):
        for line in task._uses:
            line.leave(task)
        del task._uses
        if hasattr(task, "_after"):
            # It would keep those alive that it followed.
            del task._after
    if hasattr(task, "_pieces"):
        if hasattr(task, "_processor"):
            for pieces in task._pieces:
                pieces.leave(task, task._processor)
        del task._pieces


def follow_instead(task: Task[Any], ended: Task[Any]) -> None:
    """Let `task`, a WAITING one, no longer follow `ended`, which failed or was cancelled.

    Where that did not begin, `task` follows those instead that `ended` waited for.
    """
    needs = task._needs or ()
    inherited: dict[Task[Any], None] = {}
    pending = list(ended._needs or ())
    while pending:
        one = pending.pop()
        if one._state >= DONE or one in inherited or not related(one, task):
            continue
        if not conflict(one, task):
            pending.extend(one._needs or ())
        elif one not in needs:
            inherited[one] = None
    for one in inherited:
        one._dependents = [*(one._dependents or ()), task]
    del task._after[ended]
    task._after.update(inherited)
    task._needs = [*(one for one in needs if one is not ended), *inherited]
    task._missing += len(inherited) - 1
