"""The serial engine, the definition of all others: a task runs when it is spawned."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from time import perf_counter_ns
from types import CoroutineType
from typing import Any, TypeVar

from darray.runtime import contexts, events, limits
from darray.runtime.arguments import sealed
from darray.runtime.budget import Budget
from darray.runtime.calling import (
    apart,
    attempted,
    captured,
    is_shallow,
    measured,
    overtime,
    state_after,
)
from darray.runtime.errors import DeadlockError, Failure
from darray.runtime.processor import Processor
from darray.runtime.settings import Settings
from darray.runtime.spawning import submit
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, RUNNING, Task, Watcher
from darray.runtime.timers import Timers
from darray.runtime.waiting import Arrival, add_watcher, arrived, call_watcher, refuse_abandoned

__all__ = ["SerialEngine", "start"]

R = TypeVar("R")


def start(settings: Settings) -> SerialEngine:
    """Start the serial engine."""
    return SerialEngine(limits.task_memory(settings))


class SerialEngine:
    """Runs every task in the thread that spawns it, before `spawn` returns.

    It has one processor. A task that it is given is therefore finished, failed or, where
    a task waits for one that it runs in, stuck.
    """

    def __init__(self, memory: int) -> None:
        # Guards the schedule and the tasks' fields; held for a few operations, never while
        # a task or a callback runs.
        self._lock = threading.Lock()
        self._processor = Processor(worker=0, kind="cpu", index=0)
        self._schedule = Schedule((self._processor,), Budget(memory))
        self._local = threading.local()
        # The tasks whose functions are being called.
        self._running: set[Task[Any]] = set()
        self._closed = False
        self._timers = Timers()

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Run `task`."""
        self.submit_all([(task, needs)])

    def submit_all(self, tasks: Sequence[tuple[Task[Any], Sequence[Task[Any]] | None]]) -> None:
        """Run tasks, in order."""
        for task, needs in tasks:
            self._refuse_foreign(needs or ())
            with self._lock:
                if self._closed:
                    raise RuntimeError("this engine is closed and takes no more tasks")
                finished = list(self._schedule.add(task, needs))
            self._tell(finished)
            self._run_ready([task])

    def _run_ready(self, tasks: list[Task[Any]]) -> None:
        """Run those of `tasks` that are READY, in order, each followed by what it made so."""
        pending = tasks[::-1]
        while pending:
            task = pending.pop()
            with self._lock:
                began = self._take(task)
            if not began and task._state != READY:
                continue
            following: list[Task[Any]] = []
            self._tell(self._carry_out(task, began, following))
            pending += [one for one in reversed(following) if one._state == READY]

    def _refuse_foreign(self, tasks: Iterable[Task[Any]]) -> None:
        for task in tasks:
            if task._engine is not self and task._state < DONE:
                raise RuntimeError(
                    f"{task!r} belongs to an engine that is gone (this process was forked, or "
                    "darray reconfigured, since it was spawned); spawn it again here"
                )

    def _take(self, task: Task[Any]) -> bool:
        """Begin `task` if it is READY and there is memory; the lock is held.

        It is in no queue then: nobody but its own thread ever looks for it.
        """
        schedule = self._schedule
        began = task._state == READY and schedule.begin(task, 0)
        if began:
            self._running.add(task)
        schedule.shared.plain.clear()
        schedule.shared.ordered.clear()
        schedule.starved.clear()
        return began

    def _carry_out(
        self, task: Task[Any], began: bool, following: list[Task[Any]]
    ) -> list[Task[Any]]:
        """Run a task, or fail it for want of memory; the tasks that this finished.

        Those that need it are added to `following`.
        """
        if not began:
            # Results in reference cycles hold memory that nobody can reach.
            gc.collect()
            with self._lock:
                if not self._take(task):
                    return self._schedule.fail(task, self._schedule.no_room(task), FAILED)
        if is_shallow():
            return self._run(task, following)
        # Python's stack must not end before the tasks do: go on with a fresh one.
        finished: list[Task[Any]] = []
        stack = self._stack()

        def go_on() -> None:
            self._local.stack = stack
            finished.extend(self._run(task, following))

        thread = threading.Thread(target=go_on, name="darray-serial")
        thread.start()
        thread.join()
        return finished

    def _stack(self) -> list[Task[Any]]:
        stack: list[Task[Any]] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def _run(self, task: Task[Any], following: list[Task[Any]]) -> list[Task[Any]]:
        """Call the task's function and store what it gave; the tasks that this finished."""
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        token = contexts.current.set(inherited)
        stack = self._stack()
        stack.append(task)
        began = perf_counter_ns()
        if events.consumers:
            events.publish(events.TaskBegan(task.number, task.name, self._processor, began))
        timer = None
        if options is not None and options.timeout is not None:
            timer = self._timers.call_later(
                options.timeout, lambda: self._abandon(task, overtime(task), FAILED)
            )
        try:
            outcome = next(apart(self._outcome, task))
        except KeyboardInterrupt:
            # Pressed by the user, who waits here: it is not the task's own failure.
            with self._lock:
                self._running.discard(task)
                finished = self._schedule.interrupted(task)
            self._tell(finished)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            stack.pop()
            contexts.current.reset(token)
        if events.consumers:
            events.publish_end(task, began, outcome)
        nbytes = measured(task, outcome)
        with self._lock:
            self._running.discard(task)
            if task._state == RUNNING:
                if outcome.__class__ is Failure:
                    return self._schedule.fail(task, outcome, state_after(task, outcome))
                following += task._dependents or ()
                self._schedule.finish(task, outcome, nbytes)
                return [task]
        # It was abandoned: nothing that it was given is in use any more.
        task._function = task._args = task._kwargs = task._needs = task._hold = None
        return []

    def _ended(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns; awaited on a fresh thread, as a loop may run on this one."""
        import asyncio

        future: Future[Any] = Future()
        stack, context = self._stack(), copy_context()

        def end() -> None:
            self._local.stack = stack
            try:
                future.set_result(asyncio.run(coroutine))
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=context.run, args=(end,), name="darray-serial")
        thread.start()
        thread.join()
        return future.result()

    def _outcome(self, task: Task[Any]) -> Any:
        """Call the task's function; its value, or the `Failure` that it ended with."""
        try:
            value = attempted(task)
            return sealed(self._ended(value) if value.__class__ is CoroutineType else value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            try:
                return captured(task, error)
            finally:
                # The failure's frames keep this one: it must not keep the failure.
                del task

    def _tell(self, finished: list[Task[Any]], abandoned: Task[Any] | None = None) -> None:
        """Drop what finished tasks were given and call their watchers, each exactly once.

        The function of an `abandoned` one still uses what it was given.
        """
        for task in finished:
            if task is not abandoned:
                task._function = task._args = task._kwargs = task._needs = None
            with self._lock:
                watchers = arrived(task)
            for watcher in watchers or ():
                call_watcher(watcher, task)

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

        With `first_failure` the wait also ends when one of them fails. Only another
        thread's task can be unfinished without a deadlock.
        """
        unfinished = [task for task in tasks if task._state < DONE]
        missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
        if missing <= 0 or (first_failure and any(task._state > DONE for task in tasks)):
            return True
        self._refuse_foreign(unfinished)
        own = self._stack()
        if own:
            refuse_abandoned(own[-1])
        stuck = [task for task in unfinished if task in own]
        if stuck and timeout is None and missing > len(unfinished) - len(stuck):
            raise DeadlockError(
                f"task {own[-1].name!r} waits for {stuck[0]!r}, which cannot finish before "
                "the waiting task does; do not wait for it here"
            )
        arrival = Arrival(first_failure)
        options = contexts.current.get()
        try:
            with self._lock:
                if options is not None and options.queue is not None:
                    # The queue may let go of what it holds only when this wait has ended.
                    self._schedule.refuse_held(unfinished)
                if self._closed:
                    raise RuntimeError("this engine is closed: its unfinished tasks never run")
                if arrival.watch(unfinished, missing):
                    return True
            return arrival.wait(timeout)
        finally:
            with self._lock:
                arrival.forget(unfinished)

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``."""
        return wait()

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task`, which is abandoned if it runs; whether it is cancelled now.

        An abandoned one is finished at once, and what it gives is dropped; whoever spawned
        it goes on when its function returns.
        """
        self._cancel([task], begun=True)
        return task._state == CANCELLED

    def cancel_graph(self, tasks: list[Task[Any]], begun: bool = False) -> None:
        """Cancel those of `tasks`, and of all that they need, that have not begun.

        With `begun`, also those that run.
        """
        with self._lock:
            every = self._schedule.closure(tasks)
        self._cancel(every, begun)

    def cancel_all(self) -> None:
        """Cancel every unfinished task."""
        with self._lock:
            every = list(self._running)
        self._cancel(every, begun=True)

    def _cancel(self, tasks: list[Task[Any]], begun: bool) -> None:
        for task in tasks:
            if task._state == RUNNING and begun:
                self._abandon(task, Failure(self._schedule.cancellation(task)), CANCELLED)
            else:
                with self._lock:
                    finished = self._schedule.cancel(task)
                self._tell(finished)

    def _abandon(self, task: Task[Any], failure: Failure, state: int) -> None:
        """End a RUNNING task in `state`, although its function goes on."""
        with self._lock:
            finished = self._schedule.abandon(task, failure, state)
        self._tell(finished, task)

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        stack = self._stack()
        return stack[-1] if stack else None

    def processors(self) -> tuple[Processor, ...]:
        """The one processor."""
        return (self._processor,)

    def close(self, finish: bool = True) -> None:
        """Take no more tasks; none is left and there is no thread."""
        self._closed = True

    def abandon(self) -> None:
        """Refuse everything from now on, in the child of a fork."""
        self._lock = threading.Lock()
        self._closed = True
