"""`Ref`: a handle on a value that lives somewhere, and views of such values."""

from __future__ import annotations

from operator import index as as_integer
from types import EllipsisType
from typing import Any, Generic, TypeAlias, TypeVar

from darray.runtime.contexts import limiting
from darray.runtime.scopes import Scope
from darray.runtime.spaces import register_handle
from darray.runtime.tasks import Task
from darray.runtime.versions import Origin

__all__ = ["Ref", "RefView"]

T = TypeVar("T", covariant=True)

_Key: TypeAlias = tuple[int | slice | EllipsisType | None, ...]


class Ref(Generic[T]):
    """A handle on a value that a task made or will make.

    Given to a task, a Ref is replaced by its value; `fetch` returns the value here. `scope`
    says where tasks that use it may run. A basic index gives a `RefView`: a handle on a view
    of the value, which need not be there yet.

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


register_handle(Ref)
register_handle(RefView)
