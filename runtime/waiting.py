"""Waiting: what a waiter blocks on, and the search for waits that never end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeAlias

from darray.runtime import contexts
from darray.runtime.errors import CancelledError, DeadlockError, SchedulingError
from darray.runtime.tasks import DONE, HELD, RUNNING, WAITING, Task, Watcher

__all__ = [
    "LOOKING_UP",
    "Arrival",
    "Stack",
    "add_watcher",
    "arrived",
    "call_watcher",
    "endless",
    "held_back",
    "is_stuck",
    "is_waited",
    "refuse_abandoned",
    "register_alarm",
    "watchers_of",
]


# Seconds after which a thread that waits looks whether a signal came.
LOOKING_UP = 0.3


def call_watcher(watcher: Watcher, task: Task[Any]) -> None:
    """Call ``watcher(task)``; an exception of the user's callback is logged, not raised."""
    try:
        watcher(task)
    except Exception:
        logging.getLogger("darray").exception("a callback of %r failed: %r", task, watcher)


class Looking(Protocol):
    """What a thread tells that it still waits, each time that it looks up."""

    def look(self, waiter: object, tasks: Sequence[Task[Any]]) -> None:
        """Note that `waiter` still waits for `tasks`; it may warn of that."""

    def leave(self, waiter: object) -> None:
        """Note that `waiter` waits no more."""


class Arrival:
    """What one thread blocks on until a number of tasks are finished.

    A watcher of those tasks that the engine counts down itself, under its lock: a waiter
    costs no lock and no call of its own. ``gate`` is released once, when ``missing`` comes
    to zero, or when a task fails where ``at_failure`` is true. ``tasks`` are those tasks, and
    ``in_task`` says whether the thread waits in a task.
    """

    __slots__ = ("at_failure", "gate", "in_task", "missing", "tasks")

    def __init__(self, at_failure: bool = False, tasks: Sequence[Task[Any]] = ()) -> None:
        self.at_failure = at_failure
        self.tasks = tasks
        self.in_task = False
        self.missing = 0
        self.gate = threading.Lock()
        self.gate.acquire()

    def __call__(self, task: Task[Any]) -> None:
        """Count `task` as finished; the engine's lock is held."""
        if self.missing > 0:
            self.missing -= 1
            if self.at_failure and task._state != DONE:
                self.missing = 0
            if self.missing == 0:
                self.gate.release()

    def watch(self, tasks: Iterable[Task[Any]], count: int) -> bool:
        """Watch `tasks` until `count` more are finished; whether that is so already.

        The engine's lock is held.
        """
        missing = count
        for task in tasks:
            if task._state >= DONE:
                missing -= 1
                if self.at_failure and task._state != DONE:
                    missing = 0
            elif task._state == HELD:
                self.forget(tasks)
                raise held_back(task)
            else:
                add_watcher(task, self)
        self.missing = max(missing, 0)
        return missing <= 0

    def forget(self, tasks: Iterable[Task[Any]]) -> None:
        """Watch none of `tasks` any more; the engine's lock is held."""
        self.missing = 0
        for task in tasks:
            watchers = task._watchers
            if watchers is self:
                task._watchers = None
            elif watchers.__class__ is list and self in watchers:
                watchers.remove(self)
                if not watchers:
                    task._watchers = None

    def give_up(self) -> None:
        """Let the waiter go although tasks are missing; the engine's lock is held."""
        if self.missing > 0:
            self.missing = 0
            self.gate.release()

    def wait(self, timeout: float | None, watchdog: Looking) -> bool:
        """Block for at most `timeout` seconds until the tasks arrived; whether they did."""
        if timeout is not None and timeout <= LOOKING_UP:
            return self.gate.acquire(timeout=max(timeout, 0.0))
        # A signal that comes just before the thread blocks does not wake it: it looks
        # from time to time, so that Ctrl-C is never lost.
        return self.gate.acquire(timeout=LOOKING_UP) or self._wait_on(timeout, watchdog)

    def _wait_on(self, timeout: float | None, watchdog: Looking) -> bool:
        """Go on with a wait of at most `timeout` seconds after it looked up once."""
        deadline = None if timeout is None else monotonic() + timeout - LOOKING_UP
        try:
            while True:
                watchdog.look(self, self.tasks)
                left = LOOKING_UP if deadline is None else deadline - monotonic()
                if self.gate.acquire(timeout=min(max(left, 0.0), LOOKING_UP)):
                    return True
                if left < LOOKING_UP:
                    return False
        finally:
            watchdog.leave(self)


