"""Spaces: what can hold values, how many bytes a value holds, how values come to another space."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import cache
from time import perf_counter_ns
from typing import Any, Protocol

from msgspec import Struct

from darray.runtime import events
from darray.runtime.processor import Processor

__all__ = [
    "AWAY",
    "HOST",
    "Away",
    "Message",
    "Origin",
    "Placed",
    "Raw",
    "Space",
    "brought",
    "has_memory",
    "has_spaces",
    "here",
    "measured_nbytes",
    "nbytes_of",
    "packed",
    "placing",
    "raw_of",
    "register_container",
    "register_device_arrays",
    "register_handle",
    "register_host_arrays",
    "register_measure",
    "register_pickling",
    "register_raw",
    "register_seal",
    "sealed",
    "space_of",
    "unpacked",
]

_Change = Callable[[Any], Any]

_measures: dict[type, Callable[[Any], int]] = {}

# Classes whose objects stand for something, wherever they are: they cross as they are.
_handles: set[type] = set()

# How values of some classes are pickled between workers.
_reducers: dict[type, Callable[[Any], Any]] = {}

# How values of exactly some classes are kept as bytes.
_raws: dict[type, Raw] = {}

# What makes, of a container of another class, one with each item changed by a function.
_containers: dict[type, Callable[[Any, _Change], Any]] = {}

# What brings an array of the host's to the memory of a device, and one of the device's back, by
# the kind of the device; and the class of the device's arrays.
_devices: dict[str, tuple[type, _Change, _Change]] = {}

# The class of the arrays in host memory, and what makes a value one to hand out; both are told
# by floors above this one.
_host_arrays: type = type(None)
_seal: _Change = lambda value: value  # noqa: E731


class Space(Struct, frozen=True, gc=False):
    """Memory that holds values: the host memory of a worker, or the memory of one device there.

    Spaces are plain values: two that are equal are the same space.

    Examples
    --------
    >>> Space(worker=0, kind="host", index=0)
    Space(worker=0, kind='host', index=0)
    """

    worker: int
    kind: str
    index: int

    def __str__(self) -> str:
        if self.kind == "host":
            return f"worker {self.worker}"
        return f"{self.kind} {self.index} of worker {self.worker}"


HOST = Space(0, "host", 0)

# The space of the processor that the calling code runs on; without a value it is `HOST`.
here: ContextVar[Space] = ContextVar("darray.space", default=HOST)

# The number of the task for which values are moved; only set while somebody listens.
moves_for: ContextVar[int | None] = ContextVar("darray.moves_for", default=None)


def space_of(processor: Processor) -> Space:
    """The space that holds what tasks on `processor` work with.

    Examples
    --------
    >>> from darray.runtime.processor import Processor
    >>> space_of(Processor(worker=1, kind="cpu", index=3))
    Space(worker=1, kind='host', index=0)
    """
    if processor.kind in _devices:
        return Space(processor.worker, processor.kind, processor.index)
    return Space(processor.worker, "host", 0)


def has_memory(kind: str) -> bool:
    """Whether processors of a kind work in a memory of their own, not in that of the host."""
    return kind in _devices


def has_spaces(processors: Iterable[Processor]) -> bool:
    """Whether `processors` work in several spaces."""
    return len({space_of(one) for one in processors}) > 1


def register_measure(cls: type, measure: Callable[[Any], int]) -> None:
    """Let ``measure(value)`` tell how many bytes a value of class `cls` holds."""
    _measures[cls] = measure


def register_handle(cls: type) -> None:
    """Let objects of class `cls` cross between workers as they are, not as copies."""
    _handles.add(cls)


class Raw(Protocol):
    """How values of a class, in the host's memory, are kept as bytes and come back."""

    has_parts: bool
    """Whether parts of a value can be read by themselves."""

    def parts(self, value: Any) -> tuple[Any, Iterable[memoryview], int] | None:
        """What describes `value`, its bytes, and how many these are.

        None where they are not all that it is, or more than it holds in memory.
        """

    def restored(self, layout: Any, read: Callable[..., object]) -> Any:
        """A value of that description.

        ``read(buffer, offset)`` fills a buffer with its bytes from there on, and
        ``read(buffer, offset, run, stride)`` with `run` of every `stride` of them.
        """

    def part(self, layout: Any, key: Any, read: Callable[..., object], out: Any = None) -> Any:
        """What ``value[key]`` is of a value of that description; in `out`, where that is given."""

    def is_shared(self, value: Any, known: int) -> bool:
        """Whether more than the `known` references lead to `value` or its memory."""


def register_raw(cls: type, raw: Raw) -> None:
    """Let values of exactly class `cls` be kept as bytes by `raw`."""
    _raws[cls] = raw


def raw_of(value: Any) -> Raw | None:
    """How `value` is kept as bytes; None for values that are not."""
    return _raws.get(value.__class__)


