"""Ending a streaming task from within."""

from __future__ import annotations

from typing import Any, NoReturn

from darray.runtime import contexts
from darray.runtime.engine import current_engine
from darray.runtime.streams.calls import NOTHING, StreamFinished

__all__ = ["finish_stream"]


def finish_stream(value: Any = NOTHING, result: Any = None) -> NoReturn:
    """End the streaming task that calls this; whether or not it returns what this returns.

    Consumers are given `value`, if there is one, after all values before; then those with no
    other input end. ``fetch`` of the task gives `result`.

    Raises
    ------
    RuntimeError
        Where it is not called by a streaming task.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     numbers = da.spawn(iter(range(10)))
    ...     few = da.spawn(lambda x: x if x < 3 else da.finish_stream(result="done"), numbers)
    ...     out = s.output(few)
    >>> list(out), few.result()
    ([0, 1, 2], 'done')
    """
    streaming = contexts.streaming.get()
    if streaming is None or current_engine().current_task() is not streaming[0]:
        raise RuntimeError("finish_stream() was called outside a streaming task")
    raise StreamFinished(value, result)
