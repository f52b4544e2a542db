"""Waiting: the count that a waiter blocks on, and the search for waits that never end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from darray.runtime.tasks import DONE, RUNNING, WAITING, Task

__all__ = ["Countdown", "Stack", "call_watcher", "is_stuck"]


def call_watcher(watcher: Callable[[Any], object], task: Task[Any]) -> None:
    """Call ``watcher(task)``; an exception of the user's callback is logged, not raised."""
    try:
        watcher(task)
    except Exception:
        logging.getLogger("darray").exception("a callback of %r failed: %r", task, watcher)


class Countdown:
    """Blocks one thread until a number of tasks are finished; a watcher of those tasks."""

    __slots__ = ("_gate", "_lock", "_missing")

    def __init__(self) -> None:
        # Guards `_missing`; taken last, for one subtraction.
        self._lock = threading.Lock()
        self._missing = 0
        # Released once, by the arrival that makes `_missing` zero.
        self._gate = threading.Lock()
        self._gate.acquire()

    def expect(self, missing: int) -> None:
        """Count `missing` tasks; before the first of them can arrive."""
        self._missing = missing

    def __call__(self, _: Task[Any]) -> None:
        """Count one task as finished."""
        with self._lock:
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._gate.release()

    def wait(self, timeout: float | None) -> bool:
        """Block for at most `timeout` seconds until all are finished; whether they are."""
        if timeout is None:
            return self._gate.acquire()
        return self._gate.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))


class Stack:
    """The tasks that one thread runs inside one another, and the waits among them.

    ``waits`` holds (depth, targets): the task at that depth of ``tasks`` waits for all the
    targets, and the tasks above it, run meanwhile, must return before it can go on.
    Changed by its own thread; ``waits`` under the engine's lock.
    """

    __slots__ = ("tasks", "waits")

    def __init__(self) -> None:
        self.tasks: list[Task[Any]] = []
        self.waits: list[tuple[int, list[Task[Any]]]] = []


def is_stuck(waiter: Stack, targets: Iterable[Task[Any]], waiting: Iterable[Stack]) -> bool:
    """Whether a wait of `waiter` for all `targets` can never end.

    So it is if following what each task needs in order to finish (the tasks it depends on,
    the tasks that it waits for, the tasks that run above it on its thread) leads back to a
    task of the waiter's own stack. `waiting` are the stacks with waits.
    """
    own = set(waiter.tasks)
    needs: dict[Task[Any], list[Task[Any]]] = {}
    for stack in waiting:
        for depth, waited in stack.waits:
            needs[stack.tasks[depth]] = [*waited, *stack.tasks[depth + 1 :]]
    seen: set[Task[Any]] = set()
    pending = list(targets)
    while pending:
        task = pending.pop()
        if task in own:
            return True
        if task in seen or task._state >= DONE:
            continue
        seen.add(task)
        if task._state == WAITING:
            pending.extend(task._needs or ())
        elif task._state == RUNNING:
            pending.extend(needs.get(task, ()))
    return False
