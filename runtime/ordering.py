"""Blocks of spawns: submitted together, run one after another, waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darray.runtime import contexts
from darray.runtime.queues import Outside, Submission
from darray.runtime.spawning import engine_of, wait_for_all
from darray.runtime.tasks import DONE, HELD, WAITING, Task
from darray.runtime.waiting import add_watcher

__all__ = ["spawn_bulk", "spawn_sequential", "sync", "wait_all"]


class Bulk:
    """Holds what is spawned until its block has ended."""

    def __init__(self) -> None:
        # Guards the fields below; held for a few operations, none of them a call.
        self._lock = threading.Lock()
        self._held: list[Submission] = []
        self._outside: Outside | None = None
        self._ended = False

    def enqueue(self, submissions: list[Submission], outside: Outside) -> None:
        """Hold `submissions`; what comes after the block, from other threads, goes on."""
        with self._lock:
            ended = self._ended
            if not ended:
                self._outside = outside
                self._held += submissions
        if ended:
            outside(submissions)

    def end(self) -> list[Submission]:
        """Hold nothing any more; what was held."""
        with self._lock:
            self._ended = True
            held, self._held = self._held, []
        return held

    def submit(self) -> None:
        """Pass on together what was held."""
        held = self.end()
        if held:
            assert self._outside is not None
            self._outside(held)

    def cancel(self) -> None:
        """Cancel what was held."""
        for one in self.end():
            one.task.cancel()


@contextmanager
def spawn_bulk() -> Iterator[None]:
    """Submit the tasks spawned in the block together, at its end.

    None begins before all are known. Waiting in the block for one of them raises
    `SchedulingError`. Where the block raises, none of them runs: they are cancelled.

    Inside `spawn_sequential`, the tasks of one block run together, after those of the block
    before. Tasks that tasks spawn are submitted as ever.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_bulk():
    ...     tasks = da.map(abs, [-1, 2, -3])
    >>> da.fetch(tasks)
    [1, 2, 3]
    """
    bulk = Bulk()
    try:
        with contexts.entered(contexts.queued(bulk, "da.spawn_bulk()")):
            yield
    except BaseException:
        bulk.cancel()
        raise
    bulk.submit()


class Chain:
    """Lets each submission wait for the tasks of the one before."""

    def __init__(self) -> None:
        # Guards `_previous`; held for its replacement.
        self._lock = threading.Lock()
        self._previous: list[Task[Any]] = []

    def enqueue(self, submissions: list[Submission], outside: Outside) -> None:
        """Pass `submissions` on, to be done after those before."""
        tasks = [one.task for one in submissions]
        with self._lock:
            previous, self._previous = self._previous, tasks
        outside([Submission(task, [*(needs or ()), *previous]) for task, needs in submissions])


@contextmanager
def spawn_sequential() -> Iterator[None]:
    """Run the tasks spawned in the block one after another, in the order of spawning.

    A task that fails or is cancelled fails those after it. The block does not wait.

    Inside `spawn_bulk`, the whole sequence is submitted at the end of that; a `spawn_bulk`
    inside it is one step of it. Tasks that tasks spawn are not part of it.

    Examples
    --------
    >>> import darray as da
    >>> order = []
    >>> with da.spawn_sequential():
    ...     tasks = [da.spawn(order.append, i) for i in range(4)]
    >>> _ = da.wait(tasks)
    >>> order
    [0, 1, 2, 3]
    """
    with contexts.entered(contexts.queued(Chain(), "da.spawn_sequential()")):
        yield


class Waiting:
    """Notes what passes through it, to be waited for."""

    def __init__(self) -> None:
        # Guards `_tasks`; held for a few operations on it.
        self._lock = threading.Lock()
        self._tasks: list[Task[Any]] = []

    def enqueue(self, submissions: list[Submission], outside: Outside) -> None:
        """Note the tasks of `submissions` and pass them on."""
        with self._lock:
            self._tasks += [one.task for one in submissions]
        outside(submissions)

    def tasks(self) -> list[Task[Any]]:
        """The tasks so far."""
        with self._lock:
            return list(self._tasks)


@contextmanager
def wait_all() -> Iterator[None]:
    """Wait at the end of the block for every task spawned in it.

    Unlike `sync`, it does not wait for the tasks that these tasks spawn. Where the block
    itself raises, that exception goes on once the tasks are finished; Ctrl-C cancels those
    that have not begun.

    A `spawn_bulk` or `spawn_sequential` inside it is waited for. Inside a `spawn_bulk` it
    raises `SchedulingError`, as its tasks are not submitted before that ends.

    Raises
    ------
    BaseException
        The exception of the failed task that was spawned first.

    Examples
    --------
    >>> import darray as da
    >>> results = []
    >>> with da.wait_all():
    ...     tasks = da.map(results.append, range(3))
    >>> sorted(results)
    [0, 1, 2]
    """
    waiting = Waiting()
    try:
        with contexts.entered(contexts.queued(waiting, "da.wait_all()")):
            yield
    except KeyboardInterrupt:
        tasks = waiting.tasks()
        engine_of(tasks).cancel_graph(tasks)
        raise
    except BaseException:
        # Those that a queue outside still holds are its own affair.
        wait_for_all([task for task in waiting.tasks() if task._state != HELD])
        raise
    tasks = waiting.tasks()
    wait_for_all(tasks)
    for task in tasks:
        if task._state != DONE:
            task.result()


class Group:
    """The tasks of a `sync` block: those not told finished, and the failures among the rest."""

    def __init__(self) -> None:
        # Guards the three fields below; taken last, held for a few operations on them.
        self._lock = threading.Lock()
        self._expected: dict[Task[Any], int] = {}
        self._count = 0
        self._failed: list[tuple[int, Task[Any]]] = []

    def expect(self, task: Task[Any]) -> None:
        """Count `task`, which is about to be submitted, in."""
        with self._lock:
            self._expected[task] = self._count
            self._count += 1
        add_watcher(task, self.arrive)

    def forget(self, task: Task[Any]) -> None:
        """Leave out `task`, which was not submitted."""
        with self._lock:
            self._expected.pop(task, None)

    def arrive(self, task: Task[Any]) -> None:
        """Count `task`, which is finished, out."""
        with self._lock:
            order = self._expected.pop(task, None)
            if order is not None and task._state != DONE:
                self._failed.append((order, task))

    def unfinished(self, least: int = HELD) -> list[Task[Any]]:
        """The tasks that are not finished, in state `least` or later."""
        with self._lock:
            return [task for task in self._expected if least <= task._state < DONE]

    def finish(self, least: int = HELD) -> None:
        """Wait until every task is finished, also those spawned meanwhile."""
        while unfinished := self.unfinished(least):
            wait_for_all(unfinished)

    def cancel(self) -> None:
        """Cancel the tasks that have not begun."""
        unfinished = self.unfinished()
        engine_of(unfinished).cancel_graph(unfinished)

    def raise_first(self) -> None:
        """Raise the failure of the failed task that was spawned first, if one failed."""
        with self._lock:
            # A finished task whose watchers are still to be called counts as well.
            late = [(order, task) for task, order in self._expected.items() if task._state > DONE]
            failed = sorted([*self._failed, *late], key=lambda failure: failure[0])
        if not failed:
            return
        exceptions = {id(task._value.exception) for _, task in failed}
        first = failed[0][1]
        if len(exceptions) > 1:
            first._value.exception.add_note(
                f"{len(exceptions) - 1} other task(s) of the sync block failed as well"
            )
        first.result()


@contextmanager
def sync() -> Iterator[None]:
    """Wait at the end of the block for every task spawned in it, or by tasks of it.

    Where the block itself raises, that exception goes on once the tasks are finished;
    Ctrl-C cancels those that have not begun.

    Raises
    ------
    BaseException
        The exception of the failed task that was spawned first, with a note on how many
        others failed.

    Examples
    --------
    >>> import darray as da
    >>> results = []
    >>> with da.sync():
    ...     for i in range(3):
    ...         _ = da.spawn(results.append, i)
    >>> sorted(results)
    [0, 1, 2]
    """
    group = Group()
    try:
        with contexts.entered({"group": group}):
            yield
    except KeyboardInterrupt:
        group.cancel()
        raise
    except BaseException:
        # Those that a queue outside still holds are its own affair.
        group.finish(WAITING)
        raise
    group.finish()
    group.raise_first()
