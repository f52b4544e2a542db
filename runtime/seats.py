"""Seats: the right to run tasks as one processor, and the threads that hold it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from darray.runtime.limits import POOLS
from darray.runtime.processor import Processor
from darray.runtime.state import Schedule
from darray.runtime.tasks import RUNNING, Task
from darray.runtime.waiting import Arrival, Stack

__all__ = ["Seat", "Seats", "Worker"]


class Seat:
    """The right to run tasks as one processor; held by at most one thread at a time."""

    __slots__ = ("load", "number", "processor", "returning")

    def __init__(self, number: int, processor: Processor) -> None:
        self.number = number
        self.processor = processor
        # Threads that waited for a task and want to go on.
        self.returning: deque[Worker] = deque()
        # Sum of the occupancies below 1 of the tasks that run beside the seat's holder.
        self.load = 0.0


class Worker:
    """One thread, with or without a seat."""

    __slots__ = (
        "arrival",
        "aside",
        "blocked",
        "called",
        "ending",
        "gate",
        "helping",
        "pools",
        "seat",
        "seated",
        "stack",
        "task",
        "thread",
    )

    def __init__(self) -> None:
        # The seat it serves; None while it is parked.
        self.seat: Seat | None = None
        # Whether this thread holds its seat; a task of small occupancy runs without, and so
        # does one that waits.
        self.seated = False
        # The task for which the seat was given up and its occupancy counted instead.
        self.aside: Task[Any] | None = None
        # The task it serves its seat with, and the one it began last inside a wait of that:
        # the stack has them only from when their functions are called.
        self.task: Task[Any] | None = None
        self.helping: Task[Any] | None = None
        # How many tasks of the stack the schedule counts as blocked, and what the wait of
        # the last of them blocks on.
        self.blocked = 0
        self.arrival: Arrival | None = None
        # Whether it was let go since it was last given a seat.
        self.called = False
        # Whether its thread ends instead of waiting at its gate.
        self.ending = False
        self.stack = Stack()
        self.thread: threading.Thread | None = None
        # Which of the thread pools that threads set for themselves this one has set.
        self.pools = 0
        # Released by whoever gives this parked thread a seat, or ends it.
        self.gate = threading.Lock()
        self.gate.acquire()


class Seats:
    """Who sits where. Every method is called with the engine's lock held.

    Invariants, checked by `_check`
    -------------------------------
    * Every seat is in ``idle`` or in ``asleep``, or held by exactly one worker with
      ``seated`` true. Only seats that are apart in the schedule are ``asleep``, and only until
      they have work: plain tasks, for which idle seats are looked for, do not meet them.
    * A worker in ``parked`` has no seat and blocks on its gate, or is about to; one that
      was given a seat is let go by `let_go`, once.
    * A seat with threads in ``returning`` is not idle.
    * A worker whose innermost task was abandoned has no part of its seat, and its other
      unfinished tasks count as blocked, until that task's function returns.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.every = [Seat(number, one) for number, one in enumerate(schedule.processors)]
        self.idle: list[Seat] = []
        self.asleep: list[Seat] = []
        self.parked: list[Worker] = []
        self.workers: set[Worker] = set()
        self.pools = POOLS
        # Whether no seat is given to a thread any more: what becomes ready never begins.
        self.ended = False
        self._schedule = schedule
        self._sort(self.every)

    def _sort(self, free: list[Seat]) -> None:
        apart = self._schedule.apart
        idle = [seat for seat in free[::-1] if seat.number not in apart]
        asleep = [seat for seat in free if seat.number in apart]
        self.idle, self.asleep = idle, asleep

    def wake(self) -> None:
        """Look for seats that were asleep and have work now."""
        has_work = self._schedule.has_work
        woken = [seat for seat in self.asleep if has_work(seat.number)]
        if woken:
            idle = [*self.idle, *woken]
            asleep = [seat for seat in self.asleep if seat not in woken]
            self.idle, self.asleep = idle, asleep

    @property
    def most_parked(self) -> int:
        """Threads kept for the next waits; more than these end when they have no seat."""
        return 2 * len(self.every) + 6

    def follow(self) -> None:
        """Have a seat for every processor of the schedule, which has others now."""
        processors, count = self._schedule.processors, len(self.every)
        new = [Seat(number, processors[number]) for number in range(count, len(processors))]
        free = {*self.idle, *self.asleep, *new}
        self.every += new
        self._sort([seat for seat in self.every if seat in free])

    def fill(self) -> Worker | None:
        """Give an idle seat that has work to a thread, which the caller lets go."""
        if self.ended:
            return None
        for position in range(len(self.idle) - 1, -1, -1):
            seat = self.idle[position]
            if seat.load < 1 and self._schedule.has_work(seat.number):
                if len(self.idle) + len(self.asleep) == len(self.every):
                    self.pools.restrict(self)
                if self.parked:
                    worker = self.parked.pop()
                else:
                    worker = Worker()
                    self.workers.add(worker)
                del self.idle[position]
                worker.called = False
                worker.seat, worker.seated = seat, True
                return worker
        return None

    def vacate(self, worker: Worker) -> None:
        """Give the worker's seat to a returning thread, or make it idle."""
        seat = worker.seat
        assert seat is not None
        assert worker.seated
        worker.seated = False
        if seat.returning:
            back = seat.returning.popleft()
            back.seated = True
            back.gate.release()
            return
        if seat.number in self._schedule.apart:
            self.asleep.append(seat)
        else:
            self.idle.append(seat)
        if len(self.idle) + len(self.asleep) == len(self.every):
            self.pools.release(self)

    def reclaim(self, worker: Worker) -> bool:
        """Give the worker's seat back to it if it is idle; whether it is seated now."""
        seat = worker.seat
        assert seat is not None
        if not worker.seated and (seat in self.idle or seat in self.asleep):
            if len(self.idle) + len(self.asleep) == len(self.every):
                self.pools.restrict(self)
            (self.idle if seat in self.idle else self.asleep).remove(seat)
            worker.seated = True
        return worker.seated

    def park(self, worker: Worker, ending: bool) -> None:
        """Take the seat from a worker, which ends if it is to, or if enough are parked."""
        if worker.seated:
            self.vacate(worker)
        worker.seat = worker.task = None
        if ending or len(self.parked) >= self.most_parked:
            worker.ending = True
            self.workers.discard(worker)
        else:
            self.parked.append(worker)

    def running(self) -> list[Task[Any]]:
        """The RUNNING tasks that threads carry out."""
        found = dict.fromkeys(
            task
            for worker in self.workers
            for task in (worker.task, worker.helping, *worker.stack.tasks)
            if task is not None and task._state == RUNNING
        )
        return list(found)

    def abandoned(self, task: Task[Any]) -> None:
        """Take from `task`, which was RUNNING until now, what it occupies."""
        worker = next(
            (
                one
                for one in self.workers
                if one.task is task or one.helping is task or task in one.stack.tasks
            ),
            None,
        )
        if worker is None or worker.seat is None:
            return
        if worker.aside is task:
            worker.aside = None
            if not worker.blocked:
                worker.seat.load -= task._options.occupancy  # type: ignore[union-attr]
        tasks = worker.stack.tasks
        innermost = worker.helping or (tasks[-1] if tasks else task)
        if worker.blocked:
            worker.blocked -= 1
            self._schedule.blocked -= 1
            if innermost is task and worker.arrival is not None:
                worker.arrival.give_up()
        elif innermost is task:
            self.strand(worker)

    def strand(self, worker: Worker) -> None:
        """Let a thread go on without its seat, in a function that nobody waits for."""
        seat = worker.seat
        assert seat is not None
        if worker.seated:
            self.vacate(worker)
        elif worker in seat.returning:
            seat.returning.remove(worker)
            worker.gate.release()
        worker.blocked = sum(task._state == RUNNING for task in worker.stack.tasks)
        self._schedule.blocked += worker.blocked

    def mend(self) -> list[Worker]:
        """Restore the invariants after a signal broke `fill` off; workers still to let go."""
        held = {worker.seat for worker in self.workers if worker.seated}
        self._sort([seat for seat in self.every if seat not in held])
        self.wake()
        self.parked = [
            worker for worker in self.workers if worker.seat is None and worker.thread is not None
        ]
        return [worker for worker in self.workers if worker.seated and not worker.called]

    def _check(self) -> None:
        for seat in self.every:
            holders = [one for one in self.workers if one.seated and one.seat is seat]
            free = (seat in self.idle) + (seat in self.asleep)
            assert free + len(holders) == 1, "a seat is idle, asleep, or has one holder"
            assert not (free and seat.returning), "who returns takes an idle seat"
            assert seat not in self.asleep or seat.number in self._schedule.apart
            assert seat.load > -1e-9
        assert len(self.idle) == len(set(self.idle))
        assert len(self.asleep) == len(set(self.asleep))
        assert all(worker.seat is None and not worker.seated for worker in self.parked)
