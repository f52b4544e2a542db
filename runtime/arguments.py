"""What becomes of a task's arguments: which are replaced by values, which are frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darray.runtime.accesses import Access, Deps
from darray.runtime.pieces import Pieces
from darray.runtime.refs import Holder, Ref, RefView
from darray.runtime.spaces import Placed, register_container, register_seal
from darray.runtime.spilling import stay
from darray.runtime.tasks import Task, value_of
from darray.runtime.turns import Line

__all__ = [
    "Kept",
    "Later",
    "Pending",
    "Unsealed",
    "Use",
    "Viewed",
    "Writable",
    "captured",
    "copied",
    "has_views",
    "is_replaced",
    "loaded",
    "prepared",
    "prepared_all",
    "rebuilt",
    "referred",
    "register_argument",
    "register_frozen",
    "sealed",
    "uses_in",
    "with_refs_read",
]

# What is done with a value, by its class.
INERT = 0  # goes by reference
TASK = 1  # replaced by the task's value when the task that is given it runs
REF = 2  # likewise
NEST = 3  # a builtin container: what it holds is looked at
FROZEN = 4  # replaced by a read-only view of itself, at once
LOADED = 5  # replaced by what its loader returns, on the processor that runs the task
PENDING = 6  # a container that `prepared` took apart, put together when the task runs
ACCESS = 7  # says what the task does to its value: of a region, or to one that it uses in place
KEPT = 8  # used in place, by one task at a time

_NESTS = (list, tuple, dict, set, frozenset)

# The actions for what a task keeps as it is, for what is replaced when it runs, and for what,
# once `prepared`, is not.
_KEPT = frozenset((INERT, LOADED, PENDING))
_REPLACED = frozenset((TASK, REF, LOADED, PENDING))
SETTLED = frozenset((INERT, NEST, FROZEN))

_loaders: dict[type, Callable[[Any], Any]] = {}
_Change = Callable[[Any], Any]

# How values of a class are made read-only, copied, and made writable again.
_freezers: dict[type, tuple[_Change, _Change, _Change, _Change]] = {}

# Action by exact class, and for those that are frozen how: filled when a class is first met and
# emptied when a class is registered. Two threads may both fill an entry, with the same value.
actions: dict[type, int] = {}
_freezes: dict[type, _Change] = {}


def register_argument(cls: type, load: Callable[[Any], Any]) -> None:
    """Give tasks ``load(argument)``, called where the task runs, for arguments of class `cls`."""
    _loaders[cls] = load
    _forget_actions()


def register_frozen(
    cls: type, freeze: _Change, copy: _Change, thaw: _Change, capture: _Change | None = None
) -> None:
    """Hand values of class `cls` to tasks and out of them as ``freeze(value)``.

    ``copy(value)`` is the writable copy that ``fetch(..., copy=True)`` returns, ``thaw(value)``
    what a frozen value shows, for a task that declared to write it, ``capture(value)`` what
    `put` keeps: the value as it is now, which nobody can change; by default a frozen copy.
    """
    _freezers[cls] = (freeze, copy, thaw, capture or (lambda value: freeze(copy(value))))
    _forget_actions()


def _forget_actions() -> None:
    actions.clear()
    _freezes.clear()


class Pending(Holder):
    """A builtin container as it was when given, with items to be replaced by their values."""

    __slots__ = ("cls", "items")

    def __init__(self, cls: type, items: list[Any]) -> None:
        self.cls = cls
        self.items = items

    def held(self) -> list[Any]:
        """What is to be replaced, and whatever else it holds."""
        if self.cls is dict:
            return [one for pair in self.items for one in pair]
        return self.items

    def loaded(self) -> Any:
        """The container with its items replaced."""
        if self.cls is dict:
            return {loaded(key): loaded(item) for key, item in self.items}
        return self.cls([loaded(item) for item in self.items])

    def changed(self, change: _Change) -> Pending:
        """The same container with ``change(item)`` for its items."""
        if self.cls is dict:
            return Pending(dict, [(change(key), change(item)) for key, item in self.items])
        return Pending(self.cls, [change(item) for item in self.items])


class Writable(Pending):
    """An argument that the task declared to write: the object itself, or a task's value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def held(self) -> list[Any]:
        """The object, or the task or ref that stands for it."""
        return [self.value]

    def loaded(self) -> Any:
        """What the task may write to."""
        value = self._taken()
        if isinstance(self.value, RefView):
            return self._view(self.value, value)
        if value is not self.value and _action(value) == FROZEN:
            return _registered(_freezers, value.__class__)[2](value)
        return value

    def _taken(self) -> Any:
        """The object, or the task's value, which is in this space from now on."""
        if not isinstance(self.value, Task | Ref):
            return loaded(self.value)
        task = self.value.task if isinstance(self.value, Ref) else self.value
        stay(task)
        value = task._value
        return value.taken() if value.__class__ is Placed else value

    def _view(self, view: RefView, whole: Any) -> Any:
        if not has_views(whole):
            raise TypeError(
                f"{view!r}: a part of a {type(whole).__name__} is a copy, so it cannot be written "
                "to; give the task the whole ref"
            )
        return view.view_of(_registered(_freezers, whole.__class__)[2](whole))


