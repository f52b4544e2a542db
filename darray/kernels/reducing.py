"""Programs and the reductions above them, in one pass over a chunk that stores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.kernels.evaluation import TILE, evaluate, evaluation
from darray.kernels.programs import ErrorState, Program
from darray.kernels.reduction_tiles import strips, tile_lengths
from darray.kernels.reductions import Partial, Reduction
from darray.kernels.row_sums import partial_by_rows
from darray.kernels.tiling import tiling_of
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.boxes import Box, box_shape, shift
from darray.runtime.devices.host_buffers import empty

__all__ = [
    "REDUCED",
    "Reducer",
    "partial_results",
    "partial_results_of_read",
]

Array: TypeAlias = NDArray[Any]

# Elements that are computed and reduced at a time: several tiles, since reducing one costs the
# interpreter more than computing it. They still lie in a cache when they are reduced.
REDUCED = 4 * TILE

# Elements of what is there already that several reductions look at in turn: a chunk of the usual
# size, which the last cache holds. Smaller ones would cost more in Python than they save.
READ = 1 << 19


class Reducer(Struct, frozen=True):
    """One reduction of an array: over which axes, answering errors how."""

    reduction: Reduction
    axes: tuple[int, ...]
    errors: ErrorState
    origin: int

    def partial(
        self, chunk: Array, where: Array | None, box: Box, shape: tuple[int, ...], ledger: Ledger
    ) -> Partial:
        """The partial result of a chunk, or of a tile of one, that lies at `box` in all."""
        with recording(self.errors, ledger, self.origin):
            return self.reduction.partial(chunk, self.axes, where, box, shape)

    def combine(self, partials: Sequence[Partial], ledger: Ledger) -> Partial:
        """Partial results that follow each other in C order, joined."""
        if len(partials) == 1:
            return partials[0]
        with recording(self.errors, ledger, self.origin):
            return self.reduction.combine(partials)

    def finish(self, partial: Partial, ledger: Ledger) -> Array:
        """The result."""
        with recording(self.errors, ledger, self.origin):
            return np.asarray(self.reduction.finish(partial, ledger.warn(self.origin)))


def partial_results(
    program: Program,
    inputs: Sequence[Array],
    reducers: Sequence[Reducer],
    box: Box,
    shape: tuple[int, ...],
    ledger: Ledger,
) -> list[Partial]:
    """Partial results of a chunk, which lies at `box` in an array of `shape`, for each reducer.

    `program` gives the chunk and perhaps a mask. Which tiles are reduced, and in which order
    their results are joined, depends on the chunk's shape and the axes alone.

    Examples
    --------
    >>> from darray.kernels.reductions import UfuncReduction
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> total = Reducer(UfuncReduction(np.add), (0,), warn, 0)
    >>> read = Program.assemble([], [(0, None)])
    >>> partial_results(read, [np.arange(4.0)], [total], (slice(0, 4, 1),), (4,), Ledger())
    [(array([6.]),)]
    """
    lengths = box_shape(box)
    axes = reducers[0].axes
    tiling = tiling_of(program) if prod(lengths) > TILE else None
    # What is there already is walked by the reductions themselves, if it stays in a cache.
    is_read = tiling is not None and not tiling.groups
    is_walked = is_read and (len(reducers) == 1 or prod(lengths) <= READ)
    alike = _are_alike(reducers)
    # Half precision holds no sums on the way: NumPy adds whole lines in single precision.
    alike = alike and _dtype_of(program, inputs) != np.float16
    if tiling is None or is_walked or not alike:
        chunk, *masks = evaluate(program, inputs, lengths, ledger, empty)
        where = masks[0] if masks else None
        return [one.partial(chunk, where, box, shape, ledger) for one in reducers]
    if len(reducers) == len(program.results) == 1 and len(axes) == len(lengths):
        added = partial_by_rows(program, tiling, inputs, reducers[0], lengths, ledger)
        if added is not None:
            return [added]
    corner = [part.start for part in box]
    results = _Results(reducers, [1 if a in axes else n for a, n in enumerate(lengths)])
    together = READ if is_read else REDUCED
    tile = tile_lengths(lengths, axes, together)
    with (
        evaluation(tiling, inputs, lengths, tile, ledger) as tiles,
        recording(reducers[0].errors, ledger) as record,
    ):
        for strip, parts in strips(lengths, axes, together):
            found: list[list[Partial]] = [[] for _ in reducers]
            for part in parts:
                chunk, *masks = tiles.at(part)
                sides = box_shape(part)
                if chunk.shape != sides:
                    chunk = np.broadcast_to(chunk, sides)
                where = np.broadcast_to(masks[0], sides) if masks else None
                place = shift(part, corner)
                for one, partials in zip(reducers, found, strict=True):
                    record.origin = one.origin
                    partials.append(one.reduction.partial(chunk, axes, where, place, shape))
            joined = []
            for one, partials in zip(reducers, found, strict=True):
                record.origin = one.origin
                joined.append(one.reduction.combine(partials) if len(partials) > 1 else partials[0])
            results.put(strip, joined)
    return results.partials


def partial_results_of_read(
    program: Program,
    pieces: Sequence[tuple[Box, Sequence[Array]]],
    reducers: Sequence[Reducer],
    shape: tuple[int, ...],
    ledger: Ledger,
) -> list[list[Partial]]:
    """What `partial_results` gives for each of several chunks, by a program that calls nothing.

    ``pieces`` are boxes of chunks and what the program reads there.

    Examples
    --------
    >>> from darray.kernels.reductions import UfuncReduction
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> total = Reducer(UfuncReduction(np.add), (0,), warn, 0)
    >>> read = Program.assemble([], [(0, None)])
    >>> pieces = [((slice(i, i + 2, 1),), [np.arange(i, i + 2.0)]) for i in (0, 2)]
    >>> partial_results_of_read(read, pieces, [total], (4,), Ledger())
    [[(array([1.]),)], [(array([5.]),)]]
    """
    if len(reducers) > 1 and (
        not _are_alike(reducers) or max([prod(box_shape(box)) for box, _ in pieces]) > READ
    ):
        return [
            partial_results(program, inputs, reducers, box, shape, ledger) for box, inputs in pieces
        ]
    registers = [register for register, _ in program.results]
    parts = [(one, one.reduction.partial, one.axes) for one in reducers]
    found = []
    with recording(reducers[0].errors, ledger) as record:
        for box, inputs in pieces:
            lengths = box_shape(box)
            chunk, *masks = [
                inputs[register]  # type: ignore[index]
                if inputs[register].shape == lengths  # type: ignore[index]
                else np.broadcast_to(inputs[register], lengths)  # type: ignore[index]
                for register in registers
            ]
            where = masks[0] if masks else None
            partials = []
            for reducer, partial, axes in parts:
                record.origin = reducer.origin
                partials.append(partial(chunk, axes, where, box, shape))
            found.append(partials)
    return found


def _are_alike(reducers: Sequence[Reducer]) -> bool:
    """Whether reducers go over the same axes and answer errors alike."""
    first = reducers[0]
    return all([one.axes == first.axes and one.errors == first.errors for one in reducers])


def _dtype_of(program: Program, inputs: Sequence[Array]) -> np.dtype[Any] | None:
    """The dtype of what is reduced."""
    register, _ = program.results[0]
    if register is None:
        return None
    return inputs[register].dtype if register >= 0 else program.instructions[~register].dtype


class _Results:
    """Partial results of strips, side by side."""

    def __init__(self, reducers: Sequence[Reducer], shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.partials: list[Partial] = [() for _ in reducers]

    def put(self, strip: Box, found: Sequence[Partial]) -> None:
        """Take the results that belong at `strip`."""
        if box_shape(strip) == self.shape:
            self.partials = list(found)
            return
        repeats = prod(box_shape(strip)) > 1
        for number, partial in enumerate(found):
            if not self.partials[number]:
                # What is the same for all results, a count, is given once.
                shapes = [
                    (1,) * one.ndim if repeats and one.size == 1 else self.shape for one in partial
                ]
                self.partials[number] = tuple(
                    [np.empty(shape, one.dtype) for shape, one in zip(shapes, partial, strict=True)]
                )
            for whole, one in zip(self.partials[number], partial, strict=True):
                if whole.shape == self.shape:
                    whole[strip] = one
                else:
                    whole[...] = one
