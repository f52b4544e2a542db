"""The threads that run tasks: how one is called, what is stored after it, what comes next."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter_ns, sleep
from types import CoroutineType
from typing import Any

from darray.runtime import contexts, events, kinds
from darray.runtime.arguments import INERT, actions
from darray.runtime.budget import Budget, make_room
from darray.runtime.calling import (
    attempted,
    attempted_in,
    called,
    captured,
    handed_out,
    measured,
    overtime,
    state_after,
)
from darray.runtime.coroutines import Awaiting
from darray.runtime.errors import Failure
from darray.runtime.events import TaskBegan, publish, publish_end
from darray.runtime.explaining import Survey, survey
from darray.runtime.graphs import following
from darray.runtime.listeners import Listeners
from darray.runtime.processor import Processor
from darray.runtime.scope_keys import know
from darray.runtime.seats import Runner, Seat, Seats
from darray.runtime.spaces import has_spaces, space_of
from darray.runtime.spiller import Spiller
from darray.runtime.state import Schedule
from darray.runtime.tasks import DONE, FAILED, READY, RUNNING, WAITING, Task, value_of
from darray.runtime.timers import Timer, Timers
from darray.runtime.waiting import Arrival, arrived, call_watcher
from darray.runtime.watchdog import Watchdog

__all__ = ["Crew"]

# How often a thread lets others go before it blocks on the lock.
TURNS = 100

# What a function may give that is not simply its task's value.
UNPLAIN = frozenset((Failure, CoroutineType))

_current_options = contexts.current.get


def _cancel_timer(timer: Timer, _: Task[Any]) -> None:
    timer.cancel()


class Crew(Awaiting):
    """The schedule of an engine, and the threads that carry it out.

    Invariants, guarded by ``_lock`` and checked by `_check`
    --------------------------------------------------------
    * Those of `Schedule` and of `Seats`.
    * No idle seat has work that it could begin, but while a thread is on its way to it.

    A signal handler, Ctrl-C's above all, may raise between any two calls in the main thread.
    Every method that the main thread runs is written so that what it leaves behind then is
    either whole or repaired by `_mend`.
    """

    def __init__(
        self,
        processors: tuple[Processor, ...],
        memory: int,
        watchdog: float | None = None,
        schedule: Callable[[tuple[Processor, ...], Budget], Schedule] = Schedule,
    ) -> None:
        super().__init__()
        # Guards the schedule, the seats, `_closers` and the tasks' fields as `Task` says.
        # Held for a few operations; no other lock is taken and no callback, task or value
        # of the user's is called or dropped while it is held.
        self._lock = threading.Lock()
        self._threads = processors
        # How many changes of the kinds of processors are known of.
        self._version = kinds.version
        every = self._present()
        know(every)
        self._schedule = schedule(every, Budget(memory, self._memory_freed))
        self._seats = Seats(self._schedule)
        self._spiller = Spiller(self._schedule, self._lock)
        self.has_spaces = has_spaces(every)
        self._local = threading.local()
        self._numbers = itertools.count()
        # What waits for the engine to have no task left.
        self._closers: list[Arrival] = []
        self._closed = False
        self._timers = Timers()
        self.losses: Listeners[[int]] = Listeners()
        # Never told: its threads run tasks beside those that wait.
        self.waits: Listeners[[]] = Listeners()
        self.watchdog = Watchdog(self._survey, watchdog)

    def _present(self) -> tuple[Processor, ...]:
        """The processors that there are now: the threads', and those of registered kinds."""
        workers = dict.fromkeys(one.worker for one in self._threads)
        others = [one for worker in workers for one in kinds.registered(worker)]
        return (*self._threads, *others)

    def _let_go(self, runner: Runner) -> None:
        """Let a parked or new thread, which was given a seat, run."""
        runner.called = True
        if runner.thread is not None:
            runner.gate.release()
            return
        name = f"darray-{next(self._numbers)}"
        runner.thread = threading.Thread(target=self._live, args=(runner,), name=name, daemon=True)
        runner.thread.start()

    def _fill_all(self) -> None:
        """Bring threads to all idle seats that have work."""
        while self._seats.idle or self._seats.asleep:
            with self._lock:
                self._seats.wake()
                runner = self._seats.fill()
            if runner is None:
                return
            self._let_go(runner)

    def _look_later(self) -> None:
        """Let idle processors look again at tasks that they leave to others, if they do."""

    def _live(self, runner: Runner) -> None:
        """Be a thread: serve on the seat given, park, and again."""
        self._local.runner = runner
        schedule = self._schedule
        while True:
            if runner.pools != self._seats.pools.version:
                runner.pools = self._seats.pools.version
                self._seats.pools.restrict_own()
            with self._lock:
                task = self._next(runner) if runner.seat is not None else None
                other = None
                if self._seats.idle and (schedule.shared.plain or schedule.special):
                    other = self._seats.fill()
            if other is not None:
                self._let_go(other)
            while task is not None:
                outcome = self._call(runner, task)
                task = self._complete(runner, task, outcome)
                outcome = None
            if schedule.starved:
                self._relieve(runner)
            if schedule.stranded:
                self._refuse_stranded()
            if schedule.special:
                self._look_later()
            if runner.ending:
                return
            runner.gate.acquire()

    def _next(self, runner: Runner) -> Task[Any] | None:
        """The next task for the runner, which is parked if there is none; lock held."""
        seat = runner.seat
        assert seat is not None
        takes = not seat.returning or self._stands_aside(seat)
        if runner.seated and takes and not self._closed:
            task = runner.task = self._schedule.take(seat.number)
            if task is not None:
                if self._seats.asleep:
                    self._seats.wake()
                return task
        self._seats.park(runner, ending=self._closed)
        if self._seats.asleep:
            self._seats.wake()
        return None

    def _stands_aside(self, seat: Seat) -> bool:
        """Whether the next task leaves the seat at once to a thread that returns; lock held.

        Begun before that thread goes on, it waits for what it reads while others compute.
        """
        found = self._schedule.best(seat.number)
        options = None if found is None else found[1]._options
        return options is not None and options.occupancy < 1

    def _call(self, runner: Runner, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        options = task._options
        if options is not None or events.consumers or self.has_spaces:
            return self._call_observed(runner, task)
        if _current_options() is not None:
            contexts.current.set(None)
        running = runner.stack.tasks
        running.append(task)
        try:
            if task._kwargs is None:
                value = task._function(*task._args)
            elif task._args is task._needs:
                # As `submit` leaves a call with nothing but the one task that it needs.
                value = task._function(value_of(task._args[0]))  # type: ignore[index]
            else:
                value = called(task)
            if actions.get(value.__class__) != INERT:
                value = handed_out(value)
        except BaseException as error:
            running.pop()
            try:
                return captured(task, error)
            finally:
                # The failure's frames keep this one: it must not keep the failure.
                del task, runner, running
        running.pop()
        return value

    def _call_observed(self, runner: Runner, task: Task[Any]) -> Any:
        """Do what `_call` does, under the task's options, and tell of it."""
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        if _current_options() is not inherited:
            contexts.current.set(inherited)
        if options is not None and options.occupancy < 1:
            self._stand_aside(runner, task, options.occupancy)
        if options is not None and options.memory:
            make_room()
            if self._schedule.budget.has_spilled:
                self._spiller.look_ahead()
        running = runner.stack.tasks
        running.append(task)
        began = 0
        if events.consumers:
            began = perf_counter_ns()
            publish(TaskBegan(task.number, task.name, task._processor, began))
        timer = None
        if options is not None and options.timeout is not None:
            timer = self._timers.call_later(
                options.timeout, lambda: self._abandon(task, overtime(task), FAILED)
            )
        value = self._outcome(task)
        running.pop()
        is_awaited = value.__class__ is CoroutineType
        if timer is not None and is_awaited:
            task._engine.watch(task, partial(_cancel_timer, timer))
        elif timer is not None:
            timer.cancel()
        if events.consumers and not is_awaited:
            publish_end(task, began, value)
        return value

    def _outcome(self, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        try:
            if self.has_spaces:
                return attempted_in(task, space_of(task._processor))
            return handed_out(attempted(task))
        except BaseException as error:
            try:
                return captured(task, error)
            finally:
                # The failure's frames keep this one: it must not keep the failure.
                del task

    def _stand_aside(self, runner: Runner, task: Task[Any], occupancy: float) -> None:
        """Run a task of small occupancy beside the seat, for others to use the seat."""
        with self._lock:
            if task._state != RUNNING:
                return
            assert runner.seat is not None
            runner.aside = task
            runner.seat.load += occupancy
            self._seats.vacate(runner)
            self._seats.wake()
            other = self._seats.fill()
        if other is not None:
            self._let_go(other)

    def _complete(self, runner: Runner, task: Task[Any], outcome: Any) -> Task[Any] | None:
        """Store what a task gave; the next task for the runner."""
        schedule = self._schedule
        if task._options is not None or outcome.__class__ in UNPLAIN or schedule.special:
            return self._complete_special(runner, task, outcome)
        seats, seat = self._seats, runner.seat
        plain = schedule.shared.plain
        # The arguments go before the lock is taken: dropping them may run the user's code.
        task._function = task._args = task._kwargs = task._needs = None
        others = other = following = None
        # Not to block; naming the argument costs as much as the call.
        if not self._lock.acquire(False):
            self._acquire_in_turn()
        try:
            if task._state != RUNNING:
                return self._next(runner)
            # Schedule.finish and Schedule.take, spelled out for tasks without options.
            task._value = outcome
            task._state = DONE
            schedule.running -= 1
            schedule.outstanding -= 1
            if task._dependents is not None:
                for dependent in task._dependents:
                    dependent._missing -= 1
                    if dependent._missing == 0 and dependent._state == WAITING:
                        dependent._state = READY
                        if following is None and dependent._options is None:
                            following = dependent
                        else:
                            schedule.push(dependent)
                task._dependents = None
            if task._watchers is not None:
                others = arrived(task)
            if seat.returning or self._closed or schedule.special:  # type: ignore[union-attr]
                if following is not None:
                    plain.appendleft(following)
                following = self._next(runner)
            else:
                while following is None and plain:
                    candidate = plain.popleft()
                    if candidate._state == READY and candidate._options is None:
                        following = candidate
                    elif candidate._state == READY and schedule.begin(candidate, seat.number):  # type: ignore[union-attr]
                        following = runner.task = candidate
                        break
                if following is None:
                    following = self._next(runner)
                elif following._state == READY:
                    runner.task = following
                    following._processor = seat.processor  # type: ignore[union-attr]
                    following._state = RUNNING
                    schedule.running += 1
            if seats.idle and (plain or schedule.special):
                other = seats.fill()
            if self._closers and not schedule.outstanding:
                self._drained()
        finally:
            self._lock.release()
        if other is not None:
            self._let_go(other)
        if others is not None:
            for watcher in others:
                call_watcher(watcher, task)
        return following

    def _acquire_in_turn(self) -> None:
        """Acquire the lock, which another thread holds, without a convoy of its users.

        A thread that blocks on a lock makes every release of it a call to the system, and
        is handed the lock while it waits for the interpreter, so that the next user blocks
        as well. Letting the interpreter go instead lets the holder finish. Not for the main
        thread, where a signal could come between the acquisition and its use.
        """
        for _ in range(TURNS):
            sleep(0)
            if self._lock.acquire(False):
                return
        self._lock.acquire()

    def _complete_special(self, runner: Runner, task: Task[Any], outcome: Any) -> Task[Any] | None:
        """Do what `_complete` does, for a task that failed or has options."""
        other = None
        is_awaited = outcome.__class__ is CoroutineType
        if not is_awaited:
            nbytes = measured(task, outcome)
            task._args = task._kwargs = task._needs = None
        with self._lock:
            if runner.aside is task:
                assert runner.seat is not None
                runner.aside = None
                runner.seat.load -= task._options.occupancy  # type: ignore[union-attr]
                self._seats.reclaim(runner)
            finished = [] if is_awaited else self._store(task, outcome, nbytes)
            if is_awaited and task._state == RUNNING:
                self._awaited[task] = None
            following = self._next(runner)
            if self._seats.idle:
                other = self._seats.fill()
        if other is not None:
            self._let_go(other)
        if is_awaited:
            self._await_apart(task, outcome)
            return following
        self._tell(finished)
        if not finished:
            # It was abandoned: nothing that it was given is in use any more.
            task._function = task._hold = None
        return following

    def _store(self, task: Task[Any], outcome: Any, nbytes: int) -> list[Task[Any]]:
        """Store what a task gave that ran until now; the tasks that this finished.

        Those are none where it was abandoned. Lock held.
        """
        if task._state != RUNNING:
            return []
        if outcome.__class__ is Failure:
            return self._schedule.fail(task, outcome, state_after(task, outcome))
        following = self._schedule.finish(task, outcome, nbytes)
        if following is not None:
            self._schedule.shared.plain.appendleft(following)
        return [task, *self._schedule.refuse_stranded()]

    def unfinished(self) -> list[Task[Any]]:
        """Every unfinished task that was submitted."""
        with self._lock:
            return following(self._begun_or_ready())

    def has_waits(self) -> bool:
        """Whether running tasks wait for others in their calls, seen in passing."""
        # Without the lock: the two may be from different moments.
        schedule = self._schedule
        return schedule.blocked > len(schedule.promised)

    def _begun_or_ready(self) -> list[Task[Any]]:
        """The unfinished tasks that need no others any more; lock held.

        Those that were promised come first: others carry them out.
        """
        schedule = self._schedule
        return [*schedule.promised, *schedule.queued(), *self._seats.running(), *self._awaited]

    def _abandon(self, task: Task[Any], failure: Failure, state: int) -> None:
        """End a RUNNING task in `state`; its thread goes on with the function by itself."""
        with self._lock:
            finished = self._schedule.abandon(task, failure, state)
            if finished:
                self._seats.abandoned(task)
            # One that keeps what it uses can be stopped all the same, where it awaits something.
            future = self._awaited.pop(task, None) if finished else self._awaited.get(task)
        if future is not None:
            self._loop.call(future.cancel)
        self._fill_all()
        self._tell(finished, task)

    def _tell(self, finished: list[Task[Any]], abandoned: Task[Any] | None = None) -> None:
        """Drop what finished tasks were given and call their watchers, each exactly once.

        The function of an `abandoned` one still uses what it was given.
        """
        for task in finished:
            if task is not abandoned:
                task._function = task._args = task._kwargs = task._needs = None
            with self._lock:
                watchers = arrived(task)
                if self._closers and not self._schedule.outstanding:
                    self._drained()
            for watcher in watchers or ():
                call_watcher(watcher, task)

    def _drained(self) -> None:
        """Let those go on that wait for the engine to have no task left; lock held."""
        while self._closers:
            self._closers.pop().gate.release()

    def _memory_freed(self) -> None:
        """Bring a thread to a task that waits for memory, some having been freed.

        Called by finalisers, perhaps on a thread that holds the lock. Where the lock is
        not free nothing is done: the next task to end, or the next wait, looks again.
        """
        seats = self._seats
        if not (self._schedule.starved and (seats.idle or seats.asleep) and seats.parked):
            return
        is_held: list[bool] = []
        seated: list[Runner | None] = []
        # A signal's handler may raise when a call has returned, and a finaliser's error goes no
        # further. So what a call gave is stored before the call that it is part of returns.
        try:
            try:
                is_held.extend(map(self._lock.acquire, (False,)))
                if not is_held[0]:
                    return
                seats.wake()
                seated.append(seats.fill() if seats.parked else None)
            except BaseException:
                if is_held and is_held[0]:
                    seated += seats.mend()
                raise
            finally:
                if is_held and is_held[0]:
                    self._lock.release()
        finally:
            for runner in seated:
                if runner is not None and not runner.called:
                    self._let_go(runner)

    def reseat(self) -> None:
        """Find out again which processors there are, and which scopes they are in."""
        version = kinds.version
        every = self._present()
        know(every)

        def change() -> None:
            with self._lock:
                if self._closed or version < self._version:
                    # Whoever made the later change knows of this one.
                    return
                self._version = version
                self._schedule.reseat(every)
                # For good: tasks that are done may have left values in other spaces.
                self.has_spaces = self.has_spaces or has_spaces(every)
                self._seats.follow()
                for seat in (*self._seats.idle, *self._seats.asleep):
                    self._schedule.leaving.discard(seat.number)
            self._refuse_stranded()
            self._fill_all()

        # Tasks leave their queues meanwhile. Ctrl-C, which comes to the main thread, must not
        # break that off.
        thread = threading.Thread(target=change, name="darray-reseat")
        thread.start()
        thread.join()

    def _refuse_stranded(self) -> None:
        """Fail the tasks that no processor is left for."""
        with self._lock:
            finished = self._schedule.refuse_stranded()
        self._tell(finished)

    def _spill(self, runner: Runner | None) -> None:
        """Write results to disk while tasks wait for memory, if that helps.

        The calling thread, that of a `runner` if there is one, is given no seat meanwhile.
        """
        if runner is None:
            self._spiller.make_room_apart(self._seats.running, self._fill_all)
            return
        with self._lock:
            if runner not in self._seats.parked:
                # It was given a seat.
                return
            self._seats.parked.remove(runner)
        try:
            self._spiller.make_room(self._seats.running, self._fill_all)
        finally:
            with self._lock:
                if self._closed:
                    runner.ending = True
                    self._seats.runners.discard(runner)
                elif runner.seat is None and runner not in self._seats.parked:
                    self._seats.parked.append(runner)

    def _relieve(self, runner: Runner | None = None) -> None:
        """Begin tasks for which there is memory; fail those for which there never will be."""
        self._fill_all()
        if self._schedule.budget.candidates:
            self._spill(runner)
        with self._lock:
            if self._schedule.starving() is None:
                return
        # Results in reference cycles hold memory that nobody can reach, their own or others'.
        gc.collect()
        if self._schedule.budget.candidates:
            self._spill(runner)
        while True:
            self._fill_all()
            with self._lock:
                finished = self._schedule.relieve()
            if not finished:
                return
            self._tell(finished)

    def _survey(self) -> Survey:
        """What is going on now."""
        with self._lock:
            awaited = (*self._awaited, *self._schedule.promised)
            return survey(self._schedule, self._seats, awaited, self._closed)

    def _check(self, tasks: Iterable[Task[Any]] = ()) -> None:
        """Assert the invariants, given all the tasks that are not finished."""
        with self._lock:
            self._seats._check()
            self._schedule._check(tasks)
