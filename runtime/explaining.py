"""Why a task does not run: what it hangs on, told in a few lines."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from darray.runtime.processor import Processor
from darray.runtime.queues import NestedQueue
from darray.runtime.seats import Runner, Seats
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.state import Schedule
from darray.runtime.tasks import CANCELLED, DONE, FAILED, HELD, READY, RUNNING, WAITING, Task

__all__ = ["Survey", "explained", "explained_wait", "survey"]

# Tasks, and processors, that are told of one by one.
MOST_TOLD = 3

# Seconds that a task must have been seen to run before it is told for how long.
SHORTEST = 0.05

# Characters of an exception's message that are told.
LONGEST = 200

# Which of several tasks are told of first: those that tell the most.
_RANK = {RUNNING: 0, HELD: 1, READY: 2, WAITING: 3}


class Survey(NamedTuple):
    """What an engine does at one moment: taken under its lock, told of without it.

    Attributes
    ----------
    outstanding : int
        How many tasks are not finished.
    running : mapping
        The RUNNING tasks, each with the tasks that it waits for inside its function, and
        those that its thread runs meanwhile. Some of them may be finished.
    paused : collection of tasks
        Those of them that gave their processor up, to wait.
    awaited : collection of tasks
        Those of them whose coroutines are awaited.
    abandoned : collection of tasks
        Finished tasks whose functions go on.
    processors : sequence of Processor
        Those that take tasks as they come.
    occupied : mapping
        Those of them that take no task now, each with the tasks that run there.
    closed : bool
        Whether no task begins any more.
    room, limit : int
        Bytes that could be given to a task now, and to all together.
    holders : str
        Who holds the others, where a task waits for memory.
    """

    outstanding: int
    running: Mapping[Task[Any], Sequence[Task[Any]]]
    paused: Collection[Task[Any]] = ()
    awaited: Collection[Task[Any]] = ()
    abandoned: Collection[Task[Any]] = ()
    processors: Sequence[Processor] = ()
    occupied: Mapping[Processor, Sequence[Task[Any]]] = {}
    closed: bool = False
    room: int = 0
    limit: int = 0
    holders: str = ""


def survey(schedule: Schedule, seats: Seats, awaited: Iterable[Task[Any]], closed: bool) -> Survey:
    """What tasks and threads do that share processors; the engine's lock is held."""
    awaited = set(awaited)
    running: dict[Task[Any], list[Task[Any]]] = {
        task: [] for task in (*seats.running(), *awaited) if task._state == RUNNING
    }
    paused: set[Task[Any]] = set()
    abandoned: set[Task[Any]] = set()
    occupied: dict[Processor, list[Task[Any]]] = {}
    for runner in seats.runners:
        inside = list(runner.stack.tasks)
        for depth, targets in runner.stack.waits:
            if inside[depth] in running:
                running[inside[depth]] += [*targets, *inside[depth + 1 :]]
        innermost = _innermost(runner, inside)
        if innermost is None or runner.seat is None:
            continue
        if runner.arrival is not None and innermost in running:
            running[innermost] += runner.arrival.tasks
        abandoned.update(task for task in inside if task._state >= DONE)
        if runner.blocked:
            paused.update(task for task in inside if task._state == RUNNING)
        elif runner.seated or (runner.aside is not None and runner.seat.load >= 1):
            occupied.setdefault(runner.seat.processor, []).append(innermost)
    budget = schedule.budget
    return Survey(
        schedule.outstanding,
        running,
        paused,
        awaited,
        abandoned,
        schedule.processors,
        occupied,
        closed,
        budget.room(),
        budget.limit,
        budget.described() if schedule.starved else "",
    )


def _innermost(runner: Runner, inside: list[Task[Any]]) -> Task[Any] | None:
    """The task whose function a thread is in, or is about to call."""
    return runner.helping or (inside[-1] if inside else runner.task)


def explained(task: Task[Any], seen: Survey, ages: Mapping[Task[Any], float]) -> str:
    """Why `task` is in the state that it is in; `ages` are seconds that tasks run at least."""
    return "\n".join(_Telling(seen, ages).of_task(task))


