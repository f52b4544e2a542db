"""Losses: who is told when a worker is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Losses"]

Watcher: TypeAlias = Callable[[int], object]


class Losses:
    """Those who want to know of workers that are lost."""

    def __init__(self) -> None:
        # Guards `_watchers`; no other lock is taken and no watcher is called while it is held.
        self._lock = threading.Lock()
        self._watchers: dict[Watcher, None] = {}

    def watch(self, watcher: Watcher) -> None:
        """Call ``watcher(worker)`` for every worker that is lost from now on."""
        with self._lock:
            self._watchers[watcher] = None

    def forget(self, watcher: Watcher) -> None:
        """Call `watcher` no more."""
        with self._lock:
            self._watchers.pop(watcher, None)

    def tell(self, worker: int) -> None:
        """Tell every watcher that a worker is lost."""
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher(worker)
