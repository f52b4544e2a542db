"""Joining partial results: in a tree whose shape depends on the cut alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

from darray.kernels.reducing import Reducer
from darray.kernels.warnings_ledger import Ledger
from darray.lowering.calls import Combine
from darray.lowering.plans import Draft, Index, Key, Need

__all__ = ["fan_in_of", "joined"]

# Partial results that one task joins. Powers of two: whatever number a task is given, it joins
# neighbours first, so that the result, to the bit, does not depend on which.
FAN_IN = 8

# The same where each takes few bytes: a task costs more than joining them.
SMALL, FAN_IN_OF_SMALL = 2**12, 32

# One by one: how those are joined of which only few are to be held.
FAN_IN_OF_THIN = 2

# What gives a partial result, or several of which one is meant.
Given: TypeAlias = tuple[Need, int | None]


def fan_in_of(nbytes: int, is_thin: bool) -> int:
    """How many partial results of `nbytes` one task joins; they are in the way if `is_thin`.

    Examples
    --------
    >>> fan_in_of(16, False), fan_in_of(2**20, False), fan_in_of(2**20, True)
    (32, 8, 2)
    """
    if is_thin:
        return FAN_IN_OF_THIN
    return FAN_IN_OF_SMALL if nbytes <= SMALL else FAN_IN


def joined(
    node: Any,
    index: Index,
    given: Sequence[Sequence[Given]],
    reducer: Reducer,
    ledger: Ledger,
    fan_in: int,
) -> list[Draft]:
    """The joins of all that is `given` for one chunk of `node`, its last join last.

    Where several are given together they are joined first. A tree; with the least `fan_in` those
    after the first two are joined one after another.
    """
    drafts: list[Draft] = []
    level: list[Given] = []
    key: Key
    for number, some in enumerate(given):
        if len(some) == 1 or len(given) == 1:
            level += some
            continue
        key = (node, (index, "together", number))
        call = Combine(reducer, tuple([pick for _, pick in some]), False, ledger)
        drafts.append(Draft(key, call, [need for need, _ in some]))
        level.append((key, None))
    is_thin = fan_in == FAN_IN_OF_THIN
    for step in itertools.count():
        is_last = len(level) <= fan_in
        following: list[Given] = []
        for start in range(0, fan_in if is_thin else len(level), fan_in):
            key = (node, index) if is_last else (node, (index, step, start))
            some = level[start : start + fan_in]
            call = Combine(reducer, tuple([pick for _, pick in some]), is_last, ledger)
            drafts.append(Draft(key, call, [need for need, _ in some]))
            following.append((key, None))
        if is_last:
            break
        level = [*following, *level[fan_in:]] if is_thin else following
    return drafts
