"""What puts streams together, or the values of a stream: called in the block of a region."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable
from typing import Any

from darray.runtime import contexts
from darray.runtime.streams.operators import Batch, Join, Merge, Operator, Window
from darray.runtime.streams.regions import current_region
from darray.runtime.streams.streaming import Buffered, StreamingTask
from darray.runtime.streams.timed import TimedWindow
from darray.runtime.tasks import Task

__all__ = ["batch", "join", "merge", "window"]


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


def batch(stream: Task[Any], most: int | None = None, seconds: float | None = None) -> Task[Any]:
    """A stream of lists of the values of a stream, by their number or by time.

    Parameters
    ----------
    stream : Task
        The stream.
    most : int, optional
        How many values make a batch; the last one has what is left.
    seconds : float, optional
        How long after its first value a batch is given at the latest, whatever is in it. One of
        the two is needed. On the serial engine no time passes while values come.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     out = s.output(da.batch(da.spawn(iter(range(5))), 2))
    >>> list(out)
    [[0, 1], [2, 3], [4]]
    """
    _refuse_time(seconds)
    if most is None and seconds is None:
        raise TypeError("batch() needs most=, a number of values, or seconds=, a time, or both")
    most = None if most is None else _count("most", most)
    return _operator("batch", Batch, (stream,), most=most, seconds=seconds)


def window(
    stream: Task[Any],
    size: int | None = None,
    step: float | None = None,
    *,
    seconds: float | None = None,
) -> Task[Any]:
    """A stream of windows: lists of values of a stream that follow one another.

    Parameters
    ----------
    stream : Task
        The stream.
    size : int, optional
        How many values a window has. The last one is shorter where values are left at the end
        that were in none.
    step : int or float, optional
        How many values, or seconds, a window begins after the one before; by default as many as
        it has, so that they do not overlap.
    seconds : float, optional
        Instead of `size`, a time: a window has the values that came within it, counted from the
        first value on, and is given when it is over. One without values is left out; the last
        one is given when the stream ends. On the serial engine no time passes while values come.

    Raises
    ------
    TypeError, ValueError
        For both of `size` and `seconds`, or none, and for what is no number above 0.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     out = s.output(da.window(da.spawn(iter(range(5))), 3, step=1))
    >>> list(out)
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    if (size is None) == (seconds is None):
        raise TypeError(
            f"window() needs size=, a number of values, or seconds=, a time: one of the two, not "
            f"size={size!r} and seconds={seconds!r}"
        )
    if seconds is not None:
        step = seconds if step is None else step
        _refuse_time(seconds)
        _refuse_time(step, "step")
        return _operator("window", TimedWindow, (stream,), seconds=seconds, step=step)
    size = _count("size", size)
    step = size if step is None else _count("step", step)
    return _operator("window", Window, (stream,), size=size, step=step)


def _refuse_time(seconds: object, name: str = "seconds") -> None:
    if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
        raise ValueError(f"{name}= is a time above 0, not {seconds!r}")


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
    return region.operate(operator, taken, options, sys._getframe(2), name, **extra)
