"""Processors: what can run a task."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Processor"]


@dataclass(frozen=True, slots=True)
class Processor:
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
