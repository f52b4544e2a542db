"""Mutables: values that stay where they were made and are changed there by tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from types import CoroutineType, FrameType
from typing import Any, NoReturn, TypeVar

from msgspec.structs import replace

from darray.runtime import contexts
from darray.runtime.accesses import In
from darray.runtime.arguments import Kept, Unsealed
from darray.runtime.engine import Engine, current_engine
from darray.runtime.errors import SchedulingError
from darray.runtime.keeping import copy_of, options_at
from darray.runtime.pieces import Pieces
from darray.runtime.refs import Ref
from darray.runtime.scopes import Scope, scope_of_worker
from darray.runtime.scopes import scope as scope_of
from darray.runtime.spaces import Placed, nbytes_of, register_handle
from darray.runtime.spawning import submit
from darray.runtime.tasks import DONE, Task
from darray.runtime.turns import Line

__all__ = ["Mutable", "checked_make", "home_of", "mutable", "spawn_maker"]

T = TypeVar("T")


class Mutable(Ref[T], Kept):
    """A Ref to a value that stays where it was made, for tasks to change; made by `mutable`."""

    __slots__ = ("line", "pieces")

    def __init__(self, task: Task[Any], home: Scope, pieces: Pieces | None = None) -> None:
        super().__init__(task, scope=home)
        # Who uses the value, in the order of submission; of a piece of a shard, also those that
        # were given the shard.
        self.line = Line()
        self.pieces = pieces

    def makers(self) -> list[Task[Any]]:
        """The task that makes the value."""
        return [self._task]

    def in_place(self) -> T:
        """The value itself; it is made."""
        value: T = _unsealed(self._task)
        return value

    @property
    def nbytes(self) -> int | None:
        """Bytes of the value, as it is now; None until it is made."""
        return nbytes_of(_unsealed(self._task)) if self._task._state == DONE else None

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Spawn a task that calls the value's method of that name.

        Examples
        --------
        >>> import darray as da
        >>> numbers = da.mutable(list)
        >>> _ = numbers.call("append", 3)
        >>> numbers.call("index", 3).result()
        0
        """
        options, frame = options_at(contexts.current.get(), self.scope), sys._getframe(1)
        return submit(current_engine(), _call_method, (self, method, *args), kwargs, options, frame)

    def result(self, timeout: float | None = None) -> T:
        """A copy of the value as it is after all tasks on it that were submitted by now.

        Raises
        ------
        TimeoutError
            When that is not there within `timeout` seconds.
        """
        outer = contexts.without_queue(contexts.current.get())
        options = options_at(outer, self.scope)
        task = submit(current_engine(), copy_of, (In(self),), None, options, sys._getframe(1))
        value: T = task.result(timeout).value
        return value

    def __getitem__(self, key: Any) -> NoReturn:
        raise TypeError(
            f"{self!r}: a part of a mutable cannot be given by itself: give a task the whole, "
            "da.spawn(function, da.In(x)), or say in a region what it does to the part, "
            "da.Deps(x, da.InOut(lambda value: value[...]))"
        )

    def __repr__(self) -> str:
        return f"<Mutable made by {self._task!r}>"


def _unsealed(maker: Task[Any]) -> Any:
    """What a task made to be kept, where it is: never a copy of it elsewhere."""
    value = maker._value
    return (value.value if value.__class__ is Placed else value).value


def _call_method(value: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(value, method)(*args, **kwargs)


def made(make: Callable[[], Any]) -> Any:
    """What ``make()`` returns, to be kept as it is."""
    value = make()
    return _made_later(value) if value.__class__ is CoroutineType else Unsealed(value)


async def _made_later(coroutine: Coroutine[Any, Any, Any]) -> Unsealed:
    return Unsealed(await coroutine)


def checked_make(make: Any, caller: str) -> None:
    """Refuse what cannot be called."""
    if not callable(make):
        raise TypeError(
            f"da.{caller}() calls its argument where the value is to stay, but {make!r} is not "
            f"callable; wrap it: da.{caller}(lambda: x)"
        )


def home_of(engine: Engine, worker: int | None, scope: Scope | None) -> Scope:
    """The processors of the one worker where a value is to stay.

    Raises
    ------
    TypeError, SchedulingError
        For both a worker and a scope; where there is no such processor.
    """
    if worker is not None and scope is not None:
        raise TypeError("da.mutable() takes worker= or scope=, not both")
    asked = scope_of(worker=worker) if scope is None else scope
    found = [one for one in engine.processors() if one in asked]
    if not found:
        raise SchedulingError(
            f"a value is to stay in {asked!r}, but no processor is there; there are "
            f"{list(engine.processors()[:8])!r}"
        )
    running = None if worker is not None else engine.current_task()
    here = found[0].worker
    if running is not None and running.processor in found:
        here = running.processor.worker
    return asked & scope_of_worker(here)


def mutable(
    make: Callable[[], T], worker: int | None = None, scope: Scope | None = None
) -> Mutable[T]:
    """Make a value that stays where it is made, for tasks to change.

    Tasks that are given it run there, and get the very object that ``make()`` returned: it is
    never copied, moved or made read-only. They use it one at a time, in the order in which they
    were submitted; those that only read it, given as ``da.In(x)``, side by side. One that fails
    or is cancelled does not fail the next one. `fetch` gives a copy, as the value is after the
    tasks submitted so far.

    Parameters
    ----------
    make : callable
        Called without arguments by a task, on the worker where the value is to stay.
    worker : int, optional
        The worker where it stays; by default that of the calling task, or the first.
    scope : Scope, optional
        Where tasks may use it: what `scope` holds of one worker.

    Returns
    -------
    Mutable
        A Ref. If ``make()`` fails, so do all tasks that are given it.

    Raises
    ------
    TypeError, SchedulingError
        For a `make` that is not callable; where no processor is in `worker` or `scope`.

    Examples
    --------
    >>> import darray as da
    >>> numbers = da.mutable(list)
    >>> for i in range(3):
    ...     _ = da.spawn(list.append, numbers, i)
    >>> da.spawn(sum, da.In(numbers)).result()
    3
    >>> da.fetch(numbers)
    [0, 1, 2]
    """
    checked_make(make, "mutable")
    engine = current_engine()
    home = home_of(engine, worker, scope)
    return Mutable(spawn_maker(engine, make, home, sys._getframe(1)), home)


def spawn_maker(
    engine: Engine, make: Callable[[], Any], home: Scope, frame: FrameType, held: bool = True
) -> Task[Any]:
    """The task that makes a value at its home; no queue or region holds it, unless `held`."""
    name = getattr(make, "__qualname__", None) or type(make).__qualname__
    options = contexts.extended({"scope": home, "name": name})
    if not held:
        outer = contexts.outside(contexts.without_queue(options.outer))
        options = replace(options, queue=None, region=None, outer=outer)
    return submit(engine, made, (make,), None, options, frame)


register_handle(Mutable)
