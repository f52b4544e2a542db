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

__all__ = ["Runner", "Seat", "Seats"]


class Seat:
    """The right to run tasks as one processor; held by at most one thread at a time."""

    __slots__ = ("load", "number", "processor", "returning")

    def __init__(self, number: int, processor: Processor) -> None:
        self.number = number
        self.processor = processor
        # Threads that waited for a task and want to go on.
        self.returning: deque[Runner] = deque()
        # Sum of the occupancies below 1 of the tasks that run beside the seat's holder.
        self.load = 0.0


class Runner:
    """One thread, with or without a seat."""

    __slots__ = (
        "arrival",
        "aside",
        "blocked",
        "called",
        "choices",
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
        # The numbers of the seats that it may have instead of its own while it waits for that.
        self.choices: tuple[int, ...] = ()
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
    * Every seat is in ``idle`` or in ``asleep``, or held by exactly one runner with
      ``seated`` true. Only seats that are apart in the schedule are ``asleep``, and only until
      they have work: plain tasks, for which idle seats are looked for, do not meet them.
    * A runner in ``parked`` has no seat and blocks on its gate, or is about to; one that
      was given a seat is let go by `let_go`, once.
    * A seat with threads in ``returning`` is not idle, nor is one that is among the ``choices`` of
      a thread in ``returning`` of another seat.
    * A runner whose innermost task was abandoned has no part of its seat, and its other
      unfinished tasks count as blocked, until that task's function returns.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.every = [Seat(number, one) for number, one in enumerate(schedule.processors)]
        self.idle: list[Seat] = []
        self.asleep: list[Seat] = []
        self.parked: list[Runner] = []
        self.runners: set[Runner] = set()
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

    def fill(self) -> Runner | None:
        """Give an idle seat that has work to a thread, which the caller lets go."""
        if self.ended:
            return None
        for position in range(len(self.idle) - 1, -1, -1):
            seat = self.idle[position]
            if seat.load < 1 and self._schedule.has_work(seat.number):
                if len(self.idle) + len(self.asleep) == len(self.every):
                    self.pools.restrict(self)
                if self.parked:
                    runner = self.parked.pop()
                else:
                    runner = Runner()
                    self.runners.add(runner)
                del self.idle[position]
                runner.called = False
                runner.seat, runner.seated = seat, True
                return runner
        return None

    def vacate(self, runner: Runner) -> None:
        """Give the runner's seat to a returning thread, or make it idle."""
        seat = runner.seat
        assert seat is not None
        assert runner.seated
        runner.seated = False
        back = seat.returning.popleft() if seat.returning else self._moved_to(seat)
        if back is not None:
            back.seated = True
            back.choices = ()
            back.gate.release()
            return
        if seat.number in self._schedule.apart:
            self.asleep.append(seat)
        else:
            self.idle.append(seat)
        if len(self.idle) + len(self.asleep) == len(self.every):
            self.pools.release(self)

    def _moved_to(self, seat: Seat) -> Runner | None:
        """A thread that waits for another seat and may have `seat`, which is its seat now."""
        if seat.number in self._schedule.apart:
            return None
        for other in self.every:
            for runner in other.returning:
                if seat.number in runner.choices:
                    other.returning.remove(runner)
                    self._move(runner, seat)
                    return runner
        return None

    def _move(self, runner: Runner, seat: Seat) -> None:
        assert runner.task is not None
        runner.seat = seat
        runner.task._processor = seat.processor

    def reclaim(self, runner: Runner) -> bool:
        """Give the runner's seat back to it if it is idle; whether it is seated now.

        Where that is taken, one of its choices will do.
        """
        if runner.choices and runner.seat not in self.idle:
            free = next((seat for seat in self.idle if seat.number in runner.choices), None)
            if free is not None:
                self._move(runner, free)
        seat = runner.seat
        assert seat is not None
        if not runner.seated and (seat in self.idle or seat in self.asleep):
            if len(self.idle) + len(self.asleep) == len(self.every):
                self.pools.restrict(self)
            (self.idle if seat in self.idle else self.asleep).remove(seat)
            runner.seated = True
            runner.choices = ()
        return runner.seated

    def park(self, runner: Runner, ending: bool) -> None:
        """Take the seat from a runner, which ends if it is to, or if enough are parked."""
        if runner.seated:
            self.vacate(runner)
        runner.seat = runner.task = None
        if ending or len(self.parked) >= self.most_parked:
            runner.ending = True
            self.runners.discard(runner)
        else:
            self.parked.append(runner)

    def running(self) -> list[Task[Any]]:
        """The RUNNING tasks that threads carry out."""
        found = dict.fromkeys(
            task
            for runner in self.runners
            for task in (runner.task, runner.helping, *runner.stack.tasks)
            if task is not None and task._state == RUNNING
        )
        return list(found)

    def abandoned(self, task: Task[Any]) -> None:
        """Take from `task`, which was RUNNING until now, what it occupies."""
        runner = next(
            (
                one
                for one in self.runners
                if one.task is task or one.helping is task or task in one.stack.tasks
            ),
            None,
        )
        if runner is None or runner.seat is None:
            return
        if runner.aside is task:
            runner.aside = None
            if not runner.blocked:
                runner.seat.load -= task._options.occupancy  # type: ignore[union-attr]
        tasks = runner.stack.tasks
        innermost = runner.helping or (tasks[-1] if tasks else task)
        if runner.blocked:
            runner.blocked -= 1
            self._schedule.blocked -= 1
            if innermost is task and runner.arrival is not None:
                runner.arrival.give_up()
        elif innermost is task:
            self.strand(runner)

    def strand(self, runner: Runner) -> None:
        """Let a thread go on without its seat, in a function that nobody waits for."""
        seat = runner.seat
        assert seat is not None
        if runner.seated:
            self.vacate(runner)
        elif runner in seat.returning:
            seat.returning.remove(runner)
            runner.choices = ()
            runner.gate.release()
        runner.blocked = sum(task._state == RUNNING for task in runner.stack.tasks)
        self._schedule.blocked += runner.blocked

    def mend(self) -> list[Runner]:
        """Restore the invariants after a signal broke `fill` off; runners still to let go."""
        held = {runner.seat for runner in self.runners if runner.seated}
        self._sort([seat for seat in self.every if seat not in held])
        self.wake()
        self.parked = [
            runner for runner in self.runners if runner.seat is None and runner.thread is not None
        ]
        return [runner for runner in self.runners if runner.seated and not runner.called]

    def _check(self) -> None:
        for seat in self.every:
            holders = [one for one in self.runners if one.seated and one.seat is seat]
            free = (seat in self.idle) + (seat in self.asleep)
            assert free + len(holders) == 1, "a seat is idle, asleep, or has one holder"
            assert not (free and seat.returning), "who returns takes an idle seat"
            assert seat not in self.asleep or seat.number in self._schedule.apart
            for other in self.every if seat in self.idle else ():
                assert all(seat.number not in one.choices for one in other.returning)
            assert seat.load > -1e-9
        assert len(self.idle) == len(set(self.idle))
        assert len(self.asleep) == len(set(self.asleep))
        assert all(runner.seat is None and not runner.seated for runner in self.parked)
