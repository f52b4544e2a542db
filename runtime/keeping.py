"""Keeping: what becomes of a task that uses values in place, mutables or shards."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from darray.runtime.arguments import Unsealed, Use, copied
from darray.runtime.contexts import DEFAULT, Options
from darray.runtime.pieces import Pieces
from darray.runtime.scopes import Scope
from darray.runtime.tasks import Task
from darray.runtime.turns import READING, Line

__all__ = ["copy_of", "options_at", "options_for", "stand_in_line"]


def options_for(options: Options | None, uses: Iterable[Use]) -> Options:
    """The options of a task with these `uses`: nobody else is given what it uses while it runs."""
    base = options or DEFAULT
    if base.retries and any(use.writes for use in uses):
        raise ValueError(
            "a task that writes to what it uses in place cannot be called again after a failure: "
            "leave retries= out, or annotate the argument as da.In(...)"
        )
    given = base.given | {"keeps"}
    if base.own:
        return replace(base, keeps=True, given=given)
    return replace(base, keeps=True, given=given, own=True, outer=options)


def options_at(options: Options | None, home: Scope | None) -> Options:
    """`options` for a task that looks at a value where it stays."""
    return replace(options or DEFAULT, own=True, outer=options, scope=home, compute_scope=None)


def stand_in_line(task: Task[Any], uses: Iterable[Use], region: object = None) -> None:
    """Note on `task`, which is to be submitted, the lines and pieces of what it uses in place.

    A `region` orders its own tasks itself.
    """
    lines: dict[Line, object] = {}
    pieces: dict[Pieces, bool] = {}
    for use in uses:
        line, shard = use.kept.line, use.kept.pieces
        if shard is not None:
            pieces[shard] = use.writes or pieces.get(shard, False)
        if line is None:
            continue
        share = READING if region is None and not use.writes else region
        if line not in lines or lines[line] is not None:
            lines[line] = share
    if lines:
        task._uses = lines
    if pieces:
        task._pieces = pieces


def copy_of(value: Any) -> Unsealed:
    """A copy of what a task uses in place, to be handed out as it is."""
    held = copied(value)
    if held is not value and not isinstance(value, list | tuple | dict | set | frozenset):
        return Unsealed(held)
    try:
        return Unsealed(copy.deepcopy(value))
    except Exception as error:
        error.add_note(
            f"fetching a mutable copies its value, and a {type(value).__name__} could not be "
            "copied; look at it in a task: da.spawn(function, da.In(mutable))"
        )
        raise
