"""Planning what masks pick: chunks of elements read, or put into an array, in C order."""

from __future__ import annotations

import itertools
import math

import numpy as np

from darray.blocks import chunk_box, grid_shape, largest
from darray.expr.building import broadcast_to, view
from darray.expr.gathers import Deposit, Extract
from darray.expr.nodes import Expression
from darray.index_maps import IndexMap
from darray.lowering.fusion import Group, fuse
from darray.lowering.picks import DepositChunk, ExtractChunk
from darray.lowering.planning import Planner, plans
from darray.lowering.plans import Draft, Index
from darray.lowering.scattering import Copying, reserve
from darray.runtime.boxes import whole

__all__ = ["plan_deposit", "plan_extract"]


def masked(operand: Expression, mask: Expression, first: int) -> Group:
    """The program of an array and its mask, broadcast along the axes that it does not have."""
    rest = len(operand.shape) - first - len(mask.shape)
    own = (slice(None),) * len(mask.shape)
    key = (None,) * first + own + (None,) * rest
    seen = view(mask, IndexMap.from_index(key, mask.shape))
    return fuse([operand, broadcast_to(seen, operand.shape)], operand.shape)


def piece_of(mask: Expression, number: int) -> Index:
    """The place in the grid of the mask's chunk that has a number in C order."""
    return tuple([int(one) for one in np.unravel_index(number, grid_shape(mask.chunks))])


@plans(Extract)
def plan_extract(planner: Planner, node: Extract, indices: list[Index]) -> None:
    """Plan chunks of what a mask picks."""
    operand, mask, first = node.operand, node.mask, node.first
    group = masked(operand, mask, first)
    dimensions = len(mask.shape)
    # The chunk itself, besides what the program holds.
    stage = planner.stage("extract", node.serial, group, operand, node.dtype.itemsize)
    for index in indices:
        at = piece_of(mask, node.pieces[index[first]]) if node.pieces else (0,) * dimensions
        box = chunk_box(operand.chunks, index[:first] + at + index[first + 1 :])
        count = node.chunks[first][index[first]]
        if not count:
            box = (*box[:first], *whole((0,) * dimensions), *box[first + dimensions :])
        pieces, needs = planner.pieces(group, box)
        call = ExtractChunk(pieces, first, dimensions, count)
        stage.drafts.append(Draft((node, index), call, needs))


@plans(Deposit)
def plan_deposit(planner: Planner, node: Deposit, indices: list[Index]) -> None:
    """Plan chunks of an array in which elements are put where a mask is true."""
    operand, mask, first = node.operand, node.mask, node.first
    last = first + len(mask.shape)
    group = masked(operand, mask, first)
    values = fuse([node.values], node.values.shape)
    grid = grid_shape(mask.chunks)
    stage = planner.stage("deposit", node.serial, group, operand, 2 * node.dtype.itemsize)
    around = largest(operand.chunks[:first] + operand.chunks[last:])
    most = max(stop - start for start, stop in itertools.pairwise(node.starts))
    reserve(planner, stage, values, node.values, most * math.prod(around))
    copying = Copying(planner, node)
    for index in indices:
        number = 0
        for at, count in zip(index[first:last], grid, strict=True):
            number = number * count + at
        start, stop = node.starts[number : number + 2]
        if start == stop:
            copying.add(index)
            continue
        box = chunk_box(node.chunks, index)
        pieces, needs = planner.pieces(group, box)
        part = (*box[:first], slice(start, stop, 1), *box[last:])
        given, _ = planner.pieces(values, part, needs)
        call = DepositChunk(pieces, given, first, last - first, stop - start)
        stage.drafts.append(Draft((node, index), call, needs))
