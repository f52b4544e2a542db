"""Outputs: the values of a streaming task, taken by the code that iterates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from darray.runtime.engine import current_engine
from darray.runtime.spaces import Space, here
from darray.runtime.streams.edges import Edge
from darray.runtime.tasks import Task
from darray.runtime.waiting import LOOKING_UP

__all__ = ["Output"]


class Output:
    """The values of a streaming task, to be iterated over, also by ``async for``.

    While nobody takes them the task is held back, once the buffer is full. Values given before
    a failure come before its exception. One thread, or coroutine, at a time takes them.

    Closing it, or leaving its ``with`` block, says that no more are wanted.
    """

    def __init__(self, task: Task[Any], edge: Edge, cancel: Callable[[], None]) -> None:
        self._task = task
        self._edge = edge
        self._cancel = cancel
        # Guards `_call`; held for its replacement.
        self._lock = threading.Lock()
        # What lets the waiting thread, or coroutine, go on.
        self._call: Callable[[], object] | None = None
        self.is_alarmed = False
        self.space: Space | None = here.get()
        edge.consumer = self

    def wake(self, waker: Any = None) -> None:
        """Let whoever waits for a value go on."""
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            call()

    def __iter__(self) -> Output:
        return self

    def __next__(self) -> Any:
        while not self._edge.available():
            if self._edge.is_ended:
                self._raise_failure()
                raise StopIteration
            self._block()
        return self._pop()

    def _pop(self) -> Any:
        value = self._edge.pop()
        if self._edge.receiver is not None:
            self._edge.receiver.acknowledge(self._edge.received)
        return value

    def _block(self) -> None:
        gate = threading.Lock()
        gate.acquire()

        def wait() -> None:
            # A signal that comes just before the thread blocks does not wake it.
            while not gate.acquire(timeout=LOOKING_UP):
                pass

        with self._lock:
            self._call = gate.release
        try:
            # It may have come meanwhile, and found nobody to call.
            if not self._edge.available() and not self._edge.is_ended:
                current_engine().block(wait)
        except KeyboardInterrupt:
            self._cancel()
            raise
        finally:
            with self._lock:
                self._call = None

    def __aiter__(self) -> Output:
        return self

    async def __anext__(self) -> Any:
        import asyncio

        while not self._edge.available():
            if self._edge.is_ended:
                self._raise_failure()
                raise StopAsyncIteration
            loop = asyncio.get_running_loop()
            arrival = loop.create_future()

            def arrive(arrival: Any = arrival) -> None:
                if not arrival.done():
                    arrival.set_result(None)

            def call(loop: Any = loop, arrive: Any = arrive) -> None:
                try:
                    loop.call_soon_threadsafe(arrive)
                except RuntimeError:
                    # The loop ended before the value came: nobody awaits it any more.
                    if not loop.is_closed():
                        raise

            with self._lock:
                self._call = call
            if not self._edge.available() and not self._edge.is_ended:
                await arrival
        return self._pop()

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
        self._edge.leave()

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
