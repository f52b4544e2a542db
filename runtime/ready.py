"""Queues of tasks that are ready to run."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import Any

from darray.runtime.tasks import READY, Task

__all__ = ["Queue"]

_order = itertools.count()


class Queue:
    """Tasks by priority, and by submission within one priority.

    ``plain`` holds those of priority 0, ``ordered`` a heap of the others.
    """

    __slots__ = ("ordered", "plain")

    def __init__(self) -> None:
        self.plain: deque[Task[Any]] = deque()
        self.ordered: list[tuple[int, int, Task[Any]]] = []

    def __len__(self) -> int:
        return len(self.plain) + len(self.ordered)

    def tasks(self) -> list[Task[Any]]:
        """All of them, those that are READY no more among them."""
        return [*self.plain, *(entry[2] for entry in self.ordered)]

    def push(self, task: Task[Any]) -> None:
        """Add `task` behind those of its priority."""
        options = task._options
        if options is None or options.priority == 0:
            self.plain.append(task)
        else:
            heapq.heappush(self.ordered, (-options.priority, next(_order), task))

    def first(self) -> Task[Any] | None:
        """The next ready task, left in place; tasks that are ready no more are dropped."""
        while True:
            if self.ordered and (self.ordered[0][0] < 0 or not self.plain):
                task = self.ordered[0][2]
                if task._state == READY:
                    return task
                heapq.heappop(self.ordered)
            elif self.plain:
                task = self.plain[0]
                if task._state == READY:
                    return task
                self.plain.popleft()
            else:
                return None

    def next(self, count: int) -> list[Task[Any]]:
        """At most `count` of those that come next, about in order, left in place.

        Some may be ready no more.
        """
        ordered = [entry[2] for entry in self.ordered[:count]]
        plain = itertools.islice(self.plain, count)
        is_urgent = bool(self.ordered) and self.ordered[0][0] < 0
        found = [*ordered, *plain] if is_urgent else [*plain, *ordered]
        return found[:count]

    def drop_first(self) -> None:
        """Remove the task that `first` returned."""
        if self.ordered and (self.ordered[0][0] < 0 or not self.plain):
            heapq.heappop(self.ordered)
        else:
            self.plain.popleft()
