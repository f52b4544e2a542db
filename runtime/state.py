"""The schedule: which task runs next. Pure state, no threads and no clocks."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from darray.runtime.budget import Budget
from darray.runtime.errors import CancelledError, Failure, MemoryLimitError, SchedulingError
from darray.runtime.processor import Processor
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, RUNNING, WAITING, Task

__all__ = ["Queue", "Schedule"]

_order = itertools.count()


class Queue:
    """Tasks by priority, and by submission within one priority."""

    __slots__ = ("ordered", "plain")

    def __init__(self) -> None:
        self.plain: deque[Task[Any]] = deque()
        self.ordered: list[tuple[int, int, Task[Any]]] = []

    def __bool__(self) -> bool:
        return bool(self.plain or self.ordered)

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

    def pop(self) -> Task[Any] | None:
        """Remove and return the next ready task."""
        while True:
            if self.ordered and (self.ordered[0][0] < 0 or not self.plain):
                task = heapq.heappop(self.ordered)[2]
            elif self.plain:
                task = self.plain.popleft()
            else:
                return None
            if task._state == READY:
                return task


class Schedule:
    """Tasks and what they wait for: other tasks, a processor, memory.

    Every method is called with the engine's lock held. A *seat* is the number of a
    processor in ``processors``.

    Invariants, checked by `_check`
    -------------------------------
    * A WAITING task is in the ``_dependents`` of ``_missing`` unfinished tasks, and
      ``_missing`` is positive.
    * A READY task is in ``shared``, in ``pinned[s]`` for every seat s of its scope, or in
      ``starved``; a queue may also hold tasks that are READY no more, which it drops.
    * ``running`` counts the RUNNING tasks, ``outstanding`` those not finished.
    * A task with a ``memory=`` option is RUNNING only while the budget holds its bytes.
    """

    def __init__(
        self,
        processors: tuple[Processor, ...],
        budget: Budget,
        measure: Callable[[Any], int],
    ) -> None:
        self.processors = processors
        self.budget = budget
        self.measure = measure
        self.shared = Queue()
        self.pinned = [Queue() for _ in processors]
        self.starved = Queue()
        self.running = 0
        # Running tasks that gave their processor up to wait, and threads that wait from
        # outside a task.
        self.blocked = 0
        self.waiters = 0
        self.outstanding = 0

    def add(self, task: Task[Any], needs: list[Task[Any]] | None) -> list[Task[Any]]:
        """Take a new task that needs `needs` first; the tasks that this finished."""
        self.outstanding += 1
        if task._options is not None and task._options.scope is not None:
            failure = self.unplaceable(task)
            if failure is not None:
                return self.fail(task, failure, FAILED)
        if needs:
            missing = 0
            for need in needs:
                if need._state < DONE:
                    missing += 1
                    if need._dependents is None:
                        need._dependents = [task]
                    else:
                        need._dependents.append(task)
                elif need._state != DONE:
                    return self.fail(task, need._value, need._state)
            if missing:
                task._missing = missing
                task._needs = needs
                return _NONE
        task._state = READY
        if task._options is None:
            self.shared.plain.append(task)
        else:
            self.push(task)
        return _NONE

    def push(self, task: Task[Any]) -> None:
        """Queue a READY task where its scope allows."""
        options = task._options
        if options is None or options.scope is None:
            self.shared.push(task)
            return
        seats = self.seats(task)
        if len(seats) == len(self.processors):
            self.shared.push(task)
            return
        for seat in seats:
            self.pinned[seat].push(task)

    def unplaceable(self, task: Task[Any]) -> Failure | None:
        """Why no processor may run `task`, or None."""
        if self.seats(task):
            return None
        assert task._options is not None
        return Failure(
            SchedulingError(
                f"task {task.name!r}, spawned at {task.spawned_at}, may run in "
                f"{task._options.scope!r}, but no processor there is; there are "
                f"{', '.join(map(repr, self.processors))}"
            ),
            None,
        )

    def seats(self, task: Task[Any]) -> list[int]:
        """The seats that the task's scope allows."""
        scope = None if task._options is None else task._options.scope
        return [
            seat
            for seat, processor in enumerate(self.processors)
            if scope is None or processor in scope
        ]

    def take(self, seat: int) -> Task[Any] | None:
        """Begin the next task for `seat`, if there is one and there is memory for it."""
        head = self.starved.first()
        if head is not None and seat in self.seats(head) and self.begin(head, seat):
            return head
        pinned = self.pinned[seat]
        while True:
            task = (pinned.pop() if pinned else None) or self.shared.pop()
            if task is None or self.begin(task, seat):
                return task
            self.starved.push(task)

    def begin(self, task: Task[Any], seat: int) -> bool:
        """Make a READY task RUNNING on `seat`, unless the budget has no room for it."""
        options = task._options
        if options is not None and options.memory and not self.budget.admit(options.memory):
            return False
        task._state = RUNNING
        task._processor = self.processors[seat]
        self.running += 1
        return True

    def finish(self, task: Task[Any], value: Any) -> Task[Any] | None:
        """Store the value of a RUNNING task; one task to run next, if it made one ready."""
        task._value = value
        task._state = DONE
        task._call = task._needs = None
        self.running -= 1
        self.outstanding -= 1
        options = task._options
        if options is not None and options.memory:
            task._hold = self.budget.finish(options.memory, self.measure(value))
        dependents = task._dependents
        if dependents is None:
            return None
        task._dependents = None
        following: Task[Any] | None = None
        for dependent in dependents:
            dependent._missing -= 1
            if dependent._missing == 0 and dependent._state == WAITING:
                dependent._state = READY
                dependent._needs = None
                if following is None and dependent._options is None:
                    following = dependent
                else:
                    self.push(dependent)
        return following

    def fail(self, task: Task[Any], failure: Failure, state: int) -> list[Task[Any]]:
        """Fail `task` and all that need it, at once; the tasks that this finished."""
        if task._state == RUNNING:
            self.running -= 1
            if task._options is not None and task._options.memory:
                self.budget.finish(task._options.memory, 0)
        finished: list[Task[Any]] = []
        failing = [task]
        while failing:
            task = failing.pop()
            if task._state >= DONE:
                continue
            task._value = failure
            task._state = state
            task._missing = 0
            task._call = task._needs = None
            self.outstanding -= 1
            finished.append(task)
            if task._dependents is not None:
                failing.extend(reversed(task._dependents))
                task._dependents = None
        return finished

    def cancel(self, task: Task[Any]) -> list[Task[Any]]:
        """Cancel `task` if it has not begun; the tasks that this finished."""
        if task._state not in (WAITING, READY):
            return _NONE
        error = CancelledError(
            f"task {task.name!r}, spawned at {task.spawned_at}, was cancelled before it ran"
        )
        return self.fail(task, Failure(error, None), CANCELLED)

    def relieve(self) -> list[Task[Any]]:
        """Fail tasks that wait for memory which nothing will free; what this finished.

        Nothing fails while nobody waits: a task that frees memory may still be spawned.
        """
        finished: list[Task[Any]] = []
        while self.running == self.blocked and self.waiters + self.blocked:
            task = self.starved.first()
            if task is None or self.shared.first() or any(one.first() for one in self.pinned):
                break
            if self.budget.admit(task._options.memory):
                self.budget.running -= task._options.memory
                break
            finished.extend(self.fail(task, self._starvation(task), FAILED))
        return finished

    def _starvation(self, task: Task[Any]) -> Failure:
        """Why there is no memory for `task`."""
        budget = self.budget
        assert task._options is not None
        error = MemoryLimitError(
            f"task {task.name!r}, spawned at {task.spawned_at}, needs {task._options.memory:,} "
            f"bytes; of the {budget.limit:,} that the memory limit leaves for tasks, finished "
            f"results hold {budget.held:,} and tasks that wait hold {budget.running:,}. Let "
            "results go that are not needed, use smaller Blocks, or raise memory_limit"
        )
        return Failure(error, None)

    def has_work(self, seat: int) -> bool:
        """Whether `take` may find a task for `seat`."""
        return bool(self.shared or self.pinned[seat] or self.starved)

    @staticmethod
    def closure(tasks: Iterable[Task[Any]]) -> list[Task[Any]]:
        """The unfinished tasks among `tasks` and all that they need, the needed ones last."""
        found: dict[Task[Any], None] = {}
        pending = list(tasks)
        while pending:
            task = pending.pop()
            if task._state < DONE and task not in found:
                found[task] = None
                if task._needs is not None:
                    pending.extend(task._needs)
        return list(found)

    def _check(self, tasks: Iterable[Task[Any]]) -> None:
        """Assert the invariants, given all the tasks that were ever added."""
        tasks = list(tasks)
        self.budget._check()
        queued = {id(task) for queue in (self.shared, *self.pinned, self.starved)
                  for task in (*queue.plain, *(entry[2] for entry in queue.ordered))}
        for task in tasks:
            if task._state == WAITING:
                assert task._missing > 0, "a waiting task waits for something"
                unfinished = [need for need in task._needs or () if need._state < DONE]
                assert len(unfinished) == task._missing
                assert all(task in (need._dependents or ()) for need in unfinished)
            elif task._state == READY:
                assert id(task) in queued, "a ready task is in a queue"
            elif task._state >= DONE:
                assert task._call is None and task._needs is None and task._dependents is None
        assert self.running == sum(task._state == RUNNING for task in tasks)
        assert self.outstanding == sum(task._state < DONE for task in tasks)


# Returned where nothing was finished; never changed.
_NONE: list[Task[Any]] = []
