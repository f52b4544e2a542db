"""Computing at once: expressions of few elements, in the calling thread, without a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from darray.blocks import iterate_boxes
from darray.expr import building
from darray.expr.nodes import Elementwise, Expression, Memory, Reduce, View
from darray.kernels.evaluation import evaluate
from darray.kernels.quick_reductions import of_axes
from darray.kernels.reducing import Reducer, partial_results
from darray.kernels.warnings_ledger import Ledger, NumberedLedger, recording
from darray.lowering import keeping
from darray.lowering.fusion import is_added
from darray.lowering.places import computes_elsewhere
from darray.lowering.plans import Index, Kept
from darray.lowering.remembering import Remembered, fuse_or_remember
from darray.lowering.walking import shown, walk_of
from darray.runtime import Task
from darray.runtime.boxes import index_of, whole
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = ["applies", "values"]

Array: TypeAlias = NDArray[Any]

# Elements of several chunks that one thread computes before others are told of them.
_FEW = 1 << 21

# Chunks of fewer elements were meant to be computed side by side: nobody cuts so by accident.
_LARGE_CHUNK = 1 << 17

# What is not computed so stays as it is, so looking for it must not take long.
_MOST_GROUPS = 32


class _Step(Struct, frozen=True):
    """The program of an expression; where that is a reduction, of what it reduces."""

    node: Expression
    fused: Remembered
    shape: tuple[int, ...]


def applies(node: Expression) -> bool:
    """Whether `values` computes `node`."""
    return not computes_elsewhere() and _steps([node]) is not None


def values(nodes: Sequence[Expression], keeps: bool = True) -> list[Array] | None:
    """Values of expressions over few elements in memory, as fresh arrays; None for any others.

    Such a computation has nothing to schedule: its programs run in the calling thread. What
    reductions give stays with them; without `keeps` not where `nodes` are their results.
    """
    for node in nodes:
        if node.kept is not None or node.__class__ is Memory:
            return None
    ledger = Ledger()
    if len(nodes) == 1 and node.__class__ is not Elementwise:
        value = _reduced(node, ledger, keeps)
        if value is not None:
            ledger.issue()
            return [value]
    walk = walk_of(nodes, _kept_chunk, _MOST_GROUPS - len(nodes))
    if walk is not None:
        walk.run(ledger)
        for reduction in walk.reductions:
            _keep(reduction, walk.values[reduction], ledger)
        ledger.issue()
        return _all_fresh([walk.filled(node) for node in nodes])
    steps = _steps(nodes)
    if steps is None:
        return None
    values: dict[int, Array] = {}
    for step in steps:
        values[id(step.node)] = _value(step, values, ledger)
    for step in steps:
        if isinstance(step.node, Reduce):
            _keep(step.node, values[id(step.node)], ledger)
    ledger.issue()
    return _all_fresh([values[id(node)] for node in nodes])


def _reduced(node: Expression, ledger: Ledger, keeps: bool) -> Array | None:
    """The value, fresh, of a reduction of memory, the commonest of all; None of anything else.

    What the general way gives as well, at twice its cost.
    """
    seen: Any = node
    reduction = seen.operand if node.__class__ is View else seen
    if reduction.__class__ is not Reduce or reduction.kept is not None:
        return None
    operand = reduction.operand
    array = _array_of(operand)
    if array is None or reduction.where is not None:
        return None
    if operand.dtype.kind not in "biufc" or not _is_small(reduction):
        return None
    shape, how, axes = operand.shape, reduction.reduction, reduction.axes
    # The commonest view of it has the elements that the reduction gives.
    drops = seen is not reduction and seen.index_map is building.dropping(axes, reduction.shape)
    with recording(reduction.errors, ledger, reduction.serial):
        found = of_axes(how, array, axes)
        if found is None:
            partial = how.partial(array, axes, None, whole(shape), shape)
            value = np.asarray(how.finish(partial, ledger.warn(reduction.serial)))
        else:
            # From here on little is done, since what was read has put all else out of the caches.
            value = np.asarray(found)
            if drops and not keeps and value.flags.c_contiguous:
                return value
            value = value.reshape(reduction.shape)
    if keeps:
        _keep(reduction, value, ledger)
    if drops:
        value = value.reshape(node.shape)
    elif node is not reduction:
        value = shown(seen, value)
        if value.shape != node.shape:
            value = np.broadcast_to(value, node.shape)
    return value.copy(order="C")


def _array_of(node: Any) -> Array | None:
    """The array that is in memory, or a view of it; None where it is not."""
    if node.kept is not None:
        return None
    if node.__class__ is Memory:
        return node.array
    below = node.operand if node.__class__ is View else None
    if below.__class__ is not Memory or below.kept is not None:
        return None
    array = shown(node, below.array)
    return array if array.shape == node.shape else np.broadcast_to(array, node.shape)


def _keep(node: Expression, value: Array, ledger: Ledger) -> None:
    # What only hands it on gives a copy then.
    value.flags.writeable = False
    chunks: dict[Index, Task[Any] | Array]
    if all([len(sizes) == 1 for sizes in node.chunks]):
        chunks = {(0,) * value.ndim: value}
    else:
        chunks = {index: value[index_of(box)] for index, box in iterate_boxes(node.chunks)}
    kept = Kept(chunks, (ledger,))
    force_setattr(node, "kept", kept)
    if value.nbytes > keeping.SMALL:
        keeping.count(kept, value.nbytes)


def _steps(nodes: Sequence[Expression]) -> list[_Step] | None:
    """What computes `nodes`, each after those that it needs; None where there is more to it."""
    found: dict[int, _Step] = {}
    ordered: dict[int, _Step] = {}
    pending = list(nodes)
    while pending:
        node = pending[-1]
        step = found.get(id(node))
        if step is not None:
            ordered[id(node)] = step
            pending.pop()
            continue
        if not _is_small(node) or len(found) == _MOST_GROUPS:
            return None
        step = found[id(node)] = _step(node)
        for leaf in step.fused.group.leaves:
            one = leaf.expression
            if one is node:
                # Of another kind than those that a program computes.
                return None
            if not isinstance(one, Memory) and id(one) not in found and _kept_chunk(one) is None:
                pending.append(one)
    return list(ordered.values())


def _is_small(node: Expression) -> bool:
    """Whether `node` has one chunk, or few elements in large chunks, and no chunks are kept.

    Of what a reduction gives, the elements are counted that it reduces, unless they are repeated.
    """
    if node.__class__ is Memory or node.kept is not None:
        return False
    reduction: Any = node
    if node.__class__ is View:
        below = reduction.operand
        # What repeats elements is as large as it is.
        reduction = below if math.prod(node.shape) <= math.prod(below.shape) else node
    chunks = reduction.operand.chunks if reduction.__class__ is Reduce else node.chunks
    if all([len(sizes) == 1 for sizes in chunks]):
        return True
    largest = math.prod([max(sizes, default=0) for sizes in chunks])
    return largest >= _LARGE_CHUNK and math.prod(map(sum, chunks)) <= _FEW


def _kept_chunk(node: Expression) -> Array | None:
    """The one chunk of `node`, if a computation left it and nothing is to be told of it."""
    kept: Kept | None = node.kept
    if kept is None or len(kept.chunks) > 1 or not all(one.is_empty() for one in kept.ledgers):
        return None
    (chunk,) = kept.chunks.values()
    if isinstance(chunk, Task):
        return chunk.result() if chunk.done() and chunk.exception() is None else None
    return chunk


def _step(node: Expression) -> _Step:
    if isinstance(node, Reduce):
        operand, mask = node.operand, node.where
        outputs = [operand] if mask is None else [operand, mask]
        fused = fuse_or_remember(outputs, operand.shape, is_added(node))
        return _Step(node, fused, operand.shape)
    return _Step(node, fuse_or_remember([node], node.shape), node.shape)


def _value(step: _Step, values: dict[int, Array], ledger: Ledger) -> Array:
    node, shape, group = step.node, step.shape, step.fused.group
    if step.fused.nodes is not None:
        ledger = NumberedLedger(ledger, step.fused.nodes)
    box = whole(shape)
    inputs = []
    for leaf in group.leaves:
        one, index_map = leaf.expression, leaf.index_map
        if isinstance(one, Memory):
            array = one.array
        else:
            found = values.get(id(one))
            array = _kept_chunk(one) if found is None else found  # type: ignore[assignment]
        if not index_map.is_identity:
            source = index_map.source_box(box)
            array = index_map.arrange(array[index_of(source)], source)
        inputs.append(array)
    program = group.program_for(math.prod(shape))
    if not isinstance(node, Reduce):
        return evaluate(program, inputs, shape, ledger, empty)[0]
    reducer = Reducer(node.reduction, node.axes, node.errors, node.serial)
    (partial,) = partial_results(program, inputs, [reducer], box, shape, ledger)
    return reducer.finish(partial, ledger)


def _all_fresh(values: list[Array]) -> list[Array]:
    """`values` as arrays of their own, which may be written to."""
    fresh: list[Array] = []
    for value in values:
        flags = value.flags
        is_fresh = is_own(value) and flags.c_contiguous and flags.writeable
        if not is_fresh or (fresh and any([value is one for one in fresh])):
            value = value.copy(order="C")
        fresh.append(value)
    return fresh
