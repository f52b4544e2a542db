"""DArrays as arguments of tasks: plain tasks are given snapshots, regions are given chunks."""

from __future__ import annotations

from typing import Any, NoReturn

from darray.handle import DArray
from darray.runtime import register_spans
from darray.runtime.arguments import register_frozen

__all__: list[str] = []


def _snapshot(array: DArray) -> DArray:
    """The array as it is now, read-only: what tasks are given, and give."""
    snapshot = DArray.of(array.expression)
    snapshot._writeable = False
    snapshot.is_scalar = array.is_scalar
    return snapshot


def _refuse(array: Any) -> NoReturn:
    raise TypeError(
        f"a task of a region takes chunks, not a whole DArray of shape {array.shape}: "
        "give A.blocks[i, j], or A.collect()"
    )


register_frozen(DArray, _snapshot, DArray.copy, _refuse, _snapshot)
register_spans(DArray, _refuse)
