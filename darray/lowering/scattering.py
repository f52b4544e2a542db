"""Planning scatters: chunks of an array with other elements at positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.blocks import chunk_box, largest
from darray.expr.gathers import Deposit, Scatter, Slot, Window
from darray.expr.nodes import Expression
from darray.expr.positions import Group
from darray.lowering import fusion
from darray.lowering.calls import Evaluate
from darray.lowering.picks import ScatterChunk
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Stage
from darray.runtime.boxes import Box

__all__ = ["Copying", "plan_scatter", "reserve"]


def reserve(
    planner: Planner, stage: Stage, group: fusion.Group, node: Expression, elements: int
) -> None:
    """Count in, for each task of `stage`, that it computes `elements` of `node` besides."""
    other = planner.stage(stage.name, stage.serial, group, node)
    planner.plan.stages.remove(other)
    other.elements = elements
    stage.fixed += other.memory


class Copying:
    """The chunks of a changed array that stay as they are."""

    def __init__(self, planner: Planner, node: Scatter | Deposit) -> None:
        self.planner = planner
        self.node = node
        self.group: fusion.Group | None = None

    def add(self, index: Index) -> None:
        """Plan one of them."""
        planner, node = self.planner, self.node
        if self.group is None:
            operand = node.operand
            self.group = fusion.fuse([operand], operand.shape)
            self.stage = planner.stage("copy", node.serial, self.group, operand)
        pieces, needs = planner.pieces(self.group, chunk_box(node.chunks, index))
        self.stage.drafts.append(Draft((node, index), Evaluate(pieces), needs))


@plans(Scatter)
def plan_scatter(planner: Planner, node: Scatter, indices: list[Index]) -> None:
    """Plan chunks of an array in which elements are put at positions."""
    group = fusion.fuse([node.operand], node.shape)
    values = fusion.fuse([node.values], node.values.shape)
    stage = planner.stage("scatter", node.serial, group, node, node.dtype.itemsize)
    reserve(planner, stage, values, node.values, math.prod([_most(node, s) for s in node.slots]))
    copying = Copying(planner, node)
    for index in indices:
        box = chunk_box(node.chunks, index)
        found = [_inside(node, slot, index, box) for slot in node.slots]
        part = tuple([bounds for _, bounds in found])
        if any(bounds.start >= bounds.stop for bounds in part):
            copying.add(index)
            continue
        pieces, needs = planner.pieces(group, box)
        given, _ = planner.pieces(values, part, needs)
        call = ScatterChunk(pieces, given, _key(node, [keys for keys, _ in found]))
        stage.drafts.append(Draft((node, index), call, needs))


def _most(node: Scatter, slot: Slot) -> int:
    """Elements of `slot` in a chunk, at most."""
    if isinstance(slot, Window):
        return largest(node.chunks)[slot.axis]
    return int(np.diff(slot.starts).max())


def _inside(
    node: Scatter, slot: Slot, index: Index, box: Box
) -> tuple[tuple[slice | NDArray[np.intp], ...], slice]:
    """What a slot writes in a chunk: where, for each of its axes, and what of the values."""
    if isinstance(slot, Window):
        bounds, part = box[slot.axis], slot.part
        skipped = max(0, -((part.start - bounds.start) // part.step))
        until = min(part.stop, bounds.stop)
        end = max(skipped, -((part.start - until) // part.step))
        start = part.start + skipped * part.step - bounds.start
        inside = slice(start, max(start, until - bounds.start), part.step)
        return (inside,), slice(skipped, end, 1)
    number = 0
    for axis in slot.axes:
        number = number * len(node.chunks[axis]) + index[axis]
    first, last = int(slot.starts[number]), int(slot.starts[number + 1])
    pairs = zip(slot.positions, slot.axes, strict=True)
    where = tuple([positions[first:last] - box[axis].start for positions, axis in pairs])
    return where, slice(first, last, 1)


def _key(node: Scatter, found: list[tuple[slice | NDArray[np.intp], ...]]) -> tuple[Any, ...]:
    """The key of a chunk's elements, whose axes are those of the slots in their order."""
    key: list[Any] = [None] * len(node.shape)
    groups = [slot for slot in node.slots if isinstance(slot, Group)]
    axes = groups[0].axes if groups else ()
    in_place = len(groups) < 2 and axes == tuple(
        range(axes[0], axes[0] + len(axes)) if axes else ()
    )
    for number, (slot, where) in enumerate(zip(node.slots, found, strict=True)):
        for axis, one in zip(
            slot.axes if isinstance(slot, Group) else (slot.axis,), where, strict=True
        ):
            if not in_place:
                # Arrays alone, each along its slot's axis.
                if isinstance(one, slice):
                    one = np.arange(one.start, one.stop, one.step)
                one = one.reshape(-1, *(1,) * (len(node.slots) - 1 - number))
            key[axis] = one
    return tuple(key)