class Viewed(Pending):
    """What a view of a ref shows of a value that others change, looked at when the task runs."""

    __slots__ = ("value", "view")

    def __init__(self, value: Any, view: Ref[Any]) -> None:
        self.value = value
        self.view = view

    def held(self) -> list[Any]:
        """The view."""
        return [self.view]

    def loaded(self) -> Any:
        """What the view shows now."""
        return sealed(self.view.of(self.value))

    def changed(self, change: _Change) -> Pending:
        """What the view shows now, with ``change(item)`` for what it holds."""
        return Later(change(self.view.of(self.value)))


class Later(Pending):
    """A container that is looked at when the task runs, for others may change it before."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def held(self) -> list[Any]:
        """Nothing: it holds no tasks and no refs."""
        return []

    def loaded(self) -> Any:
        """The container, with what can be frozen in it frozen."""
        return sealed(self.value)

    def changed(self, change: _Change) -> Pending:
        """The container as it is now, with ``change(item)`` for its items."""
        return Later(change(self.value))


class Kept:
    """What stands for a value that tasks use in place: a mutable, or a shard.

    Attributes
    ----------
    line : Line or None
        Orders the tasks that use the value.
    pieces : Pieces or None
        Keeps tasks apart that use the same piece of a shard.
    """

    __slots__ = ()

    line: Line | None
    pieces: Pieces | None

    def makers(self) -> list[Task[Any]]:
        """The tasks that make the value."""
        raise NotImplementedError

    def in_place(self) -> Any:
        """The value itself, where the calling task runs; it is made."""
        raise NotImplementedError


class Use(Pending):
    """An argument that the task uses in place.

    Attributes
    ----------
    kept : Kept
        What the argument is.
    writes : bool
        Whether the task uses it alone, to write to it.
    is_plain : bool
        Whether nothing was said of what the task does to it.
    stand_in : Task or None
        The task that makes what is given instead.
    """

    __slots__ = ("is_plain", "kept", "stand_in", "writes")

    def __init__(self, kept: Kept, writes: bool, is_plain: bool = False) -> None:
        self.kept = kept
        self.writes = writes
        self.is_plain = is_plain
        self.stand_in: Task[Any] | None = None

    def held(self) -> list[Any]:
        """What the argument is."""
        return [self.kept]

    def loaded(self) -> Any:
        """The value itself, read-only where the task only reads it and that can be."""
        if self.stand_in is not None:
            return value_of(self.stand_in).value
        value = self.kept.in_place()
        if not self.writes and _action(value) == FROZEN:
            return _registered(_freezers, value.__class__)[0](value)
        return value


class Unsealed:
    """Holds the value that a task made, or gives, so that it is handed on as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def action_of(cls: type) -> int:
    """The action for values of class `cls`, remembered in `actions`."""
    if issubclass(cls, Task):
        action = TASK
    elif issubclass(cls, Kept):
        action = KEPT
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
        _forget_actions()
    if action == FROZEN:
        _freezes[cls] = _registered(_freezers, cls)[0]
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
    if action == ACCESS and isinstance(value.value, Kept) and value.__class__ is not Deps:
        needs.extend(value.value.makers())
        return Use(value.value, value.writes)
    if action == ACCESS:
        raise TypeError(
            f"{type(value).__name__}(...) says what a task of a region does to a whole argument; "
            "spawn the task in a `with da.spawn_datadeps():` block, and annotate no item of a "
            "list. Outside such a block only what da.mutable or da.shard returns may be annotated, "
            "by In, Out and InOut"
        )
    if action == KEPT:
        needs.extend(value.makers())
        return Use(value, True, is_plain=True)
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
    # A copy: a task of a region may put something in meanwhile.
    held = list(value.items() if cls is dict else value)
    if cls is dict:
        pairs = [(prepared(key, needs, path), prepared(item, needs, path)) for key, item in held]
        if any(is_replaced(item) for pair in pairs for item in pair):
            return Pending(cls, pairs)
        same = all(a is c and b is d for (a, b), (c, d) in zip(pairs, held, strict=True))
        return value if same else dict(pairs)
    items = [prepared(item, needs, path) for item in held]
    if any(is_replaced(item) for item in items):
        return Pending(cls, items)
    same = all(new is old for new, old in zip(items, held, strict=True))
    return value if same else cls(items)


