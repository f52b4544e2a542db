"""Taps: where the caller takes values of a streaming task, at the end of an edge of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from darray.runtime.engine import Engine, closers
from darray.runtime.spaces import Space, here
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.lanes import timers
from darray.runtime.tasks import Carrier

__all__ = ["Tap"]

# Seconds between two looks for taps that nobody can take from any more.
GLANCE = 0.25


class Tap:
    """The consumer of an edge from which the caller takes values, through an `Output`.

    It does not know that handle, so that one which the caller lets go of is collected. Its
    finaliser may run on any thread at any moment, whatever locks that holds; so it does no more
    than set ``is_dropped``, and the thread of the timers closes the tap soon after.
    """

    def __init__(self, edge: Edge, engine: Carrier) -> None:
        # Guards `call`; held for its replacement.
        self._lock = threading.Lock()
        # What lets the waiting thread, or coroutine, go on; None while nobody waits.
        self.call: Callable[[], object] | None = None
        self.edge = edge
        # That of the task which gives values.
        self.engine = engine
        self.is_alarmed = False
        self.space: Space | None = here.get()
        self.is_abandoned = False
        self.is_dropped = False
        # Whether who waits is a coroutine, which may be told to give that up.
        self.may_give_up = False
        edge.consumer = self
        _open.add(self)

    def wait_by(self, call: Callable[[], object], may_give_up: bool = False) -> bool:
        """Let `call` be made once there is something to see; False if there is already."""
        with self._lock:
            self.call, self.may_give_up = call, may_give_up
        edge = self.edge
        # It may have come meanwhile, and found nobody to call.
        return not (edge.available() or edge.is_ended or edge.is_left)

    def wait_no_more(self) -> None:
        """Make no call any more."""
        with self._lock:
            self.call = None

    def wake(self, waker: object = None) -> None:
        """Let whoever waits for a value go on."""
        with self._lock:
            call, self.call = self.call, None
        if call is not None:
            call()

    def close(self) -> None:
        """Take no more values."""
        self.edge.leave()
        self.wake()

    def abandon(self) -> None:
        """Take no more values, as the engine ends; who asks for one is told so."""
        self.is_abandoned = True
        self.close()

    def is_shut(self) -> bool:
        """Whether its producer waits for it no more."""
        return self.edge.is_left or self.edge.is_ended


class _Open:
    """The taps that are not shut, looked at from time to time while there are any."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know of none, also in the child of a fork, whose timers know of no look to come."""
        # Guards the fields below; no other lock is taken while it is held.
        self._lock = threading.Lock()
        self._taps: list[Tap] = []
        self._is_timed = False

    def add(self, tap: Tap) -> None:
        """Look at `tap` too."""
        with self._lock:
            self._taps.append(tap)
            is_timed, self._is_timed = self._is_timed, True
        if not is_timed:
            timers.call_later(GLANCE, self._look)

    def abandon_all(self, engine: Engine) -> None:
        """Let the tasks end that nobody takes values from while `engine` is being closed."""
        with self._lock:
            taps = [one for one in self._taps if one.engine is engine and not one.is_shut()]
        for tap in taps:
            tap.abandon()

    def _look(self) -> None:
        """Close those whose handles are gone."""
        with self._lock:
            self._taps = [one for one in self._taps if not one.is_shut()]
            dropped = [one for one in self._taps if one.is_dropped]
            self._is_timed = bool(self._taps)
            is_timed = self._is_timed
        if is_timed:
            timers.call_later(GLANCE, self._look)
        if dropped:
            # Not on this thread, which others need: a generator may take its time to close.
            name = "darray-streams-close"
            threading.Thread(target=_close_all, args=(dropped,), name=name, daemon=True).start()


def _close_all(taps: list[Tap]) -> None:
    for tap in taps:
        tap.close()


_open = _Open()
closers.append(_open.abandon_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.reset)
