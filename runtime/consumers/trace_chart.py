"""What a chart of a trace shows: its rows, bars, colours and axis, however it is drawn."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterable

from msgspec import Struct

from darray.runtime.consumers.trace_history import History, Run, processor_text
from darray.runtime.consumers.trace_summary import duration_text
from darray.runtime.processor import Processor

__all__ = ["Bar", "Chart", "Lanes", "Mark", "Row", "Tick", "chart", "ticks", "tip"]

# Told apart also by those who do not see all colours, and on light and dark ground.
_PALETTE = (
    "#4c8bd6", "#e69f00", "#2aa876", "#b07cd8", "#56b4e9",
    "#c9a227", "#d16ba5", "#8d9440", "#3ba7a7", "#a98467",
)  # fmt: skip
# Red is kept for failures: other hues begin and end away from it.
_HUE, _HUES, _GOLDEN = 0.09, 0.82, 0.6180339887


class Row(Struct, frozen=True):
    """A processor's row, of as many lanes as it ran tasks at a time."""

    label: str
    lanes: int


class Bar(Struct, frozen=True):
    """A task in its row and lane; times in ns, `name` is an index of the chart's names."""

    run: Run
    row: int
    lane: int
    began: int
    ended: int
    name: int


class Mark(Struct, frozen=True):
    """A stretch of a bar, or of a row, in which a value was moved, or in which a task waited."""

    row: int
    lane: int
    began: int
    ended: int
    text: str
    is_move: bool


class Tick(Struct, frozen=True):
    """A place on the axis, in ns, and what stands there."""

    time: float
    text: str


class Chart(Struct, frozen=True):
    """All that is drawn; ``names`` and ``colours`` by the time the functions took in all."""

    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    colours: tuple[str, ...]
    span: int
    dropped: int

    @property
    def heading(self) -> str:
        """One line on the whole."""
        failures = sum(bar.run.failure is not None for bar in self.bars)
        text = f"{len(self.bars):,} task{'' if len(self.bars) == 1 else 's'}"
        text += f" in {duration_text(self.span / 1e9)}"
        if failures:
            text += f", {failures:,} failed"
        if self.dropped:
            text += f"; the oldest {self.dropped:,} events are missing"
        return text


class Lanes:
    """Finds a lane for each of the stretches of one row, in which they do not overlap.

    Where they may be `nested`, one may also lie within another. Stretches come by their
    beginning, the longer ones first.

    Examples
    --------
    >>> lanes = Lanes()
    >>> [lanes.place(*stretch) for stretch in [(0, 9), (2, 3), (4, 8), (9, 12)]]
    [0, 1, 1, 0]
    >>> lanes = Lanes(nested=True)
    >>> [lanes.place(*stretch) for stretch in [(0, 9), (2, 3), (4, 12)]]
    [0, 0, 1]
    """

    def __init__(self, nested: bool = False) -> None:
        self._nested = nested
        self._ends: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def place(self, began: int, ended: int, wish: int = 0) -> int:
        """The lane for a stretch: `wish` where it is free, else the first that is."""
        count = len(self._ends)
        for lane in itertools.chain((wish,), range(count)):
            if lane < count and self._fits(self._ends[lane], began, ended):
                self._ends[lane].append(ended)
                return lane
        self._ends.append([ended])
        return len(self._ends) - 1

    def _fits(self, ends: list[int], began: int, ended: int) -> bool:
        while ends and ends[-1] <= began:
            ends.pop()
        return not ends or (self._nested and ended <= ends[-1])


