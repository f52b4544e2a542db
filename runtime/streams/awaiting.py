"""Stages whose functions are async: awaited on the engine's event loop, without a processor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from time import perf_counter
from typing import Any

from darray.runtime import contexts
from darray.runtime.calling import captured
from darray.runtime.loops import awaited
from darray.runtime.streams.calls import NOTHING, StreamFinished
from darray.runtime.streams.lanes import Driver
from darray.runtime.streams.stages import IDLE, QUEUED, SLICE, Stage, arrived
from darray.runtime.tasks import Task

__all__ = ["AwaitedStage"]


class AwaitedStage(Stage):
    """A streaming task of an async function, or of an async generator; one call at a time."""

    is_awaited = True

    # What stops the coroutine that waits, on the thread of its loop.
    _stop: Callable[[], object] | None = None

    async def run_awaiting(self, driver: Driver, call: Callable[..., Any] | None = None) -> bool:
        """Make calls until there is nothing to do; whether it is queued again."""
        import asyncio

        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        assert current is not None
        self._begin_run()
        with self._lock:
            self._stop = lambda: loop.call_soon_threadsafe(current.cancel)
        token = contexts.streaming.set((driver.task, self.task))
        try:
            if call is not None:
                self.use(call)
            if self.expands:
                await self._in_context(self._run_awaiting(driver), driver)
            else:
                await self._run_awaiting(driver)
        except StreamFinished as finished:
            self._finish(finished, driver)
        except asyncio.CancelledError:
            if not self.is_over:
                raise
            current.uncancel()
        except BaseException as error:
            failure = captured(self.task, error)
            self._end(failure, failure)
        finally:
            contexts.streaming.reset(token)
            with self._lock:
                self._stop = None
        if self.is_over and self._values is not None:
            values, self._values = self._values, None
            close = getattr(values, "aclose", None)
            if close is not None:
                # What was to stop the generator may come only now: it is not to stop its end.
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    current.uncancel()
                await self._in_context(_closed(close), driver)
        return self._end_run(False)

    async def _in_context(self, coroutine: Coroutine[Any, Any, None], driver: Driver) -> None:
        """Await `coroutine` in the context that is the stage's own.

        A generator may set variables of its context, and set them back in a later turn, which
        another driver makes.
        """
        import asyncio

        if self._context is None:
            self._context = copy_context()
        context = self._context
        context.run(awaited.set, driver.task)
        context.run(contexts.streaming.set, (driver.task, self.task))
        await asyncio.get_running_loop().create_task(coroutine, context=context)

    async def _run_awaiting(self, driver: Driver) -> None:
        import asyncio

        looked = perf_counter()
        while True:
            if self.is_alarmed:
                self._attend()
            if self.is_over:
                return
            if not self._calls_left():
                self._end(None, None)
                return
            if not self._granted():
                if self.is_alarmed:
                    continue
                if self._is_exhausted():
                    self._end(None, None)
                return
            began = perf_counter()
            try:
                await self._await_one(driver)
                if not self.is_over:
                    self._acknowledge()
            finally:
                self.cost = perf_counter() - began
                self.busy += self.cost
            if began + self.cost - looked > SLICE:
                # What never waits for anything would keep the loop from all others.
                await asyncio.sleep(0)
                looked = perf_counter()

    async def _await_one(self, driver: Driver) -> None:
        values: Any = self._values
        if values is None:
            row = [await self._awaited(edge.pop(driver)) for edge in self.inputs]
            values = self.call(*row)
            if self.inputs or not self.expands:
                self.evaluations += 1
                self._left -= 1
        if not self.expands:
            self._give(await values, driver)
            return
        first = self._values is None
        self._values = values
        try:
            value = await (_first(values) if first else anext(values))
        except StopAsyncIteration:
            self._values = None
            if not self.inputs:
                raise StreamFinished(NOTHING, None) from None
            return
        if not self.inputs:
            self.evaluations += 1
            self._left -= 1
        self._give(value, driver)

    @staticmethod
    async def _awaited(value: Any) -> Any:
        """`value` as a call is given it; nothing blocks on the loop's thread."""
        return await value if isinstance(value, Task) else arrived(value)

    def _close(self) -> None:
        """Stop what it awaits; an async generator is closed on the loop, by a last driver."""
        with self._lock:
            lane = self.lane
            if self._stop is not None:
                # Once the coroutine has come to its end, and takes the lock, it was told.
                self._stop()
            is_open = self._state == IDLE and self._values is not None
            if is_open:
                self._state = QUEUED
        if is_open and lane is not None:
            lane.push(self, None)


async def _closed(close: Callable[[], Any]) -> None:
    """Close an async generator."""
    await close()


def _first(values: Any) -> Any:
    """Ask `values` for the first one; the loop is not told of it.

    It would close an async generator when it ends itself, which the serial engine's do with the
    driver that they were made for. The stage closes it.
    """
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return anext(values)
    finally:
        sys.set_asyncgen_hooks(*before)
