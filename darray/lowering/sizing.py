"""How many bytes computing a chunk holds, and reading one takes."""

from __future__ import annotations

import math

import numpy as np

from darray.blocks import largest
from darray.expr.nodes import Memory, Reduce, Stored
from darray.kernels.evaluation import LARGE_TILE, TILE
from darray.kernels.reducing import REDUCED
from darray.kernels.tiling import tiling_of
from darray.lowering.fusion import Group, Leaf
from darray.runtime.boxes import whole

__all__ = ["itemsize_at_peak", "loaded_itemsize", "partial_nbytes", "read_nbytes"]

# What comes from another machine is held as it was sent, decoded, and where it is wanted.
FETCHED = 3


def itemsize_at_peak(group: Group, elements: int, scratch: int, in_place: bool = False) -> int:
    """Bytes that running the program of `group` on so many elements holds for each of them.

    With `in_place` results go where there is room already, or are used up at once.
    """
    sizes = [loaded_itemsize(leaf) for leaf in group.leaves]
    program = group.program
    tiling = tiling_of(program) if elements > TILE else None
    if tiling is None:
        return program.bytes_per_element(sizes) + scratch
    slots = tiling.slot_itemsizes
    most = max(sum(slots) * REDUCED, len(slots) * LARGE_TILE)
    buffers = -(-min(sum(slots) * elements, most) // elements)
    return sum(sizes) + (0 if in_place else program.result_itemsize) + buffers + scratch


def partial_nbytes(node: Reduce) -> int:
    """Bytes of the partial result of the largest chunk of what is reduced."""
    shape = (1,) * len(node.shape)
    sample = np.ones(shape, node.operand.dtype)
    mask = None if node.where is None else np.ones(shape, bool)
    with np.errstate(all="ignore"):
        partial_result = node.reduction.partial(sample, node.axes, mask, whole(shape), shape)
    elements = math.prod(largest(node.chunks))
    return sum(int(one.itemsize) for one in partial_result) * elements


def read_nbytes(leaf: Leaf) -> int:
    """Bytes of a chunk of the store, which is decoded whole to read any part of it."""
    node = leaf.expression
    if not isinstance(node, Stored) or node.kept is not None:
        return 0
    return math.prod(largest(node.source.chunks)) * max(1, int(node.dtype.itemsize))


def loaded_itemsize(leaf: Leaf) -> int:
    """Bytes that loading one element of `leaf` takes."""
    node = leaf.expression
    itemsize = max(1, int(node.dtype.itemsize))
    if isinstance(node, Memory) and node.kept is None:
        return 0
    if isinstance(node, Stored) and node.kept is None and node.is_remote:
        return FETCHED * itemsize
    return itemsize
