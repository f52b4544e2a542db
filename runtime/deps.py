"""Regions in which tasks say what they read and write, and run as if one after another."""

from __future__ import annotations

import itertools
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any, TypeVar, cast, overload

from msgspec import Struct
from msgspec.structs import replace

from darray.runtime import contexts, events, keeping
from darray.runtime.accesses import WRITTEN, Access, Deps, Out
from darray.runtime.arguments import (
    INERT,
    Kept,
    Later,
    Unsealed,
    Use,
    Writable,
    actions,
    has_views,
    is_replaced,
    prepared,
    uses_in,
    with_refs_read,
)
from darray.runtime.contexts import Options
from darray.runtime.engine import Engine, current_engine
from darray.runtime.failures import half_written, name_of, note_failures, note_unchanged
from darray.runtime.footprints import is_constant
from darray.runtime.narrowing import limits_of, narrowed
from darray.runtime.refs import Ref, RefView
from darray.runtime.scopes import scope
from darray.runtime.spaces import Placed, here
from darray.runtime.spawning import submit_in_block
from darray.runtime.tasks import DONE, NO_KWARGS, RUNNING, WAITING, Task
from darray.runtime.tracking import Extent, Tracker
from darray.runtime.versions import Versions
from darray.runtime.waiting import watchers_of

__all__ = ["Region", "spawn_datadeps"]

R = TypeVar("R")

_Call = tuple[Any, tuple[Any, ...], dict[str, Any] | None]

# Tasks of a region among which those that are done are looked for and forgotten.
FEW = 1024

_new_task = object.__new__


class _Uses(Struct, eq=False):
    """What a task uses.

    Attributes
    ----------
    accesses : dict
        Extents, each with whether the task writes it.
    values : list of Task
        Tasks whose values it is given.
    written : tuple
        What it writes, as in `_Entry`.
    is_lazy : bool
        Whether arguments are to be replaced when the task runs.
    writes_here : bool
        Whether objects of the calling code are written to.
    is_told : bool
        Whether the extents are those of its positional arguments, and none else.
    """

    accesses: dict[Extent, bool] = {}
    values: list[Task[Any]] = []
    written: tuple[Any, ...] = ()
    is_lazy: bool = False
    writes_here: bool = False
    is_told: bool = True


class _Entry(Struct, eq=False, gc=False):
    """A task of a region, its place in the program, and what it uses; called when it ends.

    Of all that a task needs while it is outstanding the collector of cycles looks at every
    object again and again, so it is spared these: a task that is done is let go at once, and
    the region lets go of all others when its block ends. For the same reason they hold tuples,
    which the collector forgets where nothing in them can be part of a cycle, as in those of
    arrays, numbers and names.

    Attributes
    ----------
    args : tuple
        What the task was given.
    written : tuple
        What of it the task writes: the name of an annotation, a value, the next name.
    extents : tuple of Extent or None
        What it uses; None where that is where ``args`` lie.
    """

    region: Region
    number: int
    task: Task[Any] | None
    function: Any
    args: tuple[Any, ...]
    written: tuple[Any, ...]
    extents: tuple[Extent, ...] | None

    def __call__(self, task: Task[Any]) -> None:
        """Let go of `task` if it is done; tell the region if it failed."""
        if task._state != DONE:
            self.region.ended(self, task)
            return
        self.task = self.function = None
        self.args = self.written = self.extents = ()


