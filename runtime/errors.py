"""Exceptions of the runtime, and how a stored failure is kept."""

from __future__ import annotations

import concurrent.futures
import traceback
from pathlib import Path
from types import TracebackType

__all__ = [
    "CancelledError",
    "DeadlockError",
    "Failure",
    "MemoryLimitError",
    "RefReleasedError",
    "SchedulingError",
    "WorkerLostError",
]


class CancelledError(concurrent.futures.CancelledError):
    """The task, or a task that it needs, was cancelled."""


class DeadlockError(RuntimeError):
    """A wait that can never end, because what is waited for needs the waiter."""


class SchedulingError(RuntimeError):
    """A task that cannot be run, or not before its block ends, is asked for.

    No processor satisfies the scopes that it must obey, or a queue still holds it.
    """


class WorkerLostError(RuntimeError):
    """A worker on which a streaming task ran is gone, with the values that it had."""


class MemoryLimitError(MemoryError):
    """The memory limit leaves no room for a task, and nothing that runs can make room."""


class RefReleasedError(LookupError):
    """A value that was given up by ``Ref.release`` is asked for."""


# Frames of files below it are the runtime's own.
_RUNTIME = str(Path(__file__).parent)

# An exception that passes through more tasks than this gets no more notes.
_MOST_NOTES = 16

_READ_ONLY = (
    "A task's arguments and other tasks' results are read-only. To change data in place, "
    "declare it: da.mutable(...), an InOut(...) or Out(...) argument in da.spawn_datadeps(), "
    "or assignment to a DArray."
)


class Failure:
    """The exception that ended a task, stored so that it can be raised any number of times.

    ``traceback`` begins with the first frame of the task's own function. The frames hold
    no local variables any more, so that a stored failure keeps no chunk alive.

    Shared, unchanged, by every dependent of the task.
    """

    __slots__ = ("context", "exception", "traceback")

    def __init__(self, exception: BaseException, traceback: TracebackType | None = None) -> None:
        self.exception = exception
        self.traceback = traceback
        self.context = exception.__context__

    @classmethod
    def capture(cls, exception: BaseException, note: str) -> Failure:
        """Store `exception`, raised by a task's function, without the runtime's own frames."""
        frames = exception.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_RUNTIME):
            frames = frames.tb_next
        notes = getattr(exception, "__notes__", ())
        if (
            isinstance(exception, ValueError)
            and "read-only" in str(exception)
            and _READ_ONLY not in notes
        ):
            exception.add_note(_READ_ONLY)
        if len(notes) < _MOST_NOTES:
            exception.add_note(note)
        _drop_locals(exception)
        return cls(exception.with_traceback(frames), frames)


def _drop_locals(exception: BaseException) -> None:
    """Clear the frames of `exception` and of every exception chained to it."""
    pending: list[BaseException | None] = [exception]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.__traceback__ is not None:
            traceback.clear_frames(one.__traceback__)
        pending += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
