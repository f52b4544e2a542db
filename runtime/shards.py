"""Shards: one value on each worker, or each processor, that tasks use where they run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from operator import or_
from types import FrameType
from typing import Any, Generic, TypeVar

from darray.runtime import contexts
from darray.runtime.accesses import In
from darray.runtime.arguments import Kept
from darray.runtime.engine import Engine, current_engine
from darray.runtime.errors import SchedulingError
from darray.runtime.keeping import copy_of, options_at
from darray.runtime.mutables import Mutable, checked_make, spawn_maker
from darray.runtime.pieces import Pieces
from darray.runtime.processor import Processor
from darray.runtime.scopes import DEFAULT, Scope, scope_of_processor, scope_of_worker
from darray.runtime.scopes import scope as scope_of
from darray.runtime.spaces import register_handle
from darray.runtime.spawning import submit, wait_for_all
from darray.runtime.surroundings import current_task
from darray.runtime.tasks import Task

__all__ = ["Shard", "shard"]

T = TypeVar("T")
R = TypeVar("R")


class Shard(Kept, Generic[T]):
    """One value on each of several workers or processors; made by `shard`.

    A task that is given it runs where there is a piece, and is given that piece. Iterating
    gives the pieces, mutables, in the order of the workers or processors.
    """

    __slots__ = ("_by_place", "_values", "pieces", "scope")

    line = None
    pieces: Pieces

    def __init__(self, values: list[Mutable[T]], places: list[Any], pieces: Pieces) -> None:
        self._values = values
        self._by_place = dict(zip(places, values, strict=True))
        # Who uses which piece, of those that were given one or the whole.
        self.pieces = pieces
        # Where there are pieces.
        self.scope = functools.reduce(or_, [one.scope for one in values if one.scope is not None])

    def makers(self) -> list[Task[Any]]:
        """The tasks that made the pieces."""
        return [one.task for one in self._values]

    def in_place(self) -> T:
        """The piece of the processor that runs the calling task."""
        processor = current_task().processor
        assert processor is not None
        value: T = self._by_place[self.pieces.place(processor)].in_place()
        return value

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Mutable[T]]:
        return iter(self._values)

    def map(self, function: Callable[..., R]) -> list[Task[R]]:
        """Spawn ``function(piece)`` for each piece, where it is.

        Examples
        --------
        >>> import darray as da
        >>> counts = da.shard(lambda: [0])
        >>> da.fetch(counts.map(len))
        [1]
        """
        frame = sys._getframe(1)
        return [_spawn(function, (one,), frame, one.scope) for one in self._values]

    def reduce(self, function: Callable[[Any, Any], Any], *initial: Any) -> Task[Any]:
        """Spawn ``functools.reduce(function, pieces, *initial)`` on copies of the pieces.

        Examples
        --------
        >>> import operator
        >>> import darray as da
        >>> counts = da.shard(lambda: 5)
        >>> counts.reduce(operator.add, 1).result()
        6
        """
        frame = sys._getframe(1)
        copies = [_spawn(copy_of, (In(one),), frame, one.scope) for one in self._values]
        return _spawn(_reduced, (function, copies, *initial), frame)

    def __repr__(self) -> str:
        return f"<Shard of {len(self)} in {self.scope!r}>"


def _spawn(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    frame: FrameType,
    home: Scope | None = None,
) -> Task[Any]:
    options = contexts.current.get()
    if home is not None:
        options = options_at(options, home)
    return submit(current_engine(), function, args, None, options, frame)


def _reduced(function: Callable[[Any, Any], Any], copies: list[Any], *initial: Any) -> Any:
    return functools.reduce(function, [one.value for one in copies], *initial)


def shard(
    make: Callable[[], T],
    workers: Iterable[int] | None = None,
    per_thread: bool = False,
    scope: Scope | None = None,
) -> Shard[T]:
    """Make one value on each worker, for tasks to use the one where they run.

    ``make()`` is called on all of them at once, and waited for. A task that is given the shard
    runs where there is a piece and gets that very object, to change it. No two tasks use one
    piece at the same time, unless both only read it, given as ``da.In(shard)``. Which piece a
    task gets is not determined, and so its result should not depend on it.

    Parameters
    ----------
    make : callable
        Called without arguments.
    workers : iterable of int, optional
        The workers that get a piece; by default every one.
    per_thread : bool
        Whether each of their processors gets a piece of its own.
    scope : Scope, optional
        Instead of `workers`: where pieces are made.

    Raises
    ------
    TypeError, ValueError, SchedulingError
        For a `make` that is not callable, or workers as well as a scope; for no workers; for
        workers or a scope without processors.
    BaseException
        What ``make()`` raised.

    Examples
    --------
    >>> import darray as da
    >>> histogram = da.shard(dict)
    >>> def count(seen, number):
    ...     seen[number] = seen.get(number, 0) + 1
    >>> _ = da.wait([da.spawn(count, histogram, i % 3) for i in range(12)])
    >>> [sorted(piece.items()) for piece in da.fetch(list(histogram))]
    [[(0, 4), (1, 4), (2, 4)]]
    """
    checked_make(make, "shard")
    engine, frame = current_engine(), sys._getframe(1)
    processors = _chosen(engine, None if workers is None else list(workers), scope)
    pieces = Pieces(per_thread)
    first = {pieces.place(one): one for one in reversed(processors)}
    chosen = sorted(first.values(), key=lambda one: (one.worker, one.kind, one.index))
    places = [pieces.place(one) for one in chosen]
    values = []
    for one in chosen:
        home = scope_of(worker=one.worker)
        if per_thread:
            home = scope_of_processor(one)
        elif scope is not None:
            home = scope & scope_of_worker(one.worker)
        maker = spawn_maker(engine, make, home, frame, held=False)
        values.append(Mutable[T](maker, home, pieces))
    wait_for_all([value.task for value in values])
    for value in values:
        value.task.result()
    return Shard(values, places, pieces)


def _chosen(engine: Engine, workers: list[int] | None, scope: Scope | None) -> list[Processor]:
    """The processors that are to have pieces."""
    if workers is not None and scope is not None:
        raise TypeError("da.shard() takes workers= or scope=, not both")
    if workers == []:
        raise ValueError("da.shard(workers=[]) makes no piece; name at least one worker")
    every = engine.processors()
    missing = [one for one in workers or () if not any(p.worker == one for p in every)]
    asked = DEFAULT
    if scope is not None:
        asked = scope
    elif workers is not None:
        asked = scope_of(workers=workers)
    found = [one for one in every if one in asked]
    if missing or not found:
        lacking = f"workers {missing!r}" if missing else repr(asked)
        raise SchedulingError(
            f"a shard is to have pieces in {lacking}, but no processor is there; there are "
            f"{list(every[:8])!r}"
        )
    return found


register_handle(Shard)
