"""The serial engine, the definition of all others: a task runs when it is spawned."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, TypeVar

from darray.runtime import contexts, events, limits
from darray.runtime.arguments import loaded, sealed
from darray.runtime.budget import Budget
from darray.runtime.errors import DeadlockError, Failure, MemoryLimitError
from darray.runtime.processor import Processor
from darray.runtime.settings import Settings
from darray.runtime.spaces import nbytes_of
from darray.runtime.spawning import submit
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, READY, Task
from darray.runtime.waiting import Countdown, call_watcher

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
        self._schedule = Schedule((self._processor,), Budget(memory), nbytes_of)
        self._local = threading.local()

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""
        return submit(self, function, args, None, contexts.current.get(), sys._getframe(2))

    def submit(self, task: Task[Any], needs: list[Task[Any]] | None) -> None:
        """Run `task`."""
        self.submit_all([(task, needs)])

    def submit_all(self, tasks: list[tuple[Task[Any], list[Task[Any]] | None]]) -> None:
        """Run tasks, in order."""
        for task, needs in tasks:
            with self._lock:
                finished = self._schedule.add(task, needs)
                admitted = task._state == READY and self._schedule.begin(task, 0)
                if task._state == READY:
                    finished = self._schedule.fail(task, self._no_room(task), FAILED)
            if admitted:
                finished = self._run(task)
            self._tell(finished)

    def _no_room(self, task: Task[Any]) -> Failure:
        assert task._options is not None
        budget = self._schedule.budget
        error = MemoryLimitError(
            f"task {task.name!r} needs {task._options.memory:,} bytes; of the {budget.limit:,} "
            f"that the memory limit leaves for tasks, {budget.held + budget.running:,} are held"
        )
        return Failure(error, None)

    def _stack(self) -> list[Task[Any]]:
        stack: list[Task[Any]] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def _run(self, task: Task[Any]) -> list[Task[Any]]:
        """Call the task's function and store what it gave; the tasks that this finished."""
        function, args, kwargs, _ = task._call
        options = task._options
        inherited = options.outer if options is not None and options.own else options
        token = contexts.current.set(inherited)
        stack = self._stack()
        stack.append(task)
        began = perf_counter_ns()
        if events.consumers:
            events.publish(events.TaskBegan(id(task), task.name, self._processor, began))
        try:
            function = loaded(function)
            args = tuple([loaded(arg) for arg in args])
            kwargs = {key: loaded(arg) for key, arg in (kwargs or {}).items()}
            outcome = sealed(function(*args, **kwargs))
        except KeyboardInterrupt:
            # Pressed by the user, who waits here: it is not the task's own failure.
            with self._lock:
                task._state = READY
                self._schedule.running -= 1
                finished = self._schedule.cancel(task)
            self._tell(finished)
            raise
        except BaseException as error:
            outcome = Failure.capture(
                error,
                f"in task {task.name!r} on {self._processor}, spawned at {task.spawned_at}",
                SerialEngine._run.__code__,
            )
        finally:
            stack.pop()
            contexts.current.reset(token)
        if events.consumers:
            events.publish_end(task, began, outcome)
        with self._lock:
            if outcome.__class__ is Failure:
                return self._schedule.fail(task, outcome, FAILED)
            self._schedule.finish(task, outcome)
            return [task]

    def _tell(self, finished: list[Task[Any]]) -> None:
        """Call the watchers of finished tasks, each exactly once."""
        for task in finished:
            with self._lock:
                watchers, task._watchers = task._watchers, None
            for watcher in watchers or ():
                call_watcher(watcher, task)

    def watch(self, task: Task[Any], watcher: Callable[[Any], object]) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""
        with self._lock:
            if task._state < DONE:
                task._watchers = [*(task._watchers or ()), watcher]
                return
        call_watcher(watcher, task)

    def wait(
        self, tasks: list[Task[Any]], timeout: float | None, count: int | None = None
    ) -> bool:
        """Wait until `count` of the tasks, or all, are finished; whether they are.

        Only another thread's task can be unfinished without a deadlock.
        """
        arrival = Countdown()
        with self._lock:
            unfinished = [task for task in tasks if task._state < DONE]
            missing = (len(tasks) if count is None else count) - len(tasks) + len(unfinished)
            if missing <= 0:
                return True
            own = self._stack()
            stuck = [task for task in unfinished if task in own]
            if stuck and timeout is None and missing > len(unfinished) - len(stuck):
                raise DeadlockError(
                    f"task {own[-1].name!r} waits for {stuck[0]!r}, which cannot finish before "
                    "the waiting task does; do not wait for it here"
                )
            arrival.expect(missing)
            for task in unfinished:
                task._watchers = [*(task._watchers or ()), arrival]
        return arrival.wait(timeout)

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``."""
        return wait()

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task` unless it began; whether it will never run."""
        return task._state == CANCELLED

    def cancel_graph(self, tasks: list[Task[Any]]) -> None:
        """Cancel nothing: every task began when it was spawned."""

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""
        stack = self._stack()
        return stack[-1] if stack else None

    def processors(self) -> tuple[Processor, ...]:
        """The one processor."""
        return (self._processor,)

    def close(self) -> None:
        """Do nothing: no task is left and there is no thread."""

