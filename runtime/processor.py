"""Processors: what can run a task."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Processor"]


class Processor(Struct, frozen=True, gc=False):
    """One thing that runs one task at a time.

    Processors are plain values: two that are equal are the same processor.

    Examples
    --------
    >>> Processor(worker=0, kind="cpu", index=1)
    Processor(worker=0, kind='cpu', index=1)
    """

    worker: int
    kind: str
    index: int
