"""The event consumer that shows how far computations are: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol, TextIO

from msgspec import Struct

from darray.runtime.events import Event, TaskEnded, TaskFailed, TasksPlanned, subscribe

__all__ = ["Counter", "Reading", "bytes_text", "progress", "time_text"]

# Seconds between two looks at the counts.
_INTERVAL = 0.1
# Where lines are written: one for each such share of the tasks, and seconds between two at least.
_SHARE = 0.05
_PAUSE = 0.5


@contextmanager
def progress(label: str | None = None) -> Iterator[None]:
    """Show on standard error how far the computations in the block are.

    On a terminal, and with rich installed, a bar with the rate and the time left; otherwise a
    line every few percent. A thread of its own draws, so that no task waits for the terminal.
    The bytes are those of the input, taken as spread evenly over the tasks.

    Parameters
    ----------
    label : str, optional
        What stands before the figures; by default the computation's own name.

    Examples
    --------
    >>> import darray as da
    >>> with progress("squares"):
    ...     sum(da.fetch(da.map(lambda i: i * i, range(10))))
    285
    """
    counter = Counter()
    screen = _screen(sys.stderr, label)
    stop = threading.Event()
    drawing = threading.Thread(
        target=_draw, args=(counter, screen, stop), name="darray-progress", daemon=True
    )
    drawing.start()
    try:
        with subscribe(counter):
            yield
    finally:
        stop.set()
        drawing.join()


class Reading(Struct, frozen=True):
    """The counts at one moment; `tasks` is 0 where no computation said how many there will be.

    Examples
    --------
    >>> Reading("mean", done=25, tasks=100, nbytes=8 * 10**9, seconds=4.0).text()
    '2 of 8 GB, 500 MB/s, 12 s left'
    """

    name: str
    done: int
    tasks: int
    nbytes: int
    seconds: float

    @property
    def share(self) -> float:
        """The part of the tasks that is done, 0 to 1."""
        return self.done / self.tasks if self.tasks else 0.0

    @property
    def finished(self) -> bool:
        """Whether every planned task is done."""
        return 0 < self.tasks <= self.done

    def text(self) -> str:
        """Amount, rate, and the time left or taken."""
        seconds = max(self.seconds, 1e-9)
        if self.nbytes:
            done = self.share * self.nbytes
            rate = f"{bytes_text(done / seconds)}/s"
            total = bytes_text(self.nbytes)
            number, unit = bytes_text(done).split()
            amount = f"{number if unit == total.split()[1] else f'{number} {unit}'} of {total}"
        else:
            rate = f"{self.done / seconds:,.0f} tasks/s"
            total = f"{self.tasks or self.done:,} tasks"
            amount = f"{self.done:,} of {total}"
        if self.finished or not self.tasks:
            return f"{total} in {time_text(self.seconds)}, {rate}"
        if not self.done:
            return amount
        left = math.ceil(self.seconds * (self.tasks - self.done) / self.done)
        return f"{amount}, {rate}, {time_text(left)} left"


class Counter:
    """The consumer: counts planned and finished tasks, and does nothing else.

    A computation that begins when all before it are finished starts the counts anew; those
    that overlap are counted together. Any number of threads may call it.

    Examples
    --------
    >>> counter = Counter()
    >>> counter(TasksPlanned(name="mean", tasks=4, nbytes=1000))
    >>> counter.reading().tasks
    4
    """

    __slots__ = ("_began", "_done", "_ended", "_lock", "_name", "_nbytes", "_tasks")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._name = "tasks"
        self._done = self._tasks = self._nbytes = 0
        self._began = self._ended = perf_counter()

    def __call__(self, event: Event) -> None:
        """Take note of `event`."""
        kind = event.__class__
        if kind is TaskEnded or kind is TaskFailed:
            with self._lock:
                self._done += 1
                if self._done == self._tasks:
                    self._ended = perf_counter()
        elif isinstance(event, TasksPlanned):
            with self._lock:
                if self._done >= self._tasks:
                    self._done = self._tasks = self._nbytes = 0
                    self._began = perf_counter()
                self._name = event.name
                self._tasks += event.tasks
                self._nbytes += event.nbytes

    def reading(self) -> Reading:
        """Return the counts as they are now."""
        with self._lock:
            finished = 0 < self._tasks <= self._done
            until = self._ended if finished else perf_counter()
            done = min(self._done, self._tasks) if self._tasks else self._done
            return Reading(self._name, done, self._tasks, self._nbytes, until - self._began)


def bytes_text(nbytes: float) -> str:
    """Return a number of bytes with three digits and a decimal unit.

    Examples
    --------
    >>> bytes_text(0), bytes_text(999), bytes_text(1_234_567), bytes_text(6e9)
    ('0 B', '999 B', '1.23 MB', '6 GB')
    """
    size = float(nbytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if float(f"{size:.3g}") < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.0f} PB"


def time_text(seconds: float) -> str:
    """Return a duration in words that suit its length.

    Examples
    --------
    >>> time_text(0.042), time_text(7.1), time_text(75), time_text(3725)
    ('0.04 s', '7 s', '1:15 min', '1:02:05 h')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h"


