"""Rewriting: an array in which whole chunks are others, which are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from darray.blocks import chunk_box, grid_shape
from darray.expr import building
from darray.expr.assignment import assign
from darray.expr.nodes import Computed, Expression, Memory
from darray.index_maps import IndexMap
from darray.lowering import computing, keeping
from darray.lowering.fusion import has_usable_chunks
from darray.lowering.plans import Index, Kept
from darray.lowering.recutting import nbytes_of
from darray.runtime import Task
from darray.runtime.boxes import index_of

__all__ = ["compute_chunk", "copy_chunk", "filler", "with_chunks"]


def filler(node: Expression, index: Index) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """A function that fills an array with a chunk of `node`, and what it is given besides."""
    if has_usable_chunks(node):
        chunk: Task[Any] | NDArray[Any] = node.kept.chunks[index]
        return copy_chunk, (chunk,)
    return compute_chunk, (building.view(node, _place(node, index)),)


def copy_chunk(target: NDArray[Any], chunk: NDArray[Any]) -> None:
    """Copy a chunk that is there, or what it is broadcast from.

    Examples
    --------
    >>> target = np.empty(2, int)
    >>> copy_chunk(target, np.array([7]))
    >>> target
    array([7, 7])
    """
    target[...] = chunk


def compute_chunk(target: NDArray[Any], node: Expression) -> None:
    """Compute a chunk that is not there.

    Examples
    --------
    >>> target = np.empty(2, int)
    >>> compute_chunk(target, building.captured(np.array([1, 2])))
    >>> target
    array([1, 2])
    """
    computing.compute([node], [target], keeps=False)


def with_chunks(node: Expression, chunks: Mapping[Index, NDArray[Any]]) -> Expression:
    """`node` in which `chunks`, read-only arrays that nobody writes to any more, are others.

    Examples
    --------
    >>> chunk = np.array([7, 7])
    >>> chunk.flags.writeable = False
    >>> node = building.captured(np.arange(4), ((2, 2),))
    >>> computing.compute([with_chunks(node, {(1,): chunk})])
    [array([0, 1, 7, 7])]
    """
    if not chunks:
        return node
    grid = list(np.ndindex(*grid_shape(node.chunks)))
    ledgers: tuple[Any, ...] = ()
    if has_usable_chunks(node):
        before, ledgers = node.kept.chunks, node.kept.ledgers
    elif isinstance(node, Memory):
        before = {one: node.array[index_of(chunk_box(node.chunks, one))] for one in grid}
    else:
        return _assigned(node, chunks)
    found = {one: chunks[one] if one in chunks else before[one] for one in grid}
    is_there = all(
        not isinstance(one, Task) or (one.done() and one.exception() is None)
        for one in found.values()
    )
    # What is not there may have to be computed anew.
    operand = None if is_there else _assigned(node, chunks)
    result = Computed(node.shape, node.dtype, node.chunks, None) if operand is None else operand
    kept = Kept(found, ledgers)
    force_setattr(result, "kept", kept)
    keeping.count(kept, nbytes_of(node))
    return computing.going_on(result)


def _assigned(node: Expression, chunks: Mapping[Index, NDArray[Any]]) -> Expression:
    """`node` with each chunk assigned to its place."""
    for index, chunk in chunks.items():
        node = assign(node, _place(node, index), building.captured(chunk))
    return node


def _place(node: Expression, index: Index) -> IndexMap:
    return IndexMap.from_index(chunk_box(node.chunks, index), node.shape)
