"""Scopes: sets of processors, described by what their members have in common."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

from msgspec import Struct

from darray.runtime.processor import Processor

__all__ = ["ANY", "Scope", "scope"]

# One alternative of a scope: for each key it names, the values that it allows.
Term: TypeAlias = frozenset[tuple[str, frozenset[Hashable]]]

# How a processor answers for each scope key; a processor without the property answers None.
KEYS: dict[str, Callable[[Processor], Hashable]] = {
    "worker": lambda processor: processor.worker,
    "thread": lambda processor: processor.index if processor.kind == "cpu" else None,
}


class Scope(Struct, frozen=True):
    """A set of processors: the union of `terms`, each a conjunction of allowed values.

    ``a & b`` is the intersection, ``a | b`` the union, ``a <= b`` tells whether every
    processor that could be in `a` is in `b`, and ``processor in a`` asks for one.
    A scope with no terms is empty; one with an empty term holds every processor.

    Examples
    --------
    >>> import darray as da
    >>> both = da.scope(worker=0, threads=[0, 1])
    >>> da.scope(worker=0, thread=1) <= both
    True
    >>> (both & da.scope(thread=7)).is_empty
    True
    """

    terms: frozenset[Term]

    @property
    def is_empty(self) -> bool:
        """Whether no processor can be in this scope."""
        return not self.terms

    def __contains__(self, processor: Processor) -> bool:
        return any(
            all(KEYS[key](processor) in allowed for key, allowed in term) for term in self.terms
        )

    def __and__(self, other: Scope) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        met = (_meet(a, b) for a, b in itertools.product(self.terms, other.terms))
        return Scope(frozenset(term for term in met if term is not None))

    def __or__(self, other: Scope) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        return Scope(self.terms | other.terms)

    def __le__(self, other: Scope) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        # Exact: a processor matters only through which of the named values it has, and
        # `_Other` stands for all the values that neither scope names.
        named: dict[str, set[Hashable]] = {}
        for term in self.terms | other.terms:
            for key, allowed in term:
                named.setdefault(key, {_OTHER}).update(allowed)
        keys = list(named)
        for values in itertools.product(*(named[key] for key in keys)):
            point = dict(zip(keys, values, strict=True))
            if _holds(self.terms, point) and not _holds(other.terms, point):
                return False
        return True

    def __repr__(self) -> str:
        if not self.terms:
            return "scope(nothing)"
        return " | ".join(sorted(_spelling(term) for term in self.terms))


class _Other:
    """Any value of a scope key that is not named."""


_OTHER = _Other()


def _holds(terms: frozenset[Term], point: dict[str, Hashable]) -> bool:
    return any(all(point[key] in allowed for key, allowed in term) for term in terms)


def _meet(a: Term, b: Term) -> Term | None:
    allowed = dict(a)
    for key, values in b:
        allowed[key] = allowed[key] & values if key in allowed else values
        if not allowed[key]:
            return None
    return frozenset(allowed.items())


def _spelling(term: Term) -> str:
    parts = []
    for key, allowed in sorted(term, key=lambda item: item[0]):
        values = sorted(allowed, key=repr)
        parts.append(f"{key}={values[0]!r}" if len(values) == 1 else f"{key}s={values!r}")
    return f"scope({', '.join(parts)})"


ANY = Scope(frozenset([frozenset()]))


def _values(singular: str, one: int | None, many: Iterable[int] | None) -> frozenset[int] | None:
    if one is not None and many is not None:
        raise TypeError(f"scope() takes {singular}= or {singular}s=, not both")
    if one is not None:
        values = frozenset([one])
    elif many is not None:
        values = frozenset(many)
    else:
        return None
    if not values:
        raise ValueError(f"scope({singular}s=[]) allows no processor; name at least one {singular}")
    for value in values:
        number: object = value
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(f"scope({singular}={value!r}): numbers of {singular}s count from 0")
    return values


def scope(
    *,
    worker: int | None = None,
    workers: Iterable[int] | None = None,
    thread: int | None = None,
    threads: Iterable[int] | None = None,
) -> Scope:
    """Scope of the processors on the given worker(s) and thread(s); every one by default.

    Examples
    --------
    >>> import darray as da
    >>> da.scope(worker=0, threads=[0, 2])
    scope(threads=[0, 2], worker=0)
    >>> da.spawn.options(scope=da.scope(thread=0))(pow, 2, 3).result()
    8
    """
    found = {
        "worker": _values("worker", worker, workers),
        "thread": _values("thread", thread, threads),
    }
    term = frozenset(
        (key, frozenset[Hashable](values)) for key, values in found.items() if values is not None
    )
    return Scope(frozenset([term]))
