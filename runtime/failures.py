"""What is said of a failed region: which arguments are half written, what else failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darray.runtime.refs import Ref
from darray.runtime.tasks import Task

__all__ = ["half_written", "name_of", "note_failures", "note_unchanged"]

# Failures, and arguments half written, that a message lists.
MOST_TOLD = 8


def half_written(function: Any, written: Sequence[Any]) -> list[str]:
    """What a failed task may have half written, in words.

    `written` has the name of an annotation, a value, the next name, and so on.
    """
    return [
        f"{name} {_described(value)} of {name_of(function)!r}"
        for name, value in zip(written[::2], written[1::2], strict=True)
        if not (isinstance(value, Ref) and value.origin is not None)
    ]


def note_failures(tasks: Sequence[Task[Any]], undefined: Sequence[str], skipped: int) -> None:
    """Say, in the exception of the first of the failed tasks, what else is to be known."""
    exception: BaseException = tasks[0]._value.exception
    others = [one for one in tasks[1:] if one._value.exception is not exception]
    for other in others[:MOST_TOLD]:
        exception.add_note(
            f"a task after it, spawned at {other.spawned_at}, failed as well: "
            f"{other._value.exception!r}"
        )
    if len(others) > MOST_TOLD:
        exception.add_note(f"{len(others) - MOST_TOLD} other task(s) of the region failed")
    if undefined:
        listed = "; ".join(undefined[:MOST_TOLD])
        exception.add_note(f"the contents of these arguments are undefined now: {listed}")
    if skipped:
        exception.add_note(f"{skipped} task(s) of the region after it did not run")


def note_unchanged(exception: BaseException, unchanged: Sequence[str]) -> None:
    """Say what keeps the values that it had before the region, which failed."""
    if unchanged:
        listed = "; ".join(unchanged[:MOST_TOLD])
        exception.add_note(
            "the region failed, so what its tasks wrote to chunks is dropped, and the values are "
            f"those from before it: {listed}"
        )


def name_of(function: Any) -> str:
    """What a function is called."""
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name


def _described(value: Any) -> str:
    """A value in a few words."""
    cls = type(value)
    # Asked of the class: an object that answers for any name may raise anything.
    if not (hasattr(cls, "shape") and hasattr(cls, "dtype")):
        return f"the value of {value!r}" if issubclass(cls, Task | Ref) else cls.__name__
    return f"{cls.__name__} of shape {value.shape} and dtype {value.dtype}"
