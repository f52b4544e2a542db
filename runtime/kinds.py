"""Kinds of processors: CPU threads, which every engine has, and those that are registered."""

from __future__ import annotations

import threading
from collections.abc import Callable

from msgspec import Struct

from darray.runtime.processor import Processor

__all__ = ["CPU", "changed", "is_default", "names", "register_kind", "registered", "watchers"]

CPU = "cpu"


class _Kind(Struct, frozen=True):
    """How many processors of a kind a worker has, and whether tasks use them unasked."""

    count: int
    is_default: bool


# Guards changes of `_kinds` and `version`; held for one of them, no other lock is taken
# meanwhile. Entries are whole, so that reading needs no lock.
_lock = threading.Lock()
_kinds: dict[str, _Kind] = {}

# How many changes there were of what `changed` tells.
version = 0

# Called, with no lock held, after a change of what decides which processors there are and
# which scopes they are in.
watchers: list[Callable[[], object]] = []


def register_kind(name: str, count: int | None, *, default: bool = False) -> None:
    """Let this worker have `count` processors of the kind `name`, beside its threads.

    Each runs one task at a time. Later tasks may use them at once, those that wait included.
    Unless they are used by `default`, they run only tasks whose scope asks for them, by
    ``da.scope(kind=name)`` or a key or tag of theirs. With a `count` of None the kind is
    removed: what runs there is finished, and tasks that could run nowhere else fail with
    `SchedulingError`.

    Raises
    ------
    ValueError
        Where a kind of that name exists, or there is none to remove.

    Examples
    --------
    >>> import darray as da
    >>> da.register_kind("npu", 1)
    >>> task = da.spawn.options(scope=da.scope(kind="npu"))(pow, 2, 3)
    >>> task.result(), task.processor
    (8, Processor(worker=0, kind='npu', index=0))
    >>> da.register_kind("npu", None)
    """
    given: object = name
    if not (isinstance(given, str) and given):
        raise TypeError(f"register_kind() takes the name of a kind as text, not {name!r}")
    if name == CPU:
        raise ValueError("the kind 'cpu' is there always: da.configure(threads=...) sets its count")
    number: object = count
    if isinstance(number, bool) or not (number is None or (isinstance(number, int) and number > 0)):
        raise ValueError(f"register_kind({name!r}, {count!r}): a count is 1 or more, or None")
    with _lock:
        if count is None and name not in _kinds:
            raise ValueError(f"no kind {name!r} is registered; there are {sorted(_kinds)!r}")
        if count is not None and name in _kinds:
            raise ValueError(
                f"a kind {name!r} is registered; remove it first: register_kind({name!r}, None)"
            )
        if count is None:
            del _kinds[name]
        else:
            _kinds[name] = _Kind(count, default)
    changed()


def is_default(name: str) -> bool:
    """Whether tasks use processors of the kind `name` where no scope asks for them."""
    kind = _kinds.get(name)
    return name == CPU or (kind is not None and kind.is_default)


def names() -> list[str]:
    """The kinds that were registered."""
    return list(_kinds)


def registered(worker: int) -> list[Processor]:
    """The processors of a worker that were registered."""
    return [
        Processor(worker=worker, kind=name, index=index)
        for name, kind in list(_kinds.items())
        for index in range(kind.count)
    ]


def changed() -> None:
    """Tell whoever carries tasks that other processors are there, or in other scopes."""
    global version
    with _lock:
        version += 1
    for watcher in watchers:
        watcher()
