"""Timers: calls at a later time, on a thread that is there while one is pending."""

from __future__ import annotations

import heapq
import itertools
import logging
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


# Seconds for which a thread that looks by itself goes on after the last call.
LINGER = 1.0


class Timers:
    """Calls to come, the soonest first, and the thread of that name that makes them.

    With a `tick` the thread stays for a while after the last call for one that was to be made no
    later than that, and looks for new ones every so many seconds by itself: such calls wake nobody.
    """

    def __init__(self, name: str = "darray-timers", tick: float | None = None) -> None:
        self._name = name
        self._tick = tick
        # Guards all below and the timers' calls; held for a few operations, none of them
        # such a call.
        self._changed = threading.Condition()
        self._pending: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        # When a call was last asked for that was to be made within a tick.
        self._last = -LINGER

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` in so many seconds; an exception that it raises is logged."""
        timer = Timer(self, call)
        with self._changed:
            heapq.heappush(self._pending, (monotonic() + seconds, next(self._numbers), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name=self._name, daemon=True)
                try:
                    self._thread.start()
                except BaseException:
                    # A signal, or no more threads: the next call asks for one again.
                    timer.call = None
                    if self._thread.ident is None:
                        self._thread = None
                    raise
            elif self._pending[0][2] is timer and self._is_to_wake(seconds):
                self._changed.notify()
            if self._tick is not None and seconds <= self._tick:
                self._last = monotonic()
        return timer

    def _is_to_wake(self, seconds: float) -> bool:
        """Whether the thread would not look in time by itself; lock held."""
        return self._tick is None or seconds < self._tick or not self._lingers()

    def abandon(self) -> None:
        """Forget every call, in the child of a fork, which has no thread for them."""
        self._changed = threading.Condition()
        self._pending = []
        self._thread = None

    def forget(self, timer: Timer) -> None:
        """Make the call of `timer` no more."""
        with self._changed:
            timer.call = None
            self._drop_cancelled()
            if not self._pending:
                self._changed.notify()

    def settle(self) -> None:
        """Wait until the thread has ended, if there is nothing that it would wait for."""
        with self._changed:
            thread = None if self._pending else self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _drop_cancelled(self) -> None:
        """Drop the next ones while they are cancelled; lock held."""
        while self._pending and self._pending[0][2].call is None:
            heapq.heappop(self._pending)

    def _live(self) -> None:
        while True:
            with self._changed:
                # Those behind the call that was just made may have been cancelled before it.
                self._drop_cancelled()
                while not self._pending or self._pending[0][0] > monotonic():
                    if not self._pending and not self._lingers():
                        self._thread = None
                        return
                    self._changed.wait(self._patience())
                timer = heapq.heappop(self._pending)[2]
                call, timer.call = timer.call, None
            if call is not None:
                try:
                    call()
                except Exception:
                    # Others wait for their calls.
                    logging.getLogger("darray").exception("the timed call of %r failed", call)

    def _lingers(self) -> bool:
        """Whether the thread looks for calls by itself; lock held."""
        return self._tick is not None and monotonic() - self._last < LINGER

    def _patience(self) -> float | None:
        """How long to wait before looking again; lock held."""
        left = self._pending[0][0] - monotonic() if self._pending else threading.TIMEOUT_MAX
        own = self._tick if self._tick is not None and self._lingers() else threading.TIMEOUT_MAX
        return min(left, own)
