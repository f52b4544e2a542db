"""What a trace comes to: the times of each function and each processor, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from darray.runtime.consumers.trace_history import History, processor_text
from darray.runtime.processor import Processor

__all__ = ["EdgeFlow", "FunctionTimes", "ProcessorTimes", "Summary", "duration_text", "summary"]


class FunctionTimes(Struct, frozen=True):
    """The tasks of one name that ended; times are in seconds."""

    name: str
    count: int
    mean: float
    min: float
    max: float
    total: float
    failures: int


class ProcessorTimes(Struct, frozen=True):
    """How many seconds a processor computed, moved values, stood still for a waiting task, idled.

    ``processor`` is None for what was moved outside tasks, which no processor does.
    """

    processor: Processor | None
    computing: float
    moving: float
    waiting: float
    idle: float


class EdgeFlow(Struct, frozen=True):
    """What went from one streaming task to another, as it was told last.

    ``rate`` is in values a second; the times are how many seconds the producer waited for room,
    and the consumer for values.
    """

    producer: str
    consumer: str
    values: int
    dropped: int
    rate: float
    producer_waited: float
    consumer_waited: float


class Summary(Struct, frozen=True):
    """What a trace comes to; prints as a table.

    ``seconds`` is the traced span, ``unfinished`` counts the tasks that were spawned or began and
    did not end in it, ``dropped`` the events that are missing.
    """

    seconds: float
    functions: tuple[FunctionTimes, ...]
    processors: tuple[ProcessorTimes, ...]
    unfinished: int = 0
    dropped: int = 0
    edges: tuple[EdgeFlow, ...] = ()

    def __str__(self) -> str:
        tasks = sum(function.count for function in self.functions)
        failures = sum(function.failures for function in self.functions)
        lines = [f"{_counted(tasks, 'task')} in {duration_text(self.seconds)}"]
        if failures:
            lines[0] += f", {failures:,} failed"
        if self.unfinished:
            lines.append(f"{_counted(self.unfinished, 'more task')} did not run to an end")
        if self.dropped:
            lines.append(
                f"{_counted(self.dropped, 'event')} dropped, the oldest: what follows is the rest; "
                "raise limit= to keep more"
            )
        if self.functions:
            lines += ["", *_table(_FUNCTION_HEAD, map(_function_row, self.functions))]
        if self.processors:
            rows = [_processor_row(one, self.seconds) for one in self.processors]
            lines += ["", *_table(_PROCESSOR_HEAD, rows)]
        if self.edges:
            lines += ["", *_table(_EDGE_HEAD, map(_edge_row, self.edges))]
        return "\n".join(lines)

    __repr__ = __str__


_FUNCTION_HEAD = ("function", "count", "mean", "min", "max", "total", "failures")
_EDGE_HEAD = ("stream", "values", "a second", "dropped", "held back", "starved")
_PROCESSOR_HEAD = ("processor", "computing", "moving", "waiting", "idle")
# Names longer than this are cut in the middle.
_WIDTH = 48


def summary(history: History) -> Summary:
    """Sum `history` up."""
    return Summary(
        history.span / 1e9,
        _functions(history),
        _processors(history),
        sum(run.ended is None for run in history.runs),
        history.dropped,
        _edges(history),
    )


def _edges(history: History) -> tuple[EdgeFlow, ...]:
    last = {(one.producer, one.consumer, one.began): one for one in history.edges}
    return tuple(
        EdgeFlow(
            one.producer,
            one.consumer,
            one.received,
            one.dropped,
            one.received / max(1e-9, (one.time - one.began) / 1e9),
            one.producer_waited,
            one.consumer_waited,
        )
        for one in last.values()
    )


def _functions(history: History) -> tuple[FunctionTimes, ...]:
    durations: dict[str, list[int]] = {}
    failures: dict[str, int] = {}
    for run in history.runs:
        if run.began is not None and run.ended is not None:
            durations.setdefault(run.name, []).append(run.ended - run.began)
            failures[run.name] = failures.get(run.name, 0) + (run.failure is not None)
    times = [
        FunctionTimes(
            name,
            len(some),
            sum(some) / len(some) / 1e9,
            min(some) / 1e9,
            max(some) / 1e9,
            sum(some) / 1e9,
            failures[name],
        )
        for name, some in durations.items()
    ]
    return tuple(sorted(times, key=lambda one: -one.total))


def _processors(history: History) -> tuple[ProcessorTimes, ...]:
    # By processor: at what time how many more tasks are in progress, move, or wait.
    changes: dict[Processor | None, list[tuple[int, int, int, int]]]
    changes = {processor: [] for processor in history.processors}
    for run in history.runs:
        stretch = history.stretch(run)
        if stretch is not None:
            changes[run.processor] += [(stretch[0], 1, 0, 0), (stretch[1], -1, 0, 0)]
    for move in history.moves:
        # Outside tasks nothing is in progress but the move itself.
        one = int(move.processor is None)
        some = changes.setdefault(move.processor, [])
        some += [(move.began, one, 1, 0), (move.ended, -one, -1, 0)]
    for wait in history.waits:
        some = changes.setdefault(wait.processor, [])
        some += [(wait.began, 0, 0, 1), (wait.ended, 0, 0, -1)]
    return tuple(_times(one, some, history.span) for one, some in changes.items())


def _times(
    processor: Processor | None, changes: list[tuple[int, int, int, int]], span: int
) -> ProcessorTimes:
    """Time by what the most busy of the tasks that are in progress does."""
    computing = moving = waiting = 0
    running = moves = waits = 0
    before = 0
    for time, run, move, wait in sorted(changes):
        passed, before = time - before, time
        if running > moves + waits:
            computing += passed
        elif moves:
            moving += passed
        elif waits:
            waiting += passed
        running, moves, waits = running + run, moves + move, waits + wait
    idle = max(0, span - computing - moving - waiting)
    return ProcessorTimes(processor, computing / 1e9, moving / 1e9, waiting / 1e9, idle / 1e9)


def duration_text(seconds: float) -> str:
    """A duration with three digits, in the unit that suits it.

    Examples
    --------
    >>> duration_text(0), duration_text(2.5e-7), duration_text(0.0123), duration_text(75)
    ('0 s', '0.25 us', '12.3 ms', '75 s')
    """
    if not seconds:
        return "0 s"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if float(f"{seconds / size:.3g}") >= 1:
            number = seconds / size
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:,.0f} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _function_row(one: FunctionTimes) -> tuple[str, ...]:
    name = " ".join(one.name.split())
    if len(name) > _WIDTH:
        name = f"{name[: _WIDTH // 2 - 1]}…{name[-_WIDTH // 2 :]}"
    times = map(duration_text, (one.mean, one.min, one.max, one.total))
    return (name, f"{one.count:,}", *times, f"{one.failures:,}")


def _edge_row(one: EdgeFlow) -> tuple[str, ...]:
    figures = (f"{one.values:,}", f"{one.rate:,.0f}", f"{one.dropped:,}")
    waited = map(duration_text, (one.producer_waited, one.consumer_waited))
    return (f"{one.producer} -> {one.consumer}", *figures, *waited)


def _processor_row(one: ProcessorTimes, seconds: float) -> tuple[str, ...]:
    name = "outside tasks"
    if one.processor is not None:
        name = f"worker {one.processor.worker} {processor_text(one.processor)}"
    times = (one.computing, one.moving, one.waiting, one.idle)
    whole = seconds or 1.0
    return (name, *(f"{duration_text(time)} {100 * time / whole:4.0f} %" for time in times))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines of a table whose first column stands left and whose others stand right."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
