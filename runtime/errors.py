"""Exceptions of the runtime, and how a stored failure is kept and raised again."""

from __future__ import annotations

import concurrent.futures
import traceback
from types import CodeType, TracebackType
from typing import NoReturn

__all__ = [
    "CancelledError",
    "DeadlockError",
    "Failure",
    "MemoryLimitError",
    "SchedulingError",
]


class CancelledError(concurrent.futures.CancelledError):
    """The task, or a task that it needs, was cancelled before it ran."""


class DeadlockError(RuntimeError):
    """A wait that can never end, because what is waited for needs the waiter."""


class SchedulingError(RuntimeError):
    """No processor satisfies the scopes that a task must obey."""


class MemoryLimitError(MemoryError):
    """The memory limit leaves no room for a task, and nothing that runs can make room."""


class Failure:
    """The exception that ended a task, stored so that it can be raised any number of times.

    ``traceback`` begins with the first frame of the task's own function.  The frames hold
    no local variables any more, so that a stored failure keeps no chunk alive.

    Made by `Failure.capture` alone; shared, unchanged, by every dependent of the task.
    """

    __slots__ = ("exception", "traceback")

    def __init__(self, exception: BaseException, traceback: TracebackType | None) -> None:
        self.exception = exception
        self.traceback = traceback

    @classmethod
    def capture(cls, exception: BaseException, note: str, own_code: CodeType) -> Failure:
        """Store `exception`, raised by a task's function, without the frame of `own_code`."""
        frames = exception.__traceback__
        while frames is not None and frames.tb_frame.f_code is own_code:
            frames = frames.tb_next
        if isinstance(exception, ValueError) and "read-only" in str(exception):
            exception.add_note(
                "A task's arguments and other tasks' results are read-only. To change data in "
                "place, declare it: da.mutable(...), an InOut(...) or Out(...) argument in "
                "da.spawn_datadeps(), or assignment to a DArray."
            )
        exception.add_note(note)
        chained: BaseException | None = exception
        seen: set[int] = set()
        while chained is not None and id(chained) not in seen:
            seen.add(id(chained))
            if chained.__traceback__ is not None:
                traceback.clear_frames(chained.__traceback__)
            chained = chained.__cause__ or chained.__context__
        return cls(exception.with_traceback(frames), frames)

    def reraise(self) -> NoReturn:
        """Raise the exception with its stored traceback, which this never lengthens."""
        try:
            raise self.exception.with_traceback(self.traceback)
        finally:
            del self
