"""`Ref`: a handle on a value that lives somewhere, and views of such values."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import index as as_integer
from types import EllipsisType
from typing import Any, Generic, TypeAlias, TypeVar

from darray.runtime.contexts import limiting
from darray.runtime.errors import Failure, RefReleasedError
from darray.runtime.places import place_text
from darray.runtime.scopes import Scope
from darray.runtime.spaces import Placed, nbytes_of, placing, register_handle
from darray.runtime.spilling import bring_back
from darray.runtime.tasks import DONE, FAILED, Carrier, Task, value_of
from darray.runtime.versions import Origin

__all__ = ["Holder", "Ref", "RefView", "in_use"]

T = TypeVar("T", covariant=True)

_Key: TypeAlias = tuple[int | slice | EllipsisType | None, ...]

# Tell the engine in use, if there is one: a value may outlive the engine that made it.
in_use: list[Callable[[], Carrier | None]] = []

# Guards the pins of all tasks; held for a few operations, no other lock is taken meanwhile.
_pinning = threading.Lock()


class Holder:
    """What a task keeps instead of an argument that is replaced when it runs."""

    __slots__ = ()

    def held(self) -> list[Any]:
        """What of it is to be replaced, and whatever else it holds."""
        raise NotImplementedError


class Ref(Generic[T]):
    """A handle on a value that a task made or will make.

    Given to a task, a Ref is replaced by its value; `fetch` returns the value here. `scope`
    says where tasks that use it may run. A basic index gives a `RefView`: a handle on a view
    of the value, which need not be there yet. A task that returns a Ref has the Ref's value.
    Refs to the value of one task are equal.

    Examples
    --------
    >>> import darray as da
    >>> chunk = da.arange(10, blocks=5).blocks[1]
    >>> da.spawn(sum, chunk).result()
    np.int64(35)
    >>> da.spawn(sum, chunk[:2]).result()
    np.int64(11)
    """

    __slots__ = ("_origin", "_scope", "_task")

    # A ref does not iterate, though it can be indexed: nobody knows the length of its value.
    __iter__ = None
    __contains__ = None

    def __init__(
        self, task: Task[Any], origin: Origin | None = None, scope: Scope | None = None
    ) -> None:
        self._task = task
        self._origin = origin
        self._scope = scope
        if scope is not None:
            limiting.add("scope of a Ref")

    @property
    def scope(self) -> Scope | None:
        """Where tasks that use the value may run; None for anywhere.

        Examples
        --------
        >>> import darray as da
        >>> task = da.spawn.options(result_scope=da.scope(thread=0))(int, 3)
        >>> da.Ref(task).scope
        scope(thread=0)
        """
        options = self._task._options
        result = None if options is None else options.result_scope
        if self._scope is None or result is None:
            return result if self._scope is None else self._scope
        return self._scope & result

    @property
    def task(self) -> Task[T]:
        """The task whose value this is."""
        return self._task

    @property
    def origin(self) -> Origin | None:
        """What the value is a part of, which regions may write to; None for a value by itself."""
        return self._origin

    def __getitem__(self, key: Any) -> RefView:
        return RefView(self, key)

    def of(self, value: Any) -> Any:
        """What is meant, given the value of the task."""
        return value

    def view_of(self, value: Any) -> Any:
        """The same, as something to be written to: also of one element a view."""
        return value

    @property
    def nbytes(self) -> int | None:
        """Bytes of the value; None until it is there.

        Examples
        --------
        >>> import numpy as np
        >>> import darray as da
        >>> da.put(np.zeros(10)).nbytes
        80
        """
        task = self._task
        value = task._value
        if task._state != DONE:
            return None
        return value.nbytes if value.__class__ is Placed else nbytes_of(value)

    def done(self) -> bool:
        """Whether the value is there, or never will be."""
        return self._task.done()

    def result(self, timeout: float | None = None) -> T:
        """The value, waited for at most `timeout` seconds, as by `Task.result`."""
        value: T = self.of(self._task.result(timeout))
        return value

    def pin(self) -> None:
        """Keep the value where it is, in memory, until `unpin` is called as often.

        Examples
        --------
        >>> import darray as da
        >>> ref = da.put([1, 2])
        >>> with ref.pinned():
        ...     ref.holders()
        ['pinned once']
        >>> ref.holders()
        []
        """
        with _pinning:
            self._task._pins = getattr(self._task, "_pins", 0) + 1
        bring_back(self._task)

    def unpin(self) -> None:
        """Undo one `pin`."""
        with _pinning:
            count = getattr(self._task, "_pins", 0)
            if count:
                self._task._pins = count - 1
        if not count:
            raise ValueError(f"{self!r} is not pinned: unpin() was called more often than pin()")

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Pin the value in the block."""
        self.pin()
        try:
            yield
        finally:
            self.unpin()

    def holders(self) -> list[str]:
        """Who still needs the value: the unfinished tasks that were given it, and pins."""
        engines = dict.fromkeys([self._task._engine, *(tell() for tell in in_use)])
        found = [
            f"task {task.name!r}, spawned at {task.spawned_at}"
            for engine in engines
            if engine is not None
            for task in engine.unfinished()
            if _is_given(task, self._task)
        ]
        pins = getattr(self._task, "_pins", 0)
        if pins:
            found.append("pinned once" if pins == 1 else f"pinned {pins} times")
        return found

    def release(self) -> None:
        """Give the value up now, although refs to it are left.

        Whoever uses it from now on gets a `RefReleasedError`. Nobody may be fetching it
        meanwhile, and no queue of a block may hold a task that was given it.

        Raises
        ------
        RuntimeError
            While the value is not there, and while it has `holders`.

        Examples
        --------
        >>> import darray as da
        >>> ref = da.put([1, 2])
        >>> ref.release()
        >>> da.fetch(ref)
        Traceback (most recent call last):
        ...
        darray.runtime.errors.RefReleasedError: the value of task 'put' was released ...
        """
        task = self._task
        if task._state < DONE:
            raise RuntimeError(
                f"{self!r} has no value yet that could be released: wait for it, or cancel its task"
            )
        holders = self.holders()
        if holders:
            raise RuntimeError(
                f"the value of task {task.name!r}, spawned at {task.spawned_at}, is still held: "
                f"{'; '.join(holders[:8])}. Release it when they have ended"
            )
        if task._state != DONE:
            return
        frame = sys._getframe(1)
        failure = Failure(
            RefReleasedError(
                f"the value of task {task.name!r} was released at "
                f"{place_text(frame.f_code, frame.f_lasti)} and is gone; make it again, or "
                "release it later"
            )
        )
        # Dropped outside the lock.
        value = task._value
        with placing:
            task._value, task._state = failure, FAILED
        del value
        task._hold = None

    def __eq__(self, other: object) -> bool:
        return self._task is other._task if isinstance(other, Ref) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._task)

    def __repr__(self) -> str:
        return f"<Ref to the value of {self._task!r}>"


