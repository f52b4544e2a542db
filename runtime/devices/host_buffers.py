"""Memory of large arrays, kept for the next ones: its pages are touched, and need not be again.

The first write to a page that the system has just given costs up to ten times the arithmetic
which fills it. So the memory of an array from `empty` is not given back when the array dies,
but lent to the next one of about that size.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import mmap
import operator
import os
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray.runtime import limits, settings
from darray.runtime.budget import in_force, makers_of_room
from darray.runtime.timers import Timer, Timers

__all__ = ["POOL", "Buffer", "Lease", "Pool", "empty", "is_own", "rounded"]

Found = TypeVar("Found")

# Arrays of fewer bytes come from NumPy, whose allocator keeps their memory warm by itself.
SMALLEST = 2**16

# Buffers from here on lie on huge pages, of which the system has some: a fault for each 2 MiB.
LARGE = 2**22
HUGE_PAGE = 2**21

# The share of the memory limit that buffers may take while no array uses them.
KEPT_SHARE = 4

# The share of what tasks may hold that buffers take beside them at most when they hold all of it:
# without any, each task would begin with new pages.
WARM_SHARE = 16

# Each buffer may cost the process one of the mappings that the system allows it, 65,530 on Linux.
MOST_BUFFERS = 2**14

# Seconds after which a buffer that no array has used goes back to the system; twice that at most.
IDLE = 5.0

# So many buffers may be returned before they are looked at, each of this share of what may be
# kept: together a quarter more than that.
FEW = 16
SMALL_SHARE = 64


def rounded(nbytes: int) -> int:
    """Bytes of the buffer for `nbytes`: eight sizes to a power of two, in whole pages.

    Examples
    --------
    >>> rounded(2**20), rounded(2**20 + 1), rounded(320_000_000) / 320_000_000 < 1.125
    (1048576, 1179648, True)
    """
    shift = (nbytes - 1).bit_length() - 4
    if shift < 12:
        shift = 12
    return -(-nbytes >> shift) << shift


class Buffer:
    """Memory from the system, of one of the sizes; given back when the last reference goes."""

    __slots__ = ("_changes", "address", "lease", "mapping", "nbytes")

    def __init__(self, nbytes: int, lease: Any, changes: deque[int]) -> None:
        is_large = nbytes >= LARGE
        # Untouched, what lies before the first whole huge page takes no memory.
        self.mapping = _mapped(nbytes + HUGE_PAGE if is_large else nbytes)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping))
        self.address = start
        self.nbytes = nbytes
        if is_large:
            self.address = -(-start // HUGE_PAGE) * HUGE_PAGE
            advice = getattr(mmap, "MADV_HUGEPAGE", None)
            if advice is not None:
                # A system without huge pages refuses, and gives small ones.
                with contextlib.suppress(OSError):
                    self.mapping.madvise(advice, self.address - start, nbytes)
        self.lease = lease
        # Both or neither, but for an interrupt at this very moment.
        self._changes = changes
        changes.append(nbytes)

    def __del__(self) -> None:
        # Nothing is called before: an interrupt comes after the word is left, or, which nobody
        # can prevent, at the very beginning. The buffer counts as used from then on.
        try:
            self._changes.append(-self.nbytes)
        except AttributeError:
            # The system had no memory for it.
            return


def _mapped(nbytes: int) -> mmap.mmap:
    """Zeroed memory of this process alone; in a child of a fork, a copy of it."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, nbytes)


class Lease:
    """What an array holds while it uses a buffer: the owner of its memory, which NumPy keeps.

    Views of the array keep the array, so a lease ends when the last of them dies. Subclasses
    are arrays of ctypes, whose bytes are the buffer's.
    """

    __slots__ = ()
    buffer: Buffer


def _lease_of(nbytes: int, pool: Pool) -> Any:
    """The class of the leases of the buffers of `pool` that have `nbytes`."""
    returned, few = pool._returned, FEW

    def end(lease: Lease) -> None:
        # A finaliser: it may run at any moment on any thread, also when modules are gone.
        try:
            buffer = lease.buffer
        except AttributeError:
            # An interrupt came before it was set, and the buffer died with what was interrupted.
            return
        if pool.is_closed:
            return
        returned.append(buffer)
        if buffer.nbytes > pool.small or len(returned) > few:
            pool.settle()

    names = {"__slots__": ("buffer",), "__del__": end, "__module__": __name__}
    return type("Lease", (Lease, ctypes.c_char * nbytes), names)


