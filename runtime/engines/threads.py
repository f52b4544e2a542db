"""The engine of threads in this process: one seat a processor, one thread on each seat."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, perf_counter_ns
from types import CoroutineType
from typing import Any, TypeVar

from darray.runtime import contexts, events, limits
from darray.runtime.calling import apart, is_shallow, measured
from darray.runtime.crew import Crew
from darray.runtime.errors import DeadlockError, Failure
from darray.runtime.graphs import closure
from darray.runtime.loops import awaited
from darray.runtime.processor import Processor
from darray.runtime.refusals import cancellation
from darray.runtime.seats import Runner
from darray.runtime.settings import Settings
from darray.runtime.spaces import Origin, here, measured_nbytes
from darray.runtime.spawning import submit
from darray.runtime.spilling import asked
from darray.runtime.tasks import CANCELLED, DONE, READY, RUNNING, WAITING, Task, Watcher
from darray.runtime.waiting import (
    Arrival,
    Stack,
    add_watcher,
    call_watcher,
    endless,
    is_stuck,
    refuse_abandoned,
)

__all__ = ["ThreadsEngine", "start"]

R = TypeVar("R")

# A wait for all of many tasks first waits for the last, that often: as tasks run in order,
# few others are left then, and those that are finished need not have been watched.
LAST_FIRST = 4


def start(settings: Settings) -> ThreadsEngine:
    """Start the engine that `settings` describe."""
    count = settings.threads or limits.processor_count()
    processors = tuple(Processor(worker=0, kind="cpu", index=number) for number in range(count))
    return ThreadsEngine(processors, limits.task_memory(settings), settings.watchdog)


class ThreadsEngine(Crew):
    """Tasks on the threads of this process: how they come in, and how one waits for them."""

    runs_at_once = False

    # Submitting

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""
        finished = runner = None
        if self.has_spaces:
            task._origin = Origin(here.get(), measured_nbytes(task._args or ()))
        try:
            if needs is not None:
                for need in needs:
                    if need._engine is not self:
                        self._refuse_foreign(needs)
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed and takes no more tasks")
                # The two in the middle are Schedule.add, spelled out; nothing can break them off.
                if task._options is not None:
                    finished = self._schedule.add(task, needs)
                    if self._seats.asleep:
                        self._seats.wake()
                elif not needs:
                    self._schedule.outstanding += 1
                    task._state = READY
                    self._schedule.shared.plain.append(task)
                elif len(needs) == 1 and needs[0]._state < DONE and not needs[0]._dependents:
                    needs[0]._dependents = [task]
                    task._missing = 1
                    task._needs = needs
                    self._schedule.outstanding += 1
                else:
                    finished = self._schedule.add(task, needs)
                if self._seats.idle and task._state == READY:
                    runner = self._seats.fill()
            if runner is not None:
                self._let_go(runner)
        except BaseException:
            self._mend([(task, needs)])
            raise
        if finished:
            self._tell(finished)

    def submit_all(self, tasks: Sequence[tuple[Task[Any], Sequence[Task[Any]] | None]]) -> None:
        """Take new tasks, none of which begins before all are taken."""
        finished: list[Task[Any]] = []
        if self.has_spaces:
            for task, _ in tasks:
                task._origin = Origin(here.get(), measured_nbytes(task._args or ()))
        try:
            for _, needs in tasks:
                self._refuse_foreign(needs or ())
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed and takes no more tasks")
                for task, needs in tasks:
                    finished += self._schedule.add(task, needs)
            self._fill_all()
        except BaseException:
            self._mend(tasks)
            raise
        self._tell(finished)

    def _refuse_foreign(self, tasks: Iterable[Task[Any]]) -> None:
        for task in tasks:
            if task._engine is not self and task._state < DONE:
                raise RuntimeError(
                    f"{task!r} belongs to an engine that is gone (this process was forked, or "
                    "darray reconfigured, since it was spawned); spawn it again here"
                )

    def _mend(self, tasks: Sequence[tuple[Task[Any], Sequence[Task[Any]] | None]]) -> None:
        """Cancel `tasks`, whose submission was broken off, and let go whoever was forgotten."""
        finished: list[Task[Any]] = []
        with self._lock:
            # The last first: one that was broken off while it was taken in is in the dependents
            # of others, and not counted yet.
            for task, needs in reversed(tasks):
                if task._state in (WAITING, READY):
                    finished += self._schedule.withdraw(task, needs)
            forgotten = self._seats.mend()
        for runner in forgotten:
            self._let_go(runner)
        if self._schedule.releases:
            self._fill_all()
        self._tell(finished)

    # Waiting

    def watch(self, task: Task[Any], watcher: Watcher) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""
        with self._lock:
            if task._state < DONE:
                add_watcher(task, watcher)
                return
        call_watcher(watcher, task)

    def wait(
        self,
        tasks: list[Task[Any]],
        timeout: float | None,
        count: int | None = None,
        first_failure: bool = False,
    ) -> bool:
        """Wait until `count` of the tasks, or all, are finished; whether they are.

        With `first_failure` the wait also ends when one of them fails.
        """
        runner: Runner | None = getattr(self._local, "runner", None)
        if runner is None and len(tasks) == 1 and tasks[0]._engine is self and count is None:
            # The commonest wait by far, for which all that follows comes to the same.
            try:
                return self._await(tasks, 1, timeout)
            except KeyboardInterrupt:
                self.cancel_graph(tasks)
                raise
        unfinished = [task for task in tasks if task._state < DONE]
        missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
        if missing <= 0:
            return True
        if first_failure and any(task._state > DONE for task in tasks):
            return True
        self._refuse_foreign(unfinished)
        if runner is not None and runner.stack.tasks:
            if timeout is None and missing == len(unfinished) and not first_failure:
                self._wait_in_task(runner, unfinished)
                return True
            self._refuse_stuck(runner, unfinished, missing, timeout)
            return self.block(
                lambda: self._await(unfinished, missing, timeout, first_failure, runner)
            )
        try:
            if missing == len(unfinished) > 2 * LAST_FIRST and not first_failure:
                return self._wait_last_first(unfinished, timeout)
            return self._await(unfinished, missing, timeout, first_failure)
        except KeyboardInterrupt:
            self.cancel_graph(unfinished)
            raise

    def _wait_last_first(self, tasks: list[Task[Any]], timeout: float | None) -> bool:
        """Wait for all of many `tasks` from outside a task."""
        deadline = None if timeout is None else monotonic() + timeout
        for _ in range(LAST_FIRST):
            left = None if deadline is None else deadline - monotonic()
            if not self._await([tasks[-1]], 1, left):
                return False
            tasks = [task for task in tasks if task._state < DONE]
            if not tasks:
                return True
        left = None if deadline is None else deadline - monotonic()
        return self._await(tasks, len(tasks), left)

    def _await(
        self,
        tasks: list[Task[Any]],
        missing: int,
        timeout: float | None,
        first_failure: bool = False,
        runner: Runner | None = None,
    ) -> bool:
        """Block until `missing` of `tasks` are finished; whether they are.

        `runner` is the thread of the task that waits, which may be abandoned meanwhile.
        """
        arrival = Arrival(first_failure, tasks)
        schedule = self._schedule
        partial = first_failure or missing < len(tasks) or runner is not None
        options = contexts.current.get()
        if self._loop.is_here():
            raise DeadlockError(
                f"{tasks[0]!r} is waited for in a coroutine, which would stop all others; write "
                "`await task`"
            )
        try:
            with self._lock:
                if options is not None and options.queue is not None:
                    # The queue may let go of what it holds only when this wait has ended.
                    schedule.refuse_held(tasks)
                if self._closed:
                    raise RuntimeError("this engine is closed: its unfinished tasks never run")
                if runner is not None:
                    refuse_abandoned(runner.stack.tasks[-1])
                    runner.arrival, arrival.in_task = arrival, True
                if arrival.watch(tasks, missing):
                    return True
                schedule.waiters.add(arrival)
            if schedule.starved:
                self._relieve()
            return arrival.wait(timeout, self.watchdog)
        finally:
            with self._lock:
                schedule.waiters.discard(arrival)
                if runner is not None:
                    runner.arrival = None
                if partial or arrival.missing:
                    arrival.forget(tasks)

    def _refuse_stuck(
        self, runner: Runner, tasks: list[Task[Any]], missing: int, timeout: float | None
    ) -> None:
        """Raise `DeadlockError` if too few of `tasks` can finish before the waiting task does."""
        if timeout is not None:
            return
        with self._lock:
            stuck = [task for task in tasks if self._is_stuck(runner.stack, [task])]
        if len(tasks) - len(stuck) < missing:
            raise endless(runner.stack.tasks[-1], stuck[0])

    def _is_stuck(self, stack: Stack, tasks: list[Task[Any]]) -> bool:
        """Whether a wait for all `tasks` can never end; lock held."""
        return is_stuck(stack, tasks, self._stacks, self._schedule.in_the_way)

    def _wait_in_task(self, runner: Runner, tasks: list[Task[Any]]) -> None:
        """Wait for all `tasks` inside a task: run what they need, else give the seat up."""
        stack = runner.stack
        with self._lock:
            refuse_abandoned(runner.stack.tasks[-1])
            if self._is_stuck(stack, tasks):
                alone = (task for task in tasks if self._is_stuck(stack, [task]))
                raise endless(stack.tasks[-1], next(alone, tasks[0]))
            stack.waits.append((len(stack.tasks) - 1, tasks))
            self._stacks.add(stack)
        try:
            if runner.seated and is_shallow():
                self._help(runner, tasks)
                refuse_abandoned(stack.tasks[-1])
            unfinished = [task for task in tasks if task._state < DONE]
            if unfinished:
                self.block(lambda: self._await(unfinished, len(unfinished), None, runner=runner))
        finally:
            with self._lock:
                stack.waits.pop()
                if not stack.waits:
                    self._stacks.discard(stack)

    def _help(self, runner: Runner, targets: list[Task[Any]]) -> None:
        """Run, on this thread, the unstarted tasks that `targets` need."""
        seat = runner.seat
        assert seat is not None
        context = contexts.current.get()
        with self._lock:
            wanted = closure(targets)
        ready = [task for task in wanted if task._state == READY]
        among = set(wanted)
        while ready:
            task = ready.pop()
            with self._lock:
                if runner.stack.tasks[-1]._state != RUNNING:
                    break
                if not self._begin_helped(task, seat.number):
                    continue
                runner.helping = task
                dependents = [one for one in task._dependents or () if one in among]
            outcome = next(apart(self._call, runner, task))
            if outcome.__class__ is CoroutineType:
                self._await_apart(task, outcome)
                with self._lock:
                    runner.helping = None
                    goes_on = self._go_on(runner)
                if not goes_on:
                    runner.gate.acquire()
                continue
            nbytes = measured(task, outcome)
            task._args = task._kwargs = task._needs = None
            with self._lock:
                runner.helping = None
                finished = self._store(task, outcome, nbytes)
                goes_on = self._go_on(runner)
                self._seats.wake()
                other = self._seats.fill() if self._seats.idle else None
            if other is not None:
                self._let_go(other)
            self._tell(finished)
            if not finished:
                task._function = task._hold = None
            if not goes_on:
                runner.gate.acquire()
            ready += [one for one in reversed(dependents) if one._state == READY]
        contexts.current.set(context)

    def _go_on(self, runner: Runner) -> bool:
        """Go on with a wait, after a task inside it; False if that needs a wait at the gate.

        Either of the two may have been abandoned meanwhile; lock held.
        """
        if runner.stack.tasks[-1]._state != RUNNING:
            if runner.seated:
                self._seats.strand(runner)
            return True
        if runner.seated:
            return True
        self._schedule.blocked -= runner.blocked
        runner.blocked = 0
        return self._sit_down(runner)

    def _begin_helped(self, task: Task[Any], seat: int) -> bool:
        """Begin a task inside a wait, if it is one that may run there; lock held."""
        options = task._options
        if task._state != READY or seat not in self._schedule.seats(task):
            return False
        if options is not None and (
            options.occupancy < 1
            or asked(task) > self._schedule.budget.room()
            or not self._schedule.is_open(task, seat)
        ):
            return False
        return self._schedule.begin(task, seat)

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks, with the calling task's processor given up."""
        runner: Runner | None = getattr(self._local, "runner", None)
        schedule = self._schedule
        if runner is None or not runner.stack.tasks:
            waiter = object()
            try:
                with self._lock:
                    schedule.waiters.add(waiter)
                if schedule.starved:
                    self._relieve()
                return wait()
            finally:
                with self._lock:
                    schedule.waiters.discard(waiter)
        began = perf_counter_ns()
        with self._lock:
            refuse_abandoned(runner.stack.tasks[-1])
            runner.blocked = sum(task._state == RUNNING for task in runner.stack.tasks)
            schedule.blocked += runner.blocked
            self._rise(runner)
            self._seats.wake()
            other = self._seats.fill() if self._seats.idle else None
        if other is not None:
            self._let_go(other)
        if schedule.starved:
            self._relieve()
        try:
            return wait()
        finally:
            with self._lock:
                goes_on = runner.stack.tasks[-1]._state != RUNNING
                if not goes_on:
                    schedule.blocked -= runner.blocked
                    runner.blocked = 0
                    goes_on = self._sit_down(runner)
            if not goes_on:
                runner.gate.acquire()
            if events.consumers:
                events.publish_wait(runner.stack.tasks[-1], began)
            refuse_abandoned(runner.stack.tasks[-1])

    def occupy(self) -> None:
        """Have the calling task, which needed less until now, take a whole processor."""
        runner: Runner | None = getattr(self._local, "runner", None)
        task = None if runner is None else runner.aside
        if runner is None or task is None or runner.stack.tasks[-1] is not task:
            return
        with self._lock:
            if task._state != RUNNING:
                # It was abandoned, and occupies nothing.
                return
            self._rise(runner)
            runner.aside = None
            processors, own = self._schedule.processors, task._processor
            # A piece of a shard is that of the processor which the task began on.
            runner.choices = (
                ()
                if hasattr(task, "_pieces")
                else tuple(
                    [
                        seat
                        for seat in self._schedule.seats(task)
                        if processors[seat].worker == own.worker
                        and processors[seat].kind == own.kind
                    ]
                )
            )
            goes_on = self._sit_down(runner)
        if not goes_on:
            runner.gate.acquire()

    def _rise(self, runner: Runner) -> None:
        """Give up what the runner occupies of its seat; lock held."""
        if runner.aside is None:
            self._seats.vacate(runner)
        else:
            assert runner.seat is not None
            runner.seat.load -= runner.aside._options.occupancy  # type: ignore[union-attr]

    def _sit_down(self, runner: Runner) -> bool:
        """Undo `_rise`; False if the seat is taken and the runner must wait at its gate."""
        seat = runner.seat
        assert seat is not None
        if runner.aside is not None:
            seat.load += runner.aside._options.occupancy  # type: ignore[union-attr]
            return True
        if self._seats.reclaim(runner):
            return True
        seat.returning.append(runner)
        return False

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        runner: Runner | None = getattr(self._local, "runner", None)
        if runner is not None and runner.stack.tasks:
            return runner.stack.tasks[-1]
        return awaited.get()

    def processors(self) -> tuple[Processor, ...]:
        """Every processor."""
        return self._schedule.present

    def explain(self, task: Task[Any]) -> str:
        """Why `task` is in the state that it is in."""
        return self.watchdog.explain(task)

    # Ending

    def close(self, finish: bool = True) -> None:
        """Finish what was submitted, or cancel what has not begun, and end the threads."""
        while finish:
            arrival, waiter = Arrival(), object()
            try:
                with self._lock:
                    if self._schedule.outstanding == 0:
                        self._closed = True
                        break
                    self._closers.append(arrival)
                    self._schedule.waiters.add(waiter)
                if self._schedule.starved:
                    self._relieve()
                arrival.wait(None, self.watchdog)
            except BaseException:
                self._end()
                raise
            finally:
                with self._lock:
                    self._schedule.waiters.discard(waiter)
        self._end()

    def _end(self) -> None:
        """Let no task begin any more and end the threads, those that run a task later."""
        finished: list[Task[Any]] = []
        with self._lock:
            self._closed = self._seats.ended = True
            for task in self._schedule.queued():
                finished += self._schedule.cancel(task)
            for task in list(self._schedule.promised):
                finished += self._schedule.fail(task, Failure(cancellation(task)), CANCELLED)
            # Left there, they would look like work for which threads are to be started.
            self._schedule.drop_queued()
            running = self._schedule.running
            # Those without a seat that serve one are with functions that were abandoned.
            threads = [
                runner.thread
                for runner in self._seats.runners
                if runner.seated or runner.seat is None
            ]
            for runner in self._seats.parked:
                runner.ending = True
                runner.gate.release()
            self._seats.parked.clear()
        self._tell(finished)
        self._loop.close()
        if not running:
            for thread in threads:
                # One that another thread is about to start finds the engine closed and ends.
                if thread is not None and thread.is_alive():
                    thread.join()

    def take_over(self, former: Any) -> None:
        """Count what results hold that the engine counted which is closed now."""
        self._spiller.take_over(former._spiller)

    def abandon(self) -> None:
        """Refuse everything from now on, in the child of a fork, which has no threads."""
        self._lock = threading.Lock()
        self._spiller.abandon()
        self._closed = True
        self.watchdog.abandon()
