"""Programs on the pieces of a chunk, in tiles that stay in a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.kernels import cpu
from darray.kernels.buffers import ALIGNMENT, borrowed
from darray.kernels.compiled_groups import CompiledGroup
from darray.kernels.programs import ErrorState, Program
from darray.kernels.reduction_tiles import strips, tile_lengths
from darray.kernels.tiling import Step, Tiling, tiling_of
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.boxes import Box, box_shape

__all__ = ["STREAMED", "TILE", "Evaluation", "evaluate", "evaluation"]

Array: TypeAlias = NDArray[Any]

# A step, and along which axes its result varies; None for along all.
_Spanning: TypeAlias = tuple[Step, tuple[bool, ...] | None]

# Elements of a tile, 256 KiB as float64: a few of them fit a core's second-level cache, and the
# interpreter's share of a call on so many elements is a twentieth or less.
TILE = 1 << 15

# Bytes of a step's results in a tile where nothing is reduced: more stay in the last cache, and
# the interpreter's share, which grows when threads or neighbours share a core, is the less.
LARGE_TILE = 1 << 20

# Bytes of all results in such a tile, which a thread can keep for the next chunk.
_ALL_RESULTS = 3 << 20


# Bytes of an array from which on it is written past the caches, which would not hold it.
STREAMED = 1 << 25


class Evaluation:
    """A program over given inputs, evaluated box by box in the buffers that it was given.

    Used by one thread. What `at` returns lies in the buffers, until it is called again.

    Invariants
    ----------
    * Values that are the same for every box are computed once, when the evaluation is made.
    * ``changing`` are the inputs that are not: their places, the arrays, and along which axes
      they are as long as the chunk, or None for all of them.
    """

    def __init__(
        self,
        tiling: Tiling,
        inputs: Sequence[Array],
        shape: tuple[int, ...],
        lengths: tuple[int, ...],
        ledger: Ledger,
        memory: NDArray[np.uint8],
    ) -> None:
        self._tiling = tiling
        self._ledger = ledger
        self._memory = memory
        self._size = prod(lengths)
        calls = tiling.first_input - len(tiling.constants)
        values: list[Any] = [*tiling.constants, *[None] * calls, *inputs]
        self._values = values
        cut = [length < whole for length, whole in zip(lengths, shape, strict=True)]
        # For each place along which axes its values vary; None for along all.
        spans: list[tuple[bool, ...] | None] = [(False,) * len(shape)] * len(values)
        self.changing: list[tuple[int, Array, tuple[bool, ...] | None]] = []
        for place, array in enumerate(inputs, tiling.first_input):
            if array.shape != shape:
                missing = len(shape) - array.ndim
                array = values[place] = array.reshape((1,) * missing + array.shape)
            if array.shape == shape:
                spans[place] = None
                self.changing.append((place, array, None))
                continue
            along = spans[place] = tuple([length != 1 for length in array.shape])
            if any(a and c for a, c in zip(along, cut, strict=True)):
                self.changing.append((place, array, along))
        changes = {place for place, _, _ in self.changing}
        self._groups: list[tuple[ErrorState | None, list[_Spanning]]] = []
        for errors, steps in tiling.groups:
            kept: list[_Spanning] = []
            for step in steps:
                found = [spans[place] for place in step.operands]
                span = None if None in found else tuple(map(any, zip(*found, strict=True)))
                if span is not None and all(span):
                    span = None
                spans[step.place] = span
                if isinstance(step.function, CompiledGroup):
                    step = replace(step, function=partial(_run, step.function, ledger))
                if not changes.isdisjoint(step.operands):
                    changes.add(step.place)
                    kept.append((step, span))
                    continue
                lengths_of_it = shape if span is None else _along(span, shape)
                out = np.empty(lengths_of_it, step.dtype)
                with nullcontext() if errors is None else recording(errors, ledger, step.origin):
                    step.function(*[values[place] for place in step.operands], out=out)
                values[step.place] = out
            if kept:
                self._groups.append((errors, kept))
        self._buffers: dict[tuple[int, ...], list[Array]] = {}

    def at(self, box: Box, outs: dict[int, Array] | None = None) -> list[Array]:
        """What the program gives in `box`; those whose places are in `outs` are written there."""
        values = self._values
        for place, array, along in self.changing:
            if along is None:
                values[place] = array[box]
            else:
                index = zip(along, box, strict=True)
                values[place] = array[tuple([part if a else slice(None) for a, part in index])]
        shape = box_shape(box)
        buffers = self._buffers.get(shape)
        if buffers is None:
            buffers = self._buffers[shape] = self._make_buffers(shape)
        at = 0
        for errors, steps in self._groups:
            found = buffers[at : at + len(steps)]
            if outs is not None:
                pairs = zip(steps, found, strict=True)
                found = [outs.get(step.place, buffer) for (step, _), buffer in pairs]
            at += len(steps)
            if errors is None:
                self._run(steps, found, None)
            else:
                with recording(errors, self._ledger) as record:
                    self._run(steps, found, record)
        return [values[place] for place in self._tiling.results]

    def before(self, results: Container[int]) -> dict[int, int]:
        """The places of values that may lie where one of `results` will, until that is computed.

        They would lie in the buffer of that result otherwise; so less memory is gone through.
        """
        slots = {step.slot: step for _, steps in self._groups for step, _ in steps}
        ends = {}
        for slot, step in slots.items():
            # Of steps that share a slot the last is the one that is a result.
            if step.place in results:
                ends[slot] = step
        return {
            step.place: ends[step.slot].place
            for _, steps in self._groups
            for step, span in steps
            if span is None and step.slot in ends and step.dtype == ends[step.slot].dtype
        }

    def _run(self, steps: list[_Spanning], outs: Sequence[Array], record: recording | None) -> None:
        values = self._values
        for (step, _), out in zip(steps, outs, strict=True):
            if record is not None:
                record.origin = step.origin
            step.function(*[values[place] for place in step.operands], out=out)
            values[step.place] = out

    def _make_buffers(self, shape: tuple[int, ...]) -> list[Array]:
        """Views of the buffers for tiles of `shape`, for each step that runs in every tile."""
        starts = _slot_starts(self._tiling, self._size)
        views = []
        for _, steps in self._groups:
            for step, span in steps:
                lengths = shape if span is None else _along(span, shape)
                start = starts[step.slot]
                part = self._memory[start : start + prod(lengths) * step.dtype.itemsize]
                views.append(part.view(step.dtype).reshape(lengths))
        return views


def _run(group: CompiledGroup, ledger: Ledger, *operands: Any, out: Array) -> None:
    """Run a group as other functions of steps are called."""
    group.run(operands, out, ledger)


def _along(span: tuple[bool, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([length if along else 1 for along, length in zip(span, shape, strict=True)])


def _slot_starts(tiling: Tiling, size: int) -> list[int]:
    """Where the buffers for tiles of `size` elements begin, and the bytes of all."""
    starts = [0]
    for itemsize in tiling.slot_itemsizes:
        starts.append(starts[-1] + -(-size * itemsize // ALIGNMENT) * ALIGNMENT)
    return starts


def evaluate(
    program: Program,
    inputs: Sequence[Array],
    shape: tuple[int, ...],
    ledger: Ledger,
    make: Callable[[tuple[int, ...], np.dtype[Any]], Array],
    streams: bool = False,
) -> tuple[Array, ...]:
    """Run `program` on the pieces of a chunk of `shape`; what it gives, broadcast to that.

    Where it pays the program runs in tiles, whose results are written to arrays that `make`
    makes, given a shape and a dtype. With `streams` nobody reads them while a cache has them.

    Raises
    ------
    FloatingPointError
        Where the errors of a call are to be raised.

    Examples
    --------
    >>> from darray.kernels.programs import Instruction
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> register, dtype = (0, None), np.dtype("f8")
    >>> square = Instruction(np.multiply, (register, register), (), None, None, warn, 0, dtype)
    >>> program = Program.assemble([square], [(-1, None)])
    >>> evaluate(program, [np.arange(4.0)], (4,), Ledger(), np.empty)
    (array([0., 1., 4., 9.]),)
    """
    size = prod(shape)
    tiling = tiling_of(program) if size > TILE else None
    if tiling is None or not tiling.groups:
        results = cpu.run(program, inputs, ledger)
        return tuple(
            [one if one.shape == shape else np.broadcast_to(one, shape) for one in results]
        )
    first = program.instructions[0].function
    if isinstance(first, CompiledGroup) and len(program.instructions) == 1:
        # One loop goes through memory once, whatever the size.
        (out,) = outs = (make(shape, program.instructions[0].dtype),)
        given = (*tiling.constants, None, *inputs)
        (step,) = tiling.groups[0][1]
        first.run([given[place] for place in step.operands], out, ledger, streams)
        return outs
    dtypes = {step.place: step.dtype for _, steps in tiling.groups for step in steps}
    made = {place: make(shape, dtypes[place]) for place in tiling.results if place in dtypes}
    read = dict(enumerate(inputs, tiling.first_input))
    filled = made
    lengths = shape
    if all(one.flags.c_contiguous for one in made.values()) and all(
        one.size == 1 or (one.shape == shape and one.flags.c_contiguous) for one in inputs
    ):
        inputs = [one.reshape(-1) for one in inputs]
        filled = {place: one.reshape(-1) for place, one in made.items()}
        lengths = (size,)
    together = _together(tiling, inputs)
    if lengths == (size,) and _is_in_one(tiling, inputs, size, together):
        _run_whole(tiling, inputs, filled, size, ledger)
    else:
        _run_in_tiles(tiling, inputs, filled, lengths, together, ledger)
    values = read | made
    results = tuple([values[place] for place in tiling.results])
    return tuple([one if one.shape == shape else np.broadcast_to(one, shape) for one in results])


def _is_in_one(tiling: Tiling, inputs: Sequence[Array], size: int, together: int) -> bool:
    """Whether each step may go over all `size` elements of inputs that lie in line.

    That is so in one tile, and of one call, which keeps nothing on the way.
    """
    (errors, steps), *more = tiling.groups
    if not more and len(steps) == 1:
        return errors is not None and isinstance(steps[0].function, np.ufunc)
    return size <= together and all([one.shape == (size,) for one in inputs])


def _run_whole(
    tiling: Tiling, inputs: Sequence[Array], filled: dict[int, Array], size: int, ledger: Ledger
) -> None:
    """Run each step on all elements at once; results go into the arrays of `filled`, by place.

    What a tile of all elements does, at a fourth of what setting that up costs.
    """
    calls = tiling.first_input - len(tiling.constants)
    values = [*tiling.constants, *[None] * calls, *inputs]
    # Values on the way lie where the result will that shares their slot.
    last = {step.slot: step for _, steps in tiling.groups for step in steps}
    shares = any([np.may_share_memory(one, out) for one in inputs for out in filled.values()])
    ends = {} if shares else {slot: filled.get(step.place) for slot, step in last.items()}
    starts = _slot_starts(tiling, size)
    with borrowed(starts[-1]) as memory:
        for errors, steps in tiling.groups:
            with nullcontext() if errors is None else recording(errors, ledger) as record:
                for step in steps:
                    out = filled.get(step.place)
                    if out is None:
                        out = ends.get(step.slot)
                        if out is None or out.dtype != step.dtype:
                            start = starts[step.slot]
                            part = memory[start : start + size * step.dtype.itemsize]
                            out = part.view(step.dtype)
                    operands = [values[place] for place in step.operands]
                    if record is not None:
                        record.origin = step.origin
                        step.function(*operands, out=out)
                    elif isinstance(step.function, CompiledGroup):
                        step.function.run(operands, out, ledger)
                    values[step.place] = out


def _run_in_tiles(
    tiling: Tiling,
    inputs: Sequence[Array],
    filled: dict[int, Array],
    shape: tuple[int, ...],
    together: int,
    ledger: Ledger,
) -> None:
    """Run the steps tile by tile, of `together` elements; results go into `filled`, by place."""
    tile = tile_lengths(shape, (), together)
    with evaluation(tiling, inputs, shape, tile, ledger) as tiles:
        before = {}
        if not any([np.may_share_memory(one, out) for one in inputs for out in filled.values()]):
            before = tiles.before(filled)
        for box, _ in strips(shape, (), together):
            parts = {place: one[box] for place, one in filled.items()}
            for place, result in before.items():
                parts[place] = parts[result]
            for place, value in zip(tiling.results, tiles.at(box, parts), strict=True):
                if place in parts and value is not parts[place]:
                    parts[place][...] = value


def _together(tiling: Tiling, inputs: Sequence[Array]) -> int:
    """Elements of a tile of a program of which nothing is reduced, so that any number will do."""
    largest = max([1, *tiling.slot_itemsizes, *[one.itemsize for one in inputs]])
    most = min(LARGE_TILE // largest, _ALL_RESULTS // max(1, sum(tiling.slot_itemsizes)))
    return max(TILE, most // ALIGNMENT * ALIGNMENT)


@contextmanager
def evaluation(
    tiling: Tiling,
    inputs: Sequence[Array],
    shape: tuple[int, ...],
    lengths: tuple[int, ...],
    ledger: Ledger,
) -> Iterator[Evaluation]:
    """An evaluation in boxes of at most `lengths` of a chunk of `shape`, in this thread's buffers.

    Examples
    --------
    >>> tiling = tiling_of(Program.assemble([], [(0, None)]))
    >>> with evaluation(tiling, [np.arange(6)], (6,), (2,), Ledger()) as tiles:
    ...     tiles.at((slice(2, 4, 1),))
    [array([2, 3])]
    """
    with borrowed(_slot_starts(tiling, prod(lengths))[-1]) as memory:
        yield Evaluation(tiling, inputs, shape, lengths, ledger, memory)