def is_waited(waiters: Iterable[object], blocked: int) -> bool:
    """Whether somebody waits, in one of so many `blocked` tasks or outside, who cannot go on.

    Not where a task goes on by now whose wait has ended: once it ends this is asked again.
    """
    arrivals = [one for one in waiters if isinstance(one, Arrival)]
    if any([one.in_task and one.missing == 0 for one in arrivals]):
        return False
    others = any([not isinstance(one, Arrival) for one in waiters])
    return blocked > 0 or others or any([one.missing > 0 for one in arrivals])


# What is called at once where a task failed, by the class of its watcher.
_alarms: dict[type, Callable[[Any], object]] = {}


def register_alarm(cls: type, alarm: Callable[[Any], object]) -> None:
    """Call ``alarm(watcher)`` for watchers of class `cls` before any waiter hears of a failure.

    It is called under the engine's lock, so it must not do more than note that there is one.
    """
    _alarms[cls] = alarm


def add_watcher(task: Task[Any], watcher: Watcher) -> None:
    """Let `watcher` be told when `task`, which is not finished, is; the engine's lock is held."""
    watchers = task._watchers
    if watchers is None:
        task._watchers = watcher
    elif watchers.__class__ is list:
        watchers.append(watcher)
    else:
        task._watchers = [watchers, watcher]


def watchers_of(task: Task[Any]) -> list[Watcher]:
    """The watchers of `task`; what is done to the list changes nothing."""
    watchers = task._watchers
    if watchers is None:
        return []
    return [*watchers] if watchers.__class__ is list else [watchers]


def arrived(task: Task[Any]) -> Sequence[Watcher] | None:
    """Count a finished task in whatever waits for it; the watchers still to be called.

    The engine's lock is held; the watchers must be called without it.
    """
    watchers = task._watchers
    if watchers is None:
        return None
    if task._state != DONE:
        for one in watchers_of(task):
            alarm = _alarms.get(one.__class__)
            if alarm is not None:
                alarm(one)
    task._watchers = None
    if watchers.__class__ is Arrival:
        watchers(task)
        return None
    if watchers.__class__ is not list:
        return (watchers,)
    others: list[Watcher] | None = None
    for watcher in watchers:
        if watcher.__class__ is Arrival:
            watcher(task)
        elif others is None:
            others = [watcher]
        else:
            others.append(watcher)
    return others


def held_back(task: Task[Any]) -> SchedulingError:
    """What a wait for `task`, which no engine has, raises."""
    return SchedulingError(
        f"task {task.name!r}, spawned at {task.spawned_at}, is held by a queue, such as that of "
        "da.spawn_bulk(), and was not submitted: wait for it, or fetch it, after the block"
    )


def endless(waiter: Task[Any], task: Task[Any]) -> DeadlockError:
    """What a wait for `task` raises that could never end."""
    call = _call_of((waiter,))
    if call is not None:
        return DeadlockError(
            f"streaming task {call[1].name!r} waits in its call for {task!r}, which cannot finish "
            "before the call does; do not wait there for it, or for its region"
        )
    return DeadlockError(
        f"task {waiter.name!r} waits for {task!r}, which cannot finish before the waiting task "
        "does; do not wait for it here"
    )


def _call_of(tasks: Iterable[Task[Any]]) -> tuple[Task[Any], Task[Any]] | None:
    """Which of `tasks` makes the call that the calling code is in, and of which streaming task."""
    streaming = contexts.streaming.get()
    return None if streaming is None or streaming[0] not in tasks else streaming


