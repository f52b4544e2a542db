"""Planning scatters: chunks of an array with other elements at positions."""

from __future__ import annotations

import math

import numpy as np

from darray.blocks import chunk_box, largest
from darray.expr.gathers import Deposit, Scatter, Slot, Window
from darray.expr.nodes import Expression
from darray.lowering import fusion
from darray.lowering.calls import Evaluate
from darray.lowering.picks import ScatterChunk, Written
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
        call = ScatterChunk(pieces, given, tuple([written for written, _ in found]))
        stage.drafts.append(Draft((node, index), call, needs))


def _most(node: Scatter, slot: Slot) -> int:
    """Elements of `slot` in a chunk, at most."""
    if isinstance(slot, Window):
        return largest(node.chunks)[slot.axis]
    return int(np.diff(slot.starts).max())


def _inside(node: Scatter, slot: Slot, index: Index, box: Box) -> tuple[Written, slice]:
    """What a slot writes in a chunk, and which of the values along the slot's axis."""
    if isinstance(slot, Window):
        bounds, part = box[slot.axis], slot.part
        skipped = max(0, -((part.start - bounds.start) // part.step))
        until = min(part.stop, bounds.stop)
        end = max(skipped, -((part.start - until) // part.step))
        start = part.start + skipped * part.step - bounds.start
        inside = slice(start, max(start, until - bounds.start), part.step)
        return Written((slot.axis,), inside, ()), slice(skipped, end, 1)
    number = 0
    for axis in slot.axes:
        number = number * len(node.chunks[axis]) + index[axis]
    first, last = int(slot.starts[number]), int(slot.starts[number + 1])
    positions = tuple([one[first:last] for one in slot.positions])
    return (
        Written(slot.axes, positions, tuple([box[axis] for axis in slot.axes])),
        slice(first, last, 1),
    )
