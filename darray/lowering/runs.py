"""Runs: chunks of arrays in memory that follow each other and are reduced by one task.

A task costs the interpreter as much as a fifth of summing a chunk, so that several chunks share
one. Partial results are joined pairwise all the same: a run is as long as a power of two, and
begins where such a one may, so that what it gives is a branch of the tree that joins all chunks
of a line. The result, to the bit, does not depend on the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from darray.expr.nodes import Memory
from darray.index_maps import IndexMap
from darray.kernels.reducing import Reducer, partial_results, partial_results_of_read
from darray.kernels.reductions import Partial
from darray.kernels.row_sums import partial_of_stack
from darray.kernels.warnings_ledger import Ledger
from darray.lowering.calls import Pieces
from darray.lowering.fusion import Group
from darray.lowering.places import computes_elsewhere
from darray.lowering.plans import Index
from darray.runtime import limits, settings
from darray.runtime.boxes import Box, box_shape, index_of

__all__ = ["ReduceRun", "run_ends", "run_length", "runs"]

# Bytes that a run reads at the most: so many that a task costs a fiftieth of reading them.
LARGEST = 1 << 25

# Runs for each thread, at least, so that all threads end at about the same time.
LEAST = 4

# How many runs a piece of a line becomes at its end.
PARTS = 4


class ReduceRun(Struct, frozen=True):
    """Compute and reduce chunks of arrays in memory, and join their partial results.

    ``pieces`` are those of the first chunk, without loads; ``sources`` has for each input the
    array and how it is seen.
    """

    pieces: Pieces
    sources: tuple[tuple[NDArray[Any], IndexMap], ...]
    reducers: tuple[Reducer, ...]
    boxes: Sequence[Box]
    whole_shape: tuple[int, ...]
    is_shared: bool

    @classmethod
    def of(
        cls,
        group: Group,
        reducers: tuple[Reducer, ...],
        boxes: Sequence[Box],
        whole_shape: tuple[int, ...],
        ledger: Ledger,
    ) -> ReduceRun:
        """The run over the chunks at `boxes` of what `group` computes, for which it has one."""
        pieces = Pieces(group, (), box_shape(boxes[0]), ledger)
        sources = []
        is_shared = False
        for leaf in group.leaves:
            assert isinstance(leaf.expression, Memory)
            sources.append((leaf.expression.array, leaf.index_map))
            is_shared |= leaf.expression.is_shared
        return cls(pieces, tuple(sources), reducers, boxes, whole_shape, is_shared)

    def __call__(self) -> tuple[Partial, ...]:
        """The partial results, one for each reduction."""
        group, ledger, reducers = self.pieces.group, self.pieces.ledger, self.reducers
        stack = self.stack()
        if stack is not None:
            partial = partial_of_stack(reducers[0], stack, ledger)
            if partial is not None:
                return (partial,)
        pieces = [(box, self.inputs(box)) for box in self.boxes]
        if not group.program.instructions:
            found = partial_results_of_read(
                group.program, pieces, reducers, self.whole_shape, ledger
            )
        else:
            found = []
            for box, inputs in pieces:
                program = group.program_for(prod(box_shape(box)))
                found.append(
                    partial_results(program, inputs, reducers, box, self.whole_shape, ledger)
                )
        return tuple(
            [
                reducer.combine([one[number] for one in found], ledger)
                for number, reducer in enumerate(reducers)
            ]
        )

    def stack(self) -> NDArray[Any] | None:
        """The chunks as one array of them, where they are all of one shape and only read.

        None for others, and for several reductions, which look at one chunk after another.
        """
        program = self.pieces.group.program
        if program.instructions or len(self.reducers) + len(program.results) > 2:
            return None
        ((array, index_map),) = self.sources
        shape, count = self.pieces.shape, len(self.boxes)
        first, last = self.boxes[0], self.boxes[-1]
        start, stop = first[0].start, last[0].stop
        # Rows of the whole array: what lies between the first and the last is all of the others.
        if not index_map.is_identity or shape[1:] != array.shape[1:]:
            return None
        is_even = count & (count - 1) == 0 and stop - start == count * shape[0]
        if not is_even or box_shape(last) != shape:
            return None
        return array[start:stop].reshape(count, *shape)

    def inputs(self, box: Box) -> list[NDArray[Any]]:
        """What the program reads for the chunk at `box`."""
        inputs = []
        for array, index_map in self.sources:
            if index_map.is_identity:
                inputs.append(array[index_of(box)])
            else:
                source = index_map.source_box(box)
                inputs.append(index_map.arrange(array[index_of(source)], source))
        return inputs


def run_length(group: Group, elements: int, chunks: int) -> int:
    """How many chunks of so many `elements`, of all `chunks`, make a run: a power of two.

    One where what `group` computes is not made of arrays in memory alone.

    Examples
    --------
    >>> import numpy as np
    >>> from darray.lowering.fusion import fuse
    >>> array = Memory((4,), np.dtype(float), ((4,),), np.zeros(4))
    >>> run_length(fuse([array], (4,)), elements=1 << 18, chunks=1)
    1
    """
    if chunks < LEAST or computes_elsewhere():
        return 1
    for leaf in group.leaves:
        if not isinstance(leaf.expression, Memory) or leaf.expression.kept is not None:
            return 1
    threads = settings.current().threads or _processors()
    read = sum([leaf.expression.dtype.itemsize for leaf in group.leaves])
    nbytes = max(1, elements * read)
    most = min(LARGEST // nbytes, chunks // (LEAST * threads))
    return 1 << (most.bit_length() - 1) if most > 1 else 1


# Asking takes as long as planning ten runs, and only their length depends on it.
_processors = cache(limits.processor_count)


def runs(line: Sequence[Index], length: int, ends: int = 0) -> list[list[tuple[Index, ...]]]:
    """`line` in pieces of `length`, of which the last may be shorter, each as one run or several.

    The last `ends` pieces are four runs each, so that threads end at about the same time.

    Examples
    --------
    >>> runs([(0,), (1,), (2,)], 2)
    [[((0,), (1,))], [((2,),)]]
    >>> [[len(run) for run in runs] for runs in runs([(i,) for i in range(15)], 8, ends=1)]
    [[8], [2, 2, 2, 1]]
    """
    pieces = [line[start : start + length] for start in range(0, len(line), length)]
    whole = len(pieces) - (ends if length >= PARTS else 0)
    part = length // PARTS
    return [
        [tuple(piece)]
        if number < whole
        else [tuple(piece[start : start + part]) for start in range(0, len(piece), part)]
        for number, piece in enumerate(pieces)
    ]


def run_ends(lines: int) -> int:
    """How many pieces of a line are cut further, where there are so many `lines` in all.

    Examples
    --------
    >>> run_ends(5)
    0
    """
    present = settings.current()
    threads = 1 if present.engine == "serial" else present.threads or _processors()
    return threads if threads > 1 and lines == 1 else 0