class Region:
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
        # Guards all below, and is held while a task is submitted: what a task waits for, and
        # its place in the program, are decided at once. Taken before an engine's lock. The
        # serial engine runs tasks while it is held, so the same thread may take it again.
        self._lock = threading.RLock()
        self._tracker = Tracker()
        self._entries: list[_Entry] = []
        self._numbers = itertools.count()
        self._most = FEW
        self._failures: list[tuple[int, Task[Any]]] = []
        # What was half written by those tasks, in words.
        self._undefined: list[str] = []
        # How many tasks did not run because of them.
        self._skipped = 0
        # Tasks that were arguments before it was known where their values lie; those of them
        # that ended since, which any thread may add to without the lock.
        self._unknown: dict[Task[Any], Extent] = {}
        self._arrived: deque[Task[Any]] = deque()
        # What tasks write of values that keep an old version until the end.
        self._versions = Versions()
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
        uses = _Uses()
        tracker = self._tracker
        if not (callable(function) or isinstance(function, Task | Ref)):
            raise TypeError(f"spawn() calls its first argument, but {function!r} is not callable")
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this region has ended; spawn its tasks before its block ends")
            while self._arrived:
                self._learn(self._arrived.popleft())
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
                uses, (_, args, kwargs) = _Uses(is_told=False), call
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
            task = self._submitted((function, args, kwargs), uses, options, frame, tuple(needs))
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
            uses = _Uses(writes_here=True, is_told=False)
            uses.accesses = dict.fromkeys(self._tracker.extents(filling.value), True)
            uses.values = [one for one in filling.arguments if isinstance(one, Task)]
            call = (filling.function, (filling.value, *filling.arguments), None)
            task = self._submitted(call, uses, own, frame, (*failed, *uses.values))
            self._tracker.record(uses.accesses, task)

    def _submitted(
        self,
        call: _Call,
        uses: _Uses,
        options: Options,
        frame: FrameType,
        needs: tuple[Task[Any], ...],
    ) -> Task[Any]:
        """Make the task and hand it to the engine; neither it nor what it spawns is in a region."""
        engine = current_engine()
        function, args, kwargs = call
        inside = self._outer if options is self._options else contexts.outside(options)
        held: list[Use] = []
        if contexts.limiting or engine.has_spaces:
            limits = limits_of(function, args, kwargs)
            if engine.has_spaces and (uses.writes_here or not (limits or _is_scoped(inside))):
                # What overlaps what is known of this memory, not of copies of it elsewhere.
                place = here.get().worker
                limits.append((scope(worker=place), f"what the region orders, on worker {place}"))
            inside = narrowed(inside, limits)
            held = uses_in(function, *args, *(kwargs or {}).values())
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
        number = next(self._numbers)
        extents = None if uses.is_told else tuple(uses.accesses)
        entry = _Entry(self, number, task, function, args, uses.written, extents)
        task._watchers = entry
        try:
            self._entries.append(entry)
            if uses.written or held:
                # While it runs nobody else may be given what it writes.
                task._keeps = True
            if held:
                keeping.stand_in_line(task, held, self)
            if inside is None or (inside.group is None and inside.queue is None):
                engine.submit(task, needs or None)
            else:
                submit_in_block(engine, task, list(needs), inside)
        except BaseException:
            # Also a signal in between: nobody is to wait for, or cancel, this task.
            self._entries = [one for one in self._entries if one is not entry]
            raise
        return task

    def _given(self, arguments: Iterable[Any], uses: _Uses) -> list[Any]:
        """What the task is given for arguments; what is done to them is added to `uses`."""
        known, accesses, given = self._tracker.known, uses.accesses, []
        for argument in arguments:
            name = WRITTEN.get(argument.__class__)
            value = argument if name is None else argument.value
            one = known.get(id(value))
            if one is None:
                given.append(self._given_first(argument, uses))
            elif name:
                if one.is_writable:
                    uses.written += (name, value)
                    uses.writes_here = True
                    for extent in one.extents:
                        accesses[extent] = True
                    given.append(value)
                else:
                    given.append(self._given_first(argument, uses))
            else:
                readable = one.readable
                # Not one made before the shape of the array was set.
                if readable is value or (readable is not None and value.shape == one.shape):
                    for extent in one.extents:
                        if extent not in accesses:
                            accesses[extent] = False
                    given.append(readable)
                else:
                    given.append(self._given_first(argument, uses))
        return given

    def _given_first(self, argument: Any, uses: _Uses) -> Any:
        """The same for one argument that was not given to a task in this way before."""
        value, writes = argument, False
        if isinstance(argument, Access):
            if argument.__class__ is Deps:
                return self._given_parts(argument, uses)
            value, writes = argument.value, argument.writes
        elif is_constant(value):
            return self._readable(value, uses)
        accesses, tracker = uses.accesses, self._tracker
        if id(value) not in tracker.known:
            if isinstance(value, Ref) and not isinstance(value, Kept):
                return self._given_ref(argument, value, uses)
            if self._unknown:
                # Perhaps the value of a task that ended this moment, fetched in the block.
                for task in [one for one in self._unknown if one._state == DONE]:
                    self._learn(task)
        for extent in self._extents(value):
            accesses[extent] = writes or accesses.get(extent, False)
        known = tracker.known.get(id(value))
        given = self._writable(argument, uses) if writes else self._readable(value, uses)
        if known is None or is_replaced(given):
            uses.is_told = False
        elif writes:
            known.is_writable = not isinstance(value, dict | list | set)
        elif given is value:
            known.readable = given
        elif hasattr(value, "shape"):
            known.readable, known.shape = given, value.shape
        return given

    def _given_parts(self, argument: Deps, uses: _Uses) -> Any:
        """The same for one that says what is done to parts of its value."""
        if isinstance(argument.value, Ref) and not isinstance(argument.value, Kept):
            return self._given_ref(argument, argument.value, uses)
        writes = uses.is_told = False
        for part, is_written in argument.parts():
            writes = writes or is_written
            for extent in self._extents(argument.value, part):
                uses.accesses[extent] = is_written or uses.accesses.get(extent, False)
        return self._writable(argument, uses) if writes else self._readable(argument.value, uses)

    def _given_ref(self, argument: Any, ref: Ref[Any], uses: _Uses) -> Any:
        """The same for a ref, which may stand for a part of something that has versions."""
        parts = argument.parts() if isinstance(argument, Access) else ((None, False),)
        writes = any(is_written for _, is_written in parts)
        if writes and ref.origin is not None:
            fills = argument.__class__ is Out and not isinstance(ref, RefView)
            value = self._versions.write(ref.origin, fills)
        else:
            value = self._versions.read(ref.origin)
        seen = None if value is None else ref.view_of(value)
        for part, is_written in parts:
            found = self._extents(ref, part) if seen is None else self._tracker.extents(seen, part)
            for extent in found:
                uses.accesses[extent] = is_written or uses.accesses.get(extent, False)
        uses.is_told = False
        if not writes:
            return self._readable(ref, uses)
        uses.written += (type(argument).__name__, ref)
        if seen is not None:
            uses.writes_here = True
            return seen
        uses.values.append(ref.task)
        return Writable(ref)

    def _readable(self, value: Any, uses: _Uses) -> Any:
        if self._versions.begun:
            value = with_refs_read(value, self._versions.read)
        given = prepared(value, uses.values)
        for use in uses_in(given):
            _refuse_shard(use.kept)
            if not use.is_plain:
                raise TypeError(
                    f"{type(use.kept).__name__} is annotated inside {value!r}: annotate whole "
                    "arguments only, no item of a list"
                )
            use.writes = False
        if value.__class__ in (dict, list, set) and not is_replaced(given):
            given = Later(value)
        uses.is_lazy = uses.is_lazy or is_replaced(given)
        return given

    def _writable(self, argument: Access, uses: _Uses) -> Any:
        value = argument.value
        uses.written += (type(argument).__name__, value)
        if is_constant(value):
            raise TypeError(f"{argument!r}: a {type(value).__name__} cannot be written to")
        if isinstance(value, Kept):
            _refuse_shard(value)
            uses.values.extend(value.makers())
            return Use(value, True)
        if not isinstance(value, Task):
            if isinstance(value, dict | list | set) and is_replaced(prepared(value, [])):
                raise TypeError(
                    f"{argument!r}: a container that tasks write to must not hold tasks or refs; "
                    "fetch them first"
                )
            uses.writes_here = True
            return value
        uses.values.append(value)
        return Writable(value)

    def _look_into(self, function: Any, uses: _Uses) -> None:
        """Add what a method or a partial function holds to what the task reads."""
        held = [getattr(function, "__self__", None)]
        if isinstance(function, partial):
            self._look_into(function.func, uses)
            held += [*function.args, *function.keywords.values()]
        for value in held:
            if value is not None and not isinstance(value, type | ModuleType):
                for extent in self._extents(value):
                    uses.is_told = False
                    uses.accesses.setdefault(extent, False)

    def _extents(
        self, value: Any, part: Any = None, path: tuple[int, ...] = ()
    ) -> tuple[Extent, ...]:
        """The extents of a value, or of what stands for it."""
        if isinstance(value, Ref):
            found = self._versions.read(value.origin)
            if found is not None:
                return self._tracker.extents(value.view_of(found), part)
            if isinstance(value, RefView):
                return self._extents_of_view(value, part)
            value = value.task
        if isinstance(value, Task):
            return self._extents_of_task(value, part)
        if part is not None or not isinstance(value, dict | list | set | tuple | frozenset):
            return self._tracker.extents(value, part)
        if id(value) in path:
            return ()
        path = (*path, id(value))
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
        found = [extent for item in items for extent in self._extents(item, None, path)]
        if isinstance(value, tuple | frozenset):
            return tuple(found)
        return (self._tracker.extent_of_object(value), *found)

    def _extents_of_task(self, task: Task[Any], part: Any) -> tuple[Extent, ...]:
        """Where the value of a task lies; until it is done, perhaps in what it was given."""
        # Looked for before its state is: once it is done, they are gone.
        given = [self._extents_of_entry(one) for one in watchers_of(task)]
        if task._state == DONE:
            self._learn(task)
            value = _lying_here(task)
            if value.__class__ is not Unsealed:
                # Of what lies elsewhere nothing is known but whose it is.
                return self._tracker.extents(value, None if value.__class__ is Placed else part)
            if part is None and isinstance(value.value, dict | list | set):
                # What it holds may change this moment.
                return (self._tracker.extent_of_object(value.value),)
            return self._tracker.extents(value.value, part)
        own = self._tracker.extent_of_object(task)
        if task not in self._unknown:
            self._unknown[task] = own
            task._engine.watch(task, self._arrived.append)
        return (own, *itertools.chain.from_iterable(given))

    def _extents_of_view(self, view: RefView, part: Any) -> tuple[Extent, ...]:
        """Where a view of a task's value lies; all of the value until that is known."""
        task = view.task
        if task._state == DONE and has_views(_lying_here(task)):
            self._learn(task)
            return self._tracker.extents(view.view_of(_lying_here(task)), part)
        return self._extents_of_task(task, None)

    def _extents_of_entry(self, watcher: Any) -> tuple[Extent, ...]:
        """What a task uses in whose region `watcher` stands for it; none for other watchers."""
        if not isinstance(watcher, _Entry):
            return ()
        return self._extents(watcher.args) if watcher.extents is None else watcher.extents

    def _learn(self, task: Task[Any]) -> None:
        """Find out where the value of a task lies that has ended; lock held."""
        extent = self._unknown.pop(task, None)
        if extent is not None and task._state == DONE:
            value = _lying_here(task)
            self._tracker.alias(value.value if value.__class__ is Unsealed else value, extent)

    def _forget_done(self) -> None:
        self._entries = [entry for entry in self._entries if entry.task is not None]
        self._most = 2 * len(self._entries) + FEW

    # Failure

    def ended(self, entry: _Entry, task: Task[Any]) -> None:
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


def _refuse_shard(kept: Kept) -> None:
    if kept.line is None:
        raise TypeError(
            f"{kept!r}: a task of a region cannot be given a shard, since which piece that is "
            "is not known before it runs; give it one of list(shard)"
        )


def _is_scoped(options: Options | None) -> bool:
    return options is not None and options.scope is not None


def _lying_here(task: Task[Any]) -> Any:
    """The value of a task where it lies in the memory of the calling code, or a stand-in."""
    value = task._value
    return value.value if value.__class__ is Placed and value.home == here.get() else value


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
