"""Turns: which tasks a new one has to follow that uses the same value in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darray.runtime.tasks import DONE, WAITING, Task

__all__ = ["READING", "Line", "leave", "line_up", "pass_over"]

# What tasks that only read have in common: they use a value side by side.
READING = "reading"


class _Party:
    """Tasks that use a value side by side, or one that uses it alone; linked to its neighbours."""

    __slots__ = ("after", "before", "share", "tasks")

    def __init__(self, share: object, before: _Party | None) -> None:
        self.share = share
        self.before = before
        self.after: _Party | None = None
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
      came between. Parties with the same share are not neighbours.
    * An unfinished task needs, or follows, all those of the party before its own.
    """

    __slots__ = ("_last", "_party_of", "owner")

    def __init__(self) -> None:
        # The schedule that has the tasks.
        self.owner: object = None
        self._last: _Party | None = None
        self._party_of: dict[Task[Any], _Party] = {}

    def __bool__(self) -> bool:
        return any(task._state < DONE for task in self._party_of)

    def ahead(self, share: object) -> list[Task[Any]]:
        """The unfinished tasks that one which comes now, under `share`, follows directly."""
        party = self._last
        if party is not None and share is not None and party.share is share:
            party = party.before
        return [] if party is None else [task for task in party.tasks if task._state < DONE]

    def enter(self, task: Task[Any], share: object) -> None:
        """Add `task`, which follows those `ahead`."""
        last = party = self._last
        if party is None or share is None or party.share is not share:
            party = _Party(share, last)
        self._party_of[task] = party
        party.tasks[task] = None
        if party is not last:
            if last is not None:
                last.after = party
            self._last = party

    def leave(self, task: Task[Any]) -> None:
        """Remove `task`, which is finished."""
        party = self._party_of.get(task)
        if party is None:
            return
        party.tasks.pop(task, None)
        if not party.tasks:
            self._unlink(party)
        del self._party_of[task]

    def _unlink(self, party: _Party) -> None:
        before, after = party.before, party.after
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before
        else:
            self._last = before
        party.before = party.after = None
        if before is None or after is None:
            return
        if before.share is not None and before.share is after.share:
            self._unite(before, after)
        else:
            _follow_all(after, before)

    def _unite(self, before: _Party, after: _Party) -> None:
        """Make one party of two that came to be neighbours.

        So it is where one between them was cancelled. What follows the second now follows both,
        and both follow what the first does.
        """
        following = before.after = after.after
        if following is None:
            self._last = before
        else:
            following.before = before
            _follow_all(following, before)
        if before.before is not None:
            _follow_all(after, before.before)
        for task in after.tasks:
            self._party_of[task] = before
        before.tasks.update(after.tasks)

    def _check(self) -> None:
        parties: list[_Party] = []
        party = self._last
        while party is not None:
            parties.append(party)
            assert party.before is None or party.before.after is party
            party = party.before
        for party in parties:
            assert party.share is not None or len(party.tasks) <= 1, "who is alone is alone"
            if party.before is not None and party.share is not None:
                assert party.before.share is not party.share
            unfinished = [task for task in party.tasks if task._state < DONE]
            ahead = set() if party.before is None else set(party.before.tasks)
            ahead = {one for one in ahead if one._state < DONE}
            for task in unfinished:
                assert self._party_of[task] is party
                assert not ahead or ahead <= set(task._needs or ()), "a task follows those ahead"


def _follow_all(party: _Party, before: _Party) -> None:
    """Let the tasks of `party`, which are WAITING, follow those of `before` as well."""
    for one in before.tasks:
        for task in party.tasks:
            if task._state == WAITING and one._state < DONE and one not in (task._needs or ()):
                one._dependents = [*(one._dependents or ()), task]
                task._after[one] = None
                task._needs = [*(task._needs or ()), one]
                task._missing += 1


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
    """Take a finished task from the lines it stands in, its pieces of shards, and its turns."""
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
    if hasattr(task, "_turns"):
        turns = task._turns
        del task._turns
        for turn in turns:
            turn.pass_on(task)


def pass_over(task: Task[Any], ended: Task[Any]) -> None:
    """Let `task`, a WAITING one, no longer follow `ended`, which has left their lines."""
    del task._after[ended]
    task._needs = [one for one in task._needs or () if one is not ended]
    task._missing -= 1
