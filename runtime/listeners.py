"""Listeners: who is told when something happens to an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, ParamSpec

__all__ = ["Listeners"]

P = ParamSpec("P")


class Listeners(Generic[P]):
    """Those who want to know of one kind of event."""

    def __init__(self) -> None:
        # Guards `_listeners`; no other lock is taken and none of them is called while it is held.
        self._lock = threading.Lock()
        self._listeners: dict[Callable[P, object], None] = {}

    def add(self, listener: Callable[P, object]) -> None:
        """Call `listener` each time from now on."""
        with self._lock:
            self._listeners[listener] = None

    def forget(self, listener: Callable[P, object]) -> None:
        """Call `listener` no more."""
        with self._lock:
            self._listeners.pop(listener, None)

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell each of them."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(*args, **kwargs)
