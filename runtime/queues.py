"""Task queues: what stands between a spawn in a block and the engine, one inside another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from darray.runtime.places import calling_place, place_text

if TYPE_CHECKING:
    from darray.runtime.tasks import Task

__all__ = ["NestedQueue", "Submission", "TaskQueue"]


class Submission(NamedTuple):
    """A task that was spawned and not submitted, and the tasks that are to be done first."""

    task: Task[Any]
    needs: Sequence[Task[Any]] | None = None


Outside: TypeAlias = Callable[[list[Submission]], None]


class TaskQueue(Protocol):
    """What takes the tasks spawned in a block, given as ``da.options(queue=...)``.

    Until it passes them on, waiting for them raises `SchedulingError`. The tasks themselves
    spawn without the queue.

    Examples
    --------
    >>> import darray as da
    >>> class Counting:
    ...     count = 0
    ...     def enqueue(self, submissions, outside):
    ...         self.count += len(submissions)
    ...         outside(submissions)
    >>> queue = Counting()
    >>> with da.options(queue=queue):
    ...     da.fetch(da.map(abs, [-1, 2]))
    [1, 2]
    >>> queue.count
    2
    """

    def enqueue(self, submissions: list[Submission], outside: Outside) -> None:
        """Take `submissions`, to be passed to the queue outside by ``outside(submissions)``.

        It may pass them on later, together, or with more needs, each task once.
        """


class NestedQueue:
    """A queue and the one outside of it; the outermost hands to the engine.

    `block` is what the block is called whose queue it is. It is made where that begins.
    """

    __slots__ = ("_block", "_outer", "_place", "_queue")

    def __init__(self, queue: TaskQueue, outer: NestedQueue | None, block: str) -> None:
        self._queue = queue
        self._outer = outer
        self._block = block
        self._place = calling_place()

    def described(self) -> str:
        """Which block's queue it is."""
        return f"{self._block} at {place_text(*self._place)}"

    def take(self, submissions: list[Submission]) -> None:
        """Give `submissions` to the queue."""
        for one in submissions:
            one.task._hold = self
        self._queue.enqueue(submissions, launch if self._outer is None else self._outer.take)


def launch(submissions: list[Submission]) -> None:
    """Hand `submissions` to their engines, each of which takes its own together."""
    engines: dict[Any, list[Submission]] = {}
    for one in submissions:
        engines.setdefault(one.task._engine, []).append(one)
    for engine, own in engines.items():
        engine.submit_all(own)
