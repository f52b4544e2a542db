"""What becomes of a task's arguments: which are replaced by values, which are frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darray.runtime.accesses import Access
from darray.runtime.refs import Ref
from darray.runtime.tasks import Task

__all__ = [
    "Later",
    "Writable",
    "copied",
    "is_replaced",
    "loaded",
    "prepared",
    "register_argument",
    "register_frozen",
    "sealed",
]

# What is done with a value, by its class.
INERT = 0  # goes by reference
TASK = 1  # replaced by the task's value when the task that is given it runs
REF = 2  # likewise
NEST = 3  # a builtin container: what it holds is looked at
FROZEN = 4  # replaced by a read-only view of itself, at once
LOADED = 5  # replaced by what its loader returns, on the processor that runs the task
ACCESS = 7  # says that the task writes its value, which only a region may be told
PENDING = 6  # a container that `prepared` took apart, put together when the task runs

_NESTS = (list, tuple, dict, set, frozenset)

# The actions for what a task keeps as it is, for what is replaced when it runs, and for what,
# once `prepared`, is not.
_KEPT = frozenset((INERT, LOADED, PENDING))
_REPLACED = frozenset((TASK, REF, LOADED, PENDING))
SETTLED = frozenset((INERT, NEST, FROZEN))

_loaders: dict[type, Callable[[Any], Any]] = {}
_Change = Callable[[Any], Any]

# How values of a class are made read-only, copied, and made writable again.
_freezers: dict[type, tuple[_Change, _Change, _Change]] = {}

# Action by exact class: filled when a class is first met and emptied when a class is
# registered. Two threads may both fill an entry, with the same value.
actions: dict[type, int] = {}


def register_argument(cls: type, load: Callable[[Any], Any]) -> None:
    """Give tasks ``load(argument)``, called where the task runs, for arguments of class `cls`."""
    _loaders[cls] = load
    actions.clear()


def register_frozen(cls: type, freeze: _Change, copy: _Change, thaw: _Change) -> None:
    """Hand values of class `cls` to tasks and out of them as ``freeze(value)``.

    ``copy(value)`` is the writable copy that ``fetch(..., copy=True)`` returns, ``thaw(value)``
    what a frozen value shows, for a task that declared to write it.
    """
    _freezers[cls] = (freeze, copy, thaw)
    actions.clear()


class Pending:
    """A builtin container as it was when given, with items to be replaced by their values."""

    __slots__ = ("cls", "items")

    def __init__(self, cls: type, items: list[Any]) -> None:
        self.cls = cls
        self.items = items

    def loaded(self) -> Any:
        """The container with its items replaced."""
        if self.cls is dict:
            return {loaded(key): loaded(item) for key, item in self.items}
        return self.cls([loaded(item) for item in self.items])


class Writable(Pending):
    """An argument that the task declared to write: the object itself, or a task's value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def loaded(self) -> Any:
        """What the task may write to."""
        value = loaded(self.value)
        if value is not self.value and _action(value) == FROZEN:
            return _registered(_freezers, value.__class__)[2](value)
        return value


