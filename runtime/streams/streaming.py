"""`StreamingTask`: the handle on a task that runs over and over; and how its buffers are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from darray.runtime.arguments import register_argument
from darray.runtime.settings import parse_bytes
from darray.runtime.spaces import register_handle
from darray.runtime.streams.policies import POLICIES, Policy, policy_named
from darray.runtime.tasks import Task

if TYPE_CHECKING:
    from darray.runtime.streams.stages import Stage

__all__ = ["MOST_BYTES", "MOST_VALUES", "Buffered", "StreamingTask", "buffered", "sizes"]

R = TypeVar("R", covariant=True)

# What a buffer holds at most where nothing is said of it.
MOST_VALUES = 64
MOST_BYTES = 64_000_000


class StreamingTask(Task[R]):
    """A task that calls its function for value after value; its result is there at the end.

    Given to another streaming task it stands for its values, one for each call there. Given to
    an ordinary task, or fetched, it stands for what `finish_stream` gave as ``result=``, for what
    its generator returned, else for None.
    """

    __slots__ = ("_stage",)

    _stage: Stage


register_handle(StreamingTask)


class Buffered:
    """A stream as one consumer takes it: with a buffer, and what happens when that is full."""

    __slots__ = ("buffer", "policy", "task")

    def __init__(self, task: StreamingTask[Any], buffer: Any, policy: Policy | None) -> None:
        self.task = task
        self.buffer = buffer
        self.policy = policy


def _refused(stream: Buffered) -> None:
    raise TypeError(
        f"da.buffered({stream.task!r}) says how a streaming task takes values; give an ordinary "
        "task the streaming task itself, for its result"
    )


register_argument(Buffered, _refused)


def buffered(stream: Task[R], buffer: Any = None, when_full: str | None = None) -> Any:
    """A stream with a buffer of its own, as an argument of a streaming task.

    Parameters
    ----------
    stream : Task
        A streaming task.
    buffer : int or str, optional
        How many values the buffer holds, or how many bytes, such as ``"8MB"``; by default 64
        values and 64 MB, whatever is reached first.
    when_full : str, optional
        ``"block"`` holds the producer back, and is the default; ``"drop oldest"`` and ``"drop
        newest"`` drop values; ``"latest"`` keeps only the last.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     numbers = da.spawn(iter(range(5)))
    ...     doubled = da.spawn(lambda x: 2 * x, da.buffered(numbers, 2))
    ...     out = s.output(doubled)
    >>> list(out)
    [0, 2, 4, 6, 8]
    """
    if not isinstance(stream, StreamingTask):
        raise TypeError(f"buffered() takes a task of a streaming region, not {stream!r}")
    sizes(buffer)
    return Buffered(stream, buffer, None if when_full is None else policy_named(when_full))


def sizes(buffer: Any, policy: Policy = POLICIES["block"]) -> tuple[int, int]:
    """How many values, and how many bytes, a buffer holds.

    Raises
    ------
    TypeError, ValueError
        For what is no size.
    """
    if policy.keeps is not None:
        return policy.keeps, MOST_BYTES
    if buffer is None:
        return MOST_VALUES, MOST_BYTES
    if isinstance(buffer, str):
        most = parse_bytes(buffer)
        if most <= 0:
            raise ValueError(f"buffer= holds at least one byte, not {buffer!r}")
        # So many values that their number does not matter, and yet not any number of small ones.
        return max(MOST_VALUES, most // 64), most
    if isinstance(buffer, bool) or not isinstance(buffer, int):
        raise TypeError(f"buffer= is a number of values, or bytes such as '8MB', not {buffer!r}")
    if buffer < 1:
        raise ValueError(f"buffer= holds at least one value, not {buffer!r}")
    return buffer, MOST_BYTES
