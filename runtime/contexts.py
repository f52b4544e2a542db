"""Contextual options: what every task spawned in a block, or below it, is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from darray.runtime.queues import NestedQueue, TaskQueue
from darray.runtime.scopes import Scope

__all__ = ["Options", "get_option", "options"]


class TaskRegion(Protocol):
    """What takes the tasks that are spawned under some options, and submits them itself."""

    def spawn(self, call: Any, options: Any, frame: Any, after: Any) -> Any:
        """Spawn a task of ``call``: a function, its arguments, its keyword arguments."""


class TaskGroup(Protocol):
    """What keeps count of the tasks spawned under some options."""

    def expect(self, task: Any) -> None:
        """Count in `task`, which is about to be submitted."""

    def forget(self, task: Any) -> None:
        """Leave out `task`, which was not submitted."""


class Options(Struct, frozen=True):
    """How a task is to be run. Immutable, shared by all tasks that were given the same.

    Attributes
    ----------
    scope : Scope or None
        The processors that may run the task; None for those of the default scope. In a
        task's own options, what its arguments and ``result_scope`` leave of it.
    compute_scope : Scope or None
        Wins over ``scope``.
    result_scope : Scope or None
        Where the task's result may be used, and the task run; None for anywhere.
    conflict : str or None
        Why no processor may run the task: which scopes have none in common.
    occupancy : float
        The share of a processor, 0 to 1, that the task needs while it runs.
    priority : int
        Ready tasks with a greater number run first.
    name : str or None
        What the task is called in messages and events; by default its function's name.
    memory : int
        Bytes that the task will hold at its peak, its result included.
    timeout : float or None
        Seconds after which the running task is abandoned and fails with `TimeoutError`.
    retries : int
        How often the function is called again when it raises one of ``retry_on``.
    retry_on : tuple of exception types
        The exceptions after which it is.
    keeps : bool
        Whether a processor stays with the task until it returns, also when it is cancelled:
        what it writes to must not be given to others while it runs.
    reads_ahead : bool
        Whether it takes a processor when it has what it reads (`Engine.occupy`), and none before.
    reads_parts : bool
        Whether the function, where it is given the value of a task that is on disk, takes what
        gives parts of it, which are read then, instead (`spaces.Away`).
    queue : NestedQueue or None
        What takes the tasks spawned under these options. No task has it in its own.
    given : frozenset of str
        The names of the options that somebody gave, if only their defaults.
    group : TaskGroup or None
        What is told of every task that is spawned under these options.
    region : TaskRegion or None
        What takes the tasks that are spawned under these options; tasks run without it.
    buffer, when_full
        Of a streaming task: what its inputs' buffers hold, and what they do when they are full.
    max_evals : int or None
        Of a streaming task: after how many calls it ends.
    parallel : int
        Of a streaming task: how many of its calls run at once.
    restartable : bool
        Of a streaming task: whether it begins anew elsewhere where its worker is lost.
    own : bool
        Whether these options were made for one task alone, so that the tasks it spawns
        start from ``outer`` instead.
    outer : Options or None
        The contextual options that own options were made from.
    """

    scope: Scope | None = None
    compute_scope: Scope | None = None
    result_scope: Scope | None = None
    conflict: str | None = None
    occupancy: float = 1.0
    priority: int = 0
    name: str | None = None
    memory: int = 0
    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = ()
    keeps: bool = False
    reads_ahead: bool = False
    reads_parts: bool = False
    queue: NestedQueue | None = None
    given: frozenset[str] = frozenset()
    group: TaskGroup | None = None
    region: TaskRegion | None = None
    buffer: int | str | None = None
    when_full: str | None = None
    max_evals: int | None = None
    parallel: int = 1
    restartable: bool = False
    own: bool = False
    outer: Options | None = None


DEFAULT = Options()

# Holds something once there was an option or a Ref by which tasks have other scopes than the
# option ``scope`` says. Until then none is looked for when a task is spawned.
limiting: set[str] = set()

# The options that only streaming tasks have.
OF_STREAMS = frozenset(("buffer", "max_evals", "parallel", "restartable", "when_full"))

# Inside a streaming task: the engine's task that runs it now, and its own.
streaming: ContextVar[tuple[Any, Any] | None] = ContextVar("darray.streaming", default=None)

# The options of the block that runs; None, which is quicker to test, for DEFAULT.
current: ContextVar[Options | None] = ContextVar("darray.options", default=None)


def outside(options: Options | None) -> Options | None:
    """`options` as they are for the tasks of a region: without it."""
    if options is None or options.region is None:
        return options
    changed = replace(options, region=None, outer=outside(options.outer))
    return None if changed == DEFAULT else changed


def checked(changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` to options, each of the right type and within its range."""
    for key in ("scope", "compute_scope", "result_scope"):
        if key in changes and not isinstance(changes[key], Scope | None):
            raise TypeError(f"{key}= takes what da.scope(...) returns, not {changes[key]!r}")
        if key in changes and key != "scope":
            limiting.add(key)
    if "occupancy" in changes:
        occupancy = changes["occupancy"]
        if not isinstance(occupancy, int | float) or not 0 <= occupancy <= 1:
            raise ValueError(f"occupancy= is a share of a processor, 0 to 1, not {occupancy!r}")
    if "priority" in changes and not isinstance(changes["priority"], int):
        raise TypeError(f"priority= is an integer, greater for sooner, not {changes['priority']!r}")
    if "memory" in changes and (not isinstance(changes["memory"], int) or changes["memory"] < 0):
        raise ValueError(f"memory= is a number of bytes, not {changes['memory']!r}")
    if "name" in changes and not isinstance(changes["name"], str | None):
        raise TypeError(f"name= is text, not {changes['name']!r}")
    if "timeout" in changes:
        timeout = changes["timeout"]
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise ValueError(f"timeout= is a number of seconds above 0, not {timeout!r}")
    if "retries" in changes:
        retries = changes["retries"]
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries= is a number of further calls, not {retries!r}")
    if "retry_on" in changes:
        named = changes["retry_on"]
        if not isinstance(named, tuple) or not all(_is_exception_type(one) for one in named):
            raise TypeError(f"retry_on= is a tuple of exception types, not {named!r}")
    for key in ("max_evals", "parallel"):
        most = changes.get(key, 1)
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"{key}= is a number of calls, 1 or more, not {most!r}")
    if not isinstance(changes.get("restartable", False), bool):
        raise TypeError(f"restartable= is True or False, not {changes['restartable']!r}")
    if "queue" in changes and not callable(getattr(changes["queue"], "enqueue", None)):
        raise TypeError(f"queue= takes an object with a method enqueue, not {changes['queue']!r}")
    return changes


