"""A trace as columns, one row an event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from darray.runtime.consumers.trace_history import failure_text
from darray.runtime.events import Event

__all__ = ["arrow", "columns"]

# What stands in an event as it stands in the table.
_PLAIN = ("task", "name", "memory", "spawned_at", "tasks", "nbytes", "source", "destination")
# The columns and their types in Arrow; `time` and `began` are in ns since the trace began.
_TYPES = {
    "event": "string",
    "time": "int64",
    "began": "int64",
    "task": "int64",
    "name": "string",
    "worker": "int64",
    "kind": "string",
    "index": "int64",
    "needs": "list",
    "memory": "int64",
    "spawned_at": "string",
    "failure": "string",
    "tasks": "int64",
    "nbytes": "int64",
    "source": "string",
    "destination": "string",
}


def columns(events: Iterable[Event], begin: int) -> dict[str, list[Any]]:
    """One list a column, with None where an event has no such thing."""
    found: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for event in events:
        row = _row(event, begin)
        for name, column in found.items():
            column.append(row.get(name))
    return found


def _row(event: Event, begin: int) -> dict[str, Any]:
    row = {name: getattr(event, name, None) for name in _PLAIN}
    row["event"] = type(event).__name__
    for name in ("time", "began"):
        time = getattr(event, name, None)
        row[name] = None if time is None else time - begin
    processor = getattr(event, "processor", None)
    if processor is not None:
        row |= {"worker": processor.worker, "kind": processor.kind, "index": processor.index}
    needs = getattr(event, "needs", None)
    row["needs"] = None if needs is None else list(needs)
    exception = getattr(event, "exception", None)
    row["failure"] = None if exception is None else failure_text(exception)
    return row


def arrow(found: dict[str, list[Any]]) -> Any:
    """The columns as a `pyarrow.Table`."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "events(kind='arrow') makes a table of pyarrow, which is not installed: "
            "pip install 'darray[arrow]', or take the columns of events()"
        ) from error
    types = {
        "string": pyarrow.string(),
        "int64": pyarrow.int64(),
        "list": pyarrow.list_(pyarrow.int64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in _TYPES.items()])
    return pyarrow.table(found, schema=schema)
