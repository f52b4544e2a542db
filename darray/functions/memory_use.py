"""What memory the package uses in this process, and for what."""

from __future__ import annotations

from msgspec import Struct

from darray.runtime import budget, limits, settings, spill_files
from darray.runtime.consumers.progress import bytes_text
from darray.runtime.devices.host_buffers import POOL

__all__ = ["MemoryUse", "memory"]


class MemoryUse(Struct, frozen=True):
    """Bytes in use at one moment; printed, a line for each.

    Attributes
    ----------
    arrays : int
        What large arrays take that the package made: results that were handed out, kept chunks,
        and those that tasks are at.
    reusable : int
        What earlier such arrays took, and the next ones will.
    reusable_limit : int
        The most that ``reusable`` may be now.
    running : int
        What the tasks that run said, or were predicted, to hold.
    results : int
        What finished tasks' results hold.
    spilled : int
        What is on disk of results, for which there was no room.
    limit : int
        The memory limit of this process.
    """

    arrays: int
    reusable: int
    reusable_limit: int
    running: int
    results: int
    spilled: int
    limit: int

    def __str__(self) -> str:
        lines = [
            ("arrays", self.arrays, ""),
            ("reusable", self.reusable, f" of at most {bytes_text(self.reusable_limit)}"),
            ("running", self.running, ""),
            ("results", self.results, ""),
            ("spilled", self.spilled, " on disk"),
            ("limit", self.limit, ""),
        ]
        return "\n".join(f"{name:<10}{bytes_text(nbytes)}{rest}" for name, nbytes, rest in lines)


def memory() -> MemoryUse:
    """What memory the package uses in this process.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> before = da.memory()
    >>> result = (da.ones(10**6, blocks=10**5) + 1).collect()
    >>> da.memory().arrays - before.arrays >= result.nbytes
    True
    """
    arrays, reusable = POOL.counted()
    found = budget.in_force()
    running, results = (0, 0) if found is None else found.counted()
    limit = limits.memory_limit(settings.current())
    spilled, _ = spill_files.counts()
    return MemoryUse(arrays, reusable, POOL.limit(), running, results, spilled, limit)
