"""Spilling: the value of a finished task on disk, the way there and the way back."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from darray.runtime import events
from darray.runtime.spaces import (
    AWAY,
    HOST,
    Placed,
    Raw,
    here,
    moves_for,
    nbytes_of,
    placing,
    raw_of,
    register_raw,
    sealed,
)
from darray.runtime.tasks import DONE, Task

if TYPE_CHECKING:
    from darray.runtime.spill_files import Slot, SpillFiles

__all__ = [
    "SMALLEST",
    "Counter",
    "Spilled",
    "asked",
    "bring_back",
    "can_go",
    "is_storable",
    "may_leave",
    "send_away",
    "stay",
    "written",
]

# Tasks whose values must stay in memory, since regions know them by their place there, with the
# number of these regions. Guarded by `placing`.
_staying: weakref.WeakKeyDictionary[Task[Any], int] = weakref.WeakKeyDictionary()

# Of values on disk those that were read for somebody, by the id of the array that was made then;
# it is that array only while the value says so. Guarded by `placing`.
_copied: weakref.WeakValueDictionary[int, Spilled] = weakref.WeakValueDictionary()

# Smaller values do not fill a place on disk.
SMALLEST = 4096

# References to the value of a task that is looked at here: the task's, and a variable's.
OWN_REFERENCES = 2

# The variable's, where the task has let go of it.
ONLY_REFERENCE = 1


# Fills a buffer with bytes that were kept, from an offset on.
_Reading: TypeAlias = Callable[..., object]


class RawTuples:
    """How tuples of arrays, and of such tuples, are kept as bytes; numbers in them stay.

    The bytes are those of one array after another.
    """

    has_parts = True

    def parts(self, value: tuple[Any, ...]) -> tuple[Any, Iterable[memoryview], int] | None:
        """What describes `value`, its bytes, and how many; None where other items are there."""
        layouts: list[Any] = []
        every: list[Iterable[memoryview]] = []
        offset = 0
        for item in value:
            raw = raw_of(item)
            found = None if raw is None else raw.parts(item)
            if found is not None:
                layouts.append((raw, found[0], offset))
                every.append(found[1])
                offset += found[2]
            elif isinstance(item, bool | int | float | complex | None):
                layouts.append((None, item, 0))
            else:
                return None
        return layouts, itertools.chain.from_iterable(every), offset

    def restored(self, layout: Any, read: _Reading) -> Any:
        """A tuple of that description; ``read(buffer, offset)`` fills a buffer."""
        return tuple([self.part(layout, place, read) for place in range(len(layout))])

    def part(self, layout: Any, key: Any, read: _Reading, out: Any = None) -> Any:
        """The item with the number `key`, never in an `out`."""
        raw, described, start = layout[key]
        if raw is None:
            return described
        return raw.restored(
            described, lambda buffer, offset, *runs: read(buffer, start + offset, *runs)
        )

    def is_shared(self, value: tuple[Any, ...], known: int) -> bool:
        """Whether more than the `known` references lead to the tuple, or others to an array."""
        has_arrays = False
        for item in value:
            raw = raw_of(item)
            if raw is not None:
                has_arrays = True
                if raw.is_shared(item, OWN_REFERENCES):
                    return True
        # This function's own, and that of the count, are two more. Python shares those tuples
        # itself that have none.
        return has_arrays and sys.getrefcount(value) > known + 2


class Counter(Protocol):
    """What counts values that are in memory again."""

    def admit(self, task: Task[Any], nbytes: int) -> object | None:
        """What counts `nbytes` for the value of `task`; None where there is no room for them."""

    def count(self, task: Task[Any], nbytes: int) -> object:
        """Do what `admit` does, whether or not there is room."""


class Spilled:
    """The value of a task on disk; never changed. It is deleted once nobody has this.

    While somebody has an array that was read from it, or a view of that, reading gives the same
    array again: what is written there shows in both, as if the value had been in memory.
    """

    __slots__ = (
        "__weakref__",
        "_copy",
        "_counter",
        "_layout",
        "_raw",
        "_slot",
        "_task",
        "is_announced",
    )

    def __init__(
        self, task: Task[Any], raw: Raw, layout: Any, slot: Slot, counter: Counter
    ) -> None:
        # A weak one, since the task leads here.
        self._task = weakref.ref(task)
        self._raw = raw
        self._layout = layout
        self._slot = slot
        self._counter = counter
        # The array that was read last; changed only with `placing` held.
        self._copy: weakref.ref[Any] | None = None
        # Whether the system was told that the value will be read, and it was not read since. Set
        # without a lock: two threads may both tell.
        self.is_announced = False

    def announce(self) -> None:
        """Have the system fetch the value from the disk while others compute."""
        if not self.is_announced:
            self.is_announced = True
            self._slot.read_ahead()

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self._slot.nbytes

    @property
    def has_parts(self) -> bool:
        """Whether parts of the value can be read by themselves."""
        return self._raw.has_parts

    def read(self) -> Any:
        """The value; where there is room for it, it stays in memory."""
        value = self.brought()
        task = self._task()
        if task is not None:
            hold = self._counter.admit(task, self.nbytes)
            if hold is not None:
                self._return(task, value, hold)
        return value

    def __getitem__(self, key: Any) -> Any:
        """A copy of a part of the value: of an array slices, of a tuple an item."""
        return self.part(key)

    def part(self, key: Any, out: Any = None) -> Any:
        """Do what indexing does, into `out` where that is given."""
        began = perf_counter_ns()
        found = self._raw.part(self._layout, key, self._slot.read_into, out)
        self.is_announced = False
        if events.consumers:
            publish(nbytes_of(found), "disk", str(here.get()), began)
        return found

    def copy(self) -> Any:
        """The array that was read last, if somebody has it."""
        return None if self._copy is None else self._copy()

    def brought(self) -> Any:
        """The value in memory: fresh, if nobody has what was read before."""
        copy = self.copy()
        if copy is not None:
            return sealed(copy)
        began = perf_counter_ns()
        value = self._raw.restored(self._layout, self._slot.read_into)
        self.is_announced = False
        if events.consumers:
            publish(self.nbytes, "disk", str(here.get()), began)
        if value.__class__ is tuple:
            # Nobody writes to a tuple.
            return sealed(value)
        with placing:
            # Another thread may have been quicker.
            copy = self.copy()
            if copy is None:
                copy = value
                self._copy = weakref.ref(value)
                _copied[id(value)] = self
        return sealed(copy)

    def back(self, task: Task[Any]) -> None:
        """Have the value of `task`, which this is, in memory, whether or not there is room."""
        value = self.brought()
        self._return(task, value, self._counter.count(task, self.nbytes))

    def _return(self, task: Task[Any], value: Any, hold: object) -> None:
        with placing:
            placed = task._value
            if placed.__class__ is Placed and placed.value is AWAY and placed.away is self:
                placed.value, placed.away = value, None
                task._hold = hold


def publish(nbytes: int, source: str, destination: str, began: int) -> None:
    """Tell every consumer of a value that went to disk, or came from there, by now."""
    now = perf_counter_ns()
    events.publish(events.ValueMoved(nbytes, source, destination, began, now, moves_for.get()))


def is_storable(value: Any) -> bool:
    """Whether a task's value may be written to disk, as far as its class tells."""
    if value.__class__ is Placed and value.value is AWAY:
        # It is on its way back.
        return True
    if value.__class__ is Placed:
        return value.home.kind == "host" and raw_of(value.value) is not None
    return raw_of(value) is not None