def _is_exception_type(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def extended(changes: dict[str, Any]) -> Options:
    """The contextual options with `changes` made for one task alone."""
    outer = current.get()
    base = outer or DEFAULT
    given = base.given.union(changes)
    return replace(base, own=True, outer=outer, given=given, **checked(changes))


def without_queue(options: Options | None) -> Options | None:
    """`options` as the tasks have them that are spawned under them."""
    if options is None or options.queue is None:
        return options
    given = options.given - {"queue"}
    if not given:
        return None
    return replace(options, queue=None, given=given, outer=without_queue(options.outer))


@contextmanager
def entered(changes: dict[str, Any]) -> Iterator[None]:
    """Make `changes` to the contextual options for the block."""
    outer = current.get() or DEFAULT
    token = current.set(replace(outer, given=outer.given.union(changes), **changes))
    try:
        yield
    finally:
        current.reset(token)


def queued(queue: TaskQueue, block: str) -> dict[str, Any]:
    """The change that gives the tasks spawned in a block, called `block`, a queue."""
    outer = current.get()
    return {"queue": NestedQueue(queue, None if outer is None else outer.queue, block)}


@contextmanager
def options(
    *,
    scope: Scope | None = None,
    compute_scope: Scope | None = None,
    result_scope: Scope | None = None,
    occupancy: float | None = None,
    priority: int | None = None,
    queue: TaskQueue | None = None,
) -> Iterator[None]:
    """Give these options to every task spawned in the block, and to the tasks they spawn.

    An option given to a task itself, by ``spawn.options``, wins.

    Parameters
    ----------
    scope, compute_scope, result_scope, occupancy, priority
        As for ``spawn.options``.
    queue : TaskQueue
        What takes the tasks spawned in the block, and passes them to the queue outside.
        The tasks that they spawn do not meet it.

    Examples
    --------
    >>> import darray as da
    >>> with da.options(scope=da.scope(thread=0)):
    ...     da.spawn(lambda: da.current_task().processor.index).result()
    0
    """
    given = {
        "scope": scope,
        "compute_scope": compute_scope,
        "result_scope": result_scope,
        "occupancy": occupancy,
        "priority": priority,
        "queue": queue,
    }
    changes = checked({key: value for key, value in given.items() if value is not None})
    if queue is not None:
        changes |= queued(queue, f"da.options(queue={type(queue).__qualname__})")
    with entered(changes):
        yield


# What `get_option` tells of.
READABLE = ("compute_scope", "occupancy", "priority", "result_scope", "scope")


def get_option(name: str, default: Any = None) -> Any:
    """The option of that name that tasks spawned here are given; `default` where nobody gave it.

    Tells what `options` said in the block around, or around the spawn of the calling task:
    ``scope``, ``compute_scope``, ``result_scope``, ``occupancy`` or ``priority``.

    Raises
    ------
    TypeError
        For another name.

    Examples
    --------
    >>> import darray as da
    >>> with da.options(priority=3):
    ...     da.spawn(lambda: (da.get_option("priority"), da.get_option("scope", "any"))).result()
    (3, 'any')
    """
    if name not in READABLE:
        raise TypeError(f"there is no option {name!r} of blocks; there are {', '.join(READABLE)}")
    given = current.get()
    if given is None or name not in given.given:
        return default
    return getattr(given, name)
