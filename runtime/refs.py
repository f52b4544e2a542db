"""`Ref`: a handle on a value that lives somewhere."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from darray.runtime.contexts import limiting
from darray.runtime.scopes import Scope
from darray.runtime.spaces import register_handle
from darray.runtime.tasks import Task

__all__ = ["Ref"]

T = TypeVar("T", covariant=True)


class Ref(Generic[T]):
    """A handle on a value that a task made or will make.

    Given to a task, a Ref is replaced by its value; `fetch` returns the value here. `scope`
    says where tasks that use it may run.

    Examples
    --------
    >>> import darray as da
    >>> chunk = da.arange(10, blocks=5).blocks[1]
    >>> da.spawn(sum, chunk).result()
    np.int64(35)
    """

    __slots__ = ("_refusal", "_scope", "_task")

    def __init__(
        self, task: Task[Any], refusal: str | None = None, scope: Scope | None = None
    ) -> None:
        self._task = task
        self._refusal = refusal
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
    def refusal(self) -> str | None:
        """Why no task may write to the value; None where one that declares it may."""
        return self._refusal

    @property
    def task(self) -> Task[T]:
        """The task whose value this is."""
        return self._task

    def __repr__(self) -> str:
        return f"<Ref to the value of {self._task!r}>"


register_handle(Ref)
