"""The schedule: which task runs next. Pure state, no threads and no clocks."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from darray.runtime.budget import Budget
from darray.runtime.errors import CancelledError, Failure, MemoryLimitError, SchedulingError
from darray.runtime.processor import Processor
from darray.runtime.scopes import Scope
from darray.runtime.tasks import CANCELLED, DONE, FAILED, HELD, READY, RUNNING, WAITING, Task
from darray.runtime.waiting import held_back

__all__ = ["Queue", "Schedule"]

_order = itertools.count()


class Queue:
    """Tasks by priority, and by submission within one priority.

    ``plain`` holds those of priority 0, ``ordered`` a heap of the others.
    """

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

    def drop_first(self) -> None:
        """Remove the task that `first` returned."""
        if self.ordered and (self.ordered[0][0] < 0 or not self.plain):
            heapq.heappop(self.ordered)
        else:
            self.plain.popleft()


class Schedule:
    """Tasks and what they wait for: other tasks, a processor, memory.

    Every method is called with the engine's lock held. A *seat* is the number of a
    processor in ``processors``. Signal handlers may raise between any two calls, so what
    must change together is changed by assignments that follow one another without a call.

    Invariants, checked by `_check`
    -------------------------------
    * A WAITING task is in the ``_dependents`` of ``_missing`` unfinished tasks, and
      ``_missing`` is positive.
    * A READY task is in ``shared``, in ``pinned[s]`` for every seat s of its scope, or in
      a queue of ``starved``; a queue may also hold tasks that are READY no more, which it
      drops.
    * Unless ``special`` is true, all queues but ``shared.plain`` are empty.
    * ``running`` counts the RUNNING tasks, ``outstanding`` those not finished.
    * A task with a ``memory=`` option is RUNNING only while the budget holds its bytes.
    """

    def __init__(self, processors: tuple[Processor, ...], budget: Budget) -> None:
        self.processors = processors
        self.budget = budget
        self.shared = Queue()
        self.pinned = [Queue() for _ in processors]
        # Ready tasks for which there was no memory, by their bytes and their seats.
        self.starved: dict[tuple[int, tuple[int, ...]], Queue] = {}
        # Whether tasks may be queued anywhere but in ``shared.plain``.
        self.special = False
        self.running = 0
        self.outstanding = 0
        # How many of the running tasks cannot go on before others are finished, and what
        # stands for each thread that waits from outside a task.
        self.blocked = 0
        self.waiters: set[object] = set()
        self._every = tuple(range(len(processors)))
        self._seats: dict[Scope, tuple[int, ...]] = {}

    # Taking tasks in

    def add(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> list[Task[Any]]:
        """Take a new task that needs `needs` first; the tasks that this finished."""
        if task._state != WAITING:
            if task._state != HELD:
                # Cancelled while a queue held it.
                return _NONE
            task._state = WAITING
        options = task._options
        if options is not None:
            failure = self._refusal(task)
            if failure is not None:
                self.outstanding += 1
                return self.fail(task, failure, FAILED)
        if needs:
            missing = 0
            for need in needs:
                if need._state < DONE:
                    missing += 1
                    dependents = need._dependents
                    if dependents is None:
                        need._dependents = [task]
                    else:
                        dependents.append(task)
                elif need._state != DONE:
                    self.outstanding += 1
                    return self.fail(task, need._value, need._state)
            if missing:
                task._missing = missing
                task._needs = needs
                self.outstanding += 1
                return _NONE
        task._state = READY
        self.outstanding += 1
        self.push(task)
        return _NONE

    def withdraw(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> list[Task[Any]]:
        """Undo an `add` that an exception broke off; the tasks that this finished."""
        if task._state in (READY, WAITING) and (task._state == READY or task._missing):
            return self.cancel(task)
        for need in needs or ():
            if need._dependents is not None and task in need._dependents:
                need._dependents = [one for one in need._dependents if one is not task]
        if task._state < DONE:
            task._value = Failure(self.cancellation(task))
            task._state = CANCELLED
        return [task]

    def push(self, task: Task[Any]) -> None:
        """Queue a READY task where its scope allows."""
        options = task._options
        if options is None:
            self.shared.plain.append(task)
            return
        if options.scope is None:
            self.special = self.special or options.priority != 0
            self.shared.push(task)
            return
        self.special = True
        seats = self.seats(task)
        if len(seats) == len(self.processors):
            self.shared.push(task)
            return
        for seat in seats:
            self.pinned[seat].push(task)

    def seats(self, task: Task[Any]) -> tuple[int, ...]:
        """The seats that the task's scope allows."""
        scope = None if task._options is None else task._options.scope
        if scope is None:
            return self._every
        seats = self._seats.get(scope)
        if seats is None:
            if len(self._seats) > 1000:
                # Scopes made on the fly must not be kept for ever.
                self._seats.clear()
            seats = tuple(
                seat for seat, processor in enumerate(self.processors) if processor in scope
            )
            self._seats[scope] = seats
        return seats

    def _refusal(self, task: Task[Any]) -> Failure | None:
        """Why `task` can never run, or None."""
        options = task._options
        assert options is not None
        if not self.seats(task):
            known = ", ".join(map(repr, self.processors[:8]))
            more = f" and {len(self.processors) - 8} more" if len(self.processors) > 8 else ""
            return Failure(
                SchedulingError(
                    f"task {task.name!r}, spawned at {task.spawned_at}, may run in "
                    f"{options.scope!r}, but no processor is there; there are {known}{more}"
                )
            )
        if options.memory > self.budget.limit:
            return Failure(
                MemoryLimitError(
                    f"task {task.name!r}, spawned at {task.spawned_at}, needs "
                    f"{options.memory:,} bytes, more than the {self.budget.limit:,} that the "
                    "memory limit leaves for all tasks together; use smaller Blocks, or raise "
                    "memory_limit"
                )
            )
        return None

    # Running tasks

    def take(self, seat: int) -> Task[Any] | None:
        """Begin the next task for `seat`, if there is one and there is memory for it."""
        while not self.special:
            if not self.shared.plain:
                return None
            task = self.shared.plain.popleft()
            if task._state == READY and self.begin(task, seat):
                return task
        while True:
            found = self._best(seat)
            if found is None:
                self.special = bool(self.shared or any(self.pinned) or self.starved)
                return None
            queue, task = found
            queue.drop_first()
            if self.begin(task, seat):
                return task

    def _best(self, seat: int) -> tuple[Queue, Task[Any]] | None:
        """The ready task of the greatest priority for `seat`, and the queue it is first in.

        Of equal ones, those that waited for memory come first, then those that may run
        nowhere else.
        """
        best: tuple[Queue, Task[Any]] | None = None
        greatest = 0
        for queue in (*self._fitting(seat), self.pinned[seat], self.shared):
            task = queue.first()
            if task is not None:
                priority = 0 if task._options is None else task._options.priority
                if best is None or priority > greatest:
                    best, greatest = (queue, task), priority
        return best

    def _fitting(self, seat: int | None) -> list[Queue]:
        """The queues of starved tasks that `seat`, or any seat, has memory for now."""
        if not self.starved:
            return []
        room = self.budget.room()
        fitting: list[Queue] = []
        for key, queue in list(self.starved.items()):
            if queue.first() is None:
                del self.starved[key]
            elif key[0] <= room and (seat is None or seat in key[1]):
                fitting.append(queue)
        return fitting

    def begin(self, task: Task[Any], seat: int) -> bool:
        """Make a READY task RUNNING on `seat`; where there is no memory, put it to starved."""
        options = task._options
        if options is not None and options.memory and not self.budget.admit(options.memory):
            key = (options.memory, self.seats(task))
            self.special = True
            self.starved.setdefault(key, Queue()).push(task)
            return False
        task._processor = self.processors[seat]
        task._state = RUNNING
        self.running += 1
        return True

    def has_work(self, seat: int) -> bool:
        """Whether `take` may find a task for `seat`."""
        return bool(self.shared or self.pinned[seat] or (self.starved and self._fitting(seat)))

    # Ending tasks

    def finish(self, task: Task[Any], value: Any, nbytes: int = 0) -> Task[Any] | None:
        """Store the value, of `nbytes` bytes, of a RUNNING task; one that is READY now.

        That one is in no queue: the caller begins it or pushes it.
        """
        task._value = value
        task._state = DONE
        self.running -= 1
        self.outstanding -= 1
        options = task._options
        if options is not None and options.memory:
            task._hold = self.budget.finish(options.memory, task.name, nbytes)
        dependents = task._dependents
        if dependents is None:
            return None
        task._dependents = None
        following: Task[Any] | None = None
        for dependent in dependents:
            dependent._missing -= 1
            if dependent._missing == 0 and dependent._state == WAITING:
                dependent._state = READY
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
                self.budget.finish(task._options.memory, "", 0)
        finished: list[Task[Any]] = []
        failing = [task]
        while failing:
            task = failing.pop()
            if task._state >= DONE:
                continue
            task._value = failure
            task._state = state
            task._missing = 0
            self.outstanding -= 1
            finished.append(task)
            if task._dependents is not None:
                failing.extend(reversed(task._dependents))
                task._dependents = None
        return finished

    def cancel(self, task: Task[Any]) -> list[Task[Any]]:
        """Cancel `task` if it has not begun; the tasks that this finished."""
        if task._state not in (HELD, WAITING, READY):
            return _NONE
        if task._state == HELD:
            self.outstanding += 1
        return self.fail(task, Failure(self.cancellation(task)), CANCELLED)

    def refuse_held(self, tasks: Iterable[Task[Any]]) -> None:
        """Raise `SchedulingError` where one of `tasks` needs a task that a queue holds."""
        for task in self.closure(tasks):
            if task._state == HELD:
                raise held_back(task)

    def interrupted(self, task: Task[Any]) -> list[Task[Any]]:
        """Cancel a RUNNING task, which Ctrl-C broke off; the tasks that this finished."""
        return self.fail(task, Failure(self.cancellation(task)), CANCELLED)

    def abandon(self, task: Task[Any], failure: Failure, state: int) -> list[Task[Any]]:
        """Fail a RUNNING task whose function goes on; the tasks that this finished.

        None where it keeps its processor: it is asked to stop, and goes on running.
        """
        if task._state != RUNNING:
            return _NONE
        task._asked = True
        options = task._options
        if getattr(task, "_keeps", False) or (options is not None and options.keeps):
            return _NONE
        finished = self.fail(task, failure, state)
        if options is not None and options.memory:
            # Its function holds what it was given until it returns.
            task._hold = self.budget.hold(task.name, options.memory)
        return finished

    def cancellation(self, task: Task[Any]) -> CancelledError:
        """What is raised for `task` where it is cancelled now."""
        when = "while it ran" if task._state == RUNNING else "before it ran"
        return CancelledError(
            f"task {task.name!r}, spawned at {task.spawned_at}, was cancelled {when}"
        )

    # Memory that nothing will free

    def starving(self) -> Task[Any] | None:
        """A task that waits for memory, somebody waiting, nothing running to free any.

        None while nobody waits: a task that frees memory may still be spawned.
        """
        if not self.starved or self.running != self.blocked:
            return None
        if not (self.waiters or self.blocked):
            return None
        if self.shared.first() or any(one.first() for one in self.pinned) or self._fitting(None):
            return None
        return next((queue.first() for queue in self.starved.values()), None)

    def relieve(self) -> list[Task[Any]]:
        """Fail the task that is `starving`, if one is; the tasks that this finished."""
        task = self.starving()
        if task is None:
            return _NONE
        return self.fail(task, self.no_room(task), FAILED)

    def no_room(self, task: Task[Any]) -> Failure:
        """Why `task` fails for want of memory: who holds what."""
        assert task._options is not None
        return Failure(
            MemoryLimitError(
                f"task {task.name!r}, spawned at {task.spawned_at}, needs "
                f"{task._options.memory:,} bytes, and nothing that runs will free them: of the "
                f"{self.budget.limit:,} that the memory limit leaves for tasks, "
                f"{self.budget.described()}. Let results go that are not needed, use smaller "
                "Blocks, or raise memory_limit"
            )
        )

    def queued(self) -> list[Task[Any]]:
        """Every READY task."""
        queues = (self.shared, *self.pinned, *self.starved.values())
        tasks = (
            task
            for queue in queues
            for task in (*queue.plain, *(entry[2] for entry in queue.ordered))
        )
        return [task for task in dict.fromkeys(tasks) if task._state == READY]

    def drop_queued(self) -> None:
        """Empty the queues, in which no task is READY any more."""
        for queue in (self.shared, *self.pinned):
            queue.plain.clear()
            queue.ordered.clear()
        self.starved.clear()

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
        queued = set(self.queued())
        others = (self.shared.ordered, *self.pinned, self.starved)
        assert self.special or not any(others), "special queues are announced"
        reserved = 0
        for task in tasks:
            if task._state == WAITING:
                assert task._missing > 0, "a waiting task waits for something"
                unfinished = [need for need in task._needs or () if need._state < DONE]
                assert len(unfinished) == task._missing
                assert all(task in (need._dependents or ()) for need in unfinished)
            elif task._state == READY:
                assert task in queued, "a ready task is in a queue"
                assert task._missing == 0
            elif task._state == RUNNING:
                assert task._processor in self.processors
                reserved += 0 if task._options is None else task._options.memory
            else:
                assert task._dependents is None
        assert self.budget.running == reserved, "what runs is what was admitted"
        assert self.budget.running <= self.budget.limit
        assert self.running == sum(task._state == RUNNING for task in tasks)
        assert self.outstanding == sum(task._state < DONE for task in tasks)
        assert 0 <= self.blocked <= self.running


# Returned where nothing was finished; never changed.
_NONE: list[Task[Any]] = []
