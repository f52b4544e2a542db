"""The schedule: which task runs next. Pure state, no threads and no clocks."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from darray.runtime.budget import Budget
from darray.runtime.errors import CancelledError, Failure, MemoryLimitError, SchedulingError
from darray.runtime.kinds import is_default
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

    def __len__(self) -> int:
        return len(self.plain) + len(self.ordered)

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
    * A READY task is in ``shared``, in ``pinned[s]`` for every seat s of its scope, in a
      queue of ``starved``, or in ``stranded`` until the engine fails it. A queue may also
      hold tasks that are READY no more, which it drops.
    * Tasks in ``shared`` may run on every seat but those in ``apart``, and no seat in
      ``apart`` takes them. No task begins on a seat whose processor is not ``present``.
    * Unless ``special`` is true, all queues but ``shared.plain`` are empty.
    * ``running`` counts the RUNNING tasks, ``outstanding`` those not finished.
    * A task with a ``memory=`` option is RUNNING only while the budget holds its bytes.
    """

    def __init__(self, processors: tuple[Processor, ...], budget: Budget) -> None:
        # The processors of the seats, and those of them that are there now.
        self.processors = processors
        self.present = processors
        self.budget = budget
        self.shared = Queue()
        self.pinned = [Queue() for _ in processors]
        # Ready tasks for which there was no memory, by their bytes and their seats.
        self.starved: dict[tuple[int, tuple[int, ...]], Queue] = {}
        # Ready tasks for which no processor is left.
        self.stranded: list[Task[Any]] = []
        # Seats that run only tasks whose scope asks for them, or none any more; of the
        # latter those that may still be held by a thread that runs a task.
        self.apart: set[int] = set()
        self.leaving: set[int] = set()
        # Whether tasks may be queued anywhere but in ``shared.plain``.
        self.special = False
        self.running = 0
        self.outstanding = 0
        # How many of the running tasks cannot go on before others are finished, and what
        # stands for each thread that waits from outside a task.
        self.blocked = 0
        self.waiters: set[object] = set()
        self._every: tuple[int, ...] = ()
        self._seats: dict[Scope, tuple[int, ...]] = {}
        self.reseat(processors)

    def reseat(self, present: tuple[Processor, ...]) -> None:
        """Have the processors `present` from now on, whose scopes may have changed.

        New ones are given seats, and tasks that were queued are queued where they may run
        now. What runs goes on.
        """
        queued = self.queued()
        self.drop_queued()
        there = set(present)
        before = {seat for seat, one in enumerate(self.processors) if one in self.present}
        new = tuple(one for one in present if one not in self.processors)
        self.processors += new
        self.pinned += [Queue() for _ in new]
        self.present = present
        absent = {seat for seat, one in enumerate(self.processors) if one not in there}
        self.leaving = (self.leaving | before) & absent
        self.apart = absent | {
            seat for seat, one in enumerate(self.processors) if not is_default(one.kind)
        }
        every = range(len(self.processors))
        self._every = tuple(seat for seat in every if seat not in self.apart)
        self._seats.clear()
        self.special = self.special or bool(self.leaving)
        for task in queued:
            self.push(task)

    # Taking tasks in

    def add(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> list[Task[Any]]:
        """Take a new task that needs `needs` first; the tasks that this finished."""
        if task._state != WAITING:
            if task._state != HELD:
                # Cancelled while a queue held it.
                return _NONE
            task._hold = None
            task._state = WAITING
        options = task._options
        if options is not None:
            failure = self._refusal(task)
            if failure is not None:
                self.outstanding += 1
                for need in needs or ():
                    if need._state > DONE:
                        # Where what it needs has failed, that is what its user is to hear of.
                        return self.fail(task, need._value, need._state)
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
                    self.outstanding += 1
                    return self.fail(task, need._value, need._state)
            task._needs = needs
            if missing:
                task._missing = missing
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
        if seats == self._every:
            self.shared.push(task)
            return
        if not seats:
            self.stranded.append(task)
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
            there = set(self.present)
            seats = tuple(
                seat
                for seat, processor in enumerate(self.processors)
                if processor in there and processor in scope
            )
            self._seats[scope] = seats
        return seats

    def _refusal(self, task: Task[Any]) -> Failure | None:
        """Why `task` can never run, or None."""
        options = task._options
        assert options is not None
        if options.conflict is not None:
            return Failure(
                SchedulingError(
                    f"task {task.name!r}, spawned at {task.spawned_at}, may run nowhere: "
                    f"{options.conflict}"
                )
            )
        if not self.seats(task):
            return self.nowhere(task)
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

    def nowhere(self, task: Task[Any]) -> Failure:
        """Why `task` fails for want of a processor."""
        assert task._options is not None
        known = ", ".join(map(repr, self.present[:8]))
        more = f" and {len(self.present) - 8} more" if len(self.present) > 8 else ""
        return Failure(
            SchedulingError(
                f"task {task.name!r}, spawned at {task.spawned_at}, may run in "
                f"{task._options.scope!r}, but no processor is there; there are {known}{more}; "
                "try a wider scope"
            )
        )

    def refuse_stranded(self) -> list[Task[Any]]:
        """Fail the ready tasks for which no processor is left; the tasks that this finished."""
        finished: list[Task[Any]] = []
        while self.stranded:
            task = self.stranded.pop()
            if task._state == READY:
                finished += self.fail(task, self.nowhere(task), FAILED)
        return finished

    # Running tasks

    def take(self, seat: int) -> Task[Any] | None:
        """Begin the next task for `seat`, if there is one and there is memory for it."""
        if seat in self.apart:
            self.leaving.discard(seat)
        while not self.special and seat not in self.apart:
            if not self.shared.plain:
                return None
            task = self.shared.plain.popleft()
            if task._state == READY and self.begin(task, seat):
                return task
        while True:
            found = self._best(seat)
            if found is None:
                self.special = self._is_special()
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
        for queue in (*self._fitting(seat), self.pinned[seat], *self._open(seat)):
            task = queue.first()
            if task is not None:
                priority = 0 if task._options is None else task._options.priority
                if best is None or priority > greatest:
                    best, greatest = (queue, task), priority
        return best

    def _open(self, seat: int) -> tuple[Queue, ...]:
        """The queues that `seat` takes from as others do."""
        return () if seat in self.apart else (self.shared,)

    def _is_special(self) -> bool:
        """Whether a queue other than ``shared.plain`` may hold tasks."""
        others = (self.shared.ordered, *self.pinned, self.starved, self.stranded)
        return any(others) or bool(self.leaving)

    def _queues(self) -> tuple[Queue, ...]:
        """Every queue but those of starved tasks."""
        return (self.shared, *self.pinned)

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
        return bool(
            (self.shared and seat not in self.apart)
            or self.pinned[seat]
            or (self.starved and self._fitting(seat))
        )

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
            task._hold = None
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
        if any(one.first() for one in self._queues()) or self._fitting(None):
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
        queues = (*self._queues(), *self.starved.values())
        tasks = (
            task
            for queue in queues
            for task in (*queue.plain, *(entry[2] for entry in queue.ordered))
        )
        every = dict.fromkeys((*tasks, *self.stranded))
        return [task for task in every if task._state == READY]

    def drop_queued(self) -> None:
        """Empty the queues, in which no task is READY any more."""
        for queue in self._queues():
            queue.plain.clear()
            queue.ordered.clear()
        self.starved.clear()
        self.stranded.clear()

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
        others = (self.shared.ordered, *self.pinned, self.starved, self.stranded)
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
                assert (task in self.stranded) == (not self.seats(task))
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
