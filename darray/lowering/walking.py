"""Walking: expressions of a tile at most, computed one after another in the order they were built.

What fusing gains there, memory that stays in the cache, such expressions have anyway; making
programs of them would take longer than computing them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from darray.expr.nodes import Elementwise, Expression, Memory, Reduce, View
from darray.kernels.cpu import WORTH_REUSE
from darray.kernels.evaluation import TILE
from darray.kernels.table import kernel_for
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.boxes import index_of, whole

__all__ = ["Walk", "shown", "walk_of"]

Array: TypeAlias = NDArray[Any]

# Numbers and truth values; what other values become without axes depends on how they got there.
_KINDS = frozenset("biufc")


class Walk(Struct):
    """Expressions to compute, in order, and what is there already.

    Invariants
    ----------
    * Each of ``steps`` comes after those that it is computed from.
    * ``values`` are by the identities of the expressions, all of which are reached from those
      that are wanted.
    * ``uses`` is how often the value of a step is still read, once more for one that is wanted;
      it is positive until then. What was there before the walk has none, and is never positive.
    """

    steps: list[Expression] = field(default_factory=list)
    values: dict[int, Array] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)

    def run(self, ledger: Ledger) -> None:
        """Compute the values of the steps; errors are answered as each asks.

        Raises
        ------
        FloatingPointError
            Where the errors of a step are to be raised.
        """
        steps, values = self.steps, self.values
        at = 0
        while at < len(steps):
            errors = getattr(steps[at], "errors", None)
            if errors is None:
                values[id(steps[at])] = self.view(steps[at])
                at += 1
                continue
            with recording(errors, ledger) as record:
                # Steps that answer errors alike share one context.
                while at < len(steps):
                    step = steps[at]
                    if isinstance(step, View):
                        values[id(step)] = self.view(step)
                        at += 1
                        continue
                    if step.errors != errors:  # type: ignore[attr-defined]
                        break
                    record.origin = step.serial
                    if isinstance(step, Elementwise):
                        values[id(step)] = self.call(step)
                    else:
                        values[id(step)] = self.reduce(step, ledger)
                    at += 1

    def view(self, step: Any) -> Array:
        """The elements that a view selects; axes that it adds may have length 1."""
        return shown(step, self.filled(step.operand))

    def filled(self, node: Expression) -> Array:
        """The value of `node`, brought to its shape where broadcasting has not filled it."""
        value = np.asarray(self.values[id(node)])
        return value if value.shape == node.shape else np.broadcast_to(value, node.shape)

    def reduce(self, step: Any, ledger: Ledger) -> Array:
        """What a reduction gives."""
        chunk, shape, reduction = self.filled(step.operand), step.operand.shape, step.reduction
        partial = reduction.partial(chunk, step.axes, None, whole(shape), shape)
        return np.asarray(reduction.finish(partial, ledger.warn(step.serial)))

    def call(self, step: Elementwise) -> Any:
        """What a function of elements gives, in the memory of an operand that nobody reads again.

        Of operands without axes it may be a scalar, as NumPy gives it.
        """
        values, uses = self.values, self.uses
        function = kernel_for(step.function, "cpu")
        if step.parameters or step.output is not None or not isinstance(function, np.ufunc):
            operands = [
                values[id(one)] if isinstance(one, Expression) else one for one in step.arguments
            ]
            value = function(*operands, **dict(step.parameters))
            # It may be what was given, so that nothing given to it is written over.
            return value if step.output is None else value[step.output]
        operands = []
        spare = None
        for one in step.arguments:
            if isinstance(one, Expression):
                key = id(one)
                operands.append(values[key])
                left = uses[key] = uses.get(key, 0) - 1
                if not left and isinstance(one, Elementwise):
                    value = values.pop(key)
                    # Only of a ufunc it is certain that it made an array.
                    if isinstance(kernel_for(one.function, "cpu"), np.ufunc) and (
                        value.nbytes >= WORTH_REUSE
                    ):
                        spare = value
            else:
                operands.append(one)
        if spare is None or spare.dtype != step.dtype or spare.shape != step.shape:
            return function(*operands)
        return function(*operands, out=spare)


def shown(view: View, operand: Array) -> Array:
    """The elements of an operand that `view` selects; axes that it adds may have length 1.

    Examples
    --------
    >>> import darray as da
    >>> shown(da.arange(4)[::-2].expression, np.arange(4))
    array([3, 1])
    """
    if operand.size == 1 and prod(view.shape) == 1:
        # The one element, as most reductions have it; finding out which one takes ten times longer.
        return operand.reshape(view.shape)
    index_map = view.index_map
    source = index_map.source_box(whole(view.shape))
    value: Array = index_map.arrange(operand[index_of(source)], source)
    return value


def walk_of(
    nodes: Sequence[Expression], kept_chunk: Callable[[Expression], Array | None], most: int
) -> Walk | None:
    """What computes `nodes`; None if there is more to any of it than walking from one to the next.

    Parameters
    ----------
    kept_chunk
        Gives the one chunk that a computation left with an expression, None if there is more
        to it.
    most
        Reductions, at most, that are computed so.
    """
    walk = Walk()
    steps, values, uses = walk.steps, walk.values, walk.uses
    pending = list(nodes)
    reductions = 0
    # The cut that was looked at last; most expressions have the same.
    seen: object = None
    while pending:
        node = pending.pop()
        key = id(node)
        if key in uses:
            uses[key] += 1
            continue
        if key in values:
            continue
        if node.dtype.kind not in _KINDS:
            return None
        if node.kept is not None:
            chunk = kept_chunk(node)
            if chunk is None or chunk.size > TILE:
                return None
            values[key] = chunk
            continue
        kind = type(node)
        if kind is Memory:
            if prod(node.shape) > TILE:
                return None
            values[key] = node.array  # type: ignore[attr-defined]
            continue
        operands = _operands(node)
        if operands is None:
            return None
        cut = node.operand if kind is Reduce else node  # type: ignore[attr-defined]
        if cut.chunks is not seen:
            if not _is_one_chunk(cut):
                return None
            seen = cut.chunks
        reductions += kind is Reduce
        pending.extend(operands)
        uses[key] = 1
        steps.append(node)
    if reductions > most:
        return None
    steps.sort(key=_serial_of)
    return walk


def _serial_of(node: Expression) -> int:
    return node.serial


def _operands(node: Expression) -> Sequence[Expression] | None:
    """What a step is computed from; None for one that is not taken here."""
    if isinstance(node, Elementwise):
        if node.where is not None:
            return None
        return [one for one in node.arguments if isinstance(one, Expression)]
    if isinstance(node, Reduce):
        return None if node.where is not None else (node.operand,)
    if isinstance(node, View):
        below = node.operand
        # Of anything else no more is to be computed than what the view shows.
        is_there = isinstance(below, Memory | Reduce) or below.kept is not None
        return (below,) if is_there else None
    return None


def _is_one_chunk(node: Expression) -> bool:
    for sizes in node.chunks:
        if len(sizes) > 1:
            return False
    return prod(node.shape) <= TILE
