"""Events: what happened in the runtime, told to whoever subscribed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from darray.runtime.errors import Failure
from darray.runtime.processor import Processor

if TYPE_CHECKING:
    from darray.runtime.tasks import Task

__all__ = [
    "Event",
    "TaskBegan",
    "TaskEnded",
    "TaskFailed",
    "TasksPlanned",
    "ValueMoved",
    "subscribe",
]


class TaskBegan(Struct, frozen=True):
    """A processor began to run a task. Times are `time.perf_counter_ns` readings."""

    task: int
    name: str
    processor: Processor
    time: int


class TaskEnded(Struct, frozen=True):
    """A task's function returned."""

    task: int
    name: str
    processor: Processor
    began: int
    time: int


class TaskFailed(Struct, frozen=True):
    """A task's function raised `exception`."""

    task: int
    name: str
    processor: Processor
    began: int
    time: int
    exception: BaseException


class TasksPlanned(Struct, frozen=True):
    """A computation of `tasks` tasks, which read `nbytes` bytes of input, was handed over."""

    name: str
    tasks: int
    nbytes: int


class ValueMoved(Struct, frozen=True):
    """A value of `nbytes` bytes was brought from one place (a space, a file) to another."""

    nbytes: int
    source: str
    destination: str
    began: int
    time: int


Event: TypeAlias = TaskBegan | TaskEnded | TaskFailed | TasksPlanned | ValueMoved
Consumer: TypeAlias = Callable[[Event], object]

# Replaced as a whole, never changed in place, so that readers need no lock.
consumers: tuple[Consumer, ...] = ()

# Guards the replacement of `consumers`; no other lock is taken while it is held.
_lock = threading.Lock()


class Subscription:
    """What `subscribe` returns: ends with its ``with`` block, or when it is closed."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._is_open = True

    def close(self) -> None:
        """Tell the consumer of no more events; closing again does nothing."""
        global consumers
        with _lock:
            if not self._is_open:
                return
            self._is_open = False
            position = next(i for i, one in enumerate(consumers) if one is self._consumer)
            consumers = consumers[:position] + consumers[position + 1 :]

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *exception: object) -> None:
        self.close()


def subscribe(consumer: Consumer) -> Subscription:
    """Call `consumer(event)` for every event from now on.

    The call is made on the thread where the event happened, with no lock held. An exception
    that a consumer raises is logged under ``darray`` and does not reach the task.

    Returns
    -------
    Subscription
        Ends the calls when it is closed, or with the ``with`` block that it opens.

    Examples
    --------
    >>> import darray as da
    >>> seen = []
    >>> with da.subscribe(seen.append):
    ...     da.spawn(pow, 2, 5).result()
    32
    >>> [type(event).__name__ for event in seen]
    ['TaskBegan', 'TaskEnded']
    """
    global consumers
    with _lock:
        consumers = (*consumers, consumer)
    return Subscription(consumer)


def publish(event: Event) -> None:
    """Tell every consumer of `event`."""
    for consumer in consumers:
        try:
            consumer(event)
        except Exception:
            logging.getLogger("darray").exception("the event consumer %r failed", consumer)


def publish_end(task: Task[Any], began: int, outcome: Any) -> None:
    """Tell every consumer how `task`, which began at time `began`, ended."""
    processor = task.processor
    assert processor is not None
    now = perf_counter_ns()
    if outcome.__class__ is Failure:
        exception = outcome.exception
        publish(TaskFailed(id(task), task.name, processor, began or now, now, exception))
    else:
        publish(TaskEnded(id(task), task.name, processor, began or now, now))
