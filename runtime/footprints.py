"""Footprints: which bytes a value lies in, so that two values are told to overlap or not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from darray.runtime.accesses import Part

__all__ = [
    "Footprint",
    "footprints_of",
    "is_constant",
    "is_fixed",
    "object_footprint",
    "register_footprints",
    "register_spans",
]


class Footprint(Struct, frozen=True, eq=False):
    """The bytes of a value, or of a part of it.

    Attributes
    ----------
    key : hashable
        The same for the same bytes in the same arrangement, and for nothing else while what
        they belong to lives.
    low, high : int
        All of the bytes have an address in ``range(low, high)``.
    is_dense : bool
        Whether all addresses in that range are bytes of the value.
    memory : object
        What the bytes belong to: kept alive, and given to `overlap`.
    overlap : callable
        ``overlap(memory, other)`` tells whether two footprints of one kind, whose ranges
        intersect, have a byte in common. Bytes of different kinds never are the same.
    """

    key: Hashable
    low: int
    high: int
    is_dense: bool
    memory: Any
    overlap: Callable[[Any, Any], bool]

    def overlaps(self, other: Footprint) -> bool:
        """Whether both have a byte in common, or may have one."""
        if self.low >= other.high or other.low >= self.high or self.overlap is not other.overlap:
            return False
        return self.overlap(self.memory, other.memory)

    def holds(self, other: Footprint) -> bool:
        """Whether every byte of `other` is known to be one of these."""
        return (
            self.is_dense
            and self.low <= other.low
            and other.high <= self.high
            and self.overlap is other.overlap
        )


_Finder = Callable[[Any, Part | None], Sequence[Footprint]]

_finders: dict[type, _Finder] = {}
_spans: dict[type, Callable[[Any], Iterable[Any]]] = {}

# Values of these classes cannot be written to.
_CONSTANT = frozenset(
    [type(None), bool, int, float, complex, str, bytes, range, slice, type, type(len), type(...)]
)

_CONTAINERS = (dict, frozenset, list, set, tuple)


def register_footprints(cls: type, finder: _Finder) -> None:
    """Let ``finder(value, part)`` tell the footprints of values of class `cls`."""
    _finders[cls] = finder
    _spans.pop(cls, None)


def register_spans(cls: type, spans: Callable[[Any], Iterable[Any]]) -> None:
    """Let ``spans(value)`` name what a value of class `cls` consists of: arrays, other objects.

    In a region two such values overlap where what they consist of does. Without this, objects
    overlap with themselves alone.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> class Grid:
    ...     def __init__(self, data):
    ...         self.data = data
    ...     def add(self, number):
    ...         self.data += number
    >>> da.register_spans(Grid, lambda grid: [grid.data])
    >>> a = np.zeros(4)
    >>> with da.spawn_datadeps():
    ...     _ = da.spawn(Grid.add, da.InOut(Grid(a)), 1)
    ...     _ = da.spawn(np.ndarray.fill, da.Out(a[:2]), 7)  # waits for the first
    >>> a
    array([7., 7., 1., 1.])
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_spans() takes a class, not {cls!r}")
    _spans[cls] = spans
    _finders.pop(cls, None)


def is_constant(value: Any) -> bool:
    """Whether `value` is of a class whose values cannot be written to."""
    return value.__class__ in _CONSTANT


def footprints_of(
    value: Any, part: Part | None = None, path: tuple[int, ...] = ()
) -> Sequence[Footprint]:
    """The bytes that `value`, or the `part` of it, lies in; none where it cannot be written to."""
    cls = value.__class__
    finder = _finders.get(cls)
    if finder is not None:
        return finder(value, part)
    if cls in _CONSTANT:
        return ()
    if id(value) in path:
        # It names itself among what it consists of.
        return (object_footprint(value),)
    path = (*path, id(value))
    known = _known_class(cls)
    if known in _finders:
        return _finders[known](value, part)
    if part is not None:
        return _part_of_object(value, part, path)
    if known is not None:
        return [one for span in _spans[known](value) for one in footprints_of(span, None, path)]
    if isinstance(value, tuple | frozenset):
        return [one for item in value for one in footprints_of(item, None, path)]
    if cls in (list, set, dict):
        items = [*value.keys(), *value.values()] if cls is dict else list(value)
        inner = [one for item in items for one in footprints_of(item, None, path)]
        return [object_footprint(value), *inner]
    return (object_footprint(value),)


def _known_class(cls: type) -> type | None:
    """The first class of those that `cls` inherits from which something is registered for."""
    if cls in _finders:
        return cls
    return next((one for one in cls.__mro__ if one in _spans or one in _finders), None)


def is_fixed(value: Any, part: Part | None = None) -> bool:
    """Whether the footprints of `value` stay what they are while it lives.

    Containers may hold other things tomorrow, attributes may be set, and a function that gives
    a part may give another one.
    """
    known = _known_class(value.__class__)
    if known is not None:
        return (part is None or isinstance(part, str)) and known in _finders
    return part is None and not isinstance(value, _CONTAINERS)


def _part_of_object(value: Any, part: Part, path: tuple[int, ...]) -> Sequence[Footprint]:
    if not isinstance(part, str):
        return footprints_of(part(value), None, path)
    if not hasattr(value, part):
        raise AttributeError(f"Deps names the field {part!r}, which {value!r} does not have")
    return (object_footprint(value, part), *footprints_of(getattr(value, part), None, path))


def object_footprint(value: Any, field: str | None = None) -> Footprint:
    """The footprint of an object that is known by its identity, or of a field of it."""
    at = id(value)
    return Footprint((at, field), at, at + 1, field is None, (value, field), _same_object)


def _same_object(one: tuple[Any, str | None], other: tuple[Any, str | None]) -> bool:
    """Whether both are the same field, or one of them is the whole object."""
    return one[0] is other[0] and (one[1] is None or other[1] is None or one[1] == other[1])
