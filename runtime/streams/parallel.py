"""Parallel stages: each call is a task of its own, and their values are given in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from msgspec.structs import replace

from darray.runtime import contexts
from darray.runtime.arguments import uses_in
from darray.runtime.spaces import register_handle
from darray.runtime.spawning import submit
from darray.runtime.streams.calls import StreamFinished
from darray.runtime.streams.edges import UNBOUNDED
from darray.runtime.streams.lanes import Driver
from darray.runtime.streams.stages import Stage
from darray.runtime.tasks import DONE, Task

__all__ = ["ParallelStage", "refuse_parallel"]


class Finished:
    """What a call gave that ended the stream."""

    __slots__ = ("result", "value")

    def __init__(self, finished: StreamFinished) -> None:
        self.value = finished.value
        self.result = finished.result


class Caller:
    """Says, to a call that runs by itself, which streaming task makes it."""

    __slots__ = ("task",)

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def here(self) -> tuple[Any, Any]:
        """What `contexts.streaming` says in the call."""
        engine: Any = self.task._engine
        return engine.current_task(), self.task


register_handle(Caller)


class ParallelStage(Stage):
    """A streaming task that makes several calls at once.

    ``_pending`` are the tasks of these calls in the order of their values. The stage's driver
    alone changes it. There is room for what they give.
    """

    def __init__(self, *args: Any, site: FrameType, is_async: bool) -> None:
        super().__init__(*args)
        self._frame = site
        self._calling = finishing_awaited if is_async else finishing
        self._pending: deque[Task[Any]] = deque()
        options = self._options
        outer = contexts.outside(options.outer if options.own else options)
        self._own = replace(
            options, own=True, outer=contexts.without_queue(outer), region=None, queue=None,
            group=None, parallel=1, name=self.task.name,
        )  # fmt: skip

    def use(self, call: Callable[..., Any]) -> None:
        """Make `call` from now on."""
        self.call = call
        self.has_call = True

    def _run(self, driver: Driver, call: Callable[..., Any]) -> bool:
        while True:
            if self.is_alarmed:
                self._attend()
            if self.is_over:
                return False
            while self._pending and self._pending[0]._state >= DONE:
                self._pass_on(self._pending.popleft(), driver)
            is_through = not self._left or self._is_exhausted()
            if is_through and not self._pending:
                self._end(None, None)
                return False
            if is_through or len(self._pending) >= self._options.parallel:
                # The end of the first of them wakes it.
                return False
            room = min([edge.room() for edge in self.outputs], default=UNBOUNDED)
            if room <= len(self._pending):
                return False
            if all([edge.available() for edge in self.inputs]):
                self._begin_one(driver)
            elif not self.is_alarmed and not self._is_exhausted():
                return False

    def _begin_one(self, driver: Driver) -> None:
        row = self._row(driver)
        if row is None:
            return
        self.evaluations += 1
        self._left -= 1
        engine: Any = self.task._engine
        args = (Caller(self.task), self.call, *row)
        task = submit(engine, self._calling, args, None, self._own, self._frame)
        self._pending.append(task)
        engine.watch(task, self._came)
        self._acknowledge()

    def _came(self, _: Task[Any]) -> None:
        self.wake()

    def _pass_on(self, task: Task[Any], driver: Driver) -> None:
        value = task.result()
        if value.__class__ is Finished:
            raise StreamFinished(value.value, value.result)
        self._give(value, driver)

    def _close(self) -> None:
        super()._close()
        # The last first: where one that runs is let go, another one would begin.
        for task in reversed(self._pending):
            task.cancel()


def finishing(caller: Caller, call: Callable[..., Any], *row: Any) -> Any:
    """Make a call of a streaming task; where that ends the stream, return that it does."""
    token = contexts.streaming.set(caller.here())
    try:
        return call(*row)
    except StreamFinished as finished:
        return Finished(finished)
    finally:
        contexts.streaming.reset(token)


async def finishing_awaited(caller: Caller, call: Callable[..., Any], *row: Any) -> Any:
    """Do what `finishing` does, for what is awaited."""
    token = contexts.streaming.set(caller.here())
    try:
        return await call(*row)
    except StreamFinished as finished:
        return Finished(finished)
    finally:
        contexts.streaming.reset(token)


def refuse_parallel(given: tuple[Any, ...], expands: bool) -> None:
    """Raise `TypeError` for what cannot run several times at once."""
    if uses_in(*given):
        raise TypeError(
            "parallel= makes several calls at once, which cannot all use a mutable or a shard in "
            "place; leave one of the two out"
        )
    if expands:
        raise TypeError(
            "parallel= makes several calls at once, each of which gives one value; a generator or "
            "an iterator gives them one after another"
        )
