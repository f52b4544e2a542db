"""Operators: streaming tasks that put streams together, or values of a stream."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from darray.runtime import contexts
from darray.runtime.streams.edges import Edge
from darray.runtime.streams.lanes import Driver, timers
from darray.runtime.streams.placing import Plan
from darray.runtime.streams.regions import current_region
from darray.runtime.streams.stages import Stage, arrived
from darray.runtime.streams.streaming import Buffered, StreamingTask
from darray.runtime.tasks import Task

__all__ = ["batch", "join", "merge", "window"]


class Operator(Stage):
    """A stage that takes values as they come, from any of its inputs.

    For each value that it takes it gives one at most, so that it takes none for which there is
    no room.
    """

    # The input that is looked at first, each in turn: one that always has something does not keep
    # the others from being taken.
    _turn = 0

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """Take a value of the input of that number; the values to give."""
        raise NotImplementedError

    def rest(self) -> tuple[Any, ...]:
        """The values to give when all inputs have ended: one at most."""
        return ()

    def wants(self, number: int) -> bool:
        """Whether it takes a value of the input of that number now."""
        return True

    def _granted(self) -> int:
        room = self._room()
        if not room:
            return 0
        count = 0
        for number, edge in enumerate(self.inputs):
            if self.wants(number):
                count += edge.available()
        return min(count, room)

    def _room(self) -> int:
        return min([edge.room() for edge in self.outputs], default=2**62)

    def _is_exhausted(self) -> bool:
        return all(map(_is_through, self.inputs))

    def _exhausted(self, driver: Driver) -> bool:
        if not self._room():
            return False
        for value in self.rest():
            self._give(value, driver)
        return True

    def _make(self, call: Callable[..., Any], count: int, driver: Driver) -> None:
        turn = self._turn
        self._turn = (turn + 1) % len(self.inputs)
        for number in (*range(turn, len(self.inputs)), *range(turn)):
            edge = self.inputs[number]
            while count and edge.items and self.wants(number) and not self.is_alarmed:
                self._take_one(number, edge, driver)
                count -= 1
                if not self._has_room():
                    return

    def _take_one(self, number: int, edge: Edge, driver: Driver) -> None:
        try:
            value = edge.pop(driver)
        except IndexError:
            return
        self.evaluations += 1
        for one in self.take(number, value):
            self._give(one, driver)


class Merge(Operator):
    """Gives what comes, as it comes."""

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The value itself."""
        return (value,)


class Join(Operator):
    """Gives tuples of values, one of each input, that have the same key.

    Values of an input that wait for others are `most` at most; then the input is held back. Where
    all are, or have ended, no tuple can come any more, which is an error.
    """

    def __init__(self, *args: Any, keys: tuple[Callable[[Any], Any], ...], most: int) -> None:
        super().__init__(*args)
        self._keys = keys
        self._most = most
        self._waiting: list[dict[Hashable, deque[Any]]] = [{} for _ in self.inputs]
        self._counts = [0] * len(self.inputs)

    def wants(self, number: int) -> bool:
        """Whether fewer values than `most` of that input wait."""
        return self._counts[number] < self._most

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The tuple that the value completes, if it does."""
        value = arrived(value)
        key = self._keys[number](value)
        self._waiting[number].setdefault(key, deque()).append(value)
        self._counts[number] += 1
        if not all(key in one for one in self._waiting):
            return ()
        row = []
        for place, one in enumerate(self._waiting):
            row.append(one[key].popleft())
            self._counts[place] -= 1
            if not one[key]:
                del one[key]
        return (tuple(row),)

    def _granted(self) -> int:
        if not self._is_exhausted() and not any(
            self.wants(number) and not _is_through(edge) for number, edge in enumerate(self.inputs)
        ):
            raise ValueError(
                f"join() holds {self._counts} values of its streams, no key of which is in all of "
                f"them, and takes {self._most} of a stream at most; check key=, or give a greater "
                "most="
            )
        return super()._granted()

    def _is_exhausted(self) -> bool:
        return (
            any(
                _is_through(edge) and not count
                for edge, count in zip(self.inputs, self._counts, strict=True)
            )
            or super()._is_exhausted()
        )


class Batch(Operator):
    """Gives lists of `most` values, or of those that came within `seconds` of the first."""

    def __init__(self, *args: Any, most: int, seconds: float | None) -> None:
        super().__init__(*args)
        self._most = most
        self._seconds = seconds
        self._held: list[Any] = []
        self._timer: Any = None
        self._is_due = False

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The list that the value completes, if it does."""
        self._held.append(value)
        if len(self._held) == self._most:
            return self.rest()
        if self._seconds is not None and self._timer is None:
            self._timer = timers.call_later(self._seconds, self._come_due)
        return ()

    def _come_due(self) -> None:
        self._is_due = True
        self.wake()

    def _granted(self) -> int:
        if self._is_due and self._held:
            if not self._room():
                return 0
            for value in self.rest():
                self._give(value, None)
        return super()._granted()

    def rest(self) -> tuple[Any, ...]:
        """What it holds, as a list, if that is anything."""
        if self._timer is not None:
            self._timer.cancel()
        held, self._held, self._timer, self._is_due = self._held, [], None, False
        return (held,) if held else ()

    def _close(self) -> None:
        timer = self._timer
        if timer is not None:
            timer.cancel()
        super()._close()


