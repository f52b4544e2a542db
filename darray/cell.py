"""Cells: what an array holds at present, which it shares with its views."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from darray.expr import building
from darray.expr.nodes import Expression, Memory
from darray.lowering import computing
from darray.lowering.computing import DEEPEST, started
from darray.view_steps import Step, written

__all__ = ["Cell"]


class Cell:
    """What an array holds at present; shared by the array and all views of it.

    Attributes
    ----------
    shared : ndarray or None
        The caller's array of which this one is a view, as `wrap` makes it.
    """

    __slots__ = ("expression", "shared")

    def __init__(self, expression: Expression, shared: NDArray[Any] | None = None) -> None:
        self.expression = expression if expression.depth <= DEEPEST else started(expression)
        self.shared = shared

    def replace(self, steps: tuple[Step, ...], values: Expression) -> None:
        """Let the view after `steps` show `values` from now on."""
        if self.shared is None:
            expression = written(self.expression, steps, values)
            self.expression = expression if expression.depth <= DEEPEST else started(expression)
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
