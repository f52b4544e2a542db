"""Cells: what an array holds at present, which it shares with its views."""

from __future__ import annotations

import sys
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from darray.expr import building
from darray.expr.nodes import Expression, Memory, Recut, View
from darray.lowering import computing
from darray.lowering.advancing import note
from darray.lowering.computing import DEEPEST, started
from darray.view_steps import Step, written

__all__ = ["Cell", "is_fleeting"]

# What stands for another expression, whose values may be kept.
_HANDING_ON = (Recut, View)


class Cell(Struct, eq=False, weakref=True):
    """What an array holds at present; shared by the array and all views of it.

    Attributes
    ----------
    shared : ndarray or None
        The caller's array of which this one is a view, as `wrap` makes it.
    version : int
        Grows when the values change.
    writer : object or None
        The next version, while tasks of a region write to chunks of the array.
    """

    expression: Expression
    shared: NDArray[Any] | None = None
    version: int = 0
    writer: object = None

    def __post_init__(self) -> None:
        """Start what is too deep."""
        if self.expression.depth > DEEPEST:
            self.expression = started(self.expression)

    def replace(self, steps: tuple[Step, ...], values: Expression) -> None:
        """Let the view after `steps` show `values` from now on."""
        if self.writer is not None:
            raise RuntimeError(
                f"a DArray of shape {self.expression.shape} is assigned to while tasks of a region "
                "write to its chunks: assign to it after the region's end, or in a task that is "
                "given the chunks"
            )
        self.version += 1
        if self.shared is None:
            expression = written(self.expression, steps, values)
            self.expression = expression
            note(self)
            if expression.depth > DEEPEST:
                self.expression = started(expression)
            return
        found = computing.compute([values])[0]
        before = self.expression
        assert isinstance(before, Memory)
        # What was built from the array until now keeps the values that it was built from.
        computing.keep_values(before)
        target = self.shared
        for step in steps:
            target = step.of(target)
        target[...] = found
        self.expression = building.shared(self.shared, before.chunks)


def is_fleeting(array: Any) -> bool:
    """Whether nobody can ask for the values of an array again once the caller returns.

    So it is with ``(a @ b).collect()``: only the call holds the array, and nothing else what it
    is made of. CPython tells by its counts of references; False where it does not.

    Parameters
    ----------
    array
        The caller's argument.
    """
    count = sys.getrefcount
    if count(array) > _HELD_BY_CALL or count(array._cell) > 2:
        return False
    # Each is held by what it is a part of, and while it is counted.
    if count(array._cell.expression) > 2:
        return False
    node = array._cell.expression
    return not isinstance(node, _HANDING_ON) or count(node.operand) == 2


class _Probe:
    """Tells how many references there are to the argument of a function."""

    def counted(self) -> int:
        return _counted(self)


def _counted(array: Any) -> int:
    count = sys.getrefcount
    return count(array)


def _held_by_call() -> int:
    """References to an argument that only the call holds; 0 if a variable adds none."""
    probe = _Probe()
    alone = _Probe().counted()
    return alone if probe.counted() > alone else 0


_HELD_BY_CALL = _held_by_call()
