"""The engine of threads in this process: one seat a processor, one thread on each seat."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from collections.abc import Callable, Iterable
from time import monotonic, perf_counter_ns
from typing import Any, TypeVar

from darray.runtime import contexts, events, limits
from darray.runtime.arguments import INERT, actions, loaded, sealed
from darray.runtime.budget import Budget
from darray.runtime.errors import DeadlockError, Failure
from darray.runtime.events import TaskBegan, publish, publish_end
from darray.runtime.processor import Processor
from darray.runtime.seats import Seats, Worker
from darray.runtime.settings import Settings
from darray.runtime.spaces import nbytes_of
from darray.runtime.spawning import submit
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, RUNNING, WAITING, Task, Watcher
from darray.runtime.waiting import Arrival, Stack, arrived, call_watcher, is_stuck

__all__ = ["ThreadsEngine", "start"]

R = TypeVar("R")

# Python frames below which a waiting thread runs what it waits for inside its wait. Beyond
# it the wait blocks and a spare thread goes on, so that the stack never ends before the
# work does.
HELPING_FRAMES = 240

# A wait for all of many tasks first waits for the last, that often: as tasks run in order,
# few others are left then, and those that are finished need not have been watched.
LAST_FIRST = 4

_current_options = contexts.current.get


def start(settings: Settings) -> ThreadsEngine:
    """Start the engine that `settings` describe."""
    count = settings.threads or limits.processor_count()
    return ThreadsEngine(count, limits.task_memory(settings))


class ThreadsEngine:
    """Tasks on the threads of this process.

    Invariants, guarded by ``_lock`` and checked by `_check`
    --------------------------------------------------------
    * Those of `Schedule` and of `Seats`.
    * No idle seat has work that it could begin, but while a thread is on its way to it.

    A signal handler, Ctrl-C's above all, may raise between any two calls in the main thread.
    Every method that the main thread runs is written so that what it leaves behind then is
    either whole or repaired by `_mend`.
    """

    def __init__(self, count: int, memory: int) -> None:
        # Guards the schedule, the seats, `_closers` and the tasks' fields as `Task` says.
        # Held for a few operations; no other lock is taken and no callback, task or value
        # of the user's is called or dropped while it is held.
        self._lock = threading.Lock()
        self._schedule = Schedule(
            tuple(Processor(worker=0, kind="cpu", index=number) for number in range(count)),
            Budget(memory, self._memory_freed),
        )
        self._seats = Seats(count, self._schedule)
        self._local = threading.local()
        self._numbers = itertools.count()
        # Threads with waits inside tasks.
        self._stacks: set[Stack] = set()
        # What waits for the engine to have no task left.
        self._closers: list[Arrival] = []
        self._closed = False

    # Submitting

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: list[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""
        finished = worker = None
        try:
            if needs is not None:
                for need in needs:
                    if need._engine is not self:
                        self._refuse_foreign(needs)
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed and takes no more tasks")
                if needs or task._options is not None:
                    finished = self._schedule.add(task, needs)
                else:
                    # Schedule.add, spelled out. Nothing can break off the three lines.
                    self._schedule.outstanding += 1
                    task._state = READY
                    self._schedule.shared.plain.append(task)
                if self._seats.idle and task._state == READY:
                    worker = self._seats.fill()
            if worker is not None:
                self._let_go(worker)
        except BaseException:
            self._mend([(task, needs)])
            raise
        if finished:
            self._tell(finished)

    def submit_all(self, tasks: list[tuple[Task[Any], list[Task[Any]] | None]]) -> None:
        """Take new tasks, none of which begins before all are taken."""
        finished: list[Task[Any]] = []
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

    def _mend(self, tasks: list[tuple[Task[Any], list[Task[Any]] | None]]) -> None:
        """Cancel `tasks`, whose submission was broken off, and let go whoever was forgotten."""
        finished: list[Task[Any]] = []
        with self._lock:
            for task, needs in tasks:
                if task._state in (WAITING, READY):
                    finished += self._schedule.withdraw(task, needs)
            forgotten = self._seats.mend()
        for worker in forgotten:
            self._let_go(worker)
        self._tell(finished)

    def _fill_all(self) -> None:
        """Bring threads to all idle seats that have work."""
        while self._seats.idle:
            with self._lock:
                worker = self._seats.fill()
            if worker is None:
                return
            self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """Let a parked or new thread, which was given a seat, run."""
        worker.called = True
        if worker.thread is not None:
            worker.gate.release()
            return
        name = f"darray-{next(self._numbers)}"
        worker.thread = threading.Thread(
            target=self._live, args=(worker,), name=name, daemon=True
        )
        worker.thread.start()

    # Running

    def _live(self, worker: Worker) -> None:
        """Be a thread: serve on the seat given, park, and again."""
        self._local.worker = worker
        while True:
            if worker.pools != self._seats.pools.version:
                worker.pools = self._seats.pools.version
                self._seats.pools.restrict_own()
            with self._lock:
                task = self._next(worker) if worker.seat is not None else None
                other = self._seats.fill() if self._seats.idle else None
            if other is not None:
                self._let_go(other)
            while task is not None:
                outcome = self._call(worker, task)
                task = self._complete(worker, task, outcome)
            if self._schedule.starved:
                self._relieve()
            if worker.ending:
                return
            worker.gate.acquire()

    def _next(self, worker: Worker) -> Task[Any] | None:
        """The next task for the worker, which is parked if there is none; lock held."""
        seat = worker.seat
        assert seat is not None
        if worker.seated and not seat.returning and not self._closed:
            task = self._schedule.take(seat.number)
            if task is not None:
                return task
        self._seats.park(worker, ending=self._closed)
        return None

    def _call(self, worker: Worker, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        options = task._options
        if options is not None or events.consumers:
            return self._call_observed(worker, task)
        if _current_options() is not None:
            contexts.current.set(None)
        running = worker.stack.tasks
        running.append(task)
        try:
            if task._kwargs is None:
                value = task._function(*task._args)
            else:
                value = _call_loaded(task)
            if actions.get(value.__class__) != INERT:
                value = sealed(value)
        except BaseException as error:
            value = _failure(task, error)
        running.pop()
        return value

    def _call_observed(self, worker: Worker, task: Task[Any]) -> Any:
        """Do what `_call` does, under the task's options, and tell of it."""
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        if _current_options() is not inherited:
            contexts.current.set(inherited)
        if options is not None and options.occupancy < 1:
            self._stand_aside(worker, task, options.occupancy)
        running = worker.stack.tasks
        running.append(task)
        began = 0
        if events.consumers:
            began = perf_counter_ns()
            publish(TaskBegan(id(task), task.name, task._processor, began))
        try:
            value = sealed(_call_loaded(task))
        except BaseException as error:
            value = _failure(task, error)
        running.pop()
        if events.consumers:
            publish_end(task, began, value)
        return value

    def _stand_aside(self, worker: Worker, task: Task[Any], occupancy: float) -> None:
        """Run a task of small occupancy beside the seat, for others to use the seat."""
        assert worker.seated
        assert worker.seat is not None
        with self._lock:
            worker.aside = task
            worker.seat.load += occupancy
            self._seats.vacate(worker)
            other = self._seats.fill()
        if other is not None:
            self._let_go(other)

    def _complete(self, worker: Worker, task: Task[Any], outcome: Any) -> Task[Any] | None:
        """Store what a task gave; the next task for the worker."""
        schedule = self._schedule
        if task._options is not None or outcome.__class__ is Failure or schedule.special:
            return self._complete_special(worker, task, outcome)
        seats, seat = self._seats, worker.seat
        plain = schedule.shared.plain
        # The arguments go before the lock is taken: dropping them may run the user's code.
        task._function = task._args = task._kwargs = task._needs = None
        others = other = following = None
        with self._lock:
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
                following = self._next(worker)
            else:
                while following is None and plain:
                    candidate = plain.popleft()
                    if candidate._state == READY:
                        following = candidate
                if following is not None:
                    following._processor = seat.processor  # type: ignore[union-attr]
                    following._state = RUNNING
                    schedule.running += 1
                else:
                    following = self._next(worker)
            if seats.idle and (plain or schedule.special):
                other = seats.fill()
            if self._closers and not schedule.outstanding:
                self._drained()
        if other is not None:
            self._let_go(other)
        if others is not None:
            for watcher in others:
                call_watcher(watcher, task)
        return following

    def _complete_special(
        self, worker: Worker, task: Task[Any], outcome: Any
    ) -> Task[Any] | None:
        """Do what `_complete` does, for a task that failed or has options."""
        other = None
        nbytes = _measured(task, outcome)
        task._args = task._kwargs = task._needs = None
        with self._lock:
            if worker.aside is task:
                assert worker.seat is not None
                worker.aside = None
                worker.seat.load -= task._options.occupancy  # type: ignore[union-attr]
                self._seats.reclaim(worker)
            finished = self._store(task, outcome, nbytes)
            following = self._next(worker)
            if self._seats.idle:
                other = self._seats.fill()
        if other is not None:
            self._let_go(other)
        self._tell(finished)
        return following

    def _store(self, task: Task[Any], outcome: Any, nbytes: int) -> list[Task[Any]]:
        """Store what a RUNNING task gave; the tasks that this finished. Lock held."""
        if outcome.__class__ is Failure:
            return self._schedule.fail(task, outcome, FAILED)
        following = self._schedule.finish(task, outcome, nbytes)
        if following is not None:
            self._schedule.shared.plain.appendleft(following)
        return [task]

    def _tell(self, finished: list[Task[Any]]) -> None:
        """Drop what finished tasks were given and call their watchers, each exactly once."""
        for task in finished:
            task._function = task._args = task._kwargs = task._needs = None
            with self._lock:
                watchers = arrived(task)
                if self._closers and not self._schedule.outstanding:
                    self._drained()
            for watcher in watchers or ():
                call_watcher(watcher, task)

    # Waiting

    def watch(self, task: Task[Any], watcher: Watcher) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""
        with self._lock:
            if task._state < DONE:
                task._watchers = [*(task._watchers or ()), watcher]
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
        unfinished = [task for task in tasks if task._state < DONE]
        missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
        if missing <= 0:
            return True
        if first_failure and any(task._state > DONE for task in tasks):
            return True
        self._refuse_foreign(unfinished)
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is not None and worker.stack.tasks:
            if timeout is None and missing == len(unfinished) and not first_failure:
                self._wait_in_task(worker, unfinished)
                return True
            self._refuse_stuck(worker, unfinished, missing, timeout)
            return self.block(lambda: self._await(unfinished, missing, timeout, first_failure))
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
    ) -> bool:
        """Block until `missing` of `tasks` are finished; whether they are."""
        arrival = Arrival(first_failure)
        schedule = self._schedule
        partial = first_failure or missing < len(tasks)
        try:
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed: its unfinished tasks never run")
                if arrival.watch(tasks, missing):
                    return True
                schedule.waiters.add(arrival)
            if schedule.starved:
                self._relieve()
            return arrival.wait(timeout)
        finally:
            with self._lock:
                schedule.waiters.discard(arrival)
                if partial or arrival.missing:
                    arrival.forget(tasks)

    def _refuse_stuck(
        self, worker: Worker, tasks: list[Task[Any]], missing: int, timeout: float | None
    ) -> None:
        """Raise `DeadlockError` if too few of `tasks` can finish before the waiting task does."""
        if timeout is not None:
            return
        with self._lock:
            stuck = [
                task for task in tasks if is_stuck(worker.stack, [task], self._stacks)
            ]
        if len(tasks) - len(stuck) < missing:
            raise _deadlock(worker, stuck[0])

    def _wait_in_task(self, worker: Worker, tasks: list[Task[Any]]) -> None:
        """Wait for all `tasks` inside a task: run what they need, else give the seat up."""
        stack = worker.stack
        with self._lock:
            if is_stuck(stack, tasks, self._stacks):
                raise _deadlock(worker, next(task for task in tasks if task._state < DONE))
            stack.waits.append((len(stack.tasks) - 1, tasks))
            self._stacks.add(stack)
        try:
            if worker.seated and _is_shallow():
                self._help(worker, tasks)
            unfinished = [task for task in tasks if task._state < DONE]
            if unfinished:
                self.block(lambda: self._await(unfinished, len(unfinished), None))
        finally:
            with self._lock:
                stack.waits.pop()
                if not stack.waits:
                    self._stacks.discard(stack)

    def _help(self, worker: Worker, targets: list[Task[Any]]) -> None:
        """Run, on this thread, the unstarted tasks that `targets` need."""
        schedule, seat = self._schedule, worker.seat
        assert seat is not None
        context = _current_options()
        with self._lock:
            wanted = schedule.closure(targets)
        ready = [task for task in wanted if task._state == READY]
        among = set(wanted)
        while ready:
            task = ready.pop()
            with self._lock:
                if not self._begin_helped(task, seat.number):
                    continue
                dependents = [one for one in task._dependents or () if one in among]
            outcome = self._call(worker, task)
            nbytes = _measured(task, outcome)
            task._args = task._kwargs = task._needs = None
            with self._lock:
                finished = self._store(task, outcome, nbytes)
                other = self._seats.fill() if self._seats.idle else None
            if other is not None:
                self._let_go(other)
            self._tell(finished)
            ready += [one for one in reversed(dependents) if one._state == READY]
        contexts.current.set(context)

    def _begin_helped(self, task: Task[Any], seat: int) -> bool:
        """Begin a task inside a wait, if it is one that may run there; lock held."""
        options = task._options
        if task._state != READY:
            return False
        if options is not None and (
            options.occupancy < 1
            or seat not in self._schedule.seats(task)
            or options.memory > self._schedule.budget.room()
        ):
            return False
        return self._schedule.begin(task, seat)

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks, with the calling task's processor given up."""
        worker: Worker | None = getattr(self._local, "worker", None)
        schedule = self._schedule
        if worker is None or not worker.stack.tasks:
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
        count = len(worker.stack.tasks)
        with self._lock:
            schedule.blocked += count
            self._rise(worker)
            other = self._seats.fill() if self._seats.idle else None
        if other is not None:
            self._let_go(other)
        if schedule.starved:
            self._relieve()
        try:
            return wait()
        finally:
            with self._lock:
                schedule.blocked -= count
                seated = self._sit_down(worker)
            if not seated:
                worker.gate.acquire()

    def _rise(self, worker: Worker) -> None:
        """Give up what the worker occupies of its seat; lock held."""
        if worker.aside is None:
            self._seats.vacate(worker)
        else:
            assert worker.seat is not None
            worker.seat.load -= worker.aside._options.occupancy  # type: ignore[union-attr]

    def _sit_down(self, worker: Worker) -> bool:
        """Undo `_rise`; False if the seat is taken and the worker must wait at its gate."""
        seat = worker.seat
        assert seat is not None
        if worker.aside is not None:
            seat.load += worker.aside._options.occupancy  # type: ignore[union-attr]
            return True
        if self._seats.reclaim(worker):
            return True
        seat.returning.append(worker)
        return False

    def _memory_freed(self) -> None:
        """Bring a thread to a task that waits for memory, some having been freed.

        Called by finalisers, perhaps on a thread that holds the lock. Where the lock is
        not free nothing is done: the next task to end, or the next wait, looks again.
        """
        seats = self._seats
        if not (self._schedule.starved and seats.idle and seats.parked):
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            worker = seats.fill() if seats.parked else None
        finally:
            self._lock.release()
        if worker is not None:
            self._let_go(worker)

    def _relieve(self) -> None:
        """Begin tasks for which there is memory; fail those for which there never will be."""
        self._fill_all()
        with self._lock:
            if self._schedule.starving() is None:
                return
        # Results in reference cycles hold memory that nobody can reach.
        gc.collect()
        while True:
            self._fill_all()
            with self._lock:
                finished = self._schedule.relieve()
            if not finished:
                return
            self._tell(finished)

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        worker: Worker | None = getattr(self._local, "worker", None)
        return worker.stack.tasks[-1] if worker is not None and worker.stack.tasks else None

    def processors(self) -> tuple[Processor, ...]:
        """Every processor."""
        return self._schedule.processors

    # Ending

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task` unless it began; whether it will never run."""
        with self._lock:
            finished = self._schedule.cancel(task)
        self._tell(finished)
        return task._state == CANCELLED

    def cancel_graph(self, tasks: list[Task[Any]]) -> None:
        """Cancel those of `tasks`, and of all that they need, that have not begun."""
        finished: list[Task[Any]] = []
        with self._lock:
            for task in self._schedule.closure(tasks):
                finished += self._schedule.cancel(task)
        self._tell(finished)

    def _drained(self) -> None:
        """Let those go on that wait for the engine to have no task left; lock held."""
        while self._closers:
            self._closers.pop().gate.release()

    def close(self, finish: bool = True) -> None:
        """Finish what was submitted, or cancel what has not begun, and end the threads."""
        while finish:
            arrival = Arrival()
            try:
                with self._lock:
                    if self._schedule.outstanding == 0:
                        self._closed = True
                        break
                    self._closers.append(arrival)
                    self._schedule.waiters.add(arrival)
                if self._schedule.starved:
                    self._relieve()
                arrival.wait()
            except BaseException:
                self._end()
                raise
            finally:
                with self._lock:
                    self._schedule.waiters.discard(arrival)
        self._end()

    def _end(self) -> None:
        """Let no task begin any more and end the threads, those that run a task later."""
        finished: list[Task[Any]] = []
        with self._lock:
            self._closed = True
            for task in self._schedule.queued():
                finished += self._schedule.cancel(task)
            running = self._schedule.running
            threads = [worker.thread for worker in self._seats.workers]
            for worker in self._seats.parked:
                worker.ending = True
                worker.gate.release()
            self._seats.parked.clear()
        self._tell(finished)
        if not running:
            for thread in threads:
                if thread is not None:
                    thread.join()

    def abandon(self) -> None:
        """Refuse everything from now on, in the child of a fork, which has no threads."""
        self._lock = threading.Lock()
        self._closed = True

    def _check(self, tasks: Iterable[Task[Any]] = ()) -> None:
        """Assert the invariants, given all the tasks that are not finished."""
        with self._lock:
            self._seats._check()
            self._schedule._check(tasks)


def _call_loaded(task: Task[Any]) -> Any:
    """Call the task's function with tasks, refs and loaders replaced by their values."""
    function = loaded(task._function)
    args = [arg._value if arg.__class__ is Task else loaded(arg) for arg in task._args]
    if not task._kwargs:
        return function(*args)
    return function(*args, **{key: loaded(arg) for key, arg in task._kwargs.items()})


def _failure(task: Task[Any], error: BaseException) -> Failure:
    note = f"in task {task.name!r} on {task.processor}, spawned at {task.spawned_at}"
    return Failure.capture(error, note)


def _deadlock(worker: Worker, target: Task[Any]) -> DeadlockError:
    return DeadlockError(
        f"task {worker.stack.tasks[-1].name!r} waits for {target!r}, which cannot finish "
        "before the waiting task does; do not wait for it here"
    )


def _measured(task: Task[Any], outcome: Any) -> int:
    """Bytes of what a task gave, where they count; may run the user's code."""
    options = task._options
    if options is None or not options.memory or outcome.__class__ is Failure:
        return 0
    return nbytes_of(outcome)


def _is_shallow() -> bool:
    """Whether the calling thread's stack has room for tasks inside its wait."""
    try:
        sys._getframe(HELPING_FRAMES)
    except ValueError:
        return True
    return False