class _Screen(Protocol):
    """What readings are shown on."""

    def show(self, reading: Reading) -> None:
        """Show `reading`, or leave it when it brings little news."""

    def close(self, reading: Reading) -> None:
        """Show the last `reading` and leave the terminal as it was."""


def _draw(counter: Counter, screen: _Screen, stop: threading.Event) -> None:
    try:
        while not stop.wait(_INTERVAL):
            screen.show(counter.reading())
        screen.close(counter.reading())
    except OSError:
        # Nobody reads standard error any more; the computation has other readers.
        return


def _screen(stream: TextIO, label: str | None) -> _Screen:
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        try:
            return _Bar(stream, label)
        except ImportError:
            # Without rich lines say the same.
            return _Lines(stream, label)
    return _Lines(stream, label)


class _Lines:
    """A line every few percent."""

    def __init__(self, stream: TextIO, label: str | None) -> None:
        self._stream = stream
        self._label = label
        self._next_share = _SHARE
        self._next_time = 0.0

    def show(self, reading: Reading) -> None:
        if reading.share + _SHARE < self._next_share:
            self._next_share = _SHARE  # another computation has begun
        now = perf_counter()
        if reading.finished or reading.share < self._next_share or now < self._next_time:
            return
        self._next_share = (reading.share // _SHARE + 1) * _SHARE
        self._next_time = now + _PAUSE
        self._write(reading)

    def close(self, reading: Reading) -> None:
        if reading.finished or (reading.done and not reading.tasks):
            self._write(reading)

    def _write(self, reading: Reading) -> None:
        share = f"{100 * reading.share:.0f} %, " if reading.tasks else ""
        # One call, so that the lines of other threads do not come in between.
        self._stream.write(f"{self._label or reading.name}: {share}{reading.text()}\n")
        self._stream.flush()


class _Bar:
    """A bar on a terminal, drawn by rich."""

    def __init__(self, stream: TextIO, label: str | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        self._label = label
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=stream, force_terminal=True),
            auto_refresh=False,
            # What else is printed goes above the bar, unless it does not go to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._bar: TaskID | None = None

    def show(self, reading: Reading) -> None:
        if not reading.done and not reading.tasks:
            return
        name = self._label or reading.name
        text = f"{100 * reading.share:3.0f} %  {reading.text()}"
        total = reading.tasks or None
        if self._bar is None:
            self._bar = self._bars.add_task(name, total=total, completed=reading.done, text=text)
            self._bars.start()
            return
        self._bars.update(
            self._bar,
            description=name,
            total=total,
            completed=reading.done,
            text=text,
            refresh=True,
        )

    def close(self, reading: Reading) -> None:
        self.show(reading)
        if self._bar is not None:
            self._bars.stop()
