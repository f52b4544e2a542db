"""Options that the tasks of a function have where nobody gives them others."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from msgspec.structs import replace

from darray.runtime.contexts import DEFAULT, Options, checked

__all__ = ["by_function", "register_default", "with_defaults"]

# Replaced entries are whole; an entry is set by one assignment, which needs no lock.
by_function: dict[Any, dict[str, Any]] = {}

NAMES = (
    "compute_scope",
    "memory",
    "name",
    "occupancy",
    "priority",
    "result_scope",
    "retries",
    "retry_on",
    "scope",
    "timeout",
)


def register_default(function: Callable[..., Any], **options: Any) -> None:
    """Give every task that calls `function` these options, unless they are given otherwise.

    Takes the options of ``spawn.options`` but ``after``. What ``spawn.options`` gives the
    task wins, then what `options` gives the block, then these. Registering again replaces
    what was registered; without options nothing is registered any more.

    Examples
    --------
    >>> import darray as da
    >>> def load(path):
    ...     return da.current_task().name
    >>> da.register_default(load, name="loading", occupancy=0)
    >>> da.spawn(load, "x").result()
    'loading'
    >>> da.spawn.options(name="own")(load, "x").result()
    'own'
    >>> da.register_default(load)
    """
    for name in options:
        if name not in NAMES:
            raise TypeError(f"there is no option {name!r}; the options are {', '.join(NAMES)}")
    if options:
        by_function[function] = checked(options)
    else:
        by_function.pop(function, None)


def with_defaults(options: Options | None, function: Any) -> Options | None:
    """The options of a task that is spawned under `options` and calls `function`."""
    defaults = by_function.get(function) if isinstance(function, Hashable) else None
    if defaults is None:
        return options
    given = frozenset() if options is None else options.given
    changes = {name: value for name, value in defaults.items() if name not in given}
    if not changes:
        return options
    given = given.union(changes)
    if options is not None and options.own:
        return replace(options, given=given, **changes)
    return replace(options or DEFAULT, own=True, outer=options, given=given, **changes)