def prepared_all(values: tuple[Any, ...], needs: list[Task[Any]]) -> tuple[tuple[Any, ...], bool]:
    """All of `values` `prepared`; and whether a function can be called with them as they are."""
    given = []
    is_settled = True
    for value in values:
        cls = value.__class__
        freeze = _freezes.get(cls)
        if freeze is not None:
            given.append(freeze(value))
        elif cls is Task:
            needs.append(value)
            given.append(value)
            is_settled = False
        elif actions.get(cls) == INERT:
            given.append(value)
        else:
            value = prepared(value, needs)
            given.append(value)
            is_settled = is_settled and _action(value) in SETTLED
    return tuple(given), is_settled


def has_views(value: Any) -> bool:
    """Whether a basic index of `value` gives a view of it, as for arrays."""
    return _action(value) == FROZEN


def is_replaced(value: Any) -> bool:
    """Whether a prepared value is to be replaced when the task runs."""
    return _action(value) in _REPLACED


def loaded(value: Any) -> Any:
    """A prepared value with finished tasks and refs replaced, and loaders called."""
    action = _action(value)
    if action == TASK:
        return value_of(value)
    if action == REF:
        return value.of(value_of(value.task))
    if action == LOADED:
        return sealed(_registered(_loaders, value.__class__)(value))
    if action == PENDING:
        return value.loaded()
    return value


def uses_in(*values: Any) -> list[Use]:
    """The uses in place among prepared values, and in the containers among them."""
    found: list[Use] = []
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, Use):
            found.append(value)
        elif isinstance(value, Pending):
            pending += value.held()
    return found


def sealed(value: Any, path: tuple[int, ...] = ()) -> Any:
    """`value` as it is handed out: what can be frozen, also inside containers, is."""
    action = _action(value)
    if action == FROZEN:
        changes = _freezers.get(value.__class__) or _registered(_freezers, value.__class__)
        return changes[0](value)
    if action == NEST and id(value) not in path:
        path = (*path, id(value))
        return rebuilt(value, lambda item: sealed(item, path))
    return value


def referred(value: Any, needs: list[Task[Any]], path: tuple[int, ...] = ()) -> Any:
    """`value` with a Ref for every task in it; all that make its values are added to `needs`."""
    action = _action(value)
    if action == TASK:
        needs.append(value)
        return Ref(value)
    if action == REF:
        needs.append(value.task)
    elif action == KEPT:
        needs.extend(value.makers())
    elif action == NEST and id(value) not in path:
        path = (*path, id(value))
        return rebuilt(value, lambda item: referred(item, needs, path))
    return value


def copied(value: Any, path: tuple[int, ...] = ()) -> Any:
    """`value` with a writable copy of everything in it that can be frozen."""
    action = _action(value)
    if action == FROZEN:
        return _registered(_freezers, value.__class__)[1](value)
    if action == NEST and id(value) not in path:
        path = (*path, id(value))
        return rebuilt(value, lambda item: copied(item, path))
    return value


def captured(value: Any, path: tuple[int, ...] = ()) -> Any:
    """`value` with everything in it that can be frozen as it is now, whatever becomes of it."""
    action = _action(value)
    if action == FROZEN:
        return _registered(_freezers, value.__class__)[3](value)
    if action == NEST and id(value) not in path:
        path = (*path, id(value))
        return rebuilt(value, lambda item: captured(item, path))
    return value


def rebuilt(nest: Any, change: Callable[[Any], Any]) -> Any:
    """`nest` with `change` made to what it holds; itself where that changes nothing."""
    # A copy: a task of a region may put something in meanwhile.
    held = list(nest.items() if nest.__class__ is dict else nest)
    if nest.__class__ is dict:
        pairs = [(change(key), change(item)) for key, item in held]
        same = all(a is c and b is d for (a, b), (c, d) in zip(pairs, held, strict=True))
        return nest if same else dict(pairs)
    items = [change(item) for item in held]
    if all(new is old for new, old in zip(items, held, strict=True)):
        return nest
    return nest.__class__(items)


def with_refs_read(value: Any, read: Callable[[Any], Any], path: tuple[int, ...] = ()) -> Any:
    """`value` with what ``read(ref.origin)`` gives in place of its refs, where that is not None."""
    if isinstance(value, Ref):
        found = read(value.origin)
        if found is None:
            return value
        return Viewed(found, value) if isinstance(value, RefView) else found
    if _action(value) != NEST or id(value) in path:
        return value
    path = (*path, id(value))
    return rebuilt(value, lambda item: with_refs_read(item, read, path))


register_seal(sealed)
register_container(Pending, Pending.changed)
register_container(Later, Later.changed)
register_container(Viewed, Viewed.changed)
register_container(Unsealed, lambda one, change: Unsealed(change(one.value)))