class Window(Operator):
    """Gives lists of `size` values that follow one another, each `step` after the one before."""

    def __init__(self, *args: Any, size: int, step: int) -> None:
        super().__init__(*args)
        self._size = size
        self._step = step
        self._held: deque[Any] = deque()
        # How many values are to go by before the next window, and how many were in none so far.
        self._skip = 0
        self._new = 0

    def take(self, number: int, value: Any) -> tuple[Any, ...]:
        """The window that the value completes, if it does."""
        if self._skip:
            self._skip -= 1
            return ()
        self._held.append(value)
        self._new += 1
        if len(self._held) < self._size:
            return ()
        window = list(self._held)
        self._new = 0
        for _ in range(min(self._step, self._size)):
            self._held.popleft()
        self._skip = max(0, self._step - self._size)
        return (window,)

    def rest(self) -> tuple[Any, ...]:
        """The values of a last window that is shorter, where some were in none."""
        held, new = list(self._held), self._new
        self._held.clear()
        self._new = 0
        return (held,) if new else ()


def merge(*streams: Task[Any]) -> Task[Any]:
    """A stream of the values of several streams, each as soon as it comes.

    Those of one stream stay in their order. It ends when all of them have.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     both = da.merge(da.spawn(iter([1, 2])), da.spawn(iter([10, 20])))
    ...     out = s.output(both)
    >>> sorted(out)
    [1, 2, 10, 20]
    """
    return _operator("merge", Merge, streams)


def join(
    *streams: Task[Any],
    key: Callable[[Any], Hashable] | tuple[Callable[[Any], Hashable], ...],
    most: int = 10_000,
) -> Task[Any]:
    """A stream of tuples, one value of each stream, that have the same key.

    Parameters
    ----------
    streams : Task
        The streams.
    key : callable or tuple of callables
        Tells the key of a value; one for all streams, or one for each.
    most : int
        How many values of a stream wait for others; then its producer is held back.

    Raises
    ------
    ValueError
        In the task: when so many values of every stream wait.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     letters = da.spawn(iter([(1, "a"), (2, "b")]))
    ...     numbers = da.spawn(iter([(2, 20), (1, 10)]))
    ...     out = s.output(da.join(letters, numbers, key=lambda pair: pair[0]))
    >>> sorted(out)
    [((1, 'a'), (1, 10)), ((2, 'b'), (2, 20))]
    """
    keys = key if isinstance(key, tuple) else (key,) * len(streams)
    if len(keys) != len(streams) or not all(map(callable, keys)):
        raise TypeError(
            f"key= is one function, or one for each of the {len(streams)} streams, not {key!r}"
        )
    return _operator("join", Join, streams, keys=keys, most=_count("most", most))


def batch(stream: Task[Any], most: int, seconds: float | None = None) -> Task[Any]:
    """A stream of lists of the values of a stream, of `most` values each.

    Parameters
    ----------
    stream : Task
        The stream.
    most : int
        How many values make a batch; the last one has what is left.
    seconds : float, optional
        How long after its first value a batch is given at the latest, whatever is in it.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     out = s.output(da.batch(da.spawn(iter(range(5))), 2))
    >>> list(out)
    [[0, 1], [2, 3], [4]]
    """
    _refuse_time(seconds)
    return _operator("batch", Batch, (stream,), most=_count("most", most), seconds=seconds)


def window(stream: Task[Any], size: int, step: int | None = None) -> Task[Any]:
    """A stream of windows: lists of `size` values of a stream that follow one another.

    Parameters
    ----------
    stream : Task
        The stream.
    size : int
        How many values a window has. The last one is shorter where values are left at the end
        that were in none.
    step : int, optional
        How many values a window begins after the one before; by default `size`, so that they
        do not overlap.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     out = s.output(da.window(da.spawn(iter(range(5))), 3, step=1))
    >>> list(out)
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    size = _count("size", size)
    step = size if step is None else _count("step", step)
    return _operator("window", Window, (stream,), size=size, step=step)


def _is_through(edge: Edge) -> bool:
    """Whether nothing comes from `edge` any more."""
    return edge.is_ended and not edge.items


def _refuse_time(seconds: object) -> None:
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise ValueError(f"seconds= is a time above 0, not {seconds!r}")


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}= is a number of values, 1 or more, not {value!r}")
    return value


def _operator(
    name: str, operator: Callable[..., Operator], streams: tuple[Any, ...], **extra: Any
) -> Task[Any]:
    """A task of the region around that carries out an operator on `streams`."""
    region = current_region(f"{name}()")
    taken = []
    for one in streams:
        stream = Buffered(one, None, None) if isinstance(one, StreamingTask) else one
        if not isinstance(stream, Buffered):
            raise TypeError(f"{name}() takes streaming tasks, not {one!r}")
        taken.append(stream)
    if not taken:
        raise TypeError(f"{name}() takes at least one stream")
    options = contexts.current.get() or contexts.DEFAULT
    frame = sys._getframe(2)
    task, stage = region.add(operator, taken, options, frame, name, **extra)
    region.plan(Plan(stage, (_no_call, (), {}), options, True, ()))
    return task


def _no_call() -> None:
    raise AssertionError("an operator calls nothing of the user's")
