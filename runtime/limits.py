"""What this process may use: processors, memory, and threads of numerical libraries."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from darray.runtime.settings import Settings

__all__ = [
    "POOLS",
    "ThreadPools",
    "available_memory",
    "fix_task_memory",
    "memory_limit",
    "processor_count",
    "task_memory",
    "trim",
]

# The share of the memory it may use that a process takes unless told otherwise.
DEFAULT_SHARE = 0.6

_CGROUP = Path("/sys/fs/cgroup")


def processor_count() -> int:
    """Processors that this process may run on, its control group's quota counted.

    Examples
    --------
    >>> processor_count() >= 1
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _first_line(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        count = min(count or 1, max(1, round(int(quota[0]) / int(quota[1]))))
    return count or 1


@cache
def available_memory() -> int:
    """Bytes that this process may use, found once: the machine's or its control group's."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _first_line(_CGROUP / name)
        if text.isdigit():
            total = min(total, int(text))
    return total


def memory_limit(settings: Settings) -> int:
    """Bytes that this process may hold."""
    return settings.memory_limit or int(available_memory() * DEFAULT_SHARE)


def task_memory(settings: Settings) -> int:
    """Bytes that tasks may hold: the limit less the interpreter's and libraries' own memory.

    That is taken as what is resident now, but never as more than 128 MiB, since arrays
    that the caller holds are resident as well and do not count. While an engine runs it is
    what it was when the engine started: what tasks hold is resident since.
    """
    if _fixed is not None:
        return _fixed
    own = min(int(_process(os.getpid()).memory_info().rss), 128 * 2**20)
    return max(1, memory_limit(settings) - own)


# What `task_memory` gives while an engine runs.
_fixed: int | None = None


def fix_task_memory(settings: Settings | None) -> None:
    """Let `task_memory` give what it gives now, until it is called with None."""
    global _fixed
    _fixed = None
    _fixed = None if settings is None else task_memory(settings)


def trim() -> None:
    """Give memory that was freed back to the system, where the C library keeps it."""
    function = _trimming()
    if function is not None:
        function(0)


@cache
def _trimming() -> Any:
    """The C library's function for that; None where it has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


@cache
def _process(number: int) -> Any:
    """What tells of this process; making it costs four times what asking it does."""
    import psutil

    return psutil.Process(number)


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except OSError:
        # No such control group: nothing is limited there.
        return ""


class ThreadPools:
    """The thread pools of BLAS libraries, held to one thread while anyone asks for it.

    Two tasks that each use every core through BLAS slow each other down a hundredfold, and
    a product of matrices has other bits for every number of threads.
    The setting is the whole process's: while any task runs, BLAS calls elsewhere in the
    process use one thread too. Only pools of OpenMP are each thread's own; a thread that
    runs tasks holds them to one for itself, with `restrict_own`.
    """

    def __init__(self) -> None:
        # Guards all but `version`; taken last, held for a few operations.
        self._lock = threading.Lock()
        # What tells and what sets the size of each shared pool, by the library's file.
        self._shared: dict[str, tuple[Callable[[], int], Callable[[int], object]]] = {}
        self._own: list[Any] = []
        self._before: dict[str, int] = {}
        self._modules = 0
        self._holders: set[object] = set()
        # Counts the changes of what `restrict_own` sets.
        self.version = 0

    def restrict(self, holder: object) -> None:
        """Hold every shared pool to one thread until `holder`, and all others, let go."""
        with self._lock:
            if len(sys.modules) != self._modules:
                # A library loaded since, SciPy's say, brings pools of its own.
                self._find()
            if not self._holders:
                self._before = {}
            self._holders.add(holder)
            for file, (count, resize) in self._shared.items():
                if file not in self._before:
                    self._before[file] = count()
                resize(1)

    def release(self, holder: object) -> None:
        """Give every shared pool the threads it had, unless another holder is left."""
        with self._lock:
            self._holders.discard(holder)
            if not self._holders:
                for file, before in self._before.items():
                    self._shared[file][1](before)
                self._before = {}

    @contextmanager
    def restricted(self) -> Iterator[None]:
        """Hold every pool to one thread in a block, those of the calling thread included."""
        holder = object()
        before: list[tuple[Any, int]] = []
        try:
            self.restrict(holder)
            before += [(library, library.get_num_threads()) for library in self._own]
            self.restrict_own()
            yield
        finally:
            for library, count in before:
                library.set_num_threads(count)
            self.release(holder)

    def restrict_own(self) -> None:
        """Hold the calling thread's own pools to one thread, for good."""
        for library in self._own:
            library.set_num_threads(1)

    def forget_holders(self) -> None:
        """Let every pool go: this is a child of a fork, and has none of the holders."""
        self._lock = threading.Lock()
        for file, before in self._before.items():
            self._shared[file][1](before)
        self._holders, self._before = set(), {}

    def _find(self) -> None:
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="blas").lib_controllers
        own = [one for one in found if getattr(one, "threading_layer", "") == "openmp"]
        for one in found:
            if one not in own and one.filepath not in self._shared and (one.num_threads or 1) > 1:
                self._shared[one.filepath] = _resizer(one)
        if len(own) != len(self._own):
            self.version += 1
            self._own = own
        self._modules = len(sys.modules)


# Those of this process, which every engine shares.
POOLS = ThreadPools()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOLS.forget_holders)


def _resizer(library: Any) -> tuple[Callable[[], int], Callable[[int], object]]:
    """What tells and what sets the number of threads of a BLAS library's shared pool.

    For OpenBLAS these are the library's own functions: threadpoolctl lets only the first
    thread that set the number change it again, and the threads that begin and end tasks
    differ. They are called without letting go of the interpreter, since that costs a
    switch of threads at every change from idle to busy.
    """
    if library.internal_api == "openblas":
        loaded = ctypes.PyDLL(library.filepath)
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64")):
            name = f"{prefix}openblas_{{}}_num_threads{suffix}"
            if hasattr(loaded, name.format("get")):
                return getattr(loaded, name.format("get")), getattr(loaded, name.format("set"))
    return library.get_num_threads, library.set_num_threads
