"""Walking: expressions of a tile at most, computed one after another in the order they were built.

What fusing gains there, memory that stays in the cache, such expressions have anyway; making
programs of them would take longer than computing them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from darray.expr.nodes import KINDS, Elementwise, Expression, Memory, Reduce, View
from darray.kernels.cpu import WORTH_REUSE
from darray.kernels.evaluation import TILE
from darray.kernels.quick_reductions import of_all
from darray.kernels.table import kernels_of
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.boxes import index_of, whole

__all__ = ["Walk", "shown", "walk_of"]

Array: TypeAlias = NDArray[Any]

# Numbers and truth values; what other values become without axes depends on how they got there.
_DTYPES = frozenset("?bBhHiIlLqQefdgFDG")


class Walk(Struct):
    """Expressions to compute, in order, and what is there already.

    Invariants
    ----------
    * Each of ``steps`` comes after those that it is computed from.
    * ``values`` are by the expressions, all of which are reached from those that are wanted.
    * ``reductions`` are those among the steps.
    * ``uses`` is how often the value of a step is still read, once more for one that is wanted;
      it is positive until then. What was there before the walk has none.
    """

    steps: list[Any] = field(default_factory=list)
    reductions: list[Any] = field(default_factory=list)
    values: dict[Expression, Any] = field(default_factory=dict)
    uses: dict[Expression, int] = field(default_factory=dict)

    def run(self, ledger: Ledger) -> None:
        """Compute the values of the steps; errors are answered as each asks.

        Raises
        ------
        FloatingPointError
            Where the errors of a step are to be raised.
        """
        steps, values = self.steps, self.values
        kernels = kernels_of("cpu")
        at, end = 0, len(steps)
        while at < end:
            step = steps[at]
            if step.__class__ is View:
                values[step] = shown(step, self.filled(step.operand))
                at += 1
                continue
            errors = step.errors
            record = recording(errors, ledger)
            with record:
                # Steps that answer errors alike share one context.
                while at < end:
                    step = steps[at]
                    kind = step.__class__
                    if kind is View:
                        values[step] = shown(step, self.filled(step.operand))
                    elif step.errors is not errors and step.errors != errors:
                        break
                    elif kind is Elementwise:
                        record.origin = step.serial
                        values[step] = self.call(step, kernels)
                    else:
                        record.origin = step.serial
                        values[step] = self.reduce(step, ledger)
                    at += 1

    def filled(self, node: Expression) -> Array:
        """The value of `node`, brought to its shape where broadcasting has not filled it."""
        value = self.values[node]
        if value.__class__ is not np.ndarray:
            value = np.asarray(value)
        return value if value.shape == node.shape else np.broadcast_to(value, node.shape)

    def reduce(self, step: Any, ledger: Ledger) -> Array:
        """What a reduction gives."""
        if len(step.axes) == len(step.shape):
            value = of_all(step.reduction, self.filled(step.operand))
            if value is not None:
                return np.asarray(value).reshape(step.shape)
        chunk, shape, reduction = self.filled(step.operand), step.operand.shape, step.reduction
        partial = reduction.partial(chunk, step.axes, None, whole(shape), shape)
        return np.asarray(reduction.finish(partial, ledger.warn(step.serial)))

    def call(self, step: Any, kernels: Mapping[Callable[..., Any], Callable[..., Any]]) -> Any:
        """What a function of elements gives, in the memory of an operand that nobody reads again.

        Of operands without axes it may be a scalar, as NumPy gives it.
        """
        values, uses = self.values, self.uses
        function = kernels.get(step.function, step.function)
        if step.parameters or step.output is not None or function.__class__ is not np.ufunc:
            operands = [values[one] if one.__class__ in KINDS else one for one in step.arguments]
            value = function(*operands, **dict(step.parameters))
            # It may be what was given, so that nothing given to it is written over.
            return value if step.output is None else value[step.output]
        operands = []
        spare = None
        for one in step.arguments:
            kind = one.__class__
            if kind is Elementwise and one in uses:
                left = uses[one] = uses[one] - 1
                if left:
                    operands.append(values[one])
                    continue
                value = values.pop(one)
                operands.append(value)
                # Only of a ufunc it is certain that it made an array.
                if value.nbytes >= WORTH_REUSE and (
                    kernels.get(one.function, one.function).__class__ is np.ufunc
                ):
                    spare = value
            elif kind in KINDS:
                operands.append(values[one])
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
    if operand.size == 1 and (not view.shape or prod(view.shape) == 1):
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
    steps, values, uses, reductions = walk.steps, walk.values, walk.uses, walk.reductions
    pending: list[Any] = list(nodes)
    # The cut and the dtype that were looked at last; most expressions have the same.
    cut: object = None
    dtype: object = None
    while pending:
        node = pending.pop()
        if node in uses:
            uses[node] += 1
            continue
        if node in values:
            continue
        if node.dtype is not dtype:
            dtype = node.dtype
            if node.dtype.char not in _DTYPES:
                return None
        if node.kept is not None:
            chunk = kept_chunk(node)
            if chunk is None or chunk.size > TILE:
                return None
            values[node] = chunk
            continue
        kind = node.__class__
        if kind is Memory:
            if node.array.size > TILE:
                return None
            values[node] = node.array
            continue
        sized: Any = node
        if kind is Elementwise:
            if node.where is not None:
                return None
            pending += [one for one in node.arguments if one.__class__ in KINDS]
        elif kind is Reduce:
            if node.where is not None or len(reductions) == most:
                return None
            reductions.append(node)
            sized = node.operand
            pending.append(sized)
        elif kind is View:
            below = node.operand
            # Of anything else no more is to be computed than what the view shows.
            if below.kept is None and below.__class__ not in (Memory, Reduce):
                return None
            pending.append(below)
        else:
            return None
        if sized.chunks is not cut and sized.chunks != cut and sized.shape:
            if not _is_one_chunk(sized):
                return None
            cut = sized.chunks
        uses[node] = 1
        steps.append(node)
    if len(steps) > 1:
        steps.sort(key=_serial_of)
    return walk


def _serial_of(node: Expression) -> int:
    return node.serial


def _is_one_chunk(node: Expression) -> bool:
    for sizes in node.chunks:
        if len(sizes) > 1:
            return False
    return prod(node.shape) <= TILE
