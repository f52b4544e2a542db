"""Spilling: the value of a finished task on disk, the way there and the way back."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, cast

from darray.runtime import events
from darray.runtime.spaces import (
    AWAY,
    HOST,
    Placed,
    Raw,
    here,
    moves_for,
    placing,
    raw_of,
    sealed,
)
from darray.runtime.tasks import DONE, Task

if TYPE_CHECKING:
    from darray.runtime.spill_files import Slot, SpillFiles

__all__ = [
    "SMALLEST",
    "Counter",
    "Spilled",
    "bring_back",
    "is_clean",
    "is_storable",
    "send_away",
    "stay",
    "stays",
    "written",
]

# Tasks whose values must stay in memory from now on: a region knows them by their place there,
# or they are written to. Guarded by `placing`.
_staying: weakref.WeakSet[Task[Any]] = weakref.WeakSet()

# Smaller values are not worth a place on disk.
SMALLEST = 2**16

# References to the value of a task that is looked at here: the task's, and a variable's.
OWN_REFERENCES = 2


class Counter(Protocol):
    """What counts values that are in memory again."""

    def admit(self, task: Task[Any], nbytes: int) -> object | None:
        """What counts `nbytes` for the value of `task`; None where there is no room for them."""

    def count(self, task: Task[Any], nbytes: int) -> object:
        """Do what `admit` does, whether or not there is room."""


class Spilled:
    """The value of a task on disk; never changed. It is deleted once nobody has this.

    Attributes
    ----------
    leaving : object
        Holds on to the count of the memory that the value was in, until that is given back.
    """

    __slots__ = ("_counter", "_layout", "_raw", "_slot", "_task", "leaving")

    def __init__(
        self, task: Task[Any], raw: Raw, layout: Any, slot: Slot, counter: Counter
    ) -> None:
        # A weak one, since the task leads here.
        self._task = weakref.ref(task)
        self._raw = raw
        self._layout = layout
        self._slot = slot
        self._counter = counter
        self.leaving: object = None

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self._slot.nbytes

    def read(self) -> Any:
        """The value; where there is room for it, it stays in memory."""
        value = self.brought()
        task = self._task()
        if task is not None:
            hold = self._counter.admit(task, self.nbytes)
            if hold is not None:
                self._return(task, value, hold)
        return value

    def brought(self) -> Any:
        """The value, in fresh memory."""
        began = perf_counter_ns()
        value, buffer = self._raw.restored(self._layout)
        self._slot.read_into(buffer)
        if events.consumers:
            publish(self.nbytes, "disk", str(here.get()), began)
        return sealed(value)

    def back(self, task: Task[Any]) -> None:
        """Have the value of `task`, which this is, in memory, whether or not there is room."""
        value = self.brought()
        self._return(task, value, self._counter.count(task, self.nbytes))

    def _return(self, task: Task[Any], value: Any, hold: object) -> None:
        with placing:
            placed = task._value
            returns = placed.__class__ is Placed and placed.value is AWAY and placed.away is self
            if returns:
                placed.value = value
                task._hold = hold


def publish(nbytes: int, source: str, destination: str, began: int) -> None:
    """Tell every consumer of a value that went to disk, or came from there, by now."""
    now = perf_counter_ns()
    events.publish(events.ValueMoved(nbytes, source, destination, began, now, moves_for.get()))


def is_storable(value: Any) -> bool:
    """Whether a task's value may be written to disk, as far as its class tells."""
    if value.__class__ is Placed:
        return value.home.kind == "host" and raw_of(value.value) is not None
    return raw_of(value) is not None


def stays(task: Task[Any]) -> bool:
    """Whether the value of `task` must stay in memory, or is in use, or is on disk already."""
    if is_pinned(task) or task._state != DONE:
        return True
    value = task._value
    if value.__class__ is Placed:
        value = value.value
    raw = raw_of(value)
    if raw is None or raw.is_shared(value, OWN_REFERENCES):
        return True
    with placing:
        return task in _staying


def is_pinned(task: Task[Any]) -> bool:
    """Whether somebody pinned the value of `task`."""
    return hasattr(task, "_pins") and task._pins > 0


def is_clean(task: Task[Any]) -> bool:
    """Whether the value of `task` is on disk as well as in memory."""
    value = task._value
    return value.__class__ is Placed and value.away is not None


def stay(task: Task[Any]) -> None:
    """Have the value of `task`, which is done, in memory from now on."""
    if task._options is None or not task._options.memory:
        # Its value is not counted, so it was never written to disk.
        return
    with placing:
        _staying.add(task)
        away = _away(task)
    if away is not None:
        away.back(task)


def bring_back(task: Task[Any]) -> None:
    """Have the value of `task` in memory if it is there."""
    with placing:
        away = _away(task)
    if away is not None:
        away.back(task)


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
        if value.away is not None:
            return cast("Spilled", value.away)
        value = value.value
    raw = raw_of(value)
    found = None if raw is None else raw.parts(value)
    if raw is None or found is None:
        return None
    began = perf_counter_ns()
    layout, parts = found
    slot = files.store(parts, value.nbytes)
    if events.consumers:
        publish(slot.nbytes, str(here.get()), "disk", began)
    return Spilled(task, raw, layout, slot, counter)


def send_away(task: Task[Any], spilled: Spilled, release: Callable[[], object]) -> bool:
    """Let go of the value of `task`, which was written; whether that could be.

    ``release()``, which gives the count of its memory back, is called when the memory is given
    back, which is now unless someone uses it.
    """
    value = task._value
    held = value.value if value.__class__ is Placed else value
    raw = raw_of(held)
    if raw is None:
        return False
    owner = weakref.ref(raw.owner(held), lambda _: release())
    with placing:
        if task._value is not value or task._state != DONE:
            return False
        if task in _staying or is_pinned(task):
            return False
        spilled.leaving = owner
        if value.__class__ is Placed:
            if value.value is not held:
                return False
            value.send_away(spilled)
        else:
            placed = Placed(held, HOST)
            placed.send_away(spilled)
            task._value = placed
        # From now on only what tells of the end of its memory leads to the count.
        task._hold = None
    return True
