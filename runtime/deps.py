"""Regions in which tasks say what they read and write, and run as if one after another."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Iterable
from operator import itemgetter
from types import FrameType, FunctionType, TracebackType
from typing import Any, TypeVar, cast, overload
from weakref import WeakSet

from msgspec.structs import replace

from darray.runtime import contexts, events, keeping
from darray.runtime.accesses import ADDS
from darray.runtime.arguments import INERT, Use, actions, prepared, uses_in
from darray.runtime.contexts import Options
from darray.runtime.engine import Engine, current_engine
from darray.runtime.failures import half_written, name_of, note_failures, note_unchanged
from darray.runtime.narrowing import limits_of, narrowed, scope_here
from darray.runtime.refs import Ref
from darray.runtime.region_arguments import Entry, RegionArguments, Uses
from darray.runtime.spaces import here
from darray.runtime.spawning import submit_in_block
from darray.runtime.spilling import may_leave
from darray.runtime.tasks import DONE, NO_KWARGS, RUNNING, WAITING, Task
from darray.runtime.tracking import Tracker

__all__ = ["Region", "spawn_datadeps"]

R = TypeVar("R")

_Call = tuple[Any, tuple[Any, ...], dict[str, Any] | None]

# Tasks of a region among which those that are done are looked for and forgotten.
FEW = 1024

_new_task = object.__new__


class Region(RegionArguments):
    """What `spawn_datadeps` makes: takes the tasks spawned in a block, and waits for them.

    Invariants
    ----------
    * ``_entries`` has, in the order of the program, every task of the region but some of those
      that are done. A task that is done is not kept, nor is its result.
    * ``_failures`` has the tasks that failed by themselves or were cancelled, in the order of the
      program. Those after the first of them that had not begun were cancelled, and those
      spawned since fail with it; those before it go on. So it ends up as the task at which the
      program, run from top to bottom, would have failed.
    """

    def __init__(self) -> None:
        super().__init__()
        # Guards all below, and is held while a task is submitted: what a task waits for, and
        # its place in the program, are decided at once. Taken before an engine's lock. The
        # serial engine runs tasks while it is held, so the same thread may take it again.
        self._lock = threading.RLock()
        self._entries: list[Entry] = []
        self._count = 0
        self._most = FEW
        self._failures: list[tuple[int, Task[Any]]] = []
        # What was half written by those tasks, in words.
        self._undefined: list[str] = []
        # How many tasks did not run because of them.
        self._skipped = 0
        self._is_entered = False
        self._is_closed = False
        # The places of the tasks that failed or were cancelled, once that was seen to.
        self._seen: set[int] = set()
        # Those around the block, and in it.
        self._outer: Options | None = None
        self._options: Options | None = None
        self._token: Any = None
        self._joins = False

    # The block

    def __enter__(self) -> Region:
        if self._is_entered:
            raise RuntimeError("this region was entered before; call da.spawn_datadeps() again")
        self._is_entered = True
        options = contexts.current.get() or contexts.DEFAULT
        if getattr(options.region, "is_streaming", False):
            raise RuntimeError(
                "the tasks of a streaming block run over and over, in no order that a datadeps "
                "block could keep; open it in a function that a streaming task calls, or outside"
            )
        self._outer = contexts.without_queue(contexts.current.get())
        self._joins = options.region is not None
        if not self._joins:
            # A queue around the block would hold what the end of the block waits for.
            self._options = replace(options, region=self, queue=None)
            self._token = contexts.current.set(self._options)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._joins:
            # The tasks are those of the region around it, which waits for them.
            return
        contexts.current.reset(self._token)
        is_finished = False
        try:
            if isinstance(raised, KeyboardInterrupt):
                self._cancel(self._unfinished())
            self._finish()
            is_finished = True
        finally:
            with self._lock:
                self._is_closed = True
                # Entries refer to the region, which the collector of cycles does not know.
                self._entries, self._unknown, self._tracker = [], {}, Tracker()
                self._arrived.clear()
                self._options = None
                staying, self._staying = self._staying, WeakSet()
            may_leave(staying)
            self._versions.undo()
            unchanged = self._versions.end(is_finished and raised is None and not self._failures)
        exceptions = [task._value.exception for _, task in self._failures]
        if raised is None or any(one is raised for one in exceptions):
            # What the block raises may be the failure of a later task that it fetched.
            self._raise_first(unchanged)
        elif not isinstance(raised, KeyboardInterrupt):
            if self._failures:
                raised.add_note(f"tasks of the region had failed before: {exceptions[0]!r}")
            note_unchanged(raised, unchanged)

    def _finish(self) -> None:
        """Wait until all tasks are finished; Ctrl-C cancels those that have not begun."""
        try:
            self._wait()
        except KeyboardInterrupt:
            self._cancel(self._unfinished())
            # Whatever still writes to the caller's arrays is waited for, until Ctrl-C again.
            self._wait()
            raise
        # A wait may end before the callbacks of what it waited for have been called.
        for entry in list(self._entries):
            task = entry.task
            if task is not None:
                entry(task)

    def _wait(self) -> None:
        while unfinished := self._unfinished():
            cast(Engine, unfinished[0]._engine).wait(unfinished, None)

    def _unfinished(self) -> list[Task[Any]]:
        with self._lock:
            return self._after(-1)

    def _after(self, number: int) -> list[Task[Any]]:
        """The unfinished tasks that come after a place in the program; lock held."""
        tasks = [entry.task for entry in self._entries if entry.number > number]
        return [task for task in tasks if task is not None and task._state < DONE]

    # Its tasks

    def spawn(
        self, call: _Call, options: Options, frame: FrameType, after: Iterable[Task[Any]]
    ) -> Task[Any]:
        """Spawn a task that waits for those before it which use what it uses.

        Raises
        ------
        TypeError
            For an argument that cannot be written to, or whose part is no view.
        """
        function, args, kwargs = call
        uses, tracker, engine = Uses(), self._tracker, current_engine()
        if not (callable(function) or isinstance(function, Task | Ref)):
            raise TypeError(f"spawn() calls its first argument, but {function!r} is not callable")
        if self.is_alarmed:
            self._hear()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this region has ended; spawn its tasks before its block ends")
            while self._arrived:
                self._learn(self._arrived.popleft())
            self.leaves = engine.has_spaces and _is_scoped(options)
            if self._versions.new:
                # The task before was refused.
                self._versions.undo()
            if (tracker.has_grown and tracker.tidy()) or len(self._entries) > self._most:
                self._forget_done()
            args = tuple(self._given(args, uses))
            if kwargs:
                kwargs = dict(zip(kwargs, self._given(kwargs.values(), uses), strict=True))
                uses.is_told = False
            new = self._versions.new
            if new:
                # The task may be given a new part twice, and was before it was new.
                uses, (_, args, kwargs) = Uses(is_told=False), call
                args = tuple(self._given(args, uses))
                if kwargs:
                    kwargs = dict(zip(kwargs, self._given(kwargs.values(), uses), strict=True))
            if function.__class__ is not FunctionType:
                self._look_into(function, uses)
            if actions.get(function.__class__) != INERT:
                function = prepared(function, uses.values)
            if uses.written and options.retries:
                raise ValueError(
                    f"{name_of(function)!r} writes to its arguments, so it cannot be called again "
                    "after a failure: leave retries= out"
                )
            if new:
                self._fill_new(options, frame)
            if tracker.has_aliases:
                tracker.add_aliases(uses.accesses)
            needs = tracker.needs(uses.accesses)
            if uses.values or after or self._failures:
                failed = [task for _, task in self._failures[:1]]
                needs.update(dict.fromkeys([*failed, *uses.values, *after]))
            call = (function, args, kwargs)
            task = self._submitted(engine, call, uses, options, frame, tuple(needs))
            tracker.record(uses.accesses, task)
            if new:
                self._versions.settle()
        return task

    def _fill_new(self, options: Options, frame: FrameType) -> None:
        """Spawn the tasks that fill new parts with what was there before; lock held."""
        block = self._options or contexts.DEFAULT
        own = replace(
            block, own=True, outer=block, name="copy chunk", priority=options.priority, keeps=True
        )
        failed = [task for _, task in self._failures[:1]]
        for filling in self._versions.fillings():
            uses = Uses(writes_here=True, is_told=False)
            uses.accesses = dict.fromkeys(self._tracker.extents(filling.value), True)
            uses.values = [one for one in filling.arguments if isinstance(one, Task)]
            call = (filling.function, (filling.value, *filling.arguments), None)
            needs = (*failed, *uses.values)
            task = self._submitted(current_engine(), call, uses, own, frame, needs)
            self._tracker.record(uses.accesses, task)

    def _submitted(
        self,
        engine: Engine,
        call: _Call,
        uses: Uses,
        options: Options,
        frame: FrameType,
        needs: tuple[Task[Any], ...],
    ) -> Task[Any]:
        """Make the task and hand it to the engine; neither it nor what it spawns is in a region."""
        function, args, kwargs = call
        inside = self._outer if options is self._options else contexts.outside(options)
        held: list[Use] = []
        if contexts.limiting or engine.has_spaces:
            limits = limits_of(function, args, kwargs)
            if engine.has_spaces and (uses.writes_here or not (limits or _is_scoped(inside))):
                # What overlaps what is known of this memory, not of copies of it elsewhere.
                limits.append((scope_here(), f"what the region orders, on {here.get()}"))
            inside = narrowed(inside, limits)
            held = uses_in(function, *args, *(kwargs or {}).values())
        if uses.adds and inside is None:
            inside = contexts.DEFAULT
        # What Task.__init__ does, at half its price.
        task: Task[Any] = _new_task(Task)
        task._engine = engine
        task._function = function
        task._args = args
        task._kwargs = kwargs or (NO_KWARGS if uses.is_lazy or uses.values else None)
        task._options = inside
        task._code = frame.f_code
        task._instruction = frame.f_lasti
        task._state = WAITING
        task._value = task._needs = task._dependents = None
        task._missing = 0
        if events.consumers:
            events.publish_spawned(task, needs)
        self._count += 1
        extents = None if uses.is_told else tuple(uses.accesses)
        written = tuple(uses.written)
        entry = Entry(self, self._count, task, function, args, written, extents)
        task._watchers = entry
        try:
            self._entries.append(entry)
            if uses.written or held:
                # While it runs nobody else may be given what it writes.
                task._keeps = True
            if held:
                keeping.stand_in_line(task, held, self)
            if uses.adds:
                adding = [one for one, writes in uses.accesses.items() if writes == ADDS]
                task._turns = tuple([one.turn_of_adders() for one in adding])
            if inside is None or (inside.group is None and inside.queue is None):
                engine.submit(task, needs or None)
            else:
                submit_in_block(engine, task, list(needs), inside)
        except BaseException:
            # Also a signal in between: nobody is to wait for, or cancel, this task.
            self._entries = [one for one in self._entries if one is not entry]
            raise
        return task

    def _forget_done(self) -> None:
        self._entries = [entry for entry in self._entries if entry.task is not None]
        self._most = 2 * len(self._entries) + FEW

    # Failure

    def _hear(self) -> None:
        """Take note of failures of which nobody has told yet, though others may know of them."""
        self.is_alarmed = False
        for entry in list(self._entries):
            task = entry.task
            if task is not None and task._state > DONE:
                self.ended(entry, task)

    def ended(self, entry: Entry, task: Task[Any]) -> None:
        """Stop what comes after a task that failed or was cancelled."""
        with self._lock:
            if entry.number in self._seen:
                return
            self._seen.add(entry.number)
            exception = task._value.exception
            is_later = bool(self._failures) and entry.number > self._failures[0][0]
            is_known = any(one._value.exception is exception for _, one in self._failures[:16])
            if task.processor is None and not is_known:
                # The task that it failed with may be about to tell.
                is_known = any(
                    one.task is not None
                    and one.number < entry.number
                    and one.task._state > DONE
                    and one.task._value.exception is exception
                    for one in self._entries
                )
            if task.processor is None and (is_known or is_later):
                self._skipped += 1
                return
            insort(self._failures, (entry.number, task), key=itemgetter(0))
            later = self._after(entry.number)
            if task.processor is not None:
                self._undefined += half_written(entry.function, entry.written)
        self._cancel(later)

    def _cancel(self, tasks: list[Task[Any]]) -> None:
        """Cancel those of `tasks` that have not begun."""
        for task in tasks:
            if task._state != RUNNING:
                task._engine.cancel(task)

    def _raise_first(self, unchanged: list[str]) -> None:
        """Raise the failure of the failed task that comes first, if one failed."""
        if not self._failures:
            return
        tasks = [task for _, task in self._failures]
        note_failures(tasks, self._undefined, self._skipped)
        note_unchanged(tasks[0]._value.exception, unchanged)
        tasks[0].result()


def _is_scoped(options: Options | None) -> bool:
    if options is None:
        return False
    return not (options.scope is None and options.compute_scope is None)


@overload
def spawn_datadeps() -> Region: ...
@overload
def spawn_datadeps(body: Callable[[], R], /) -> R: ...
def spawn_datadeps(body: Callable[[], R] | None = None, /) -> Region | R:
    """Spawn tasks that say what they read and write, and run as if one after another.

    In the ``with`` block each argument of a task is `In`, `Out`, `InOut`, `Accumulate` or `Deps`
    of a value; what is not annotated is read. A task waits for those before it that write what
    it uses or use what it writes: exactly where bytes overlap, for NumPy arrays and views of
    them, and by identity for other objects (see `register_spans`). All others run side by side.
    Tasks begin while the block still runs, and the block ends when they have ended. They are
    handed to the task that writes them as they are, not as read-only views.

    Of a DArray chunks are given, ``x.blocks[i, j]``, and parts of them, ``x.blocks[i, j][1:3]``.
    Those that tasks write are the array's when the block ends; until then, and if the block or a
    task fails, everything else sees the array as it was.

    A block inside another one is part of it. Tasks spawned by tasks are not part of it; they may
    open blocks of their own. What the block itself does to an annotated array, before its end, is
    not ordered with the tasks.

    Parameters
    ----------
    body : callable, optional
        Instead of a block, a function: it is called, and what it returns is returned when the
        block would end.

    Raises
    ------
    BaseException
        The exception of the first task of the program that failed: that which the program
        would have ended with, run from top to bottom. Tasks after it that had not begun are
        cancelled. Its notes say which arguments may have been half written.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> a = np.arange(6.0)
    >>> with da.spawn_datadeps():
    ...     _ = da.spawn(np.negative, da.In(a[::2]), da.Out(a[::2]))
    ...     _ = da.spawn(np.multiply, a[1::2], 10, da.Out(a[1::2]))  # beside the first
    ...     _ = da.spawn(np.add, da.InOut(a), 1, da.InOut(a))  # after both
    >>> a
    array([ 1., 11., -1., 31., -3., 51.])
    """
    region = Region()
    if body is None:
        return region
    with region:
        return body()
