"""Files for values that are written to disk for want of memory, and what becomes of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from queue import SimpleQueue

__all__ = ["Slot", "SpillFiles", "counts", "files_in", "has_values"]

# Slots begin at multiples of this.
PAGE = 4096

# Bytes that the system is asked to fetch at a time: of more it fetches but a beginning, which is
# as long as the largest transfer of the disk.
FETCHED = 1 << 17


class Slot:
    """A place in a file that holds one value; free for others once nobody has the slot.

    Made by `SpillFiles.store`.
    """

    __slots__ = ("_file", "_files", "_number", "nbytes")

    def __init__(self, files: SpillFiles, file: _File, number: int, nbytes: int) -> None:
        self._files = files
        self._file = file
        self._number = number
        self.nbytes = nbytes

    def read_into(self, buffer: memoryview, offset: int = 0, run: int = 0, stride: int = 0) -> None:
        """Fill `buffer` with the bytes from `offset` on, or with `run` of every `stride` of them.

        Raises
        ------
        RuntimeError
            In a forked child: the slot is its parent's, which may have written over it.
        OSError
            When the file cannot be read.
        """
        if self._files.process != os.getpid():
            raise RuntimeError(
                "a value that was spilled to disk is gone: it belongs to the process that this one "
                "was forked from; compute it again here, or before forking use it in memory"
            )
        position = self._number * self._file.capacity + offset
        number, preadv = self._file.number, os.preadv
        run = run or len(buffer) or 1
        for start in range(0, len(buffer), run):
            part = buffer[start : start + run]
            count = preadv(number, [part], position)
            if count != len(part):
                self._read_rest(part[count:], position + count)
            position += stride

    def read_ahead(self) -> None:
        """Ask the system to fetch the bytes from the disk, in its own time, if it has not got them.

        Its memory for files holds them then, which is no memory of this process. Where the system
        does not do that, they are read when they are needed, as ever.
        """
        if self._files.process != os.getpid() or not hasattr(os, "posix_fadvise"):
            return
        start = self._number * self._file.capacity
        end = start + self.nbytes
        # Nothing depends on it, so that no task may fail for it.
        with suppress(OSError):
            for position in range(start, end, FETCHED):
                count = min(FETCHED, end - position)
                os.posix_fadvise(self._file.number, position, count, os.POSIX_FADV_WILLNEED)

    def _read_rest(self, buffer: memoryview, position: int) -> None:
        """Fill `buffer` from there on, of which one call has given less."""
        while buffer:
            count = os.preadv(self._file.number, [buffer], position)
            if count == 0:
                raise OSError(
                    f"a spill file in {self._files.folder!r} ends before byte {position:,}: "
                    "something else than darray has changed it"
                )
            buffer = buffer[count:]
            position += count

    def __del__(self) -> None:
        # May run on any thread at any moment, also while that thread holds a lock: putting into
        # this queue takes none that could be held then. In a forked child nobody would read it.
        if not self._files.is_abandoned:
            self._files.returned.put((self._file, self._number))


class _File:
    """A file without a name, of slots of one capacity; deleted once nobody has this.

    Its fields are guarded by the lock of `SpillFiles`.
    """

    __slots__ = ("capacity", "count", "free", "number")

    def __init__(self, folder: str, capacity: int) -> None:
        # Not at the top: it takes milliseconds to import.
        import tempfile

        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix="darray-", buffering=0) as file:
            self.number = os.dup(file.fileno())
        self.capacity = capacity
        # Slots there are, and the numbers of those that hold nothing.
        self.count = 0
        self.free: list[int] = []

    def close(self) -> None:
        """Let go of the file, which nobody reads or writes any more."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        # There is none where the file could not be made.
        if hasattr(self, "number"):
            self.close()


