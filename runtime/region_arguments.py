"""What the tasks of a region are given for their arguments, and which bytes these lie in."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakSet

from msgspec import Struct

from darray.runtime.accesses import ADDS, WRITTEN, Access, Deps, Out
from darray.runtime.arguments import (
    FROZEN,
    INERT,
    Kept,
    Later,
    Pending,
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
from darray.runtime.footprints import is_constant
from darray.runtime.refs import Ref, RefView
from darray.runtime.spaces import Placed, here
from darray.runtime.spilling import stay
from darray.runtime.tasks import DONE, Task
from darray.runtime.tracking import Extent, Tracker
from darray.runtime.versions import Versions
from darray.runtime.waiting import register_alarm, watchers_of

__all__ = ["Entry", "RegionArguments", "Uses"]


# Values among which those are looked for in which the value of another task may lie.
MOST_FOLLOWED = 1000

# Containers, and those that can be written to. Unions of classes would be made at every look.
_CONTAINERS = (dict, list, set, tuple, frozenset)
_MUTABLE = (dict, list, set)

# What is done with values that hold nothing which is to be looked at.
_SIMPLE = (INERT, FROZEN)


class Uses(Struct, eq=False):
    """What a task uses.

    Attributes
    ----------
    accesses : dict
        Extents, each with whether the task writes it, or `ADDS`.
    values : list of Task
        Tasks whose values it is given.
    written : list
        What it writes, as in `Entry`.
    is_lazy : bool
        Whether arguments are to be replaced when the task runs.
    writes_here : bool
        Whether objects of the calling code are written to.
    is_told : bool
        Whether the extents are those of its positional arguments, and none else.
    adds : bool
        Whether the task adds to any of them.
    """

    accesses: dict[Extent, int] = {}
    values: list[Task[Any]] = []
    written: list[Any] = []
    is_lazy: bool = False
    writes_here: bool = False
    is_told: bool = True
    adds: bool = False

    def use(self, extents: Iterable[Extent], writes: int) -> None:
        """Note what the task does to some extents, besides what else it does."""
        self.adds = self.adds or writes == ADDS
        accesses = self.accesses
        for extent in extents:
            before = accesses.get(extent, writes)
            # Who adds to what it also reads, or writes, writes it.
            accesses[extent] = writes if before == writes else True


class Entry(Struct, eq=False, gc=False):
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

    region: RegionArguments
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


class RegionArguments:
    """The part of a region that looks at arguments; the region's lock is held meanwhile."""

    def __init__(self) -> None:
        self._tracker = Tracker()
        # Tasks that were arguments before it was known where their values lie; those of them
        # that ended since, which any thread may add to without the lock.
        self._unknown: dict[Task[Any], Extent] = {}
        self._arrived: deque[Task[Any]] = deque()
        # Those whose values stay in memory until the region ends.
        self._staying: WeakSet[Task[Any]] = WeakSet()
        # What tasks write of values that keep an old version until the end.
        self._versions = Versions()
        # Whether a task failed whose entry may not have been called yet; set under the engine's
        # lock, so that whoever waited for that task sees it.
        self.is_alarmed = False
        # Whether the task that is spawned now may run elsewhere than the calling code.
        self.leaves = False

    def ended(self, entry: Entry, task: Task[Any]) -> None:
        """Stop what comes after a task that failed or was cancelled."""
        raise NotImplementedError

    def _given(self, arguments: Iterable[Any], uses: Uses) -> list[Any]:
        """What the task is given for arguments; what is done to them is added to `uses`."""
        known, accesses, given = self._tracker.known, uses.accesses, []
        for argument in arguments:
            cls = argument.__class__
            if cls in WRITTEN:
                name, value = WRITTEN[cls], argument.value
            else:
                name, value = "", argument
            one = known.get(id(value))
            if one is None:
                given.append(self._given_first(argument, uses))
            elif name:
                if one.is_writable:
                    uses.written += (name, value)
                    uses.writes_here = True
                    if argument.writes == ADDS:
                        uses.use(one.extents, ADDS)
                    else:
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
                        elif accesses[extent] == ADDS:
                            accesses[extent] = True
                    given.append(readable)
                else:
                    given.append(self._given_first(argument, uses))
        return given

    def _given_first(self, argument: Any, uses: Uses) -> Any:
        """The same for one argument that was not given to a task in this way before."""
        value, writes = argument, 0
        if isinstance(argument, Access):
            argument.refuse_nested()
            if argument.__class__ is Deps:
                return self._given_parts(argument, uses)
            value, writes = argument.value, argument.writes
        elif is_constant(value):
            return value if actions.get(value.__class__) == INERT else self._readable(value, uses)
        tracker = self._tracker
        if id(value) not in tracker.known:
            if isinstance(value, Ref) and not isinstance(value, Kept):
                return self._given_ref(argument, value, uses)
            if self._unknown:
                # Perhaps the value of a task that ended this moment, fetched in the block.
                for task in [one for one in self._unknown if one._state == DONE]:
                    self._learn(task)
        uses.use(self._extents(value), writes)
        known = tracker.known.get(id(value))
        given = self._writable(argument, uses) if writes else self._readable(value, uses)
        if known is None or is_replaced(given):
            uses.is_told = False
        elif writes:
            known.is_writable = not isinstance(value, _MUTABLE)
        elif given is value:
            known.readable = given
        elif hasattr(value, "shape"):
            known.readable, known.shape = given, value.shape
        return given

    def _given_parts(self, argument: Deps, uses: Uses) -> Any:
        """The same for one that says what is done to parts of its value."""
        if isinstance(argument.value, Ref) and not isinstance(argument.value, Kept):
            return self._given_ref(argument, argument.value, uses)
        writes = uses.is_told = False
        for part, is_written in argument.parts():
            writes = writes or bool(is_written)
            uses.use(self._extents(argument.value, part), is_written)
        return self._writable(argument, uses) if writes else self._readable(argument.value, uses)

    def _given_ref(self, argument: Any, ref: Ref[Any], uses: Uses) -> Any:
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
            uses.use(found, is_written)
        uses.is_told = False
        if not writes:
            return self._readable(ref, uses)
        uses.written += (type(argument).__name__, ref)
        if seen is not None:
            uses.writes_here = True
            return seen
        uses.values.append(ref.task)
        return Writable(ref)

    def _readable(self, value: Any, uses: Uses) -> Any:
        if self._versions.begun:
            value = with_refs_read(value, self._versions.read)
        given = prepared(value, uses.values)
        if actions.get(given.__class__) in _SIMPLE:
            return given
        for use in uses_in(given):
            _refuse_shard(use.kept)
            if not use.is_plain:
                raise TypeError(
                    f"{type(use.kept).__name__} is annotated inside {value!r}: annotate whole "
                    "arguments only, no item of a list"
                )
            use.writes = False
        if value.__class__ in _MUTABLE and not is_replaced(given):
            given = Later(value)
        uses.is_lazy = uses.is_lazy or is_replaced(given)
        return given

    def _writable(self, argument: Access, uses: Uses) -> Any:
        value = argument.value
        uses.written += (type(argument).__name__, value)
        if is_constant(value):
            raise TypeError(f"{argument!r}: a {type(value).__name__} cannot be written to")
        if isinstance(value, Kept):
            _refuse_shard(value)
            uses.values.extend(value.makers())
            return Use(value, True)
        if not isinstance(value, Task):
            if isinstance(value, _MUTABLE) and is_replaced(prepared(value, [])):
                raise TypeError(
                    f"{argument!r}: a container that tasks write to must not hold tasks or refs; "
                    "fetch them first"
                )
            uses.writes_here = True
            return value
        uses.values.append(value)
        return Writable(value)

    def _look_into(self, function: Any, uses: Uses) -> None:
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
        if part is not None or not isinstance(value, _CONTAINERS):
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
        watchers = watchers_of(task)
        given = [self._extents_of_entry(one) for one in watchers]
        is_own = any(isinstance(one, Entry) for one in watchers)
        args = () if is_own else (task._function, task._args, task._kwargs)
        if not is_own and task._args is None and task._state < DONE:
            # Its function has returned: what it was given is dropped, and its value stored next.
            task._engine.wait([task], None)
        if task._state == DONE:
            # It is known by its place in memory.
            self._have_stay(task)
            self._learn(task)
            value = task._value
            if value.__class__ is Placed:
                return self._placed(value, value.value, part)
            return self._at(value, part)
        own = self._tracker.extent_of_object(task)
        if task not in self._unknown:
            self._unknown[task] = own
            task._engine.watch(task, self._arrived.append)
        return (own, *itertools.chain.from_iterable(given), *self._extents_outside(args))

    def _extents_outside(self, call: Iterable[Any]) -> Iterable[Extent]:
        """Where the value may lie of a task that is not of a region: in what it is given.

        So may those of the tasks that it needs; of a long chain of them the last ones are
        followed.
        """
        found: dict[Extent, None] = {}
        pending, seen = list(call), set[int]()
        while pending and len(seen) < MOST_FOLLOWED:
            value = pending.pop()
            if isinstance(value, Ref):
                value = value.task
            if id(value) in seen or is_constant(value):
                continue
            seen.add(id(value))
            if isinstance(value, Task) and value._state < DONE:
                pending += [value._function, value._args, value._kwargs]
            elif isinstance(value, Task):
                found.update(dict.fromkeys(self._extents_of_task(value, None)))
            elif isinstance(value, Pending):
                pending += value.held()
            elif isinstance(value, dict):
                pending += value.values()
            elif isinstance(value, list | tuple | set | frozenset):
                pending += value
            else:
                found.update(dict.fromkeys(self._tracker.extents(value)))
        return found

    def _extents_of_view(self, view: RefView, part: Any) -> tuple[Extent, ...]:
        """Where a view of a task's value lies; all of the value until that is known."""
        task = view.task
        if task._state == DONE:
            self._have_stay(task)
            placed = task._value
            whole = placed.value if placed.__class__ is Placed else placed
            if has_views(whole):
                self._learn(task)
                if placed is not whole:
                    return self._placed(placed, view.view_of(whole), part)
                return self._at(view.view_of(whole), part)
        return self._extents_of_task(task, None)

    def _at(self, value: Any, part: Any) -> tuple[Extent, ...]:
        """Where the value of a task lies, given what the task has for it."""
        if value.__class__ is not Unsealed:
            return self._tracker.extents(value, part)
        if part is None and isinstance(value.value, _MUTABLE):
            # What it holds may change this moment.
            return (self._tracker.extent_of_object(value.value),)
        return self._tracker.extents(value.value, part)

    def _placed(self, placed: Placed, value: Any, part: Any) -> tuple[Extent, ...]:
        """Where a value lies that tasks of other spaces may move.

        What lies in the memory of the calling code is known by its bytes there. It is known by
        its home, whatever that is, while it lies elsewhere, for tasks that may take it there,
        and until those are done that know it so.
        """
        home = self._tracker.extent_of_object(placed)
        if placed.home != here.get():
            return (home,)
        known = self._at(value, part)
        # Its neighbours are what tasks know it by that were given it before it was there; one of
        # them may have brought it home since `_learn` looked.
        is_idle = all(one.is_idle() for one in (home, *home.neighbours))
        return known if is_idle and not self.leaves else (home, *known)

    def _extents_of_entry(self, watcher: Any) -> tuple[Extent, ...]:
        """What a task uses in whose region `watcher` stands for it; none for other watchers."""
        if not isinstance(watcher, Entry):
            return ()
        return self._extents(watcher.args) if watcher.extents is None else watcher.extents

    def _have_stay(self, task: Task[Any]) -> None:
        """Have the value of a task that is done in memory until the region ends; lock held."""
        if task not in self._staying:
            self._staying.add(task)
            stay(task)

    def _learn(self, task: Task[Any]) -> None:
        """Find out where the value of a task lies that has ended; lock held."""
        extent = self._unknown.pop(task, None)
        if extent is not None and task._state == DONE:
            self._have_stay(task)
            value = task._value
            if value.__class__ is Placed:
                self._tracker.alias(value, extent)
                value = value.value if value.home == here.get() else None
            self._tracker.alias(value.value if value.__class__ is Unsealed else value, extent)


def _refuse_shard(kept: Kept) -> None:
    if kept.line is None:
        raise TypeError(
            f"{kept!r}: a task of a region cannot be given a shard, since which piece that is "
            "is not known before it runs; give it one of list(shard)"
        )


def _alarm(entry: Entry) -> None:
    entry.region.is_alarmed = True


register_alarm(Entry, _alarm)