class Later(Pending):
    """A container that is looked at when the task runs, for others may change it before."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def loaded(self) -> Any:
        """The container, with what can be frozen in it frozen."""
        return sealed(self.value)


def action_of(cls: type) -> int:
    """The action for values of class `cls`, remembered in `actions`."""
    if issubclass(cls, Task):
        action = TASK
    elif issubclass(cls, Ref):
        action = REF
    elif issubclass(cls, Pending):
        action = PENDING
    elif cls in _NESTS:
        action = NEST
    elif issubclass(cls, Access):
        action = ACCESS
    elif any(known in _loaders for known in cls.__mro__):
        action = LOADED
    elif any(known in _freezers for known in cls.__mro__):
        action = FROZEN
    else:
        action = INERT
    if len(actions) > 10_000:
        # Classes made on the fly must not be kept alive for ever.
        actions.clear()
    actions[cls] = action
    return action


def _action(value: Any) -> int:
    action = actions.get(value.__class__)
    return action_of(value.__class__) if action is None else action


def _registered(table: dict[type, Any], cls: type) -> Any:
    return next(table[known] for known in cls.__mro__ if known in table)


def prepared(value: Any, needs: list[Task[Any]], path: tuple[int, ...] = ()) -> Any:
    """`value` as a task will keep it, with the tasks that it holds added to `needs`.

    A container that holds anything to be replaced later is taken apart now, so that what
    is put into it afterwards changes nothing. One that holds nothing of that kind and
    nothing to be frozen stays the same object. A container that holds itself is left as it
    is from there on.
    """
    action = actions.get(value.__class__)
    if action is None:
        action = action_of(value.__class__)
    if action in _KEPT:
        return value
    if action == FROZEN:
        changes = _freezers.get(value.__class__) or _registered(_freezers, value.__class__)
        return changes[0](value)
    if action == ACCESS:
        raise TypeError(
            f"{type(value).__name__}(...) says what a task of a region does to a whole argument; "
            "spawn the task in a `with da.spawn_datadeps():` block, and annotate no item of a list"
        )
    if action == TASK:
        needs.append(value)
        return value
    if action == REF:
        needs.append(value.task)
        return value
    if id(value) in path:
        return value
    path = (*path, id(value))
    cls = value.__class__
    if cls is dict:
        pairs = [
            (prepared(key, needs, path), prepared(item, needs, path)) for key, item in value.items()
        ]
        if any(is_replaced(item) for pair in pairs for item in pair):
            return Pending(cls, pairs)
        same = all(a is c and b is d for (a, b), (c, d) in zip(pairs, value.items(), strict=True))
        return value if same else dict(pairs)
    items = [prepared(item, needs, path) for item in value]
    if any(is_replaced(item) for item in items):
        return Pending(cls, items)
    same = all(new is old for new, old in zip(items, value, strict=True))
    return value if same else cls(items)


def is_replaced(value: Any) -> bool:
    """Whether a prepared value is to be replaced when the task runs."""
    return _action(value) in _REPLACED


def loaded(value: Any) -> Any:
    """A prepared value with finished tasks and refs replaced, and loaders called."""
    action = _action(value)
    if action == TASK:
        return value._value
    if action == REF:
        return value.task._value
    if action == LOADED:
        return sealed(_registered(_loaders, value.__class__)(value))
    if action == PENDING:
        return value.loaded()
    return value


def sealed(value: Any, path: tuple[int, ...] = ()) -> Any:
    """`value` as it is handed out: what can be frozen, also inside containers, is."""
    action = _action(value)
    if action == FROZEN:
        changes = _freezers.get(value.__class__) or _registered(_freezers, value.__class__)
        return changes[0](value)
    if action == NEST and id(value) not in path:
        path = (*path, id(value))
        return _rebuilt(value, lambda item: sealed(item, path))
    return value


def copied(value: Any, path: tuple[int, ...] = ()) -> Any:
    """`value` with a writable copy of everything in it that can be frozen."""
    action = _action(value)
    if action == FROZEN:
        return _registered(_freezers, value.__class__)[1](value)
    if action == NEST and id(value) not in path:
        path = (*path, id(value))
        return _rebuilt(value, lambda item: copied(item, path))
    return value


def _rebuilt(nest: Any, change: Callable[[Any], Any]) -> Any:
    """`nest` with `change` made to what it holds; itself where that changes nothing."""
    if nest.__class__ is dict:
        pairs = [(change(key), change(item)) for key, item in nest.items()]
        same = all(a is c and b is d for (a, b), (c, d) in zip(pairs, nest.items(), strict=True))
        return nest if same else dict(pairs)
    items = [change(item) for item in nest]
    if all(new is old for new, old in zip(items, nest, strict=True)):
        return nest
    return nest.__class__(items)
