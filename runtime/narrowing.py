"""Where a task may run: its scope, narrowed by where its result and its arguments may be used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from operator import and_
from typing import Any, TypeAlias

from msgspec.structs import replace

from darray.runtime import contexts, kinds
from darray.runtime.arguments import KEPT, PENDING, REF, TASK, action_of, actions
from darray.runtime.contexts import Options
from darray.runtime.defaults import by_function
from darray.runtime.processor import Processor
from darray.runtime.scopes import DEFAULT, Scope, scope_of_processor, scope_of_worker
from darray.runtime.scopes import scope as scope_of
from darray.runtime.spaces import has_memory, here

__all__ = [
    "Part",
    "ambient_scope",
    "kind_asked",
    "limits_of",
    "narrowed",
    "scope_here",
    "scope_of_host",
]

# A scope that a task must obey, and where it came from: in words, or what tells when asked.
Origin: TypeAlias = str | Callable[[], str]
Part: TypeAlias = tuple[Scope, Origin]


def narrowed(options: Options | None, parts: list[Part]) -> Options | None:
    """The options of a task with what `parts`, and its result's scope, leave of its scope.

    Where nothing is left, ``conflict`` says which of them have no processor in common, and the
    task fails when it is submitted.
    """
    base = options or contexts.DEFAULT
    if base.conflict is not None:
        return options
    if not parts and base.compute_scope is None and base.result_scope is None:
        return options
    origins: dict[Scope, Origin] = {}
    for one, origin in (*_own(base), *parts):
        origins.setdefault(one, origin)
    scope = _common(tuple(origins))
    # What is left is the scope, also for whoever narrows these options further.
    changes: dict[str, Any] = {
        "scope": scope,
        "compute_scope": None,
        "given": base.given | {"scope"},
    }
    if not scope:
        changes["conflict"] = _conflict(origins)
    if base.own:
        return replace(base, **changes)
    return replace(base, own=True, outer=options, **changes)


def ambient_scope() -> Scope:
    """Where a task that is spawned here, and is given nothing that limits it, may run."""
    options = contexts.current.get() or contexts.DEFAULT
    return _common(tuple(scope for scope, _ in _own(options)))


def scope_here() -> Scope:
    """Where tasks can use objects of the calling code as they are: in the same memory."""
    space = here.get()
    if space.kind != "host":
        return scope_of_processor(Processor(space.worker, space.kind, space.index))
    return scope_of_host(space.worker)


def scope_of_host(worker: int) -> Scope:
    """The processors of a worker that work in its host memory.

    Examples
    --------
    >>> scope_of_host(1)
    scope(worker=1)
    """
    return _scope_of_host(worker, kinds.version)


@lru_cache(maxsize=100)
def _scope_of_host(worker: int, version: int) -> Scope:
    names = kinds.names()
    own = [name for name in names if not has_memory(name)]
    if any(kinds.is_default(name) and has_memory(name) for name in names):
        shared = scope_of(kinds=[kinds.CPU, *own])
    else:
        shared = DEFAULT if not own else DEFAULT | scope_of(kinds=own)
    return shared & scope_of_worker(worker)


def kind_asked() -> str | None:
    """The kind of processors, other than CPU threads, that tasks spawned here are to run on.

    None where a thread of this worker may run them, or no processor of it can. Of several kinds
    those without a memory of their own come first, then it goes by their names.
    """
    if contexts.current.get() is None:
        # The commonest case by far.
        return None
    return _kind_asked(ambient_scope(), here.get().worker, kinds.version)


@lru_cache(maxsize=1000)
def _kind_asked(scope: Scope, worker: int, version: int) -> str | None:
    inside = scope & scope_of_worker(worker)
    if inside & scope_of(kind=kinds.CPU):
        return None
    names = sorted(kinds.names(), key=lambda name: (has_memory(name), name))
    return next((name for name in names if inside & scope_of(kind=name)), None)


def limits_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> list[Part]:
    """The scopes of what a task is given, its function included; all as a task keeps them."""
    parts: list[Part] = []
    _look_at(function, None, parts)
    for number, one in enumerate(args, 1):
        _look_at(one, number, parts)
    if kwargs:
        for key, one in kwargs.items():
            _look_at(one, key, parts)
    return parts


def _look_at(value: Any, place: int | str | None, parts: list[Part]) -> None:
    action = actions.get(value.__class__)
    if action is None:
        action = action_of(value.__class__)
    scope: Scope | None = None
    if action == TASK:
        options = value._options
        scope = None if options is None else options.result_scope
    elif action in (REF, KEPT):
        scope = value.scope
    elif action == PENDING:
        for one in value.held():
            _look_at(one, place, parts)
    if scope is not None:
        parts.append((scope, partial(_place, value, place)))


def _place(value: Any, place: int | str | None) -> str:
    where = "its function" if place is None else f"its argument {place!r}"
    return f"{where}, {value!r}"


def _own(options: Options) -> list[Part]:
    """What the options themselves say."""
    key = "scope" if options.compute_scope is None else "compute_scope"
    scope = getattr(options, key)
    own: list[Part] = [
        (DEFAULT, "the default scope")
        if scope is None
        else (scope, partial(_giver, options, key, scope))
    ]
    if options.result_scope is not None:
        own.append(
            (options.result_scope, partial(_giver, options, "result_scope", options.result_scope))
        )
    return own


def _giver(options: Options, key: str, scope: Scope) -> str:
    """Who gave the option `key`."""
    outer = options.outer if options.own else options
    if outer is not None and getattr(outer, key) is scope:
        return f"the block da.options({key}=...)"
    for function, defaults in list(by_function.items()):
        if defaults.get(key) is scope:
            name = getattr(function, "__qualname__", None) or repr(function)
            return f"{key}= of {name} by da.register_default"
    return f"{key}= of the task"


@lru_cache(maxsize=1000)
def _common(scopes: tuple[Scope, ...]) -> Scope:
    return reduce(and_, scopes)


def _conflict(origins: dict[Scope, Origin]) -> str:
    """Which scopes have nothing in common: two if there are such, else three, or all."""
    few = itertools.chain.from_iterable(
        itertools.combinations(origins, count) for count in (1, 2, 3)
    )
    found = next((some for some in few if not _common(some)), tuple(origins))
    told = [(scope, origins[scope]) for scope in found]
    named = "; ".join(
        f"{scope!r} ({origin if isinstance(origin, str) else origin()})" for scope, origin in told
    )
    return f"these scopes have no processor in common: {named}. Widen one of them"
