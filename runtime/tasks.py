"""`Task`: the handle on one call of a function."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from darray.runtime import events
from darray.runtime.contexts import Options
from darray.runtime.errors import CancelledError, Failure
from darray.runtime.places import place_text
from darray.runtime.processor import Processor
from darray.runtime.spaces import Origin, Placed, here, nbytes_of, register_handle

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Task", "nbytes_held", "value_of", "value_or_parts"]

R = TypeVar("R", covariant=True)

# The states of a task. A task only ever moves to a greater one.
HELD = -1  # in a task queue of a block, not submitted yet
WAITING = 0  # some task that it needs has not finished
READY = 1  # in a queue, waiting for a processor or for memory
RUNNING = 2
DONE = 3  # from here on the task is finished
FAILED = 4
CANCELLED = 5

# What `_kwargs` is where there are no keyword arguments; never changed.
NO_KWARGS: dict[str, Any] = {}

Watcher: TypeAlias = Callable[[Any], object]

# Guards the numbering of tasks that had no number; no other lock is taken while it is held.
_numbering = threading.Lock()

STATE_NAMES = {
    HELD: "held by a queue",
    WAITING: "waiting",
    READY: "ready",
    RUNNING: "running",
    DONE: "done",
    FAILED: "failed",
    CANCELLED: "cancelled",
}


class Carrier(Protocol):
    """What a task asks of the engine that carries it."""

    def spawn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        """Spawn a task that calls `function`."""

    def wait(self, tasks: list[Task[Any]], timeout: float | None) -> bool:
        """Wait until all `tasks` are finished; whether they are."""

    def cancel(self, task: Task[Any]) -> bool:
        """Cancel `task`; whether it is cancelled now."""

    def cancel_graph(self, tasks: list[Task[Any]], begun: bool = False) -> None:
        """Cancel those of `tasks` and what they need that have not begun, or all."""

    def awaiting(self, task: Task[Any]) -> AbstractContextManager[None]:
        """Note in a block that the calling coroutine awaits `task`, unless that cannot end."""

    def unfinished(self) -> list[Task[Any]]:
        """Every unfinished task that was submitted."""

    def watch(self, task: Task[Any], watcher: Callable[[Any], object]) -> None:
        """Call ``watcher(task)`` when the task is finished, at once if it is."""

    def explain(self, task: Task[Any]) -> str:
        """Why `task` is in the state that it is in."""


class Task(Generic[R]):
    """A call of a function that runs, ran or will run on some processor: a future.

    Tasks are made by `spawn`. Given to another task, a task is replaced by its value.
    A task does not iterate; ``task[i]`` spawns a task that indexes its value.

    Invariants, which the engine's lock guards unless it says otherwise
    -------------------------------------------------------------------
    * ``_state`` never decreases. ``_value`` is stored before a finished state is, and stands for
      the same value after it, so that both may be read without the lock once finished.
    * ``_function``, ``_args``, ``_kwargs``, ``_needs`` and ``_dependents`` are None once the
      engine is through with a finished task: it keeps nothing alive but its value.
    * ``_kwargs`` is None where ``_function(*_args)`` can be called as it stands, a dict
      where tasks, refs or loaders among the arguments are to be replaced first. Where ``_args`` and
      ``_needs`` are one tuple, it holds a task, whose value is all that the function is given.
    * ``_missing`` counts the unfinished tasks of ``_needs`` and is positive only in WAITING.
    * ``_hold`` is the queue that holds a HELD task, later what its value holds of the memory
      limit; it and ``_processor`` have no value until there is one. ``_number`` has none
      until somebody asks for it, and is not changed then, ``_pins`` until its value is pinned
      (`Ref` guards it), ``_asked`` (to stop) until cancelling is asked for, ``_keeps`` but
      where it is true: as the option of that name, ``_origin`` but where there are several
      spaces.
    * ``_value`` of a finished task is what it gave or, where there are several spaces or it was
      written to disk for want of memory, that as something `Placed`; `value_of` is the value in
      either case. The one may replace the other at any time, under `spaces.placing`.
    * ``_uses`` and ``_after`` have values only while the task is unfinished and uses values in
      place: the lines it stands in, each with its share, and those of ``_needs`` that it only
      follows, whose failure is not its own. So has ``_pieces``: the shards that it uses, each
      with whether it writes; and ``_turns``, of what it uses alone in any order.
    * ``_watchers`` is None, one watcher, or a list of several.
    * A task that is finished while its function is still being called was abandoned: it
      occupies nothing, and what the function gives is dropped.
    """

    __slots__ = (
        "__weakref__",
        "_after",
        "_args",
        "_asked",
        "_code",
        "_dependents",
        "_engine",
        "_function",
        "_hold",
        "_instruction",
        "_keeps",
        "_kwargs",
        "_missing",
        "_needs",
        "_number",
        "_options",
        "_origin",
        "_pieces",
        "_pins",
        "_processor",
        "_state",
        "_turns",
        "_uses",
        "_value",
        "_watchers",
    )

    __iter__ = None

    _after: dict[Task[Any], None]
    _asked: bool
    _hold: object
    _number: int
    _pieces: dict[Any, bool]
    _turns: tuple[Any, ...]
    _pins: int
    _keeps: bool
    _origin: Origin
    _processor: Processor
    _uses: dict[Any, object]

    def __init__(
        self,
        engine: Carrier,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None, bool],
        options: Options | None,
        code: CodeType,
        instruction: int,
    ) -> None:
        self._engine = engine
        self._function: Any
        self._args: Any
        self._kwargs: dict[str, Any] | None
        self._function, self._args, kwargs, lazy = call
        self._kwargs = kwargs or (NO_KWARGS if lazy else None)
        self._options = options
        self._code = code
        self._instruction = instruction
        self._state = WAITING
        self._value: Any = None
        self._missing = 0
        self._needs: Sequence[Task[Any]] | None = None
        self._dependents: list[Task[Any]] | None = None
        self._watchers: Any = None

    @property
    def name(self) -> str:
        """What the task is called: its ``name=`` option, else the name of its function."""
        if self._options is not None and self._options.name is not None:
            return self._options.name
        function = self._function
        if function is None:
            return "task"
        return getattr(function, "__qualname__", None) or type(function).__qualname__

    @property
    def number(self) -> int:
        """What events call the task by: no other task of this process has that number.

        Examples
        --------
        >>> import darray as da
        >>> with da.trace() as tr:
        ...     task = da.spawn(abs, -1)
        ...     task.result()
        1
        >>> set(tr.events()["task"]) == {task.number}
        True
        """
        try:
            return self._number
        except AttributeError:
            # Few tasks have none while somebody listens: those spawned before.
            with _numbering:
                if not hasattr(self, "_number"):
                    self._number = next(events.numbers)
        return self._number

    @property
    def spawned_at(self) -> str:
        """File and line of the call that spawned the task."""
        return place_text(self._code, self._instruction)

    def __repr__(self) -> str:
        return f"<Task {self.name!r} {STATE_NAMES[self._state]}, spawned at {self.spawned_at}>"

    @property
    def processor(self) -> Processor | None:
        """The processor that runs or ran the task; None before it begins."""
        return getattr(self, "_processor", None)

    def explain(self) -> str:
        """Why the task is in the state that it is in, in a few lines to be read.

        That of a task which has not begun is followed through all that it needs, to those
        tasks on which it hangs in the end: which run, and where; which are ready, and what
        occupies the processors or the memory that they wait for; which a queue still holds.

        When a task began is not noted. How long one has run at least is known from when it
        was seen to run first: by an earlier `explain`, or by a thread that waits.

        Examples
        --------
        >>> import darray as da
        >>> import threading
        >>> gate = threading.Event()
        >>> waiting = da.spawn(abs, da.spawn(gate.wait))
        >>> print(waiting.explain())  # doctest: +ELLIPSIS
        task 'abs', spawned at ..., is waiting for 1 task:
        - task 'Event.wait', spawned at ..., is ...
        >>> gate.set()
        >>> waiting.result()
        1
        """
        return self._engine.explain(self)

    def done(self) -> bool:
        """Whether the task is finished: returned, failed or cancelled."""
        return self._state >= DONE

    def running(self) -> bool:
        """Whether the task's function is being called right now."""
        return self._state == RUNNING

    def cancelled(self) -> bool:
        """Whether the task was cancelled, or needs one that was."""
        return self._state == CANCELLED

    def cancel(self) -> bool:
        """Cancel the task; whether it is cancelled.

        Tasks that need it fail with `CancelledError`. One that has not begun never runs. One
        that runs is abandoned: it is finished now and its processor runs others, while its
        function, which nothing can stop from outside, goes on in the background until it
        returns, waits or calls `check`; what it gives is dropped.

        Examples
        --------
        >>> import darray as da
        >>> done = da.spawn(int, 5)
        >>> done.wait(), done.cancel(), done.result()
        (True, False, 5)
        """
        return self._engine.cancel(self)

    def cancelling(self) -> bool:
        """Whether cancelling the task was asked for, or its time was up, before it returned.

        Meant for the task itself, which may save what it has and return.
        """
        return getattr(self, "_asked", False)

    def check(self) -> None:
        """Raise `CancelledError` if cancelling the task was asked for, or its time was up.

        Meant for the task itself, at the places where it can stop.

        Examples
        --------
        >>> import darray as da
        >>> def steps():
        ...     for step in range(3):
        ...         da.current_task().check()
        ...     return step
        >>> da.spawn(steps).result()
        2
        """
        if getattr(self, "_asked", False):
            raise CancelledError(f"task {self.name!r}, spawned at {self.spawned_at}, is to stop")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most `timeout` seconds until the task is finished; whether it is.

        Unlike `result`, this does not raise when the task failed.
        """
        return self._state >= DONE or self._engine.wait([self], timeout)

    def result(self, timeout: float | None = None) -> R:
        """Value of the task, waited for at most `timeout` seconds.

        Arrays come as read-only views; ``fetch(task, copy=True)`` gives writable copies.

        Raises
        ------
        TimeoutError
            When the task is not finished in time. The task goes on.
        BaseException
            The exception that the task, or the first failed task it needs, raised.

        Examples
        --------
        >>> import darray as da
        >>> da.spawn(divmod, 17, 5).result()
        (3, 2)
        """
        if self._state < DONE and not self._engine.wait([self], timeout):
            raise TimeoutError(f"task {self.name!r} was not finished within {timeout} seconds")
        if self._state != DONE:
            failure: Failure = self._value
            try:
                raise failure.exception.with_traceback(failure.traceback)
            finally:
                # Raising inside an except block would chain the caller's exception, and
                # with it the caller's frames, to one that outlives them.
                failure.exception.__context__ = failure.context
                del self, failure
        value: Any = self._value
        result: R = value.here() if value.__class__ is Placed else value
        return result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Exception that ended the task, or None; waited for at most `timeout` seconds."""
        if self._state < DONE and not self._engine.wait([self], timeout):
            raise TimeoutError(f"task {self.name!r} was not finished within {timeout} seconds")
        if self._state == DONE:
            return None
        failure: Failure = self._value
        return failure.exception.with_traceback(failure.traceback)

    def add_done_callback(self, callback: Callable[[Task[Any]], object]) -> None:
        """Call ``callback(task)`` once the task is finished, at once if it is.

        The call is made on the thread that finishes the task. An exception that the
        callback raises is logged under ``darray``.
        """
        self._engine.watch(self, callback)

    def __getitem__(self, key: Any) -> Task[Any]:
        return self._engine.spawn(operator.getitem, (self, key))

    def __await__(self) -> Generator[Any, None, R]:
        if self._state < DONE:
            yield from self._finished_in_loop().__await__()
        return self.result()

    async def _finished_in_loop(self) -> None:
        import asyncio

        if self._state == HELD:
            # Raises: nothing says that this would ever end.
            self._engine.wait([self], 0)
        loop = asyncio.get_running_loop()
        finished = loop.create_future()

        def arrive() -> None:
            if not finished.done():
                finished.set_result(None)

        def tell(_: Task[Any]) -> None:
            try:
                loop.call_soon_threadsafe(arrive)
            except RuntimeError:
                # The loop ended before the task did: nobody awaits it any more.
                if not loop.is_closed():
                    raise

        with self._engine.awaiting(self):
            self._engine.watch(self, tell)
            await finished


def value_of(task: Task[Any]) -> Any:
    """The value of a task that is done, in the space of the calling code."""
    value = task._value
    return value.here() if value.__class__ is Placed else value


def nbytes_held(task: Task[Any]) -> int:
    """Bytes of the value of a task that is done, wherever it is."""
    value = task._value
    return value.nbytes if value.__class__ is Placed else nbytes_of(value)


def value_or_parts(task: Task[Any]) -> Any:
    """The value of a task, waited for, or what gives parts of it where it is on disk."""
    if task._state != DONE:
        return task.result()
    value = task._value
    if value.__class__ is not Placed:
        return value
    return value.at_home_or_away() if value.home == here.get() else value.here()


register_handle(Task)
