"""Calling a task's function: what it is called with, what its value and its error become."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any

from darray.runtime import events
from darray.runtime.arguments import INERT, SETTLED, Kept, actions, loaded, sealed
from darray.runtime.errors import CancelledError, Failure
from darray.runtime.refs import Ref
from darray.runtime.spaces import (
    HOST,
    Origin,
    Placed,
    Space,
    brought,
    here,
    moves_for,
    nbytes_of,
    placing,
    space_of,
)
from darray.runtime.tasks import CANCELLED, DONE, FAILED, Task, value_of, value_or_parts

__all__ = [
    "apart",
    "attempted",
    "attempted_in",
    "called",
    "captured",
    "handed_out",
    "is_forwarded",
    "is_shallow",
    "measured",
    "overtime",
    "settled",
    "state_after",
]

# Python frames below which a thread runs a task inside the wait, or the spawn, of another.
SHALLOW = 240


def called(task: Task[Any]) -> Any:
    """Call the task's function with tasks, refs and loaders replaced by their values."""
    function = task._function
    if actions.get(function.__class__) != INERT:
        function = loaded(function)
    if task._options is not None and task._options.reads_parts:
        return function(*[value_or_parts(arg) for arg in task._args])
    args = [
        arg
        if actions.get(arg.__class__) in SETTLED
        else value_of(arg)
        if arg.__class__ is Task
        else loaded(arg)
        for arg in task._args
    ]
    if not task._kwargs:
        return function(*args)
    return function(*args, **{key: loaded(arg) for key, arg in task._kwargs.items()})


def attempted(task: Task[Any]) -> Any:
    """Do what `called` does, again after each failure that the task's options name."""
    options = task._options
    left = 0 if options is None else options.retries
    while left > 0:
        assert options is not None
        left -= 1
        try:
            value = called(task)
            return _awaited_again(task, value) if value.__class__ is CoroutineType else value
        except options.retry_on as error:
            if task.cancelling():
                raise
            logging.getLogger("darray").info("task %r is called again", task, exc_info=error)
    return called(task)


def attempted_in(task: Task[Any], space: Space) -> Any:
    """Do what `attempted` does where there are several spaces; the value, sealed and placed.

    What the task was given comes to `space` first: what it was spawned with from where that
    was, the values of other tasks as the call asks for them.
    """
    token = here.set(space)
    if events.consumers:
        moves_for.set(task.number)
    try:
        for need in task._needs or ():
            if need._state == DONE and need._value.__class__ is not Placed:
                # Given by a task that did not know of other spaces.
                with placing:
                    if need._value.__class__ is not Placed:
                        need._value = Placed(need._value, HOST)
        origin = getattr(task, "_origin", None)
        source = HOST if origin is None else origin.space
        if source != space:
            call = (task._function, task._args, task._kwargs)
            task._function, task._args, task._kwargs = brought(call, source, space)
            task._origin = Origin(space, 0)
        value = attempted(task)
        return value if value.__class__ is CoroutineType else Placed(handed_out(value), space)
    finally:
        here.reset(token)


async def _awaited_again(task: Task[Any], coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Await what an async function returned, and what it returns when called again."""
    options = task._options
    assert options is not None
    for _ in range(options.retries):
        try:
            return await coroutine
        except options.retry_on as error:
            if task.cancelling():
                raise
            logging.getLogger("darray").info("task %r is called again", task, exc_info=error)
        coroutine = called(task)
    return await coroutine


def apart(call: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Yield ``call(*args)`` from a frame that has no caller once it has yielded.

    A traceback keeps its frames alive, and a frame its callers, with their variables. A task
    that is called inside the wait or the spawn of another is called through this, so that
    its failure does not keep alive what the other one holds.
    """
    yield call(*args)


def handed_out(value: Any) -> Any:
    """What a function returned, as its task's value.

    Of a Ref its value, which is waited for; what can be made read-only is.
    """
    return sealed(value.result() if is_forwarded(value) else value)


def settled(task: Task[Any], value: Any, has_spaces: bool) -> Any:
    """What others gave as the value of `task`, as it is stored: the value, or a `Failure`."""
    try:
        if not has_spaces:
            return handed_out(value)
        space = space_of(task._processor)
        token = here.set(space)
        try:
            return Placed(handed_out(value), space)
        finally:
            here.reset(token)
    except BaseException as error:
        return captured(task, error)


def is_forwarded(value: Any) -> bool:
    """Whether `value`, where a function returns it, stands for the value of a task."""
    return isinstance(value, Ref) and not isinstance(value, Kept)


def captured(task: Task[Any], error: BaseException) -> Failure:
    """What the failure of `task` is stored as."""
    note = f"in task {task.name!r} on {task.processor}, spawned at {task.spawned_at}"
    return Failure.capture(error, note)


def overtime(task: Task[Any]) -> Failure:
    """What a task fails with that runs longer than its ``timeout=``."""
    assert task._options is not None
    return Failure(
        TimeoutError(
            f"task {task.name!r}, spawned at {task.spawned_at}, ran longer than its timeout of "
            f"{task._options.timeout} seconds"
        )
    )


def state_after(task: Task[Any], failure: Failure) -> int:
    """The state of a RUNNING task that ended with `failure`."""
    stopped = task.cancelling() and isinstance(failure.exception, CancelledError)
    return CANCELLED if stopped else FAILED


def measured(task: Task[Any], outcome: Any) -> int:
    """Bytes of what a task gave, where they count; may run the user's code."""
    options = task._options
    if options is None or not options.memory or outcome.__class__ is Failure:
        return 0
    return outcome.nbytes if outcome.__class__ is Placed else nbytes_of(outcome)


def is_shallow() -> bool:
    """Whether the calling thread's stack has room for a task inside the one that runs."""
    try:
        sys._getframe(SHALLOW)
    except ValueError:
        return True
    return False
