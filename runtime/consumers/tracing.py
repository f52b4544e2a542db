"""The event consumer that keeps what happens, to be looked at afterwards."""

from __future__ import annotations

import itertools
import operator
import sys
from collections import deque
from functools import partial
from os import PathLike
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal

from darray.runtime.engine import current_engine
from darray.runtime.events import Event, Subscription, subscribe

if TYPE_CHECKING:
    from darray.runtime.consumers.trace_history import History
    from darray.runtime.consumers.trace_page import Page
    from darray.runtime.consumers.trace_summary import Summary
    from darray.runtime.processor import Processor

__all__ = ["Trace", "trace"]

LIMIT = 1_000_000


def trace(*, limit: int = LIMIT) -> Trace:
    """Keep what the runtime does in a ``with`` block, to be summed up, drawn and written.

    Parameters
    ----------
    limit : int
        How many events are kept: of more, the last ones. A task makes three.

    Returns
    -------
    Trace
        Records while its ``with`` block runs; its methods may be called in it and afterwards.

    Examples
    --------
    >>> import darray as da
    >>> with da.trace() as tr:
    ...     total = da.spawn(sum, da.map(abs, [-1, -2, -3])).result()
    >>> for function in tr.summary().functions:
    ...     print(function.name, function.count, function.failures)
    abs 3 0
    sum 1 0
    """
    return Trace(limit=limit)


class Trace:
    """What happened in a ``with`` block; made by `trace`.

    Recording appends each event to a ring and does nothing else: all methods work on a copy of
    what is there when they are called. Times count from the beginning of the block.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit= is a number of events, at least 1, not {limit!r}")
        self._limit = limit
        self._ring: deque[Event] = deque(maxlen=limit)
        # Gives one thing for each event, and tells how many it could still give.
        self._supply = itertools.repeat(None, sys.maxsize)
        self._subscriptions: list[Subscription] = []
        self._processors: tuple[Processor, ...] = ()
        self._begin = 0
        self._end: int | None = None

    def __enter__(self) -> Trace:
        if self._subscriptions:
            raise RuntimeError("a trace records one block only; call da.trace() for another")
        # What it takes to start the engine is no part of what is traced.
        self._processors = current_engine().processors()
        self._begin = perf_counter_ns()
        # A ring does not tell what it drops, so events are counted beside it. Neither of the
        # two calls runs any Python code.
        self._subscriptions = [subscribe(self._ring.append), subscribe(partial(next, self._supply))]
        return self

    def __exit__(self, *exception: object) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self._end = perf_counter_ns()

    def __len__(self) -> int:
        return len(self._ring)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Trace of {len(self):,} events, {self.dropped:,} older ones dropped>"

    @property
    def dropped(self) -> int:
        """How many events went because there were more than `limit`: the oldest ones."""
        return max(0, sys.maxsize - operator.length_hint(self._supply) - self._limit)

    def _history(self) -> History:
        from darray.runtime.consumers.trace_history import history

        end = perf_counter_ns() if self._end is None else self._end
        return history(self._ring.copy(), (self._begin, end), self._processors, self.dropped)

    def summary(self) -> Summary:
        """What each function and each processor did: a record that prints as a table.

        A task that waits, or spawns on the serial engine, holds the time of the tasks that run
        meanwhile, so that functions overlap; the times of a processor do not.

        Examples
        --------
        >>> import darray as da
        >>> with da.trace() as tr:
        ...     da.wait(da.map(abs, range(100)))  # doctest: +ELLIPSIS
        WaitResult(...)
        >>> tr.summary().functions[0].count
        100
        """
        from darray.runtime.consumers.trace_summary import summary

        return summary(self._history())

    def gantt(self, path: str | PathLike[str] | None = None) -> Page | Path:
        """Draw which processor did what when.

        Parameters
        ----------
        path : path, optional
            Where to write: ``.html`` is an interactive page that needs nothing else, ``.svg`` a
            drawing, ``.png`` a picture, for which matplotlib must be installed.

        Returns
        -------
        Page or Path
            Without a path the page, a string that notebooks show; otherwise the path.

        Examples
        --------
        >>> import darray as da
        >>> with da.trace() as tr:
        ...     da.spawn(pow, 2, 5).result()
        32
        >>> tr.gantt()[:15]
        '<!doctype html>'
        """
        from darray.runtime.consumers.trace_gantt import gantt

        return gantt(self._history(), path)

    def chrome(self, path: str | PathLike[str]) -> Path:
        """Write the trace for Perfetto and Chrome's ``about:tracing``, as Trace Event JSON.

        Examples
        --------
        >>> import darray as da, tempfile
        >>> with da.trace() as tr:
        ...     da.spawn(pow, 2, 5).result()
        32
        >>> folder = tempfile.TemporaryDirectory()
        >>> tr.chrome(f"{folder.name}/trace.json").name
        'trace.json'
        >>> folder.cleanup()
        """
        from darray.runtime.consumers.trace_chrome import chrome

        return chrome(self._history(), path)

    def graph(self, path: str | PathLike[str] | None = None) -> str | Path:
        """Draw which task needed which.

        Parameters
        ----------
        path : path, optional
            Where to write: ``.dot`` or ``.gv`` the text, ``.svg``, ``.png`` or ``.pdf`` what
            Graphviz's program ``dot``, which must be installed, makes of it.

        Returns
        -------
        str or Path
            Without a path the text in Graphviz's language DOT; otherwise the path.

        Examples
        --------
        >>> import darray as da
        >>> with da.trace() as tr:
        ...     da.spawn(abs, da.spawn(pow, -2, 5)).result()
        32
        >>> tr.graph().count(" -> ")
        1
        """
        from darray.runtime.consumers.trace_graph import graph

        return graph(self._history(), path)

    def events(self, kind: Literal["columns", "arrow"] = "columns") -> Any:
        """All that was recorded, in the order in which it was.

        Parameters
        ----------
        kind : {"columns", "arrow"}
            A dict of lists, or a `pyarrow.Table` of the same columns.

        Examples
        --------
        >>> import darray as da
        >>> with da.trace() as tr:
        ...     da.spawn(pow, 2, 5).result()
        32
        >>> tr.events()["event"]
        ['TaskSpawned', 'TaskBegan', 'TaskEnded']
        """
        from darray.runtime.consumers import trace_table

        if kind not in ("columns", "arrow"):
            raise ValueError(f"kind= is 'columns' or 'arrow', not {kind!r}")
        columns = trace_table.columns(self._ring.copy(), self._begin)
        return columns if kind == "columns" else trace_table.arrow(columns)
