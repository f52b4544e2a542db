"""Spawning tasks and waiting for them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

from darray.runtime import contexts, events, keeping
from darray.runtime.accesses import In
from darray.runtime.arguments import (
    INERT,
    actions,
    copied,
    loaded,
    prepared,
    prepared_all,
    referred,
    uses_in,
)
from darray.runtime.contexts import Options, limiting
from darray.runtime.defaults import by_function, with_defaults
from darray.runtime.engine import Engine, current_engine
from darray.runtime.narrowing import limits_of, narrowed
from darray.runtime.queues import Submission
from darray.runtime.refs import Ref
from darray.runtime.scopes import Scope
from darray.runtime.tasks import DONE, HELD, NO_KWARGS, WAITING, Task
from darray.runtime.waiting import LOOKING_UP, held_back, refuse_abandoned

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "WaitResult",
    "as_completed",
    "fetch",
    "map",
    "spawn",
    "submit_in_block",
    "task",
    "wait",
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", covariant=True)

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"

_new_task = object.__new__


def submit(
    engine: Engine,
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    options: Options | None,
    frame: FrameType,
    after: Iterable[Task[Any]] = (),
) -> Task[Any]:
    """Make a task of a call and hand it to `engine`; `frame` is where it was spawned."""
    if by_function:
        options = with_defaults(options, function)
    if options is not None and options.region is not None:
        spawned: Task[Any] = options.region.spawn((function, args, kwargs), options, frame, after)
        return spawned
    needs: Any = None
    for arg in args:
        if actions.get(arg.__class__) != INERT:
            if arg.__class__ is Task and len(args) == 1:
                # The tuple that holds the one task serves as the list of needs as well.
                needs = args
            else:
                needs = []
                args, is_settled = prepared_all(args, needs)
                if is_settled:
                    needs = None
            break
    if kwargs:
        needs = list(needs or ())
        kwargs = {key: prepared(item, needs) for key, item in kwargs.items()}
    if actions.get(function.__class__) != INERT:
        needs = list(needs or ())
        function = prepared(function, needs)
    uses = None
    if limiting and (needs or options is not None):
        options = narrowed(options, limits_of(function, args, kwargs))
        uses = uses_in(function, *args, *(kwargs or {}).values())
        if uses:
            options = keeping.options_for(options, uses)
    task: Task[Any] = _new_task(Task)
    task._engine = engine
    task._function = function
    task._args = args
    # Where nothing was looked at, the function can be called with its arguments as they are.
    task._kwargs = kwargs if kwargs else None if needs is None else NO_KWARGS
    task._options = options
    task._code = frame.f_code
    task._instruction = frame.f_lasti
    task._state = WAITING
    task._value = task._needs = task._dependents = task._watchers = None
    task._missing = 0
    if not needs and not callable(function):
        raise TypeError(f"spawn() calls its first argument, but {function!r} is not callable")
    if after:
        needs = [*(needs or ()), *after]
    if uses:
        keeping.stand_in_line(task, uses)
    if events.consumers:
        events.publish_spawned(task, needs)
    if options is None or (options.group is None and options.queue is None):
        engine.submit(task, needs)
    else:
        submit_in_block(engine, task, needs, options)
    return task


def submit_in_block(
    engine: Engine, task: Task[Any], needs: list[Task[Any]] | None, options: Options
) -> None:
    """Hand `task` to the engine, or to the block's queue, and tell the block's group."""
    group, queue = options.group, options.queue
    if queue is not None:
        task._options = contexts.without_queue(options)
        task._needs = needs
        task._state = HELD
    try:
        if group is not None:
            group.expect(task)
        if queue is None:
            engine.submit(task, needs)
        else:
            queue.take([Submission(task, needs)])
    except BaseException:
        # Also a signal between the two: nobody is to wait for, or cancel, this task.
        if group is not None:
            group.forget(task)
        if queue is not None:
            engine.cancel(task)
        raise


class Spawn(Protocol):
    """The type of `spawn`."""

    def __call__(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Task[R]:
        """Spawn a task that calls ``function(*args, **kwargs)``."""

    def options(
        self,
        *,
        name: str | None = None,
        scope: Scope | None = None,
        compute_scope: Scope | None = None,
        result_scope: Scope | None = None,
        after: Iterable[Task[Any]] | Task[Any] = (),
        occupancy: float = 1.0,
        priority: int = 0,
        memory: int = 0,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: tuple[type[BaseException], ...] = (),
        buffer: int | str | None = None,
        when_full: str | None = None,
        max_evals: int | None = None,
        parallel: int = 1,
        restartable: bool = False,
    ) -> Callable[..., Task[Any]]:
        """`spawn` with options for the one task."""


def _spawn(function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Task[R]:
    """Spawn a task that calls ``function(*args, **kwargs)`` on some processor, now.

    Tasks and refs among the arguments, also inside lists, tuples, dicts and sets, are
    replaced by their values, and the task runs when all of them are done. NumPy arrays are
    handed over as read-only views. An async function is awaited without a processor.
    ``spawn.options(name=..., scope=..., compute_scope=..., result_scope=..., after=...,
    occupancy=..., priority=..., memory=..., timeout=..., retries=..., retry_on=...)`` returns
    a `spawn` with these options.

    Returns
    -------
    Task
        The handle on the call: a future.

    Examples
    --------
    >>> import darray as da
    >>> a = da.spawn(pow, 2, 3)
    >>> b = da.spawn(pow, 3, 2)
    >>> da.spawn(sum, [a, b]).result()
    17
    """
    return submit(
        current_engine(), function, args, kwargs, contexts.current.get(), sys._getframe(1)
    )


def _spawn_options(
    *,
    name: str | None = None,
    scope: Scope | None = None,
    compute_scope: Scope | None = None,
    result_scope: Scope | None = None,
    after: Iterable[Task[Any]] | Task[Any] = (),
    occupancy: float | None = None,
    priority: int | None = None,
    memory: int | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    retry_on: tuple[type[BaseException], ...] | None = None,
    buffer: int | str | None = None,
    when_full: str | None = None,
    max_evals: int | None = None,
    parallel: int | None = None,
    restartable: bool | None = None,
) -> Callable[..., Task[Any]]:
    """Return a `spawn` that gives its task these options.

    Parameters
    ----------
    name : str
        What the task is called in messages and events.
    scope : Scope
        The processors that may run it, by default those of `DEFAULT`. Of these it runs where
        its arguments may be used.
    compute_scope : Scope
        Wins over `scope`.
    result_scope : Scope
        Where its result may be used by other tasks; it also runs only there.
    after : Task or tasks
        Tasks to be done first whose values it does not need; their failure is its failure.
    occupancy : float
        The share of a processor, 0 to 1, that it needs; 0 for one that only waits.
    priority : int
        Of the tasks that could run, those with the greatest number run first.
    memory : int
        Bytes that it will hold at its peak, its result included: it begins when the memory
        limit has room for them.
    timeout : float
        Seconds that it may run, retries included; then it is abandoned, as by
        `Task.cancel`, and fails with `TimeoutError`.
    retries : int
        How often it is called again when it raises one of `retry_on`.
    retry_on : tuple of exception types
        The exceptions after which it is; none by default.
    buffer, when_full, max_evals, parallel, restartable
        Of a streaming task: how its inputs are buffered, as `buffered` says; after how many
        calls it ends; how many run at once, as tasks of their own that give values in order;
        whether it goes on elsewhere where its worker is lost.
    """
    given = {key: value for key, value in locals().items() if key != "after"}
    changes = {key: value for key, value in given.items() if value is not None}
    first = [after] if isinstance(after, Task) else list(after)
    for one in first:
        if not isinstance(one, Task):
            raise TypeError(f"after= takes a task or several tasks, not {one!r}")
    contexts.checked(changes)
    of_streams = contexts.OF_STREAMS & changes.keys()

    def spawn_with_options(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        options = contexts.extended(changes) if changes else contexts.current.get()
        if of_streams and not getattr(options and options.region, "is_streaming", False):
            raise TypeError(
                f"{', '.join(sorted(of_streams))}= is for tasks of a `with da.spawn_streaming():` "
                "block"
            )
        return submit(current_engine(), function, args, kwargs, options, sys._getframe(1), first)

    return spawn_with_options


_spawn.__name__ = _spawn.__qualname__ = "spawn"
_spawn.options = _spawn_options  # type: ignore[attr-defined]
spawn = cast(Spawn, _spawn)


class TaskFunction(Protocol[P, S]):
    """A function of which every call is a task; made by `task`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Task[S]:
        """Spawn a task that calls the function."""


