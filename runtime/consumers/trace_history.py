"""What a trace tells of each task, move and wait, made from its events."""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType

from msgspec import Struct, structs

from darray.runtime.events import (
    EdgeMeasured,
    Event,
    TaskBegan,
    TaskEnded,
    TaskFailed,
    TaskSpawned,
    TaskWaited,
    ValueMoved,
)
from darray.runtime.places import place_text
from darray.runtime.processor import Processor

__all__ = ["History", "Move", "Run", "Wait", "failure_text", "history", "processor_text"]

# Characters of an exception's message that are told.
_MESSAGE = 300


class Run(Struct, frozen=True):
    """A task, as far as events tell; times are in ns since the trace began, None if not told."""

    number: int
    name: str
    spawned: int | None = None
    spawned_at: str | None = None
    needs: tuple[int, ...] = ()
    memory: int = 0
    processor: Processor | None = None
    began: int | None = None
    ended: int | None = None
    failure: str | None = None


class Move(Struct, frozen=True):
    """A move of a value, by a task or, where `task` is None, outside tasks."""

    task: int | None
    processor: Processor | None
    nbytes: int
    source: str
    destination: str
    began: int
    ended: int


class Wait(Struct, frozen=True):
    """A wait inside a task."""

    task: int
    processor: Processor
    began: int
    ended: int


class History(Struct, frozen=True):
    """All that happened; `span` is how many ns were traced.

    What began before the trace begins with it. ``edges`` are the ways of streams, each as often as
    it was measured. ``processors`` are those that there are and those
    that there were.
    """

    runs: tuple[Run, ...]
    moves: tuple[Move, ...]
    waits: tuple[Wait, ...]
    processors: tuple[Processor, ...]
    span: int
    dropped: int
    edges: tuple[EdgeMeasured, ...] = ()

    def stretch(self, run: Run) -> tuple[int, int] | None:
        """When `run` was running, until the end of the trace if it is not over; None if never."""
        if run.began is None:
            return None
        return run.began, self.span if run.ended is None else run.ended


def history(
    events: Iterable[Event],
    limits: tuple[int, int],
    processors: Iterable[Processor],
    dropped: int,
) -> History:
    """Make a history of `events`, between the two times of `limits`."""
    events = list(events)
    begin = min(map(_earliest, events), default=limits[0]) if dropped else limits[0]
    end = max([limits[1], *(getattr(event, "time", 0) for event in events)])
    runs: dict[int, Run] = {}
    moves: list[ValueMoved] = []
    waits: list[TaskWaited] = []
    edges: list[EdgeMeasured] = []
    places: dict[tuple[CodeType, int], str] = {}
    for event in events:
        if isinstance(event, TaskSpawned | TaskBegan | TaskEnded | TaskFailed):
            run = runs.get(event.task) or Run(event.task, event.name)
            runs[event.task] = _told(run, event, begin, places)
        elif isinstance(event, ValueMoved):
            moves.append(event)
        elif isinstance(event, TaskWaited):
            waits.append(event)
        elif isinstance(event, EdgeMeasured):
            times = {"began": max(0, event.began - begin), "time": event.time - begin}
            edges.append(structs.replace(event, **times))
    seen = {run.processor for run in runs.values() if run.processor is not None}
    return History(
        tuple(runs.values()),
        tuple(_move(move, runs, begin) for move in moves),
        tuple(
            Wait(wait.task, wait.processor, max(0, wait.began - begin), wait.time - begin)
            for wait in waits
        ),
        tuple(sorted({*processors, *seen}, key=structs.astuple)),
        end - begin,
        dropped,
        tuple(edges),
    )


def _earliest(event: Event) -> int:
    """The first moment that `event` tells of; that of a plan, which has none, is late."""
    times = (getattr(event, "began", None), getattr(event, "time", None))
    return min((time for time in times if time is not None), default=1 << 63)


def _told(
    run: Run,
    event: TaskSpawned | TaskBegan | TaskEnded | TaskFailed,
    begin: int,
    places: dict[tuple[CodeType, int], str],
) -> Run:
    """`run` with what `event` tells of it."""
    if isinstance(event, TaskSpawned):
        key = (event.code, event.instruction)
        place = places.get(key)
        if place is None:
            place = places[key] = place_text(*key)
        return structs.replace(
            run,
            spawned=event.time - begin,
            spawned_at=place,
            needs=tuple(dict.fromkeys(event.needs)),
            memory=event.memory,
        )
    if isinstance(event, TaskBegan):
        return structs.replace(run, processor=event.processor, began=event.time - begin)
    return structs.replace(
        run,
        processor=event.processor,
        began=max(0, event.began - begin),
        ended=event.time - begin,
        failure=failure_text(event.exception) if isinstance(event, TaskFailed) else None,
    )


def _move(move: ValueMoved, runs: dict[int, Run], begin: int) -> Move:
    run = None if move.task is None else runs.get(move.task)
    return Move(
        move.task,
        None if run is None else run.processor,
        move.nbytes,
        move.source,
        move.destination,
        max(0, move.began - begin),
        move.time - begin,
    )


def failure_text(exception: BaseException) -> str:
    r"""Type and message of an exception, in one line that is not too long.

    Examples
    --------
    >>> failure_text(ValueError("no\nway"))
    'ValueError: no way'
    """
    try:
        message = " ".join(str(exception).split())
    except Exception as error:
        # The exception is the user's, and telling of it must not fail.
        message = f"(its message cannot be told: {type(error).__name__})"
    if len(message) > _MESSAGE:
        message = f"{message[:_MESSAGE]}…"
    name = type(exception).__qualname__
    return f"{name}: {message}" if message else name


def processor_text(processor: Processor) -> str:
    """What a processor is called where its worker is told beside it.

    Examples
    --------
    >>> processor_text(Processor(worker=0, kind="cpu", index=1))
    'cpu 1'
    """
    return f"{processor.kind} {processor.index}"
