"""Advancing: which arrays that statements changed are computed along with what is wanted.

A loop that changes several arrays, and asks for a number in each round, would otherwise compute
the pending steps of all rounds so far in each round anew.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import force_setattr

from darray.expr.nodes import Expression, View

__all__ = ["Changing", "measure_depth", "note", "sharing"]

# A view of less than one of so many elements says nothing of what it looks at as a whole.
PART = 2


class Changing(Protocol):
    """What holds an array that statements change: ``expression`` is what it is at present."""

    expression: Expression


# The arrays that were ever changed, by identity, and those of them that were collected.
_changed: dict[int, weakref.ref[Changing]] = {}
_collected: set[int] = set()


def note(array: Changing) -> None:
    """Note that a statement changed `array`."""
    key = id(array)
    if key not in _changed:
        _changed[key] = weakref.ref(array, partial(_forget, key))


def _forget(key: int, _: object) -> None:
    _changed.pop(key, None)
    _collected.discard(key)


def sharing(
    nodes: Sequence[Expression], through_parts: bool = False, collects: bool = False
) -> list[Changing]:
    """The changed arrays that take pending steps which `nodes` take too.

    Parameters
    ----------
    through_parts
        Whether what is behind a view of a small part counts: to compute the part may take few
        of the steps.
    collects
        Whether `nodes` are to be collected. An array that is collected itself, for the first
        time, is left out: it may well be the last time.
    """
    # A copy, since other threads may add to it.
    arrays = [(key, reference()) for key, reference in _changed.copy().items()]
    pending = [(key, one) for key, one in arrays if one is not None and _is_pending(one.expression)]
    if not pending:
        return []
    wanted = {id(step) for step in _steps(nodes, through_parts)}
    found = []
    for key, array in pending:
        node = array.expression
        if collects and node in nodes and key not in _collected:
            _collected.add(key)
        elif any(id(step) in wanted for step in _steps([node], through_parts)):
            found.append(array)
    return found


def measure_depth(node: Expression) -> None:
    """Bring the depths of `node` and its steps up to date with what was computed since."""
    seen: set[int] = set()
    pending = [(node, False)]
    while pending:
        one, is_next = pending.pop()
        if is_next:
            depth = max(0 if below.kept is not None else below.depth for below in one.operands)
            force_setattr(one, "depth", depth + one.weight)
        elif id(one) not in seen and _is_pending(one):
            seen.add(id(one))
            pending.append((one, True))
            pending.extend((below, False) for below in one.operands)


def _steps(nodes: Sequence[Expression], through_parts: bool) -> Iterator[Expression]:
    """The steps that are pending for `nodes`, each once, from the last to the first."""
    seen: set[int] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if id(node) in seen or not _is_pending(node):
            continue
        seen.add(id(node))
        if through_parts or not _is_part(node):
            yield node
            pending.extend(node.operands)


def _is_pending(node: Expression) -> bool:
    return node.kept is None and bool(node.operands)


def _is_part(node: Expression) -> bool:
    if not isinstance(node, View):
        return False
    return PART * math.prod(node.shape) < math.prod(node.operand.shape)
