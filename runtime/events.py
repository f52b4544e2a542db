"""Events: what happened in the runtime, told to whoever subscribed."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from darray.runtime.errors import Failure
from darray.runtime.places import place_text
from darray.runtime.processor import Processor

if TYPE_CHECKING:
    from darray.runtime.tasks import Task

__all__ = [
    "EdgeMeasured",
    "Event",
    "TaskBegan",
    "TaskEnded",
    "TaskFailed",
    "TaskSpawned",
    "TaskWaited",
    "TasksPlanned",
    "ValueMoved",
    "subscribe",
]


# Those without garbage collection hold nothing that could refer to them: a million of them that
# are kept do not slow collections down.


class TaskSpawned(Struct, frozen=True, gc=False):
    """A task was made and is handed to the engine now; it needs the tasks numbered `needs`.

    `memory` is what its option of that name says. Whether it ever runs, the other events tell.
    """

    task: int
    name: str
    code: CodeType
    instruction: int
    needs: tuple[int, ...]
    memory: int
    time: int

    @property
    def spawned_at(self) -> str:
        """File and line of the call that spawned the task."""
        return place_text(self.code, self.instruction)


class TaskBegan(Struct, frozen=True, gc=False):
    """A processor began to run a task. Times are `time.perf_counter_ns` readings."""

    task: int
    name: str
    processor: Processor
    time: int


class TaskEnded(Struct, frozen=True, gc=False):
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


class TaskWaited(Struct, frozen=True, gc=False):
    """A task waited for others and had given its processor up from `began` to `time`."""

    task: int
    name: str
    processor: Processor
    began: int
    time: int


class TasksPlanned(Struct, frozen=True, gc=False):
    """A computation of `tasks` tasks, which read `nbytes` bytes of input, was handed over."""

    name: str
    tasks: int
    nbytes: int


class ValueMoved(Struct, frozen=True, gc=False):
    """A value of `nbytes` bytes was brought from one place (a space, a file) to another.

    `task` is the number of the task that did it; None outside tasks.
    """

    nbytes: int
    source: str
    destination: str
    began: int
    time: int
    task: int | None = None


class EdgeMeasured(Struct, frozen=True, gc=False):
    """What has gone from one streaming task to another by `time`, since their region began.

    Told ten times a second, and at the end: values taken, dropped, and in the buffer, the bytes of
    these, and the seconds that the producer waited for room and the consumer for values.
    """

    producer: str
    consumer: str
    received: int
    dropped: int
    buffered: int
    nbytes: int
    producer_waited: float
    consumer_waited: float
    began: int
    time: int


Event: TypeAlias = (
    TaskSpawned
    | TaskBegan
    | TaskEnded
    | TaskFailed
    | TaskWaited
    | TasksPlanned
    | ValueMoved
    | EdgeMeasured
)
Consumer: TypeAlias = Callable[[Event], object]

# Replaced as a whole, never changed in place, so that readers need no lock.
consumers: tuple[Consumer, ...] = ()

# The numbers of tasks, of which each is used once in the life of the process.
numbers = itertools.count(1)

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
    ['TaskSpawned', 'TaskBegan', 'TaskEnded']
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


def publish_spawned(task: Task[Any], needs: Sequence[Task[Any]] | None) -> None:
    """Tell every consumer of `task`, which is new and which only the caller knows."""
    options = task._options
    # Spelled out, for `Task.number` is slower where there is no number yet.
    task._number = next(numbers)
    publish(
        TaskSpawned(
            task._number,
            task.name,
            task._code,
            task._instruction,
            tuple([need.number for need in needs]) if needs else (),
            0 if options is None else options.memory,
            perf_counter_ns(),
        )
    )


def publish_wait(task: Task[Any], began: int) -> None:
    """Tell every consumer that `task`, which goes on now, has waited since `began`."""
    processor = task.processor
    assert processor is not None
    publish(TaskWaited(task.number, task.name, processor, began, perf_counter_ns()))


def publish_end(task: Task[Any], began: int, outcome: Any) -> None:
    """Tell every consumer how `task`, which began at time `began`, ended."""
    processor = task.processor
    assert processor is not None
    now = perf_counter_ns()
    if outcome.__class__ is Failure:
        exception = outcome.exception
        publish(TaskFailed(task.number, task.name, processor, began or now, now, exception))
    else:
        publish(TaskEnded(task.number, task.name, processor, began or now, now))