class _Size:
    """The buffers of one size that no array uses, the one returned last at the end."""

    __slots__ = ("free", "idle", "lease", "nbytes")

    def __init__(self, nbytes: int, lease: Any) -> None:
        self.nbytes = nbytes
        self.free: deque[Buffer] = deque()
        # The least number of free ones since the last look: the oldest that many were not used.
        self.idle = 0
        self.lease = lease


class Pool:
    """Buffers that arrays use, and those kept for the next ones.

    Invariants
    ----------
    * A buffer is lent to one lease, or returned, or free: never two of these, nor twice one.
    * ``mapped`` is the bytes of all of them, but for the changes that were not looked at yet.
    * ``kept`` is the bytes of the free ones: after each look at what was returned, no more than
      the limit was then. What was returned since is at most a quarter of the limit.
    """

    def __init__(self, limit: Callable[[], int], idle: float = IDLE) -> None:
        # Guards the sizes, `kept` and `mapped`; taken last, and no call but to the objects here
        # is made under it, nor is memory given back. Finalisers may run on a thread that holds
        # it: a lease's only tries to take it, and whoever held it looks for what was left; one
        # of the user's that makes arrays does without the pool.
        self._lock = threading.Lock()
        # The thread that holds the lock, 0 for none: set and cleared while it is held.
        self._holder = 0
        self._sizes: dict[int, _Size] = {}
        self._returned: deque[Buffer] = deque()
        # Bytes of each buffer that came, or less than none, that went.
        self._changes: deque[int] = deque()
        self._limit = limit
        self._seconds = idle
        self.kept = 0
        self.mapped = 0
        self._buffers = 0
        self.small = 0
        self._timers = Timers("darray-buffers")
        self._timer: Timer | None = None
        self.is_closed = False

    def lend(self, nbytes: int) -> Any:
        """A lease of a buffer of at least `nbytes`; None where the system has none.

        Its memory holds whatever the last user left there.
        """
        # As in `rounded`; a call takes time.
        shift = (nbytes - 1).bit_length() - 4
        if shift < 12:
            shift = 12
        nbytes = -(-nbytes >> shift) << shift
        returned = self._returned
        buffer = None
        if returned:
            # The one returned last is likely the one: no lock is needed to take it.
            try:
                buffer = returned.pop()
            except IndexError:
                # Another thread was faster.
                buffer = None
            if buffer is not None and buffer.nbytes != nbytes:
                returned.append(buffer)
                buffer = None
        if buffer is None:
            buffer = self._kept_one(nbytes) or self._new(nbytes)
            if buffer is None:
                return None
        lease = buffer.lease.from_address(buffer.address)
        lease.buffer = buffer
        return lease

    def _alone(self, work: Callable[[int], Found]) -> Found | None:
        """What ``work(limit)`` gives, made under the lock; None where this thread holds it.

        That is in a finaliser which the collector ran while something was made under the lock.
        What is let go of must be part of what `work` gives: memory is given back unlocked.
        """
        me = get_ident()
        if self._holder == me:
            return None
        limit = self._limit()
        # Ctrl-C, and the collector, come only after a call: there is none between the lock's
        # acquisition and its holder's name, nor between the name's end and the release.
        with self._lock:
            self._holder = me
            try:
                found = work(limit)
            finally:
                self._holder = 0
        self.settle()
        return found

    def _kept_one(self, nbytes: int) -> Buffer | None:
        """A free buffer of exactly `nbytes`, if there is one."""

        def take(limit: int) -> tuple[Buffer | None, list[Buffer]]:
            dropped = self._take_back(limit)
            size = self._sizes.get(nbytes)
            if size is None or not size.free:
                return None, dropped
            left = len(size.free) - 1
            self.kept -= nbytes
            if size.idle > left:
                size.idle = left
            return size.free.pop(), dropped

        found = self._alone(take)
        return None if found is None else found[0]

    def trim(self, nbytes: int | None = None) -> int:
        """Give at least `nbytes` of what is kept back to the system, or all; how much it was.

        What is more than the limit goes as well, and is not counted. In a finaliser that runs
        on a thread which uses the pool just then, nothing goes.
        """

        def take(limit: int) -> tuple[int, list[Buffer]]:
            dropped = self._take_back(limit)
            before = self.kept
            dropped += self._cut(0 if nbytes is None else max(0, before - nbytes))
            return before - self.kept, dropped

        found = self._alone(take)
        return 0 if found is None else found[0]

    def make_room(self) -> None:
        """Keep no more than the limit, which may be lower than when buffers were returned."""
        if self.kept > self._limit():
            self.trim(0)

    def counted(self) -> tuple[int, int]:
        """Bytes of buffers that arrays use, and of those kept."""

        def take(limit: int) -> tuple[int, int, list[Buffer]]:
            dropped = self._take_back(limit)
            return self.mapped - self.kept, self.kept, dropped

        found = self._alone(take)
        if found is None:
            # As they were when this thread began to change them, or nearly.
            return self.mapped - self.kept, self.kept
        return found[:2]

    def limit(self) -> int:
        """Bytes that may be kept."""
        return self._limit()

    def settle(self) -> None:
        """Take back what was returned, unless another thread, or this one, is just at it."""
        while self._returned:
            me, limit, lock = get_ident(), self._limit(), self._lock
            dropped: list[Buffer] = []
            is_held: list[bool] = []
            try:
                # A signal's handler, Ctrl-C's above all, may raise when a call has returned.
                # So what the acquisition gave is stored before the call that it is part of does.
                is_held.extend(map(lock.acquire, (False,)))
                if not is_held[0]:
                    return
                self._holder = me
                dropped = self._take_back(limit)
            finally:
                if is_held and is_held[0]:
                    self._holder = 0
                    lock.release()
            dropped.clear()

    def close(self) -> None:
        """Keep nothing from now on, since the interpreter ends; arrays live on as they are."""
        self.is_closed = True
        self.trim()
        timer = self._timer
        if timer is not None:
            timer.cancel()

    def after_fork(self) -> None:
        """Go on in a child, whose pages are its own once written; other threads are not there."""
        self._lock = threading.Lock()
        self._holder = 0
        self._timers = Timers("darray-buffers")
        self._timer = None

    def _take_back(self, limit: int) -> list[Buffer]:
        """Put what was returned with the free ones; those too many, to be let go of unlocked.

        An interrupt may come after each call, here as in `_cut`, so numbers change before the
        call that makes them true: what was on its way then goes back to the system.
        """
        returned, changes, sizes = self._returned, self._changes, self._sizes
        while returned:
            try:
                buffer = returned.popleft()
            except IndexError:
                # It was lent meanwhile.
                break
            self.kept += buffer.nbytes
            sizes[buffer.nbytes].free.append(buffer)
        while changes:
            change = changes[0]
            self.mapped += change
            self._buffers += 1 if change > 0 else -1
            changes.popleft()
        self.small = limit // SMALL_SHARE
        return self._cut(limit) if self.kept > limit else []

    def _cut(self, limit: int) -> list[Buffer]:
        """Remove free buffers until `limit` bytes are kept: idle ones first, then large ones."""
        dropped: list[Buffer] = []
        sizes = sorted(self._sizes.values(), key=lambda one: -one.nbytes)
        for only_idle in (True, False):
            for size in sizes:
                while self.kept > limit and (size.idle if only_idle else size.free):
                    self.kept -= size.nbytes
                    if size.idle:
                        size.idle -= 1
                    dropped.append(size.free.popleft())
        return dropped

    def _new(self, nbytes: int) -> Buffer | None:
        """A buffer from the system, if it has one."""
        known = self._sizes.get(nbytes)
        # Made without the lock: the collector may run meanwhile.
        made = _Size(nbytes, _lease_of(nbytes, self)) if known is None else known

        def sized(_: int) -> _Size | None:
            return None if self._buffers >= MOST_BUFFERS else self._sizes.setdefault(nbytes, made)

        size = self._alone(sized)
        if size is None:
            return None
        try:
            buffer = Buffer(nbytes, size.lease, self._changes)
        except OSError:
            # No memory, or no mapping more: NumPy's allocator says so in its own words.
            self.trim()
            return None
        self._watch()
        return buffer

    def _watch(self) -> None:
        """See to it that buffers which nobody uses are looked for."""
        if self._timer is None and not self.is_closed:
            # Two threads may both do so, once.
            self._timer = self._timers.call_later(self._seconds, self._look)

    def _look(self) -> None:
        """Give back the buffers that were free since the last look."""
        # First of all: whoever has a new buffer from now on sees to the next look.
        self._timer = None

        def take(limit: int) -> tuple[bool, list[Buffer]]:
            dropped = self._take_back(limit)
            for size in self._sizes.values():
                dropped += [size.free.popleft() for _ in range(size.idle)]
                size.idle = len(size.free)
            self.kept = sum(size.nbytes * len(size.free) for size in self._sizes.values())
            return self.mapped > sum(one.nbytes for one in dropped), dropped

        found = self._alone(take)
        if found is None or found[0]:
            self._watch()

    def _check(self) -> None:
        def check(limit: int) -> list[Buffer]:
            dropped = self._take_back(limit)
            free = [buffer for size in self._sizes.values() for buffer in size.free]
            assert len({buffer.address for buffer in free}) == len(free), "a buffer is free twice"
            assert self.kept == sum(buffer.nbytes for buffer in free)
            assert self.kept <= limit
            assert self.kept <= self.mapped
            for nbytes, size in self._sizes.items():
                assert all(buffer.nbytes == nbytes == size.nbytes for buffer in size.free)
                assert 0 <= size.idle <= len(size.free)
            return dropped

        self._alone(check)
        assert self._holder != get_ident()