def register_container(cls: type, rebuild: Callable[[Any, _Change], Any]) -> None:
    """Let ``rebuild(container, change)`` be a container of class `cls` with its items changed."""
    _containers[cls] = rebuild


def register_device_arrays(kind: str, cls: type, to_host: _Change, from_host: _Change) -> None:
    """Say what values look like in the memory of devices of a kind.

    Arrays of class `cls` live there; ``to_host(array)`` is a NumPy array of the same elements,
    ``from_host(array)`` brings one there. Both copy.
    """
    _devices[kind] = (cls, to_host, from_host)


def register_host_arrays(cls: type) -> None:
    """Say what arrays in host memory are."""
    global _host_arrays
    _host_arrays = cls


def register_seal(seal: _Change) -> None:
    """Let ``seal(value)`` be a value from another space as it is handed out."""
    global _seal
    _seal = seal


def sealed(value: Any) -> Any:
    """A value that was brought back, as it is handed out."""
    return _seal(value)


def register_pickling(cls: type, reduce: Callable[[Any], Any]) -> None:
    """Pickle values of exactly class `cls` between workers by ``reduce(value)``.

    It returns what ``__reduce_ex__`` does, or NotImplemented for what that itself returns.
    """
    _reducers[cls] = reduce


def nbytes_of(value: Any) -> int:
    """Bytes that `value` holds, with what builtin containers hold, as far as is known.

    Examples
    --------
    >>> import numpy as np
    >>> nbytes_of([np.zeros(10), np.zeros(5)]) >= 120
    True
    """
    for cls in type(value).__mro__:
        measure = _measures.get(cls)
        if measure is not None:
            return measure(value)
    size = sys.getsizeof(value, 64)
    if isinstance(value, dict):
        return size + sum(nbytes_of(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return size + sum(nbytes_of(item) for item in value)
    return size


def measured_nbytes(values: Iterable[Any]) -> int:
    """Bytes of those of `values` whose class says how many it holds; quick."""
    return sum([_measures[one.__class__](one) for one in values if one.__class__ in _measures])


class Origin(Struct, frozen=True, gc=False):
    """Where a task was spawned, and the bytes that it was given there."""

    space: Space
    nbytes: int


class Away(Protocol):
    """A value that was written to disk."""

    @property
    def has_parts(self) -> bool:
        """Whether parts of it can be read by themselves."""

    def __getitem__(self, key: Any) -> Any:
        """A copy of a part of the value: of an array slices, of a tuple an item."""

    def read(self) -> Any:
        """The value, as it was."""


# What stands for a value that is on disk.
AWAY: Any = type("Away", (), {"__repr__": lambda _: "<value on disk>"})()

# Guards the replacement of the values of finished tasks by what is placed, and `Placed.value` and
# `Placed.away`, where they are changed; no other lock is taken while it is held. Either may be
# read without it, as `Placed.at_home` does.
placing = threading.Lock()
if hasattr(os, "register_at_fork"):
    # So that nobody holds it in the child.
    os.register_at_fork(
        before=placing.acquire, after_in_parent=placing.release, after_in_child=placing.release
    )


class Placed:
    """The value of a task that may be in several places: its home, copies elsewhere, the disk.

    Copies are made when first asked for, by whichever thread asks, and kept; where two threads
    make one at once, one of them is kept. Only what is exclusively used is written to, at its
    home, and has no copies then.

    Where ``value`` is `AWAY`, ``away`` is the value on disk. Otherwise it is None: what is in
    memory may be written to, also by way of a view of it, and is then no longer what was on disk.
    """

    __slots__ = ("_copies", "away", "home", "nbytes", "value")

    def __init__(self, value: Any, home: Space) -> None:
        self.value = value
        self.away: Away | None = None
        self.home = home
        self.nbytes = nbytes_of(value)
        self._copies: dict[Space, Any] = {}

    def at_home(self) -> Any:
        """The value as it is in its home; read from disk if it is there."""
        while True:
            value = self.value
            if value is not AWAY:
                return value
            # None where it came back since.
            away = self.away
            if away is not None:
                return away.read()

    def at_home_or_away(self) -> Any:
        """The value as it is in its home, or what is there of it on disk."""
        value, away = self.value, self.away
        if value is not AWAY:
            return value
        return away if away is not None and away.has_parts else self.at_home()

    def send_away(self, away: Away) -> None:
        """Let go of the value, which was written; `placing` is held."""
        self.away = away
        self.value = AWAY
        self._copies = {}

    def here(self) -> Any:
        """The value as it is in the space of the calling code."""
        space = here.get()
        if space == self.home:
            return self.at_home()
        if space not in self._copies:
            value = brought(self.at_home(), self.home, space)
            return self._copies.setdefault(space, value)
        return self._copies[space]

    def taken(self) -> Any:
        """The value, which the calling code is about to write to, moved to its space."""
        space = here.get()
        if space != self.home:
            # What others were given there before shows what is written.
            self.value = self.here()
            self.home = space
        self._copies = {}
        return self.value

    def is_at(self, worker: int) -> bool:
        """Whether nothing is to be moved for a task on `worker`."""
        return self.home.worker == worker or any(one.worker == worker for one in self._copies)


def brought(value: Any, source: Space, destination: Space) -> Any:
    """`value`, which is in one space, as it is in another.

    Between workers everything is pickled and unpickled, but for handles. Between a device
    and its host the device's arrays become NumPy arrays, and the other way about.

    Raises
    ------
    TypeError
        For a value that cannot be pickled.
    """
    if source == destination:
        return value
    began = perf_counter_ns()
    # Bytes of the arrays that left a device, or came to one; nothing else moves on one worker.
    left: list[int] = []
    came: list[int] = []
    if source.kind != "host":
        cls, to_host, _ = _devices[source.kind]
        value = _changed(value, cls, _measuring(to_host, left))
    if source.worker != destination.worker:
        value = _unpickled(_pickled(value))
    if destination.kind != "host":
        value = _changed(value, _host_arrays, _measuring(_devices[destination.kind][2], came))
    if events.consumers:
        crosses = source.worker != destination.worker
        if crosses or left or came:
            nbytes = nbytes_of(value) if crosses else sum(came or left)
            now = perf_counter_ns()
            places = (str(source), str(destination))
            events.publish(events.ValueMoved(nbytes, *places, began, now, moves_for.get()))
    return _seal(value)


def packed(value: Any, source: Space) -> Message:
    """`value`, which is in a space, as it goes to another worker.

    Raises
    ------
    TypeError
        For a value that cannot be pickled.
    """
    if source.kind != "host":
        cls, to_host, _ = _devices[source.kind]
        value = _changed(value, cls, to_host)
    return _pickled(value)


def unpacked(message: Message, destination: Space) -> Any:
    """What `packed` packed, in a space of the worker that it came to."""
    value = _unpickled(message)
    if destination.kind != "host":
        value = _changed(value, _host_arrays, _devices[destination.kind][2])
    return _seal(value)


def _measuring(change: _Change, found: list[int]) -> _Change:
    """`change`, which also adds the bytes of what it gives to `found` where somebody listens."""
    if not events.consumers:
        return change

    def measured(value: Any) -> Any:
        changed = change(value)
        found.append(nbytes_of(changed))
        return changed

    return measured


def _changed(value: Any, cls: type, change: _Change) -> Any:
    """`value` with `change` made to every array of class `cls` in builtin containers."""
    if isinstance(value, cls):
        return change(value)
    if value.__class__ is dict:
        return {_changed(k, cls, change): _changed(v, cls, change) for k, v in value.items()}
    if value.__class__ in (list, tuple, set, frozenset):
        return value.__class__([_changed(item, cls, change) for item in value])
    rebuild = _containers.get(value.__class__)
    return value if rebuild is None else rebuild(value, lambda item: _changed(item, cls, change))


class Message(Struct, frozen=True):
    """What goes from one worker to another."""

    data: bytes
    # Copies of the buffers of arrays, which the arrays there use as their memory.
    buffers: list[bytearray]
    # What the data refers to by number.
    handles: list[Any]

    @property
    def nbytes(self) -> int:
        """Bytes that go."""
        return len(self.data) + sum(map(len, self.buffers))


def _pickled(value: Any) -> Message:
    file = io.BytesIO()
    buffers: list[Any] = []
    pickler = _pickling()[0](file, protocol=5, buffer_callback=buffers.append)
    handles: list[Any] = []
    pickler.handles = handles
    pickler.dump(value)
    return Message(file.getvalue(), [bytearray(one.raw()) for one in buffers], handles)


def _unpickled(message: Message) -> Any:
    unpickler = _pickling()[1](io.BytesIO(message.data), buffers=message.buffers)
    unpickler.handles = message.handles
    return unpickler.load()


@cache
def _pickling() -> tuple[Any, Any]:
    """The classes that pickle and unpickle; cloudpickle is not loaded before it is needed."""
    import pickle

    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        handles: list[Any]

        def persistent_id(self, item: Any) -> int | None:
            if type(item) not in _handles:
                return None
            self.handles.append(item)
            return len(self.handles) - 1

        def reducer_override(self, item: Any) -> Any:
            reduce = _reducers.get(type(item))
            reduced = NotImplemented if reduce is None else reduce(item)
            return super().reducer_override(item) if reduced is NotImplemented else reduced

    class Unpickler(pickle.Unpickler):
        handles: list[Any]

        def persistent_load(self, number: int) -> Any:
            return self.handles[number]

    return Pickler, Unpickler
