"""Planning what is written into a store: piece by piece, or in pieces that share its chunks.

A cut across that of the source, as from rows to columns, would need every chunk of the source for
every chunk of the store: all of it in memory, or read many times. Instead each piece of the source
is computed once, and its parts go into the files of the chunks that they belong to. Where a chunk
is to be encoded, that is done once all its parts are in the file.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from darray.blocks import Chunks, iterate_boxes, largest, overlapping
from darray.expr import building
from darray.expr.nodes import Expression, Recut, Stored
from darray.io.formats import Parts, PartsTarget, Target
from darray.lowering.calls import Write
from darray.lowering.fusion import Group, fuse
from darray.lowering.planning import READS_TOLERATED, Planner
from darray.lowering.plans import Draft, Need, Stage
from darray.lowering.recutting import joined_cut, reads_of
from darray.runtime import limits, settings
from darray.runtime.boxes import Box

__all__ = ["plan_writing"]

# Pieces for a store may be as many times larger than its chunks and those of the source.
PIECE_SHARE = 2

# Parts of pieces are to have so many bytes: for each there is a call to the system, which takes
# longer for as many in more parts. Pieces of the source are joined to that end, up to so many bytes
# and, all that are written at a time, this share of the memory.
PART = 2**19
JOINED = 64 * 2**20
MEMORY_SHARE = 2

# How many times more pairs of a piece and a chunk that shares elements with it there may be than
# pieces, before all chunks wait for all pieces.
PAIRS = 16


class EndChunk(Struct, frozen=True):
    """Make a chunk of a store of its parts, which are all written."""

    parts: Parts
    box: Box

    def __call__(self, *values: Any) -> None:
        """Write the chunk."""
        self.parts.end(self.box)


class AllWritten(Struct, frozen=True):
    """Marks that every piece was written."""

    def __call__(self, *values: Any) -> None:
        """Do nothing."""


def plan_writing(planner: Planner, node: Expression, target: Target) -> None:
    """Plan to compute `node` into `target`, in its cut or in a better one of the source."""
    cut = source_cut(planner, node, target)
    if cut is None:
        # A chunk is there twice more while it is put in order and encoded.
        write(planner, building.recut(node, target.chunks), target, 2 * node.dtype.itemsize)
        return
    assert isinstance(target, PartsTarget)
    parts = target.parts(cut)
    # Each part of a piece is put in order.
    name = write(planner, building.recut(node, cut), parts, node.dtype.itemsize)
    if not parts.needs_end:
        return
    ending = Stage("write: encode", math.inf, 1, lambda: 1, parts.end_nbytes)
    pieces: list[Need] = [(name, index) for index, _ in iterate_boxes(cut)]
    pairs = {index: overlapping(cut, box) for index, box in iterate_boxes(parts.chunks)}
    gathers = sum(map(len, pairs.values())) > PAIRS * len(pieces)
    if gathers:
        written = Stage("write", math.inf, 1, lambda: 1)
        written.drafts.append(Draft((parts, ()), AllWritten(), pieces))
        planner.plan.stages.append(written)
    for index, box in iterate_boxes(parts.chunks):
        needs: list[Need] = [(parts, ())]
        if not gathers:
            needs = [(name, at) for at, _, _ in pairs[index]]
        ending.drafts.append(Draft((parts, index), EndChunk(parts, box), needs))
    planner.plan.stages.append(ending)


def write(planner: Planner, node: Expression, target: Target | Parts, scratch: int) -> int:
    """Plan to write each chunk of `node`, with `scratch` bytes an element; what names the tasks."""
    group = fuse([node], node.shape, planner.keeping)
    stage = planner.stage("write", math.inf, group, node, scratch)
    name = next(planner.arrivals)
    for index, box in iterate_boxes(node.chunks):
        pieces, needs = planner.pieces(group, box)
        stage.drafts.append(Draft((name, index), Write(pieces, target, box), needs))
    return name


def source_cut(planner: Planner, node: Expression, target: Target) -> Chunks | None:
    """The cut of the source in which `node` is best written; None for that of the target."""
    if not isinstance(target, PartsTarget) or target.store_chunk is None:
        return None
    source = node
    while isinstance(source, Recut) and source.kept is None:
        source = source.operand
    if 0 in node.shape:
        return None
    most = max(math.prod(largest(source.chunks)), math.prod(target.store_chunk))
    is_large = math.prod(largest(target.chunks)) > PIECE_SHARE * most
    group = fuse([source], source.shape, planner.keeping)
    if not is_large and not _reads_often(group, target.chunks):
        return None
    room = limits.task_memory(settings.current())
    each = planner.group_nbytes(group, 1) - planner.group_nbytes(group, 0) + node.dtype.itemsize
    at_once = settings.current().threads or limits.processor_count()
    elements = min(JOINED // node.dtype.itemsize, room // (MEMORY_SHARE * at_once * each))
    cut = joined_cut(source.chunks, target.store_chunk, elements, PART // node.dtype.itemsize)
    needed = planner.group_nbytes(group, math.prod(largest(cut)))
    return cut if needed + math.prod(largest(cut)) * node.dtype.itemsize <= room else None


def _reads_often(group: Group, chunks: Chunks) -> bool:
    """Whether chunks of a store are read, and decoded, many times for the pieces `chunks`."""
    return any(
        isinstance(leaf.expression, Stored) and reads_of(leaf, chunks) > READS_TOLERATED
        for leaf in group.leaves
    )