# The settings that `_share` was asked under, and its answer.
_known: tuple[object, int] = (None, 0)


def _share() -> int:
    """Bytes that may be kept: a share of the memory limit, and no more than tasks leave."""
    global _known
    now = settings.current()
    known, found = _known
    if known is not now:
        found = limits.memory_limit(now) // KEPT_SHARE
        _known = now, found
    budget = in_force()
    if budget is None:
        return found
    left = budget.limit - budget.running - budget.held
    return min(found, max(left, budget.limit // WARM_SHARE))


# That of this process.
POOL = Pool(_share)
atexit.register(POOL.close)
makers_of_room.append(POOL.make_room)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.after_fork)


def empty(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """An array whose elements are whatever its memory held, as `numpy.empty` makes it.

    Large ones use memory again that earlier ones had. It goes back when the last array that
    views it dies. Such an array does not own its memory: ``a.base`` is a `Lease`, and
    ``a.resize`` refuses.

    Raises
    ------
    MemoryError, TypeError, ValueError
        As NumPy raises them.

    Examples
    --------
    >>> a = empty((512, 512))
    >>> a.shape, a.dtype, a.flags.c_contiguous, is_own(a), is_own(a[1:])
    ((512, 512), dtype('float64'), True, True, False)
    """
    kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    lengths = shape if isinstance(shape, tuple) else (shape,)
    nbytes = kind.itemsize * math.prod(lengths)
    if type(nbytes) is not int:
        # A product of NumPy's integers may have overflowed.
        nbytes = kind.itemsize * math.prod(map(operator.index, lengths))
    if nbytes < SMALLEST or kind.hasobject:
        return np.empty(shape, kind, order)
    lease = POOL.lend(nbytes)
    if lease is None:
        return np.empty(shape, kind, order)
    return np.ndarray(shape, kind, lease, 0, None, order)


def is_own(array: NDArray[Any]) -> bool:
    """Whether an array keeps no memory but that of its own elements, and nothing else views it.

    So it is for an array that owns its memory, and for one from `empty`.

    Examples
    --------
    >>> is_own(np.zeros(3)), is_own(np.zeros(3)[1:])
    (True, False)
    """
    base = array.base
    return base is None or isinstance(base, Lease)