class SpillFiles:
    """The spill files of this process in one folder: one file for each size class of values.

    The files have no name (they are unlinked as they are opened), so the system deletes them
    when the process ends, however it ends. A slot whose value is gone is written over by the
    next one of its class, since the system takes twice as long or more for a fresh part of a file.
    When no slot of a file is in use the file is let go of, which deletes it.

    Invariants, guarded by ``_lock`` and checked by `_check`
    --------------------------------------------------------
    * A slot number below ``count`` of a file in ``_open`` is either in ``free``, or in use: it
      is being written, is held by a `Slot`, or is in ``returned``.
    * ``used`` is the sum of the capacities of the slots in use.
    * A file in ``_open`` has a slot in use.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.process = os.getpid()
        # Whether this is a forked child's copy of what its parent has.
        self.is_abandoned = False
        # Slots that were let go of, by finalisers.
        self.returned: SimpleQueue[tuple[_File, int] | None] = SimpleQueue()
        # Guards `_open` and the fields of the files; taken last, never held while a file is
        # made, read, written or closed.
        self._lock = threading.Lock()
        self._open: dict[int, _File] = {}
        self.used = 0
        self._sweeper: threading.Thread | None = None

    def store(self, parts: Iterable[memoryview], nbytes: int) -> Slot:
        """Write `parts`, of `nbytes` bytes together, one after another.

        Raises
        ------
        OSError
            When the folder cannot be written to, or is full. What was written is gone then.
        ValueError
            When `parts` have another number of bytes than `nbytes`, or `nbytes` is none; before
            any is written that has no place in the slot.
        """
        if nbytes <= 0:
            raise ValueError(f"nothing can be stored in {nbytes!r} bytes; a slot has at least one")
        file, number = self._taken(nbytes)
        try:
            position = number * file.capacity
            end = position + nbytes
            for part in parts:
                rest = part
                if len(part) > end - position:
                    raise ValueError(
                        f"there are more bytes to be stored than the {nbytes:,} that a place was "
                        "asked for; ask for all of them"
                    )
                while rest:
                    count = os.pwrite(file.number, rest, position)
                    rest = rest[count:]
                    position += count
            if position < end:
                raise ValueError(
                    f"there are {end - position:,} bytes fewer to be stored than the {nbytes:,} "
                    "that a place was asked for; ask for as many as there are"
                )
        except BaseException:
            self.returned.put((file, number))
            raise
        return Slot(self, file, number, nbytes)

    def _taken(self, nbytes: int) -> tuple[_File, int]:
        """A slot for `nbytes` bytes: one that was used before, if there is one, else a new one."""
        capacity = capacity_for(nbytes)
        fresh = None
        while True:
            with self._lock:
                if self._sweeper is None:
                    sweeper = threading.Thread(target=self._sweep, name="darray-spill", daemon=True)
                    # Where that fails there is none, and no slot is taken.
                    sweeper.start()
                    self._sweeper = sweeper
                file = self._open.get(capacity)
                if file is None and fresh is not None:
                    file = self._open[capacity] = fresh
                if file is not None:
                    if file.free:
                        number = file.free.pop()
                    else:
                        number = file.count
                        file.count += 1
                    self.used += capacity
            if file is not None:
                return file, number
            fresh = _File(self.folder, capacity)

    def _sweep(self) -> None:
        """Make slots free again that were let go of, and close files of which none is in use."""
        while (returned := self.returned.get()) is not None:
            self._free(*returned)
            # It would keep the file open until the next one.
            del returned

    def _free(self, file: _File, number: int) -> None:
        with self._lock:
            file.free.append(number)
            self.used -= file.capacity
            # The caller's reference is the last one then.
            if len(file.free) == file.count:
                del self._open[file.capacity]

    def allocated(self) -> int:
        """Bytes of all slots, those in use and those that are free."""
        with self._lock:
            return sum(file.count * file.capacity for file in self._open.values())

    def settle(self) -> None:
        """Wait until all that was let go of is free, and files that nobody uses are deleted."""
        with self._lock:
            sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            self.returned.put(None)
            sweeper.join()
        while not self.returned.empty():
            returned = self.returned.get()
            if returned is not None:
                self._free(*returned)

    def abandon(self) -> None:
        """Let the parent's files go, in the child of a fork."""
        self.is_abandoned = True
        self._lock = threading.Lock()
        self.returned = SimpleQueue()
        # Slots that the child has lead to them, but none of these is ever read there.
        for file in self._open.values():
            file.close()
        self._open, self._sweeper = {}, None

    def _check(self) -> None:
        with self._lock:
            used = 0
            for capacity, file in self._open.items():
                assert file.capacity == capacity == capacity_for(capacity)
                assert len(set(file.free)) == len(file.free) < file.count
                assert all(0 <= number < file.count for number in file.free)
                used += (file.count - len(file.free)) * capacity
            assert used == self.used


def capacity_for(nbytes: int) -> int:
    """Bytes of the slots that values of `nbytes` bytes are put in: at most a quarter more.

    Examples
    --------
    >>> capacity_for(65_000), capacity_for(100_000), capacity_for(1_000_000)
    (65536, 114688, 1048576)
    """
    step = max(PAGE, (1 << (nbytes - 1).bit_length()) // 8)
    return -(-nbytes // step) * step


# The files of this process, by folder. Filled under `_lock`, which is taken last.
_files: dict[str, SpillFiles] = {}
_lock = threading.Lock()


def files_in(folder: str | None) -> SpillFiles:
    """The spill files in `folder`, by default in a folder of the system for temporary files."""
    path = os.path.abspath(default_folder() if folder is None else os.path.expanduser(folder))
    with _lock:
        if path not in _files:
            _files[path] = SpillFiles(path)
        return _files[path]


def counts() -> tuple[int, int]:
    """Bytes of the values that are on disk now, and of the files that they are in.

    Examples
    --------
    >>> used, allocated = counts()
    >>> 0 <= used <= allocated
    True
    """
    with _lock:
        every = list(_files.values())
    return sum(one.used for one in every), sum(one.allocated() for one in every)


def has_values() -> bool:
    """Whether any value is on disk, seen in passing, without a lock."""
    return any([one.used for one in list(_files.values())])


@cache
def default_folder() -> str:
    """The system's folder for temporary files, or another one where that is in memory itself."""
    import tempfile

    folder = tempfile.gettempdir()
    other = "/var/tmp"
    if _is_in_memory(folder) and os.access(other, os.W_OK) and not _is_in_memory(other):
        return other
    return folder


def _is_in_memory(folder: str) -> bool:
    """Whether what is written to `folder` stays in memory, as far as the system tells."""
    try:
        with open("/proc/self/mounts") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return False
    path = os.path.realpath(folder)
    holding = [
        (len(place), kind) for place, kind in mounts if os.path.commonpath([path, place]) == place
    ]
    return max(holding, default=(0, ""))[1] in ("tmpfs", "ramfs")


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for files in _files.values():
        files.abandon()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
