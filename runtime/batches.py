"""Batches: many tasks, which may need each other, handed to the engine at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from darray.runtime import events
from darray.runtime.contexts import Options, limiting
from darray.runtime.engine import Engine
from darray.runtime.narrowing import limits_of, narrowed
from darray.runtime.pieces import Turn
from darray.runtime.tasks import Task

__all__ = ["Batch"]


class Batch:
    """Tasks that are made now and submitted together: none begins before all are known.

    Made and used by one thread.

    Examples
    --------
    >>> from darray.runtime.engine import current_engine
    >>> batch = Batch(current_engine())
    >>> two = batch.spawn(None, pow, (2, 1), [])
    >>> eight = batch.spawn(None, pow, (two, 3), [two])
    >>> batch.submit()
    >>> eight.result()
    8
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tasks: list[tuple[Task[Any], list[Task[Any]] | None]] = []
        self._frame = _calling_frame()

    def spawn(
        self,
        options: Options | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        needs: list[Task[Any]],
        turn: Turn | None = None,
    ) -> Task[Any]:
        """Make a task; `needs` are the tasks among `args`, which hold them at the top level.

        It begins when those before it, of all that have the same `turn`, are finished.
        """
        frame = self._frame
        if limiting:
            options = narrowed(options, limits_of(function, args, None))
        task: Task[Any] = Task(
            self.engine, (function, args, None, bool(needs)), options, frame.f_code, frame.f_lasti
        )
        if turn is not None:
            task._turns = (turn,)
        if options is not None and options.group is not None:
            options.group.expect(task)
        self._tasks.append((task, needs or None))
        return task

    def submit(self) -> None:
        """Hand all the tasks to the engine; the batch is empty then and keeps none alive."""
        tasks, self._tasks = self._tasks, []
        if events.consumers:
            for task, needs in tasks:
                events.publish_spawned(task, needs)
        self.engine.submit_all(tasks)


def _calling_frame() -> FrameType:
    """The innermost frame that is not of this package: where the user asked for the tasks."""
    frame = sys._getframe(1)
    package = __name__.partition(".")[0]
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == package
    ):
        frame = frame.f_back
    return frame