def refuse_abandoned(task: Task[Any]) -> None:
    """Raise `CancelledError` if `task`, which is about to wait or does, was abandoned."""
    if task._state != RUNNING:
        raise CancelledError(
            f"task {task.name!r}, spawned at {task.spawned_at}, was cancelled: nothing waits in it"
        )


class Stack:
    """The tasks that one thread runs inside one another, and the waits among them.

    ``waits`` holds (depth, targets): the task at that depth of ``tasks`` waits for all the
    targets, and the tasks above it, run meanwhile, must return before it can go on. ``calling``
    is, if the last of these waits is in the call of a streaming task, the task of the stack that
    makes the call, and that task. ``arrival`` is what the last one blocks on, and ``awaited`` has
    the tasks that its coroutine awaits. ``is_stopped`` says whether the thread waits for anything
    else, such as memory.
    ``tasks`` is changed by its own thread, and ``awaited`` loses tasks so, since finalisers may end
    coroutines; all else changes under the engine's lock.
    """

    __slots__ = ("arrival", "awaited", "calling", "is_stopped", "tasks", "waits")

    def __init__(self) -> None:
        self.tasks: list[Task[Any]] = []
        self.waits: list[tuple[int, list[Task[Any]]]] = []
        self.calling: tuple[Task[Any], Task[Any]] | None = None
        self.arrival: Arrival | None = None
        self.awaited: list[Task[Any]] = []
        self.is_stopped = False


# What has to end before a task can: for each way in which it could, the tasks.
_Choices: TypeAlias = Sequence[Iterable[Task[Any]]]


def is_stuck(
    waiter: Stack,
    targets: Iterable[Task[Any]],
    waiting: Iterable[Stack],
    in_the_way: Callable[[Task[Any]], list[list[Task[Any]]]],
) -> bool:
    """Whether a wait of `waiter` for all `targets` can never end.

    So it is if following what each task needs in order to finish (the tasks it depends on,
    the tasks that it waits for, the tasks that run above it on its thread, those that use the
    pieces of shards it needs) leads back to a task of the waiter's own stack, or to the streaming
    task that it makes a call for. `waiting` are the stacks with waits, ``in_the_way(task)`` tells
    who uses each of the pieces that would do.
    """
    waiter.calling = _call_of(waiter.tasks)
    own = {*waiter.tasks, *(waiter.calling or ())}
    needs: dict[Task[Any], list[Task[Any]]] = {}
    for stack in waiting:
        if stack.calling is not None and stack.calling[0] in stack.tasks:
            needs[stack.calling[1]] = [stack.calling[0]]
        for depth, waited in stack.waits:
            needs[stack.tasks[depth]] = [*waited, *stack.tasks[depth + 1 :]]
    seen: dict[Task[Any], _Choices] = {}
    targets = list(targets)
    pending = list(targets)
    is_found = has_choice = False
    while pending:
        task = pending.pop()
        if task in own:
            if not has_choice:
                return True
            is_found = True
        if task in own or task in seen or task._state >= DONE:
            continue
        choices: _Choices = ((),)
        if task._state == RUNNING:
            choices = (needs.get(task, ()),)
        elif hasattr(task, "_pieces"):
            choices = [[*(task._needs or ()), *users] for users in in_the_way(task)]
            has_choice = has_choice or len(choices) != 1
        elif hasattr(task, "_turns"):
            users = [turn.user for turn in task._turns if turn.user not in (None, task)]
            choices = ([*(task._needs or ()), *users],)
        elif task._state == WAITING:
            choices = (task._needs or (),)
        seen[task] = choices
        for choice in choices:
            pending.extend(choice)
    return is_found and not _can_finish(targets, seen)


def _can_finish(targets: Iterable[Task[Any]], seen: dict[Task[Any], _Choices]) -> bool:
    """Whether all `targets` can finish, by one or another of their choices each."""
    able: set[Task[Any]] = set()
    left = dict(seen)
    while True:
        found = [
            task
            for task, choices in left.items()
            if any(all(one in able or one._state >= DONE for one in some) for some in choices)
        ]
        if not found:
            return all(one in able or one._state >= DONE for one in targets)
        able.update(found)
        for task in found:
            del left[task]
