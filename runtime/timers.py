"""Timers: calls at a later time, on a thread that is there while one is pending."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from time import monotonic

__all__ = ["Timer", "Timers"]


class Timer:
    """One call to come."""

    __slots__ = ("_timers", "call")

    def __init__(self, timers: Timers, call: Callable[[], object]) -> None:
        self._timers = timers
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Make the call no more, if it was not made yet."""
        self._timers.forget(self)


class Timers:
    """Calls to come, the soonest first, and the thread of that name that makes them."""

    def __init__(self, name: str = "darray-timers") -> None:
        self._name = name
        # Guards all below and the timers' calls; held for a few operations, none of them
        # such a call.
        self._changed = threading.Condition()
        self._pending: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call ``call()``, which must not raise, in so many seconds."""
        timer = Timer(self, call)
        with self._changed:
            heapq.heappush(self._pending, (monotonic() + seconds, next(self._numbers), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name=self._name, daemon=True)
                self._thread.start()
            elif self._pending[0][2] is timer:
                self._changed.notify()
        return timer

    def abandon(self) -> None:
        """Forget every call, in the child of a fork, which has no thread for them."""
        self._changed = threading.Condition()
        self._pending = []
        self._thread = None

    def forget(self, timer: Timer) -> None:
        """Make the call of `timer` no more."""
        with self._changed:
            timer.call = None
            while self._pending and self._pending[0][2].call is None:
                heapq.heappop(self._pending)
            if not self._pending:
                self._changed.notify()

    def _live(self) -> None:
        while True:
            with self._changed:
                while self._pending and (left := self._pending[0][0] - monotonic()) > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                if not self._pending:
                    self._thread = None
                    return
                timer = heapq.heappop(self._pending)[2]
                call, timer.call = timer.call, None
            if call is not None:
                call()