def explained_wait(
    tasks: Iterable[Task[Any]], seen: Survey, ages: Mapping[Task[Any], float]
) -> str:
    """What a wait for all `tasks` hangs on."""
    telling = _Telling(seen, ages)
    unfinished = [task for task in dict.fromkeys(tasks) if task._state < DONE]
    if len(unfinished) == 1:
        return "\n".join(telling.of_task(unfinished[0]))
    count = len(unfinished)
    return "\n".join([f"{count} tasks are not finished:", *telling.of_needed(unfinished)])


class _Telling:
    """Words for what a survey saw. No lock is held: names and messages are the user's."""

    def __init__(self, seen: Survey, ages: Mapping[Task[Any], float]) -> None:
        self._seen = seen
        self._ages = ages

    def of_task(self, task: Task[Any]) -> list[str]:
        """The lines on one task and on all that it hangs on."""
        needed = self._needed(task)
        line = self._line(task)
        if needed:
            return [f"{line}:", *self.of_needed(needed)]
        return [line, *self._occupants([task])]

    def of_needed(self, tasks: Sequence[Task[Any]]) -> list[str]:
        """The lines on several tasks that are needed, and on all that they hang on."""
        roots, count = self._roots(tasks)
        lines = self._listed(tasks)
        told = self._first(tasks)
        others = [root for root in roots if root not in set(told)]
        if not roots:
            lines.append("These wait for one another: none of them can go on")
        elif set(roots) != set(tasks) and others:
            between = count - len(roots) - sum(task not in roots for task in tasks)
            through = f", through {between} more" if between > 0 else ""
            lines += [f"In the end this hangs on {_tasks(len(roots))}{through}:"]
            lines += self._listed(roots)
        return lines + self._occupants(self._first(roots))

    def _needed(self, task: Task[Any]) -> list[Task[Any]]:
        """The tasks that `task` waits for: what it needs, or waits for inside."""
        if task._state == WAITING:
            # Read without the lock: it is replaced by None, and not changed.
            return [need for need in task._needs or () if need._state < DONE]
        if task._state == READY:
            users = [turn.user for turn in getattr(task, "_turns", ())]
            return [user for user in users if user not in (None, task) and user._state < DONE]
        if task._state != RUNNING:
            return []
        return [
            one
            for one in dict.fromkeys(self._seen.running.get(task, ()))
            if one._state < DONE or one in self._seen.abandoned
        ]

    def _roots(self, tasks: Sequence[Task[Any]]) -> tuple[dict[Task[Any], None], int]:
        """Those that wait for no other task of all that `tasks` hang on, and how many these are."""
        roots: dict[Task[Any], None] = {}
        found = set(tasks)
        pending = list(reversed(tasks))
        while pending:
            task = pending.pop()
            needed = self._needed(task)
            if not needed:
                roots[task] = None
            for one in needed:
                if one not in found:
                    found.add(one)
                    pending.append(one)
        return roots, len(found)

    @staticmethod
    def _first(tasks: Iterable[Task[Any]]) -> list[Task[Any]]:
        """Those of `tasks` that are told of one by one."""
        return sorted(tasks, key=lambda task: _RANK.get(task._state, 4))[:MOST_TOLD]

    def _listed(self, tasks: Collection[Task[Any]]) -> list[str]:
        """A line for each of a few of `tasks`, and one for the number of the others."""
        lines = [f"- {self._line(task)}" for task in self._first(tasks)]
        if len(tasks) > MOST_TOLD:
            lines.append(f"- and {len(tasks) - MOST_TOLD} more")
        return lines

    def _occupants(self, tasks: Iterable[Task[Any]]) -> list[str]:
        """The lines on what runs where, or holds what, that some of `tasks` are ready for."""
        seen = self._seen
        ready = [task for task in tasks if task._state == READY]
        places = dict.fromkeys(
            place for task in ready if self._is_crowded(task) for place in self._places(task)
        )
        lines = [
            f"- {_place(place)} runs {_name(one)}{self._since(one)}"
            for place in list(places)[:MOST_TOLD]
            for one in seen.occupied[place]
        ]
        if len(places) > MOST_TOLD:
            lines.append(f"- and {len(places) - MOST_TOLD} more processors run others")
        if seen.holders and any(_memory(task) > seen.room for task in ready):
            lines.append(f"Of the {seen.limit:,} bytes for all tasks, {seen.holders}")
        return lines

    def _places(self, task: Task[Any]) -> list[Processor]:
        """The processors that `task` may run on."""
        scope = None if task._options is None else task._options.scope
        return [one for one in self._seen.processors if scope is None or one in scope]

    def _is_crowded(self, task: Task[Any]) -> bool:
        """Whether no processor that `task` may run on is free."""
        places = self._places(task)
        return bool(places) and all(place in self._seen.occupied for place in places)

    def _line(self, task: Task[Any]) -> str:
        """A task, its state, and the reason of that."""
        state = self._state(task)
        verb = {"failed": "has", "cancelled": "was"}.get(state.split()[0], "is")
        return f"{_name(task)}, {verb} {state}"

    def _state(self, task: Task[Any]) -> str:
        """The state of a task and the reason of it, to follow a verb."""
        state = task._state
        if state >= DONE:
            return self._ended(task)
        if state == RUNNING and not (self._seen.closed and task not in self._seen.running):
            return self._running(task)
        if state == RUNNING:
            return "never to end: its engine is gone"
        if self._seen.closed:
            return "never to run: its engine is closed"
        if state == HELD:
            queue = getattr(task, "_hold", None)
            which = queue.described() if isinstance(queue, NestedQueue) else "a block"
            return f"held by the queue of {which}, which has not submitted it yet"
        if state == WAITING:
            count = len(self._needed(task))
            return f"waiting for {_tasks(count)}" if count else "about to be ready"
        return self._ready(task)

    def _ready(self, task: Task[Any]) -> str:
        """What a READY task waits for."""
        if self._needed(task):
            return "ready, but another task adds to the same data now"
        reasons = []
        if _memory(task) > self._seen.room and self._seen.processors:
            reasons.append(f"it needs {_memory(task):,} bytes, and {self._seen.room:,} are free")
        if self._is_crowded(task):
            reasons.append("no processor that may run it is free")
        if reasons:
            return f"ready, but {', and '.join(reasons)}"
        if self._seen.processors:
            return "ready, and about to begin"
        return "ready, and begins when what its thread runs before it has returned"

    def _running(self, task: Task[Any]) -> str:
        """Where a RUNNING task is."""
        since = self._since(task)
        if task in self._seen.awaited:
            return f"awaited, without a processor{since}"
        where = f"running on {_place(task.processor)}"
        needed = self._needed(task)
        if needed:
            return f"{where}{since}, and waits inside for {_tasks(len(needed))}"
        if task in self._seen.paused:
            return f"{where}{since}, and waits inside with its processor given up"
        return where + since

    def _since(self, task: Task[Any]) -> str:
        """How long a RUNNING task has run, as far as that was seen."""
        age = self._ages.get(task, 0.0)
        text = f", for at least {seconds_text(age)}" if age >= SHORTEST else ""
        return f"{text}, and was asked to stop" if task.cancelling() else text

    def _ended(self, task: Task[Any]) -> str:
        """How a finished task ended."""
        place = task.processor
        where = "without having run" if place is None else f"on {_place(place)}"
        if task._state == DONE:
            value = task._value.value if task._value.__class__ is Placed else task._value
            what = f"value of type {type(value).__qualname__}"
            if value is AWAY:
                what = "value, which is on disk now,"
            text = f"done: it gave a {what} {where}"
        else:
            word = {FAILED: "failed", CANCELLED: "cancelled"}[task._state]
            text = f"{word} {where}: {_message(task._value.exception)}"
        if task in self._seen.abandoned:
            text += ". Its function, which nothing can stop from outside, still runs"
        return text


def _memory(task: Task[Any]) -> int:
    """Bytes that `task` needs in order to begin."""
    return 0 if task._options is None else task._options.memory


def _name(task: Task[Any]) -> str:
    return f"task {task.name!r}, spawned at {task.spawned_at}"


def _place(processor: Processor | None) -> str:
    if processor is None:
        return "a processor"
    return f"worker {processor.worker} {processor.kind} {processor.index}"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _message(exception: BaseException) -> str:
    """The type of an exception and the start of its message, in one line."""
    text = traceback.format_exception_only(exception)[0].strip().splitlines()[0]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def seconds_text(seconds: float) -> str:
    """A time in words, of which tenths matter only where it is short."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
