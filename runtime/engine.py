"""The engine: what carries tasks to processors. Which one is in use, and how it is chosen."""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar

from darray.runtime import events, kinds, limits, settings
from darray.runtime.listeners import Listeners
from darray.runtime.processor import Processor
from darray.runtime.refs import in_use
from darray.runtime.tasks import Task
from darray.runtime.watchdog import Watchdog

__all__ = ["Engine", "configure", "current_engine", "engine_names", "publish_move"]

R = TypeVar("R")


class Engine(Protocol):
    """What carries tasks: the seam that ``runtime/engines/<name>.py`` fills with ``start()``."""

    has_spaces: bool
    """Whether tasks may run in other spaces than that of the calling code."""
    runs_at_once: bool
    """Whether a task runs before its `submit` returns."""
    # Who is told of workers that are lost, and who of threads that are about to wait for promised
    # tasks, on an engine that runs tasks at once.
    losses: Listeners[[int]]
    waits: Listeners[[]]
    # What threads that wait for its tasks look at from time to time.
    watchdog: Watchdog

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task under the contextual options."""

    def submit(self, task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
        """Take a new task that runs once `needs` are done."""

    def submit_all(self, tasks: Sequence[tuple[Task[Any], Sequence[Task[Any]] | None]]) -> None:
        """Take new tasks, none of which begins before all are taken."""

    def wait(
        self,
        tasks: list[Task[Any]],
        timeout: float | None,
        count: int | None = None,
        first_failure: bool = False,
    ) -> bool:
        """Wait until `count` of the tasks, or all, are finished; whether they are.

        With `first_failure` the wait also ends when one of them fails.
        """

    def block(self, wait: Callable[[], R]) -> R:
        """Call ``wait()``, which blocks, with the calling task's processor given up."""

    def occupy(self) -> None:
        """Have the calling task, which needed less until now, take a whole processor.

        It goes on when there is one. Nothing changes for a task that has one.
        """

    def promise(self, task: Task[Any], processor: Processor) -> bool:
        """Begin a HELD task that ends when `deliver` is called; whether it was not cancelled."""

    def has_waits(self) -> bool:
        """Whether running tasks wait for others in their calls, seen in passing."""

    def deliver(self, task: Task[Any], outcome: Any, began: int) -> None:
        """End a promised task with a value, or a `Failure`, unless it was cancelled."""

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task`, which is abandoned if it runs; whether it is cancelled now."""

    def cancel_graph(self, tasks: list[Task[Any]], begun: bool = False) -> None:
        """Cancel those of `tasks`, and of all that they need, that have not begun.

        With `begun`, also those that run.
        """

    def cancel_all(self) -> None:
        """Cancel every unfinished task."""

    def awaiting(self, task: Task[Any]) -> AbstractContextManager[None]:
        """Note in a block that the calling coroutine awaits `task`, unless that cannot end."""

    def unfinished(self) -> list[Task[Any]]:
        """Every unfinished task that was submitted."""

    def watch(self, task: Task[Any], watcher: Callable[[Any], object]) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""

    def explain(self, task: Task[Any]) -> str:
        """Why `task` is in the state that it is in."""

    def current_task(self) -> Task[Any] | None:
        """The task that the calling thread runs."""

    def processors(self) -> tuple[Processor, ...]:
        """Every processor."""

    def reseat(self) -> None:
        """Find out again which processors there are, and which scopes they are in."""

    def close(self, finish: bool = True) -> None:
        """Finish what was submitted, or cancel what has not begun, and let the threads go."""

    def abandon(self) -> None:
        """Refuse everything from now on: this is a child of a fork, without threads."""

    def take_over(self, former: Any) -> None:
        """Count what results hold that the engine counted which is closed now."""


# Called with an engine that is about to be closed.
closers: list[Callable[[Engine], object]] = []

# Guards `_engine` and `_former`; taken before an engine's own lock, never while one is held.
_lock = threading.RLock()
_engine: Engine | None = None
# The one that was closed last, until the next one counts what its results hold.
_former: Engine | None = None


def engine_names() -> list[str]:
    """Names of the engines there are: the modules of ``darray.runtime.engines``."""
    package = importlib.import_module("darray.runtime.engines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def current_engine() -> Engine:
    """The engine in use, started if none is."""
    engine = _engine
    return engine if engine is not None else _start()


def _start() -> Engine:
    global _engine, _former
    with _lock:
        if _engine is None:
            name = settings.current().engine
            if name not in engine_names():
                raise LookupError(f"there is no engine {name!r}; there are {engine_names()!r}")
            module = importlib.import_module(f"darray.runtime.engines.{name}")
            limits.fix_task_memory(settings.current())
            engine: Engine = module.start(settings.current())
            former, _former = _former, None
            if former is not None:
                engine.take_over(former)
            _engine = engine
        return _engine


def _reseat() -> None:
    with _lock:
        # One that is being started may have asked before the change.
        engine = _engine
    if engine is not None:
        engine.reseat()


def publish_move(nbytes: int, source: str, destination: str, began: int) -> None:
    """Tell every consumer of a value that the calling task, or thread, has moved by now."""
    task = current_engine().current_task()
    number = None if task is None else task.number
    now = perf_counter_ns()
    events.publish(events.ValueMoved(nbytes, source, destination, began, now, number))


def configure(**changes: Any) -> None:
    """Change settings; those given by name change, the others stay.

    What is running is finished first; the engine starts anew when next needed. The
    variables ``DARRAY_ENGINE``, ``DARRAY_THREADS`` and so on give the settings at the start.

    Parameters
    ----------
    engine : str
        ``"threads"``, ``"serial"``, or ``"workers"`` for several workers in this process.
    threads : int
        Threads that run tasks; of the engine of several workers, those of each.
    workers : int
        Workers, of the engine that has several.
    memory_limit : int or str
        Bytes that this process may hold, such as ``"1GB"``.
    spill_folder : str
        Where results go for which there is no memory, in files without a name; by default the
        system's folder for temporary files. A folder that is not there is made when it is needed.
    watchdog : float
        After how many seconds in which no task began or ended, while a thread waits for
        tasks, the log ``darray`` is told what it waits for: 60, and 0 for never.
    jit : bool
        Whether programs are compiled where that pays; where llvmlite is not installed, none are.
    cache_folder : str
        Where what was compiled is kept, ``"none"`` for nowhere; by default ``darray`` in
        ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises
    ------
    TypeError, ValueError, LookupError
        For a setting that does not exist, a wrong value, an engine that does not exist.
    NotADirectoryError, PermissionError
        For a spill folder that nothing could be written to.

    Examples
    --------
    >>> import darray as da
    >>> da.configure(memory_limit="1GB", threads=2)
    """
    settings.checked(changes)
    if changes.get("engine") is not None and changes["engine"] not in engine_names():
        raise LookupError(f"there is no engine {changes['engine']!r}; there are {engine_names()!r}")
    if _engine is not None and _engine.current_task() is not None:
        raise RuntimeError("configure() ends the engine, so a task cannot call it")
    close()
    settings.update(**changes)


def close(finish: bool = True) -> None:
    """Finish what was submitted, or cancel what has not begun, and let the engine go.

    What runs meanwhile spawns on the same engine, which is let go only when it is closed.
    """
    global _engine, _former
    engine = _engine
    if engine is None:
        return
    try:
        for call in closers:
            call(engine)
        engine.close(finish)
    finally:
        with _lock:
            if _engine is engine:
                _engine, _former = None, engine
                limits.fix_task_memory(None)


def _close_at_exit() -> None:
    # A script that Ctrl-C ended does not go on with what it had not begun, nor wait for
    # what it had: that would take a second Ctrl-C and print a second traceback.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    close(finish=hasattr(sys, "ps1") or not interrupted)


def _forget_after_fork() -> None:
    # The child has none of the parent's threads and may have inherited locks that were
    # held: it starts afresh, and unfinished tasks of the parent can only be refused.
    global _engine, _former, _lock
    _lock = threading.RLock()
    engine, _engine, _former = _engine, None, None
    limits.fix_task_memory(None)
    if engine is not None:
        engine.abandon()


kinds.watchers.append(_reseat)
in_use.append(lambda: _engine)
atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
