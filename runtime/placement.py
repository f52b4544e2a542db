"""Placement: which of several workers a task is queued for: where its bytes are, then load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

from darray.runtime.budget import Budget
from darray.runtime.errors import Failure
from darray.runtime.pieces import waits_for_turn
from darray.runtime.processor import Processor
from darray.runtime.ready import Queue
from darray.runtime.spaces import Placed, space_of
from darray.runtime.state import Schedule
from darray.runtime.tasks import READY, RUNNING, Task

__all__ = ["PlacingSchedule"]

# Seconds that moving a byte takes, and moving anything at all.
PER_BYTE = 1e-9
PER_MOVE = 1e-4

# Seconds after which a processor looks again at a task that it left to another worker.
SOONEST, LATEST = 1e-3, 0.1

# Seconds that a task is taken to run before any has, and how fast that follows what is seen.
FIRST_GUESS = 1e-3
WEIGHT = 0.1


class PlacingSchedule(Schedule):
    """A schedule of several workers, each with a queue of its own.

    A task that becomes READY is queued for the worker where it would begin soonest: moving
    what it needs takes time, and so do the tasks that the worker has. A processor without work
    takes a task of another worker where that would have to wait longer than the move takes, which
    is looked at again as long as it waits.

    Invariants, checked by `_check`
    -------------------------------
    * Those of `Schedule`, but that a READY task is in ``local`` of one worker, in
      ``pinned[s]`` for seats s of its scope, or in a queue of ``starved``.
    * ``busy`` counts the RUNNING tasks of each worker.
    """

    def __init__(self, processors: tuple[Processor, ...], budget: Budget) -> None:
        self.local: dict[int, Queue] = {}
        self.busy: dict[int, int] = {}
        self._mean = FIRST_GUESS
        self._began: dict[Task[Any], float] = {}
        super().__init__(processors, budget)
        self.special = True

    def reseat(self, present: tuple[Processor, ...]) -> None:
        """Have the processors `present` from now on, whose scopes may have changed."""
        for one in present:
            self.local.setdefault(one.worker, Queue())
            self.busy.setdefault(one.worker, 0)
        super().reseat(present)

    # Where tasks are queued

    def push(self, task: Task[Any]) -> None:
        """Queue a READY task for the worker where it would begin soonest."""
        if hasattr(task, "_turns") and waits_for_turn(task, self.in_turn):
            return
        seats = self.seats(task)
        if not seats or hasattr(task, "_pieces"):
            # It runs where a piece is free.
            super().push(task)
            return
        workers = {self.processors[seat].worker for seat in seats}
        worker = min(workers, key=lambda one: (self.delay(task, one), self._load(one), one))
        own = [seat for seat in seats if self.processors[seat].worker == worker]
        if all(seat not in self.apart for seat in own) and len(own) == self._width(worker):
            self.local[worker].push(task)
            return
        bound = any(isinstance(need._value, Placed) for need in task._needs or ())
        for seat in own if bound else seats:
            self.pinned[seat].push(task)

    def delay(self, task: Task[Any], worker: int) -> float:
        """Seconds until the task would begin on a worker, as far as can be told."""
        return self._moving(task, worker) + self._waiting(worker)

    def _moving(self, task: Task[Any], worker: int) -> float:
        nbytes = moves = 0
        origin = getattr(task, "_origin", None)
        if origin is not None and origin.space.worker != worker:
            nbytes += origin.nbytes
            moves += 1
        for need in task._needs or ():
            value = need._value
            if value.__class__ is Placed and not value.is_at(worker):
                nbytes += value.nbytes
                moves += 1
        return nbytes * PER_BYTE + moves * PER_MOVE

    def _waiting(self, worker: int) -> float:
        before = len(self.local[worker]) + self.busy[worker]
        width = self._width(worker)
        return (before - width + 1) / width * self._expected(worker) if before >= width else 0.0

    def _expected(self, worker: int) -> float:
        """Seconds until the first of a worker's tasks ends: those that run long go on for long."""
        began = [since for task, since in self._began.items() if task._processor.worker == worker]
        return max(self._mean, perf_counter() - max(began)) if began else self._mean

    def _width(self, worker: int) -> int:
        """How many processors of a worker tasks use unasked, but one at least."""
        return max(1, sum(self.processors[seat].worker == worker for seat in self._every))

    def _load(self, worker: int) -> float:
        return (len(self.local[worker]) + self.busy[worker]) / self._width(worker)

    # What a seat takes

    def _is_special(self) -> bool:
        return True

    def queues(self) -> tuple[Queue, ...]:
        """Every queue but those of starved tasks."""
        return (*super().queues(), *self.local.values())

    def _common(self, seat: int) -> tuple[Queue, ...]:
        if seat in self.apart:
            return ()
        own = self.local[self.processors[seat].worker]
        if own.first() is not None:
            return (own,)
        other = self._worth_taking(seat)
        return (own,) if other is None else (own, other)

    def has_work(self, seat: int) -> bool:
        """Whether `take` may find a task for `seat`."""
        if self.pinned[seat].first() is not None or (self.starved and self._fitting(seat)):
            return True
        if self.sharded and self.open(seat):
            return True
        return any(queue.first() is not None for queue in self._common(seat))

    def _worth_taking(self, seat: int) -> Queue | None:
        """The queue of another worker of which the first task would begin sooner on `seat`."""
        own = self.processors[seat].worker
        for worker in sorted(self.local, key=self._waiting, reverse=True):
            task = self.local[worker].first() if worker != own else None
            if task is None or seat not in self.seats(task):
                continue
            if self._moving(task, own) < self._moving(task, worker) + self._waiting(worker):
                return self.local[worker]
        return None

    def left(self, idle: Iterable[int]) -> float | None:
        """Seconds after which `idle` seats look again at tasks that they leave to others.

        They leave one to a worker that has it and is busy, while that would be sooner than moving
        what it needs. None where they leave none.
        """
        seats = [seat for seat in idle if seat not in self.apart]
        if not seats:
            return None
        later = []
        for worker, queue in self.local.items():
            task = queue.first()
            if task is None:
                continue
            for seat in seats:
                own = self.processors[seat].worker
                if own != worker and seat in self.seats(task):
                    later.append(self._moving(task, own) - self._moving(task, worker))
        return min(max(SOONEST, min(later)), LATEST) if later else None

    # Beginning and ending

    def begin(self, task: Task[Any], seat: int) -> bool:
        """Make a READY task RUNNING on `seat`; where there is no memory, put it to starved."""
        begun = super().begin(task, seat)
        if begun:
            self.busy[self.processors[seat].worker] += 1
            self._began[task] = perf_counter()
        return begun

    def finish(self, task: Task[Any], value: Any, nbytes: int = 0) -> Task[Any] | None:
        """Store the value of a RUNNING task and queue those that are READY now."""
        self._end(task)
        following = super().finish(task, value, nbytes)
        if following is not None:
            self.push(following)
        return None

    def fail(self, task: Task[Any], failure: Failure, state: int) -> list[Task[Any]]:
        """Fail `task` and all that need it, at once; the tasks that this finished."""
        if task._state == RUNNING:
            self._end(task)
        return super().fail(task, failure, state)

    def _end(self, task: Task[Any]) -> None:
        if task in self.promised:
            return
        self.busy[task._processor.worker] -= 1
        self._mean += WEIGHT * (perf_counter() - self._began.pop(task) - self._mean)

    def _check(self, tasks: Sequence[Task[Any]]) -> None:  # type: ignore[override]
        super()._check(tasks)
        for worker, count in self.busy.items():
            running = [
                task for task in tasks if task._state == RUNNING and task not in self.promised
            ]
            assert count == sum(space_of(task._processor).worker == worker for task in running)
        begun = {task for task in tasks if task._state == RUNNING} - self.promised.keys()
        assert set(self._began) == begun
        assert not self.shared, "tasks are queued for workers"
        assert all(task._state == READY for task in self.queued())