def asked(task: Task[Any]) -> int:
    """Bytes that a task with a ``memory=`` option would hold if it began now.

    Those of what it is given that is on disk count as well, but where it reads parts of it.
    """
    options = task._options
    assert options is not None
    found = options.memory
    for need in dict.fromkeys(task._needs or ()):
        value = need._value
        if value.__class__ is Placed and value.value is AWAY:
            away = value.away
            if away is None or not (options.reads_parts and away.has_parts):
                found += value.nbytes
    return found


def can_go(task: Task[Any]) -> bool:
    """Whether the value of `task` is in memory and may go to disk."""
    if is_pinned(task) or task._state != DONE:
        return False
    value = task._value
    if value.__class__ is Placed:
        value = value.value
    raw = raw_of(value)
    # Whoever else uses its memory is to see what is written there later, and the other way about.
    if raw is None or raw.is_shared(value, OWN_REFERENCES):
        return False
    with placing:
        return task not in _staying


def is_pinned(task: Task[Any]) -> bool:
    """Whether somebody pinned the value of `task`."""
    return hasattr(task, "_pins") and task._pins > 0


def stay(task: Task[Any]) -> None:
    """Have the value of `task`, which is done, in memory until `may_leave` is told of it.

    So is that of another task, if the one is a view of what was read of the other.
    """
    if _copied:
        _bring_back_original(task)
    if task._options is None or not task._options.memory:
        # Its value is not counted, so it was never written to disk.
        return
    with placing:
        _staying[task] = _staying.get(task, 0) + 1
        away = _away(task)
    if away is not None:
        away.back(task)


