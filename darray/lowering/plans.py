"""Plans: chunk tasks to be, what each of them needs, and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from msgspec import Struct, field
from numpy.typing import NDArray

from darray.kernels.warnings_ledger import Ledger
from darray.runtime import RefReleasedError, Task

__all__ = ["Draft", "Index", "Kept", "Key", "Need", "Plan", "Stage"]

Index: TypeAlias = tuple[int, ...]

# What names a draft: what it is a part of, and which part.
Key: TypeAlias = tuple[Any, Any]

# Drafts are needed by key; tasks that run or ran already as they are.
Need: TypeAlias = Key | Task[Any]


class Kept(Struct, eq=False, weakref=True):
    """Chunks that a computation left with an expression: tasks, or arrays computed at once.

    ``chunks`` are in C order; ``ledgers`` have what is to be warned of when they are collected.
    ``unsettled`` has the tasks among them that were not seen to be done yet. Of one that was, the
    value may be released later, which whoever reads it is told. Any thread may leave out those
    that it saw.
    """

    chunks: dict[Index, Task[Any] | NDArray[Any]]
    ledgers: tuple[Ledger, ...]
    unsettled: list[Task[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look for tasks."""
        self.unsettled = [one for one in self.chunks.values() if isinstance(one, Task)]

    def is_usable(self) -> bool:
        """Whether no chunk has failed or was cancelled."""
        return not self.is_pending() or not any(map(_is_lost, self.unsettled))

    def is_pending(self) -> bool:
        """Whether a chunk is not computed, or never will be."""
        if self.unsettled:
            self.unsettled = [one for one in self.unsettled if not one.done() or _is_lost(one)]
        return bool(self.unsettled)


def _is_lost(task: Task[Any]) -> bool:
    """Whether a task has failed or was cancelled, and was not released since it was done."""
    if not task.done():
        return False
    error = task.exception()
    return error is not None and not isinstance(error, RefReleasedError)


class Draft(Struct, frozen=True):
    """A task to be: its call takes the values of `needs`.

    Calls with an attribute ``reads_parts`` that is true take what gives parts of a value instead
    where the value is on disk.
    """

    key: Key
    call: Any
    needs: list[Need]


class Stage(Struct, eq=False):
    """Tasks of one kind.

    Attributes
    ----------
    serial : float
        Puts stages in an order in which each needs only those before it.
    elements : int
        Those of the largest chunk.
    bytes_per_element : callable
        Bytes that a task holds at its peak for each of them; asked only where it matters.
    fixed : int
        Bytes that it holds besides.
    is_delayed : bool
        Whether each task is spawned right before the first that needs it, so that engines which
        run tasks in order hold few of the values.
    """

    name: str
    serial: float
    elements: int
    bytes_per_element: Callable[[], int]
    fixed: int = 0
    drafts: list[Draft] = field(default_factory=list)
    is_delayed: bool = False

    @property
    def memory(self) -> int:
        """Bytes that one task holds at its peak."""
        return self.elements * self.bytes_per_element() + self.fixed


class Plan(Struct):
    """All that computes some expressions.

    Attributes
    ----------
    stages : list of Stage
        In order.
    ledger : Ledger
        Where this computation notes floating-point errors.
    ledgers : list of Ledger
        Those whose notes are to be issued with the results.
    nbytes : int
        Bytes that are read from stores.
    reads_remote : bool
        Whether some of them come from other machines.
    """

    stages: list[Stage] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    ledgers: list[Ledger] = field(default_factory=list)
    nbytes: int = 0
    reads_remote: bool = False

    def drafts(self) -> Iterable[Draft]:
        """All drafts, each after those it needs."""
        return itertools.chain.from_iterable(stage.drafts for stage in self.stages)

    def count(self) -> int:
        """Number of tasks."""
        return sum(len(stage.drafts) for stage in self.stages)
