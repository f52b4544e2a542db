"""Planning of reshapes: each chunk is put together from boxes of the operand."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.blocks import Shape, chunk_box, largest
from darray.expr import building
from darray.expr.reshaping import AxisGroup, Reshape, axis_groups, boxes_of_run
from darray.lowering.calls import Pieces
from darray.lowering.fusion import fuse
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index, Need
from darray.runtime.boxes import Box, box_shape, index_of
from darray.runtime.devices.host_buffers import empty, is_own

__all__ = ["Rearrange"]


class Rearrange(Struct, frozen=True):
    """Put boxes of an array together, in C order, as a chunk of another shape.

    Attributes
    ----------
    parts : tuple
        What computes each box, and its place among the elements of the chunk: one slice for
        each group of axes.
    lengths : tuple of int
        Number of elements that the chunk has along each group of axes.
    """

    reads_parts: ClassVar[bool] = True

    parts: tuple[tuple[Pieces, Box], ...]
    lengths: Shape
    shape: Shape
    dtype: np.dtype[Any]

    def __call__(self, *values: Any) -> NDArray[Any]:
        """The chunk."""
        if len(self.parts) == 1:
            (only,) = self.parts[0][0].compute(values)
            if is_own(only) and only.flags.writeable and only.flags.c_contiguous:
                return only.reshape(self.shape)
            return np.array(only, order="C").reshape(self.shape)
        chunk = empty(self.shape, self.dtype)
        flat = chunk.reshape(self.lengths)
        for pieces, place in self.parts:
            (found,) = pieces.compute(values)
            # A part of a chunk may lie in strides, of which a longer shape is still a view.
            flat[index_of(place)].reshape(found.shape, copy=False)[...] = found
        return chunk


@plans(Reshape)
def reshape(planner: Planner, node: Reshape, indices: list[Index]) -> None:
    """Plan chunks of a reshape; the operand is computed in boxes where it can be."""
    operand = node.operand
    group = fuse([operand], operand.shape)
    in_runs = building.recut(operand, node.runs)
    stage = planner.stage("reshape", node.serial, group, in_runs, node.dtype.itemsize)
    # Runs that the result's shape breaks up may be longer than those of the operand.
    stage.elements = math.prod(largest(node.chunks))
    groups = axis_groups(operand.shape, node.shape)
    for index in indices:
        box = chunk_box(node.chunks, index)
        needs: list[Need] = []
        parts = []
        runs = [_placed_boxes(one, box, operand.shape, node.shape) for one in groups]
        for boxes in itertools.product(*runs):
            source = tuple([part for one, _ in boxes for part in one])
            pieces, _ = planner.pieces(group, source, needs)
            parts.append((pieces, tuple([place for _, place in boxes])))
        shape = box_shape(box)
        lengths = tuple([math.prod(shape[one.after]) for one in groups])
        call = Rearrange(tuple(parts), lengths, shape, node.dtype)
        stage.drafts.append(Draft((node, index), call, needs))


def _placed_boxes(
    group: AxisGroup, box: Box, shape: Shape, other: Shape
) -> list[tuple[Box, slice]]:
    """The boxes of a group of axes of `shape` that `box` of `other` is made of.

    Each comes with its place among the elements of `box` along this group.
    """
    own = box[group.after]
    start = 0
    for part, size in zip(own, other[group.after], strict=True):
        start = start * size + part.start
    stop = start + math.prod(box_shape(own))
    found = []
    filled = 0
    for one in boxes_of_run(start, stop, shape[group.before]):
        count = math.prod(box_shape(one))
        found.append((one, slice(filled, filled + count, 1)))
        filled += count
    return found