@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function so that calling it spawns a task.

    Takes the options of ``spawn.options``. The undecorated function is ``__wrapped__``.

    Examples
    --------
    >>> import darray as da
    >>> @da.task
    ... def add(a, b):
    ...     return a + b
    >>> add(add(1, 2), 3).result()
    6
    """
    if function is None:
        return lambda decorated: task_function(decorated, options)
    return task_function(function, options)


def task_function(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """`function` made to spawn a task with `options` at every call."""
    spawning = _spawn_options(**options)

    @functools.wraps(function)
    def spawn_call(*args: Any, **kwargs: Any) -> Task[Any]:
        return spawning(function, *args, **kwargs)

    return spawn_call


def wait_for_all(tasks: list[Task[Any]]) -> None:
    """Wait until `tasks`, which may belong to several engines, are finished."""
    unfinished = [one for one in tasks if one._state < DONE]
    if unfinished:
        engine_of(unfinished).wait(unfinished, None)


def engine_of(tasks: list[Task[Any]]) -> Engine:
    """The engine of the first unfinished of `tasks`; it refuses those of another."""
    for one in tasks:
        if one._state < DONE:
            return cast(Engine, one._engine)
    return current_engine()


def fetch(value: Any, *, copy: bool = False, raw: bool = False) -> Any:
    """`value` with every task and ref in it replaced by its value, waited for.

    `value` is a task, a ref, or any nest of lists, tuples, dicts and sets of them. Arrays
    come as read-only views, or with ``copy=True`` as writable copies. Of a mutable comes a
    copy, as it is after the tasks on it that were submitted before.

    With ``raw=True`` tasks are replaced by refs to their values, also waited for, and refs
    stay: no value is moved or copied.

    Raises
    ------
    BaseException
        The exception of the first failed task in `value`.

    Examples
    --------
    >>> import darray as da
    >>> da.fetch({"sum": da.spawn(sum, [1, 2]), "max": [da.spawn(max, 1, 2)]})
    {'sum': 3, 'max': [2]}
    >>> ref = da.fetch(da.spawn(sum, [1, 2]), raw=True)
    >>> da.spawn(abs, ref).result()
    3
    """
    needs: list[Task[Any]] = []
    if raw:
        if copy:
            raise TypeError("fetch() takes copy=True or raw=True, not both: a ref is no copy")
        value = referred(value, needs)
    else:
        value = prepared(value, needs)
        if limiting:
            needs += _copying(value, sys._getframe(1))
    wait_for_all(needs)
    for one in needs:
        if one._state != DONE:
            one.result()
    if raw:
        return value
    result = loaded(value)
    return copied(result) if copy else result


def _copying(value: Any, frame: FrameType) -> list[Task[Any]]:
    """Tasks that copy what a prepared value uses in place, and stand in for it there."""
    options = contexts.without_queue(contexts.current.get())
    tasks = []
    for use in uses_in(value):
        if use.kept.line is None:
            raise TypeError(
                f"{use.kept!r} has no one value to fetch; fetch(list(shard)) copies all"
            )
        home = use.kept.scope if isinstance(use.kept, Ref) else None
        there = keeping.options_at(options, home)
        use.stand_in = submit(
            current_engine(), keeping.copy_of, (In(use.kept),), None, there, frame
        )
        tasks.append(use.stand_in)
    return tasks


def _tasks_of(values: Iterable[Any]) -> list[Task[Any]]:
    """Each of `values` once; of a ref, the task whose value it is."""
    every = list(values)
    if {one.__class__ for one in every} - {Task}:
        every = [one.task if isinstance(one, Ref) else one for one in every]
        for one in every:
            if not isinstance(one, Task):
                raise TypeError(f"tasks and refs can be waited for, but not {one!r}")
    return list(dict.fromkeys(every))


class WaitResult(NamedTuple):
    """What `wait` returns: the tasks that are finished and those that are not."""

    done: set[Task[Any]]
    not_done: set[Task[Any]]


def wait(
    tasks: Iterable[Task[Any]] | Task[Any],
    timeout: float | None = None,
    return_when: Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"] = "ALL_COMPLETED",
) -> WaitResult:
    """Wait for tasks, as `concurrent.futures.wait` does; failures are not raised.

    Examples
    --------
    >>> import darray as da
    >>> done, not_done = da.wait([da.spawn(abs, -1), da.spawn(abs, -2)])
    >>> len(done), len(not_done)
    (2, 0)
    """
    every = _tasks_of([tasks] if isinstance(tasks, Task | Ref) else tasks)
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(
            f"return_when= is FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED, "
            f"not {return_when!r}"
        )
    engine = engine_of(every)
    if return_when == ALL_COMPLETED:
        engine.wait(every, timeout)
    elif return_when == FIRST_COMPLETED:
        engine.wait(every, timeout, min(1, len(every)))
    else:
        engine.wait(every, timeout, None, True)
    done = {one for one in every if one._state >= DONE}
    return WaitResult(done, set(every) - done if len(done) < len(every) else set())


def as_completed(tasks: Iterable[Task[R]], timeout: float | None = None) -> Iterator[Task[R]]:
    """Iterate over tasks in the order in which they finish.

    Raises
    ------
    TimeoutError
        When not all of them are finished `timeout` seconds after the call.

    Examples
    --------
    >>> import darray as da
    >>> sorted(task.result() for task in da.as_completed(da.map(abs, [-3, 2])))
    [2, 3]
    """
    every = _tasks_of(tasks)
    deadline = None if timeout is None else monotonic() + timeout
    arrivals: SimpleQueue[Task[R]] = SimpleQueue()
    for one in every:
        if one._state == HELD:
            raise held_back(one)
    for one in every:
        one._engine.watch(one, arrivals.put)
    return _arriving(arrivals, every, deadline, timeout)


def _arriving(
    arrivals: SimpleQueue[Task[R]],
    every: list[Task[R]],
    deadline: float | None,
    timeout: float | None,
) -> Iterator[Task[R]]:
    engine = engine_of(every)
    waiter = engine.current_task()
    for count in range(len(every)):
        try:
            if arrivals.empty() and deadline is None and waiter is not None:
                # Raises DeadlockError where waiting for the queue would never end.
                unfinished = [one for one in every if one._state < DONE]
                engine.wait(unfinished, None, min(1, len(unfinished)))
            if arrivals.empty():
                arrived = engine.block(
                    lambda: _next_arrival(engine, arrivals, every, deadline, waiter)
                )
            else:
                arrived = arrivals.get()
        except Empty:
            raise TimeoutError(
                f"{len(every) - count} of {len(every)} tasks were not finished within "
                f"{timeout} seconds"
            ) from None
        except KeyboardInterrupt:
            engine.cancel_graph(every)
            raise
        yield arrived


def _next_arrival(
    engine: Engine,
    arrivals: SimpleQueue[Task[R]],
    every: list[Task[R]],
    deadline: float | None,
    waiter: Task[Any] | None,
) -> Task[R]:
    looked = False
    try:
        while True:
            left = LOOKING_UP if deadline is None else min(LOOKING_UP, deadline - monotonic())
            try:
                return arrivals.get(timeout=max(left, 0.0))
            except Empty:
                if left < LOOKING_UP:
                    raise
            if waiter is not None:
                refuse_abandoned(waiter)
            looked = True
            engine.watchdog.look(arrivals, every)
    finally:
        if looked:
            engine.watchdog.leave(arrivals)


def map(  # noqa: A001
    function: Callable[..., R], *iterables: Iterable[Any]
) -> list[Task[R]]:
    """Spawn ``function(*items)`` for the items of `iterables` taken in parallel.

    Examples
    --------
    >>> import darray as da
    >>> da.fetch(da.map(pow, [2, 3], [5, 2]))
    [32, 9]
    """
    engine, options, frame = current_engine(), contexts.current.get(), sys._getframe(1)
    return [
        submit(engine, function, items, None, options, frame)
        for items in zip(*iterables, strict=False)
    ]
