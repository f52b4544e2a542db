"""Scopes: sets of processors, described by what their members have in common."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any, TypeAlias

from msgspec import Struct

from darray.runtime.kinds import CPU, is_default
from darray.runtime.processor import Processor
from darray.runtime.scope_keys import BUILT_IN, TAG, answer, registered_keys

__all__ = ["ANY", "DEFAULT", "Scope", "scope", "scope_of_processor", "scope_of_worker"]

_Values: TypeAlias = frozenset[Hashable]

# One alternative of a scope: for each key it names, the values that it allows.
Term: TypeAlias = frozenset[tuple[str, _Values]]
_Box: TypeAlias = dict[str, _Values]

# A union with more largest terms than this is kept as it was written.
MOST_TERMS = 64

_YES: _Values = frozenset([True])


class _Other:
    """Any value of a scope key that is not named."""


_OTHER = _Other()


class Scope(Struct, frozen=True, cache_hash=True):
    """A set of processors: the union of `terms`, each a conjunction of allowed values.

    ``a & b`` is the intersection, ``a | b`` the union, ``a <= b`` tells whether every
    processor that could be in `a` is in `b`, and ``processor in a`` asks for one. Scopes of
    the same processors are equal, but for unions of very many. An empty scope is false.
    Scopes are made by `scope`.

    Examples
    --------
    >>> import darray as da
    >>> both = da.scope(worker=0, threads=[0, 1])
    >>> da.scope(worker=0, thread=1) <= both
    True
    >>> da.scope(worker=0, thread=1) | da.scope(thread=0, worker=0) == both
    True
    >>> bool(both & da.scope(thread=7))
    False
    """

    # Invariant: every term that could be in the union and is in no larger such term. These are
    # the same however the union was written, so that equal sets are equal scopes; only where
    # they are more than MOST_TERMS, the terms are those that were written. Processors of the
    # kind "cpu" are used by default, and a term that names that kind says so: the key "default"
    # is there.
    terms: frozenset[Term]

    @property
    def is_empty(self) -> bool:
        """Whether no processor can be in this scope."""
        return not self

    def __bool__(self) -> bool:
        return any(_is_possible(dict(term)) for term in self.terms)

    def __contains__(self, processor: Processor) -> bool:
        return any(
            all(answer(key, processor) in allowed for key, allowed in term) for term in self.terms
        )

    def __and__(self, other: Scope) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        met = (_meet(dict(a), dict(b)) for a, b in itertools.product(self.terms, other.terms))
        return _united(box for box in met if box is not None)

    def __or__(self, other: Scope) -> Scope:
        if not isinstance(other, Scope):
            return NotImplemented
        return _united(dict(term) for term in (*self.terms, *other.terms))

    def __le__(self, other: Scope) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        # A processor matters only through which of the named values it has, and `_OTHER`
        # stands for all values that are not named.
        boxes = [dict(term) for term in other.terms]
        named: dict[str, set[Hashable]] = {}
        for key, values in itertools.chain.from_iterable(other.terms):
            named.setdefault(key, {_OTHER}).update(values)
        every = {key: frozenset(values) for key, values in named.items()}
        return all(
            _is_covered({**every, **box}, boxes) or not _is_possible(box)
            for box in map(dict, self.terms)
        )

    def __repr__(self) -> str:
        if not self.terms:
            return "scope(nothing)"
        return " | ".join(sorted(_spelling(box) for box in _disjoint(self.terms)))


def _is_possible(box: _Box) -> bool:
    """Whether a processor can be in a term, by the kinds that are used by default now."""
    if "default" not in box or "kind" not in box:
        return True
    return any(is_default(str(kind)) for kind in box["kind"])


def _is_within(a: _Box, b: _Box) -> bool:
    return all(key in a and a[key] <= allowed for key, allowed in b.items())


def _is_smaller(a: _Box, b: _Box) -> bool:
    return a != b and _is_within(a, b)


def _is_covered(box: _Box, others: list[_Box]) -> bool:
    """Whether a term, which has every key that the others name, is in the union of those."""
    if any(_is_within(box, other) for other in others):
        return True
    for place, other in enumerate(others):
        if _meet(box, other) is None:
            continue
        inside = dict(box)
        for key, allowed in other.items():
            outside = inside[key] - allowed
            if outside and not _is_covered({**inside, key: outside}, others[place + 1 :]):
                return False
            inside[key] &= allowed
        return True
    return False


def _meet(a: _Box, b: _Box) -> _Box | None:
    met = dict(a)
    for key, values in b.items():
        met[key] = met[key] & values if key in met else values
        if not met[key]:
            return None
    return met


def _bridges(a: _Box, b: _Box) -> list[_Box]:
    """The largest terms in the union of two that reach from one into the other."""
    met = {**a, **b}
    apart = []
    for key in a.keys() & b.keys():
        met[key] = a[key] & b[key]
        if not met[key]:
            apart.append(key)
    if len(apart) > 1:
        return []
    return [
        {**met, key: a[key] | b[key]}
        for key in apart or (a.keys() & b.keys())
        if not (a[key] <= b[key] or b[key] <= a[key])
    ]


def _united(boxes: Iterable[_Box]) -> Scope:
    """The union of terms, as the largest terms there are in it."""
    written = list(boxes)
    pending = written[:]
    kept: list[_Box] = []
    while pending:
        box = pending.pop()
        if any(_is_within(box, one) for one in kept):
            continue
        kept = [one for one in kept if not _is_within(one, box)]
        if len(kept) == MOST_TERMS:
            kept = [one for one in written if not any(_is_smaller(one, box) for box in written)]
            break
        for one in kept:
            pending += _bridges(one, box)
        kept.append(box)
    return Scope(frozenset(frozenset(box.items()) for box in kept))


def _disjoint(terms: frozenset[Term]) -> list[_Box]:
    """Terms of the same union with less in common, for people to read."""
    boxes = [dict(term) for term in sorted(terms, key=lambda term: (-len(term), _order(term)))]
    for place, box in enumerate(boxes):
        others = boxes[:place] + boxes[place + 1 :]
        for key in sorted(box):
            left = {
                value
                for value in box[key]
                if not any(
                    other and _is_within({**box, key: frozenset([value])}, other)
                    for other in others
                )
            }
            box[key] = frozenset(left)
            if not left:
                # All of it is in the others; an empty one is left out.
                boxes[place] = box = {}
                break
    return [box for box in boxes if box] or [{}]


def _order(term: Term) -> str:
    return repr(sorted((key, sorted(map(repr, values))) for key, values in term))


def _sorted(values: _Values) -> list[Hashable]:
    return sorted(values, key=lambda one: (one if isinstance(one, int) else 0, repr(one)))


def _spelling(box: _Box) -> str:
    """How a term is written in Python."""
    if box.keys() <= {"default"}:
        return "DEFAULT" if box else "ANY"
    parts: dict[str, list[Hashable]] = {
        key: _sorted(values)
        for key, values in box.items()
        if key not in ("index", "default") and not key.startswith(TAG)
    }
    is_cpu = not box.get("kind", _YES) - {CPU}
    if "index" in box:
        parts["thread"] = _sorted(box["index"])
        if is_cpu:
            del parts["kind"]
    written = [
        f"{key}={values[0]!r}" if len(values) == 1 else f"{key}s={values!r}"
        for key, values in sorted(parts.items())
    ]
    tags = [f"tag={key.removeprefix(TAG)!r}" for key in sorted(box) if key.startswith(TAG)]
    first = f"scope({', '.join([*written, *tags[:1]])})"
    spelled = [first, *(f"scope({tag})" for tag in tags[1:])]
    is_place = not tags and parts.keys() <= {"worker", "host"}
    if "default" in box and not (is_cpu or is_place):
        spelled.append("DEFAULT")
    elif "default" not in box and is_place and "index" not in box:
        # Which `scope` does not give by itself.
        return f"{first} of every kind"
    return " & ".join(spelled)


ANY = Scope(frozenset([frozenset()]))
DEFAULT = Scope(frozenset([frozenset([("default", _YES)])]))


def _values(key: str, given: dict[str, Any]) -> _Values | None:
    """The values given for `key`, or for several by its name with an s; None for none given."""
    one, many = given.get(key), given.get(key + "s")
    if one is not None and many is not None:
        raise TypeError(f"scope() takes {key}= or {key}s=, not both")
    if one is None and many is None:
        return None
    if many is not None and (isinstance(many, str) or not isinstance(many, Iterable)):
        raise TypeError(f"scope({key}s={many!r}): takes several, as a list; for one write {key}=")
    values: _Values = frozenset([one]) if many is None else frozenset(many)
    if not values:
        raise ValueError(f"scope({key}s=[]) allows no processor; name at least one {key}")
    for value in values:
        if key in ("worker", "thread"):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"scope({key}={value!r}): numbers of {key}s count from 0")
        elif key in BUILT_IN and not (isinstance(value, str) and value):
            raise ValueError(f"scope({key}={value!r}): a {key} is given by its name")
    return values


def scope(
    *scopes: Scope,
    worker: int | None = None,
    workers: Iterable[int] | None = None,
    thread: int | None = None,
    threads: Iterable[int] | None = None,
    host: str | None = None,
    hosts: Iterable[str] | None = None,
    kind: str | None = None,
    kinds: Iterable[str] | None = None,
    tag: str | None = None,
    tags: Iterable[str] | None = None,
    **keys: Any,
) -> Scope:
    """Scope of the processors that have one of the values given for each key.

    Several scopes, given by position, are united. A scope of workers or hosts alone holds
    only the processors that are used by default, such as CPU threads, and so does ``scope()``,
    which is `DEFAULT`; `ANY` holds every processor.

    Parameters
    ----------
    *scopes : Scope
        Scopes to unite; then nothing else is given.
    worker, workers : int, iterable of int
        Numbers of the workers: the processes.
    thread, threads : int, iterable of int
        Numbers of the CPU threads of a worker.
    host, hosts : str, iterable of str
        Names of the machines that the workers run on.
    kind, kinds : str, iterable of str
        Kinds of processors, such as ``"cpu"``; see `register_kind`.
    tag, tags : str, iterable of str
        Tags that the processors have; see `register_tag`.
    **keys
        Values of keys that were registered; see `register_scope_key`.

    Raises
    ------
    TypeError
        For a key that does not exist.
    ValueError
        For a list without values, or a value that is none of its key.

    Examples
    --------
    >>> import darray as da
    >>> da.scope(worker=0, threads=[0, 2])
    scope(threads=[0, 2], worker=0)
    >>> da.scope(da.scope(worker=0), da.scope(worker=1))
    scope(workers=[0, 1])
    >>> da.spawn.options(scope=da.scope(thread=0))(pow, 2, 3).result()
    8
    """
    given = {
        "worker": worker,
        "workers": workers,
        "thread": thread,
        "threads": threads,
        "host": host,
        "hosts": hosts,
        "kind": kind,
        "kinds": kinds,
        "tag": tag,
        "tags": tags,
        **keys,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if scopes:
        return _union(scopes, given)
    known = [*BUILT_IN, *registered_keys()]
    for key in given:
        if key not in known and key.removesuffix("s") not in known:
            listed = ", ".join(f"{one}=" for one in known)
            raise TypeError(f"scope() has no key {key!r}; it takes {listed}, with an s for several")
    found = {key: values for key in known if (values := _values(key, given)) is not None}
    return _described(found)


def _union(scopes: tuple[Scope, ...], given: dict[str, Any]) -> Scope:
    if given:
        raise TypeError(f"scope() unites scopes or takes keys, not both: {', '.join(given)}")
    for one in scopes:
        if not isinstance(one, Scope):
            raise TypeError(f"scope() unites what da.scope(...) returns, not {one!r}")
    return _united(dict(term) for one in scopes for term in one.terms)


def _described(found: _Box) -> Scope:
    """The scope of the values found for each key."""
    threads, tags, kinds_ = (found.pop(key, None) for key in ("thread", "tag", "kind"))
    if threads is not None:
        if kinds_ is not None and kinds_ - {CPU}:
            raise TypeError(
                f"scope(thread=...) means CPU threads, not processors of {sorted(map(str, kinds_))}"
            )
        found["index"] = threads
        kinds_ = frozenset([CPU])
    if kinds_ is None and tags is None and found.keys() <= {"worker", "host"}:
        found["default"] = _YES
    boxes = [found]
    if kinds_ is not None:
        others = kinds_ - {CPU}
        boxes = [{**found, "kind": others}] if others else []
        if CPU in kinds_:
            boxes.append({**found, "kind": frozenset([CPU]), "default": _YES})
    if tags is not None:
        boxes = [{**box, f"{TAG}{tag}": _YES} for box in boxes for tag in tags]
    return _united(boxes)


def scope_of_worker(worker: int) -> Scope:
    """Scope of every processor of a worker, also of kinds that are used only where asked for.

    Examples
    --------
    >>> import darray as da
    >>> da.scope(worker=1) <= scope_of_worker(1) <= da.ANY
    True
    """
    term: Term = frozenset([("worker", frozenset[Hashable]([worker]))])
    return Scope(frozenset([term]))


def scope_of_processor(processor: Processor) -> Scope:
    """Scope of the one processor.

    Examples
    --------
    >>> scope_of_processor(Processor(worker=0, kind="cpu", index=1))
    scope(thread=1, worker=0)
    """
    index: Term = frozenset([("index", frozenset[Hashable]([processor.index]))])
    return scope(worker=processor.worker, kind=processor.kind) & Scope(frozenset([index]))
