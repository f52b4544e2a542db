"""Outputs: the values of a streaming task, taken by the code that iterates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from darray.runtime import contexts
from darray.runtime.engine import current_engine
from darray.runtime.streams.calls import NOTHING
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.stages import arrived
from darray.runtime.streams.taps import Tap
from darray.runtime.tasks import Task
from darray.runtime.waiting import LOOKING_UP, endless

__all__ = ["Output"]


class Output:
    """The values of a streaming task, to be iterated over, also by ``async for``.

    While nobody takes them the task is held back, once the buffer is full. Values given before
    a failure come before its exception. One thread, or coroutine, at a time takes them.

    Closing it, or leaving its ``with`` block, says that no more are wanted. So does letting go of
    it: soon after the last reference to it is gone, it is closed.
    """

    def __init__(self, task: Task[Any], edge: Edge, cancel: Callable[[], None]) -> None:
        self._task = task
        self._edge = edge
        self._cancel = cancel
        self._tap = Tap(edge, task._engine)

    def __del__(self) -> None:
        # On any thread, under any lock: it only leaves word.
        self._tap.is_dropped = True

    def __iter__(self) -> Output:
        return self

    def __next__(self) -> Any:
        edge = self._edge
        while True:
            while edge.is_left or not edge.available():
                if self._is_through():
                    raise StopIteration
                self._block()
            value = self._pop()
            if value is not NOTHING:
                return value

    def _pop(self) -> Any:
        """The next value; `NOTHING` where another thread closed the output this moment."""
        try:
            value = self._edge.pop()
        except IndexError:
            return NOTHING
        if self._edge.receiver is not None:
            self._edge.receiver.acknowledge(self._edge.received)
        return arrived(value)

    def _is_through(self) -> bool:
        """Whether no value comes any more; raises what the task ended with."""
        if self._tap.is_abandoned:
            raise RuntimeError(
                f"the engine of {self._task!r} was closed before all values of this output were "
                "taken; take them, or close() the output, before"
            )
        if self._edge.is_left:
            return True
        if self._edge.is_ended and not self._edge.items:
            self._raise_failure()
            return True
        return False

    def _block(self) -> None:
        self._refuse_own()
        gate = threading.Lock()
        gate.acquire()

        def wait() -> None:
            # A signal that comes just before the thread blocks does not wake it.
            while not gate.acquire(timeout=LOOKING_UP):
                pass

        try:
            if self._tap.wait_by(gate.release):
                current_engine().block(wait)
        except KeyboardInterrupt:
            self._cancel()
            raise
        finally:
            self._tap.wait_no_more()

    def _refuse_own(self) -> None:
        """Raise `DeadlockError` in a call of the task, which gives nothing before it returns."""
        streaming = contexts.streaming.get()
        if (
            streaming is not None
            and streaming[1] is self._task
            and self._task._options.parallel == 1
        ):
            raise endless(streaming[0], self._task)

    def __aiter__(self) -> Output:
        return self

    async def __anext__(self) -> Any:
        edge = self._edge
        while True:
            while edge.is_left or not edge.available():
                if self._is_through():
                    raise StopAsyncIteration
                self._refuse_own()
                await self._arrival()
            value = self._pop()
            if value is not NOTHING:
                return value

    async def _arrival(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        arrival = loop.create_future()

        def arrive() -> None:
            if not arrival.done():
                arrival.set_result(None)

        def call() -> None:
            try:
                loop.call_soon_threadsafe(arrive)
            except RuntimeError:
                # The loop ended before the value came: nobody awaits it any more.
                if not loop.is_closed():
                    raise

        try:
            if self._tap.wait_by(call, may_give_up=True):
                await arrival
        finally:
            self._tap.wait_no_more()

    def _raise_failure(self) -> None:
        failure = self._edge.failure
        if failure is None:
            return
        try:
            raise failure.exception.with_traceback(failure.traceback)
        finally:
            failure.exception.__context__ = failure.context
            del failure

    def close(self) -> None:
        """Take no more values."""
        self._tap.close()

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Output of {self._task!r}, {len(self._edge.items)} value(s) there>"
