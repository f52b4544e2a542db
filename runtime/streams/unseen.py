"""What an error, or a cancel, kept tasks from seeing: counted, and told in the exceptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from darray.runtime.errors import Failure
from darray.runtime.streams.edges import Edge
from darray.runtime.tasks import Task

__all__ = ["note_dropped", "unseen"]


def note_dropped(failure: Failure, task: Task[Any], dropped: int) -> None:
    """Tell of values that a failure keeps a task from seeing, or using, if there are any."""
    if dropped:
        failure.exception.add_note(
            f"{dropped} value(s) that streaming task {task.name!r} had been sent were dropped"
        )


def unseen(
    edges: Iterable[Edge], sendings: Mapping[Edge, Edge], lost: Iterable[tuple[str, int]]
) -> str:
    """How many values no task saw, by edge, in words; all tasks have ended.

    `sendings` are the producers' ends of the edges between workers. What a policy drops is not
    counted. What batches, windows and joins held is told as `lost`: a name and a number each.
    """
    counts = [f"held by {name}: {count:,}" for name, count in lost if count]
    for edge in edges:
        sending = sendings.get(edge)
        count = edge.dropped + len(edge.items) + (0 if sending is None else sending.dropped)
        if count and not edge.policy.drops:
            counts.append(f"{edge.names[0]} -> {edge.names[1]}: {count:,}")
    return ", ".join(counts)
