"""Awaiting: tasks of async functions, which run on an event loop and hold no processor."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from time import perf_counter_ns
from typing import Any

from darray.runtime import events
from darray.runtime.calling import captured, is_forwarded, measured, settled
from darray.runtime.errors import Failure
from darray.runtime.events import publish_end
from darray.runtime.loops import EventLoop, awaited
from darray.runtime.processor import Processor
from darray.runtime.promising import promise
from darray.runtime.refs import Ref
from darray.runtime.refusals import cancellation
from darray.runtime.spaces import here, space_of
from darray.runtime.stopping import Stopping
from darray.runtime.tasks import CANCELLED, RUNNING, Task
from darray.runtime.waiting import Stack, endless, is_stuck

__all__ = ["Awaiting"]


class Awaiting(Stopping):
    """The part of an engine that awaits what async functions return.

    ``_awaited`` and ``_stacks`` are guarded by the engine's lock.
    """

    has_spaces: bool
    _closed: bool

    def __init__(self) -> None:
        # Tasks whose coroutines are awaited, with their futures once these are made.
        self._awaited: dict[Task[Any], Any] = {}
        self._loop = EventLoop()
        # Threads with waits inside tasks, and what stands for coroutines that await tasks.
        self._stacks: set[Stack] = set()

    def _await_apart(self, task: Task[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Let the event loop await what a RUNNING task's function returned, without a seat."""
        began = perf_counter_ns()
        context = copy_context()
        context.run(awaited.set, task)
        if self.has_spaces:
            context.run(here.set, space_of(task._processor))

        def begin() -> None:
            future = self._loop.begin(
                coroutine, context, lambda future: self._deliver(task, future, began)
            )
            with self._lock:
                if task._state == RUNNING:
                    self._awaited[task] = future
                    return
            future.cancel()

        with self._lock:
            goes_on = task._state == RUNNING
            if goes_on:
                self._awaited[task] = None
        if not (goes_on and self._loop.call(begin)):
            # It was abandoned: nothing that it was given is in use any more.
            coroutine.close()
            task._function = task._args = task._kwargs = task._needs = task._hold = None

    def _deliver(self, task: Task[Any], future: Any, began: int) -> None:
        """Store what a coroutine gave; called on the event loop's thread."""
        if future.cancelled():
            outcome: Any = Failure(cancellation(task))
            self._abandon(task, outcome, CANCELLED)
        else:
            error = future.exception()
            outcome = future.result() if error is None else captured(task, error)
            if is_forwarded(outcome) and not outcome.done():
                # Nothing waits on the event loop's thread.
                outcome = self._forwarding(task, outcome, began)
                if outcome is None:
                    return
            elif error is None:
                outcome = settled(task, outcome, self.has_spaces)
        self._deliver_outcome(task, outcome, began)

    def _forwarding(self, task: Task[Any], ref: Ref[Any], began: int) -> Failure | None:
        """Let `task` end with the value of `ref` once that is there; why it never can be."""
        if self._is_endless(task, ref.task):
            return captured(task, endless(task, ref.task))
        ref.task._engine.watch(
            ref.task,
            lambda _: self._deliver_outcome(task, settled(task, ref, self.has_spaces), began),
        )
        return None

    def promise(self, task: Task[Any], processor: Processor) -> bool:
        """Begin a HELD task that ends when `deliver` is called; whether it was not cancelled."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed and takes no more tasks")
            return promise(self._schedule, task, processor)

    def deliver(self, task: Task[Any], outcome: Any, began: int) -> None:
        """End a promised task with a value, or a `Failure`, unless it was cancelled."""
        if outcome.__class__ is not Failure:
            outcome = settled(task, outcome, self.has_spaces)
        self._deliver_outcome(task, outcome, began)

    def _deliver_outcome(self, task: Task[Any], outcome: Any, began: int) -> None:
        if events.consumers:
            publish_end(task, began, outcome)
        nbytes = measured(task, outcome)
        with self._lock:
            self._awaited.pop(task, None)
            finished = self._store(task, outcome, nbytes)
        self._fill_all()
        self._tell(finished)
        if not finished:
            task._function = task._args = task._kwargs = task._needs = task._hold = None
        if self._schedule.starved:
            self._relieve()

    def _is_endless(self, waiter: Task[Any], task: Task[Any]) -> bool:
        """Whether `task` needs `waiter`, which is to wait for it."""
        stack = Stack()
        stack.tasks.append(waiter)
        with self._lock:
            return is_stuck(stack, [task], self._stacks, self._schedule.in_the_way)

    @contextmanager
    def awaiting(self, task: Task[Any]) -> Iterator[None]:
        """Note in a block that the calling coroutine awaits `task`, unless that cannot end."""
        waiter = awaited.get()
        if waiter is None:
            yield
            return
        stack = Stack()
        stack.tasks.append(waiter)
        with self._lock:
            if is_stuck(stack, [task], self._stacks, self._schedule.in_the_way):
                raise endless(waiter, task)
            # What a task of asyncio made by the coroutine awaits, the coroutine may go on without.
            if self._awaited.get(waiter) is self._loop.current():
                stack.waits.append((0, [task]))
                self._stacks.add(stack)
        try:
            yield
        finally:
            with self._lock:
                self._stacks.discard(stack)

    def _store(self, task: Task[Any], outcome: Any, nbytes: int) -> list[Task[Any]]:
        """Store what a task gave that ran until now; the tasks that this finished. Lock held."""
        raise NotImplementedError

    def _relieve(self) -> None:
        """Begin tasks for which there is memory; fail those for which there never will be."""
        raise NotImplementedError