class RefView(Ref[Any]):
    """A handle on a view of a value: ``ref[1:4, ::2]``, usable wherever the `Ref` is.

    Made by basic indices alone: slices, integers, ``...`` and ``None``.

    Raises
    ------
    TypeError
        For an index of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> chunk = da.zeros((4, 4), blocks=4).blocks[0, 0]
    >>> da.fetch(chunk[1:3, None, ::2]).shape
    (2, 1, 2)
    """

    __slots__ = ("_keys",)

    _keys: tuple[_Key, ...]

    def __init__(self, ref: Ref[Any], key: Any) -> None:
        super().__init__(ref.task, ref.origin, ref._scope)
        before = ref._keys if isinstance(ref, RefView) else ()
        self._keys = (*before, _basic(key))

    def of(self, value: Any) -> Any:
        """What is meant, given the value of the task."""
        for key in self._keys:
            value = value[key if len(key) != 1 else key[0]]
        return value

    def view_of(self, value: Any) -> Any:
        """The same of an array, as a view: also of one element."""
        for key in self._keys:
            value = value[key if ... in key else (*key, ...)]
        return value

    @property
    def nbytes(self) -> int | None:
        """Bytes of the view; None until the value is there."""
        task = self.task
        return nbytes_of(self.of(value_of(task))) if task._state == DONE else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RefView):
            return NotImplemented
        return self.task is other.task and self._keys == other._keys

    def __hash__(self) -> int:
        return hash((self.task, repr(self._keys)))

    def __repr__(self) -> str:
        keys = "".join([f"[{', '.join(map(_text, key))}]" for key in self._keys])
        return f"<Ref to {keys} of the value of {self._task!r}>"


def _basic(key: Any) -> _Key:
    """The parts of a basic index."""
    parts = key if isinstance(key, tuple) else (key,)
    found = tuple([_part(part, key) for part in parts])
    if found.count(...) > 1:
        raise IndexError(f"an index has one ellipsis ('...') at most, not {key!r}")
    return found


def _part(part: Any, key: Any) -> int | slice | EllipsisType | None:
    if part is None or part is ...:
        return part
    try:
        if isinstance(part, slice):
            edges = (part.start, part.stop, part.step)
            return slice(*[None if edge is None else as_integer(edge) for edge in edges])
        # An array of one integer, and True, are integers to Python.
        if not isinstance(part, bool) and not getattr(part, "shape", ()):
            return as_integer(part)
    except TypeError:
        pass
    raise TypeError(
        f"a view of a ref is made by slices, integers, ... and None, not {part!r} in [{key!r}]: to "
        "index its value otherwise give it to a task, da.spawn(operator.getitem, ref, index)"
    )


def _text(part: int | slice | EllipsisType | None) -> str:
    """A part of an index as it is written."""
    if not isinstance(part, slice):
        return "..." if part is ... else str(part)
    start, stop, step = [
        "" if one is None else str(one) for one in (part.start, part.stop, part.step)
    ]
    return f"{start}:{stop}" + (f":{step}" if step else "")


def _is_given(task: Task[Any], given: Task[Any]) -> bool:
    """Whether `task`, which is not finished, was given the value of `given`."""
    pending = [task._function, *(task._args or ()), *(task._kwargs or {}).values()]
    while pending:
        value = pending.pop()
        if value is given or (isinstance(value, Ref) and value._task is given):
            return True
        if isinstance(value, Holder):
            pending += value.held()
    after = getattr(task, "_after", ())
    return any(one is given and one not in after for one in task._needs or ())


register_handle(Ref)
register_handle(RefView)