def chart(history: History) -> Chart:
    """Lay `history` out."""
    stretches = [
        (run, stretch)
        for run in history.runs
        if (stretch := history.stretch(run)) is not None and run.processor is not None
    ]
    stretches.sort(key=lambda pair: (pair[1][0], -pair[1][1]))
    totals: dict[str, int] = {}
    counts: dict[str, int] = {}
    for run, (began, ended) in stretches:
        totals[run.name] = totals.get(run.name, 0) + ended - began
        counts[run.name] = counts.get(run.name, 0) + 1
    names = sorted(totals, key=lambda name: -totals[name])
    number = {name: place for place, name in enumerate(names)}
    row = {processor: place for place, processor in enumerate(history.processors)}
    lanes = [Lanes() for _ in history.processors]
    bars = []
    for run, (began, ended) in stretches:
        assert run.processor is not None
        place = row[run.processor]
        lane = lanes[place].place(began, ended)
        bars.append(Bar(run, place, lane, began, ended, number[run.name]))
    rows = [
        Row(_row_text(processor, history.processors), max(1, len(lanes[place])))
        for place, processor in enumerate(history.processors)
    ]
    marks = list(_marks(history, bars, len(rows)))
    outside = max((mark.lane for mark in marks if mark.row == len(rows)), default=-1)
    if outside >= 0:
        rows.append(Row("outside tasks", outside + 1))
    return Chart(
        tuple(rows),
        tuple(bars),
        tuple(marks),
        tuple(names),
        tuple(counts[name] for name in names),
        tuple(_colour(place) for place in range(len(names))),
        max(history.span, 1),
        history.dropped,
    )


def _marks(history: History, bars: list[Bar], outside: int) -> Iterable[Mark]:
    """The moves and waits of the bars, and moves in row `outside`."""
    bar_of = {bar.run.number: bar for bar in bars}
    lanes = Lanes()
    for move in sorted(history.moves, key=lambda move: (move.began, -move.ended)):
        bar = None if move.task is None else bar_of.get(move.task)
        text = f"{move.nbytes:,} bytes from {move.source} to {move.destination}"
        if bar is None:
            lane = lanes.place(move.began, move.ended)
            yield Mark(outside, lane, move.began, move.ended, text, True)
        else:
            yield Mark(bar.row, bar.lane, move.began, move.ended, text, True)
    for wait in history.waits:
        bar = bar_of.get(wait.task)
        if bar is not None:
            yield Mark(bar.row, bar.lane, wait.began, wait.ended, "waiting for tasks", False)


def _row_text(processor: Processor, processors: tuple[Processor, ...]) -> str:
    text = processor_text(processor)
    if len({one.worker for one in processors}) > 1:
        return f"worker {processor.worker} {text}"
    return text


def _colour(place: int) -> str:
    if place < len(_PALETTE):
        return _PALETTE[place]
    hue = _HUE + _HUES * ((place * _GOLDEN) % 1.0)
    red, green, blue = colorsys.hls_to_rgb(hue, 0.56, 0.45)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def tip(bar: Bar) -> list[str]:
    """Lines that tell all about a bar."""
    run = bar.run
    lines = [run.name, f"task {run.number}"]
    if run.processor is not None:
        lines[1] += f", worker {run.processor.worker} {processor_text(run.processor)}"
    lines.append(f"begins at {duration_text(bar.began / 1e9)}")
    length = duration_text((bar.ended - bar.began) / 1e9)
    lines.append(f"takes {length}" if run.ended is not None else f"not over after {length}")
    if run.spawned_at is not None:
        lines.append(f"spawned at {run.spawned_at}")
    if run.failure is not None:
        lines.append(f"failed: {run.failure}")
    return lines


def ticks(span: int, count: int) -> list[Tick]:
    """About `count` round times from 0 to `span`, all in one unit.

    Examples
    --------
    >>> [tick.text for tick in ticks(2_300_000, 5)]
    ['0.0 ms', '0.5 ms', '1.0 ms', '1.5 ms', '2.0 ms']
    """
    unit, size = next(
        (pair for pair in (("s", 1e9), ("ms", 1e6)) if span >= 2 * pair[1]), ("us", 1e3)
    )
    rough = span / size / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    number = math.floor(span / size / step + 1e-9)
    return [
        Tick(place * step * size, f"{place * step:,.{places}f} {unit}")
        for place in range(number + 1)
    ]