def may_leave(tasks: Iterable[Task[Any]]) -> None:
    """Let the values of `tasks` go to disk again, each of which `stay` was told of once more."""
    with placing:
        for task in tasks:
            count = _staying.pop(task, 0)
            if count > 1:
                _staying[task] = count - 1


def bring_back(task: Task[Any]) -> None:
    """Have the value of `task` in memory if it is there."""
    with placing:
        away = _away(task)
    if away is not None:
        away.back(task)


def _bring_back_original(task: Task[Any]) -> None:
    """Have the value in memory of which that of `task` is a copy or a view of one, if it is."""
    array = task._value
    if array.__class__ is Placed:
        array = array.value
    while array is not None:
        with placing:
            spilled = _copied.get(id(array))
        original = spilled._task() if spilled is not None and spilled.copy() is array else None
        if original is not None:
            bring_back(original)
        array = getattr(array, "base", None)


def _away(task: Task[Any]) -> Spilled | None:
    """What is on disk of the value of `task`, if it is nowhere else."""
    placed = task._value
    if task._state == DONE and placed.__class__ is Placed and placed.value is AWAY:
        return cast("Spilled | None", placed.away)
    return None


def written(task: Task[Any], files: SpillFiles, counter: Counter) -> Spilled | None:
    """The value of `task` on disk, where it is in memory as well; None for what cannot be.

    Raises
    ------
    OSError
        When it cannot be written. The value stays in memory.
    """
    value = task._value
    if value.__class__ is Placed:
        value = value.value
    raw = raw_of(value)
    found = None if raw is None else raw.parts(value)
    if raw is None or found is None or not found[2]:
        return None
    began = perf_counter_ns()
    layout, parts, nbytes = found
    slot = files.store(parts, nbytes)
    if events.consumers:
        publish(slot.nbytes, str(here.get()), "disk", began)
    return Spilled(task, raw, layout, slot, counter)


def send_away(task: Task[Any], spilled: Spilled) -> bool:
    """Let go of the value of `task`, which was written, and of its count; whether that could be.

    It cannot where someone uses its memory by now. The caller holds on to the count, so that
    nothing ends while the lock is held.
    """
    value = task._value
    held = value.value if value.__class__ is Placed else value
    with placing:
        if task._value is not value or task._state != DONE:
            return False
        if task in _staying or is_pinned(task):
            return False
        if value.__class__ is not Placed:
            value = task._value = Placed(held, HOST)
        elif value.value is not held or held is AWAY:
            return False
        copies = value._copies
        value.send_away(spilled)
        # Nobody finds it any more, so that whoever uses it has got it already.
        raw = raw_of(held)
        if raw is None or raw.is_shared(held, ONLY_REFERENCE):
            value.value, value.away, value._copies = held, None, copies
            return False
        task._hold = None
    return True


register_raw(tuple, RawTuples())
