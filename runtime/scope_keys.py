"""What processors are told apart by in scopes: their worker, host, kind, and registered keys."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from darray.runtime import kinds
from darray.runtime.processor import Processor

if TYPE_CHECKING:
    from darray.runtime.scopes import Scope

__all__ = ["BUILT_IN", "TAG", "answer", "know", "name_host", "register_scope_key", "register_tag"]

# The keys that `scope` always takes; threads are indices of processors of the kind "cpu".
BUILT_IN = ("worker", "thread", "host", "kind", "tag")

# Before the name of a tag, in the keys of a scope's terms: each tag is a key of its own.
TAG = "tag:"


class _Key:
    """A registered key: its function, which is called once a processor."""

    __slots__ = ("answers", "function")

    def __init__(self, function: Callable[[Processor], Hashable]) -> None:
        self.function = function
        self.answers: dict[Processor, Hashable] = {}

    def ask(self, processors: Iterable[Processor]) -> None:
        """Have the answers for `processors`."""
        for processor in processors:
            if processor not in self.answers:
                self.answers[processor] = self.function(processor)


# Guards changes of the four below; held for one of them, no other lock is taken meanwhile.
# Each is one assignment to a dict, so that reading needs no lock.
_lock = threading.Lock()
_keys: dict[str, _Key] = {}
# The processors that functions are asked about before they are registered.
_known: tuple[Processor, ...] = ()
_tags: dict[str, Scope] = {}
_hosts: dict[int, str] = {}


@functools.cache
def _this_host() -> str:
    import socket

    return socket.gethostname()


def name_host(worker: int, host: str | None) -> None:
    """Say on which host a worker runs that is another process; None for one that is gone."""
    with _lock:
        if host is None:
            _hosts.pop(worker, None)
        else:
            _hosts[worker] = host
    kinds.changed()


def registered_keys() -> list[str]:
    """The keys that were registered."""
    return sorted(_keys)


def register_scope_key(name: str, function: Callable[[Processor], Hashable] | None) -> None:
    """Let scopes name processors by what ``function(processor)`` gives, as ``da.scope(name=...)``.

    It gives None for a processor that the key does not apply to. It is called once for each
    processor. ``da.scope`` takes ``name=`` for one value, and the name with an s for several.
    A scope that names a key holds what has one of the values, also processors that are not
    used by default. With None for the function the key is removed, and scopes that name it
    hold nothing.

    Raises
    ------
    ValueError
        Where a key of that name exists, or there is none to remove.

    Examples
    --------
    >>> import darray as da
    >>> da.register_scope_key("parity", lambda processor: processor.index % 2)
    >>> da.processors(da.scope(worker=0, thread=0, parity=0))
    [Processor(worker=0, kind='cpu', index=0)]
    >>> da.register_scope_key("parity", None)
    """
    if not str(name).isidentifier():
        raise ValueError(f"a scope key is a name such as 'gpu', not {name!r}")
    if function is not None and not callable(function):
        raise TypeError(
            f"register_scope_key({name!r}, ...) takes a function of a processor, or None to "
            f"remove the key, not {function!r}"
        )
    taken = [*BUILT_IN, *_keys]
    key = None if function is None else _Key(function)
    if key is not None:
        key.ask(_known)
    with _lock:
        if function is None and name not in _keys:
            raise ValueError(f"no scope key {name!r} is registered; there are {sorted(taken)!r}")
        if function is not None and not {name, name + "s"}.isdisjoint(
            [*taken, *(one + "s" for one in taken)]
        ):
            raise ValueError(f"there is a scope key {name!r}; the keys are {sorted(taken)!r}")
        if key is None:
            del _keys[name]
        else:
            _keys[name] = key
    kinds.changed()


def register_tag(tag: str, scope: Scope | None) -> None:
    """Give the processors in `scope` a tag, by which ``da.scope(tag=...)`` names them.

    It replaces what had the tag; with None nothing has it any more. Later tasks see the
    change, also through scopes made before.

    Examples
    --------
    >>> import darray as da
    >>> da.register_tag("bigmem", da.scope(worker=0, thread=0))
    >>> da.processors(da.scope(tag="bigmem"))
    [Processor(worker=0, kind='cpu', index=0)]
    >>> da.register_tag("bigmem", None)
    """
    given: object = tag
    if not (isinstance(given, str) and given):
        raise TypeError(f"a tag is text, such as 'bigmem', not {tag!r}")
    if scope is not None:
        terms = getattr(scope, "terms", None)
        if terms is None:
            raise TypeError(f"register_tag() takes what da.scope(...) returns, not {scope!r}")
        if any(key.startswith(TAG) for term in terms for key, _ in term):
            raise ValueError(f"the scope of a tag is said without tags, but {scope!r} has one")
    with _lock:
        if scope is None:
            _tags.pop(tag, None)
        else:
            _tags[tag] = scope
    kinds.changed()


def know(processors: Sequence[Processor]) -> None:
    """Ask the registered functions about `processors`, so that `answer` calls none later."""
    global _known
    _known = tuple(processors)
    for key in list(_keys.values()):
        key.ask(processors)


def answer(key: str, processor: Processor) -> Hashable:
    """What a processor answers for a key of a scope's term; None where it has no such property."""
    if key == "worker":
        return processor.worker
    if key == "index":
        return processor.index
    if key == "kind":
        return processor.kind
    if key == "default":
        return kinds.is_default(processor.kind)
    if key == "host":
        return _hosts.get(processor.worker, _this_host() if processor.worker == 0 else None)
    if key.startswith(TAG):
        scope = _tags.get(key.removeprefix(TAG))
        return scope is not None and processor in scope
    own = _keys.get(key)
    if own is None:
        return None
    own.ask([processor])
    return own.answers[processor]
