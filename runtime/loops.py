"""The event loop on which tasks of async functions are awaited."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from darray.runtime.tasks import Task

if TYPE_CHECKING:
    import asyncio

__all__ = ["EventLoop", "awaited"]

# The task whose coroutine runs.
awaited: ContextVar[Task[Any] | None] = ContextVar("darray.awaited", default=None)

# Seconds that coroutines which were cancelled have to end when the loop is closed.
PATIENCE = 1.0


class EventLoop:
    """A loop of asyncio on a thread of its own, which starts with the first coroutine."""

    def __init__(self) -> None:
        # Guards the fields below while the loop is started or closed.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, function: Callable[..., Any], *args: Any) -> bool:
        """Call ``function(*args)`` on the loop's thread, soon; False once it is closed."""
        with self._lock:
            if self._closed:
                return False
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._live, args=(self._loop,), name="darray-loop", daemon=True
                )
                self._thread.start()
            self._loop.call_soon_threadsafe(function, *args)
            return True

    def begin(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, done: Callable[..., Any]
    ) -> asyncio.Task[Any]:
        """Start `coroutine`, of which ``done(future)`` is told; called on the loop's thread."""
        assert self._loop is not None
        future = self._loop.create_task(coroutine, context=context)
        future.add_done_callback(done)
        return future

    def current(self) -> Any:
        """The task of asyncio that the calling code is part of; None outside of any."""
        import asyncio

        return asyncio.current_task()

    def is_here(self) -> bool:
        """Whether the calling thread is the loop's."""
        return self._thread is not None and self._thread is threading.current_thread()

    def close(self) -> None:
        """Cancel what is still awaited and end the thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            if self._closed or loop is None or thread is None:
                self._closed = True
                return
            self._closed = True
            loop.call_soon_threadsafe(loop.stop)
        if not self.is_here():
            thread.join(PATIENCE)

    @staticmethod
    def _live(loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
