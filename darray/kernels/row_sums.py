"""Sums of chunks in few calls: of rows of what a program gives, and of many chunks at once.

A compiled loop adds a row as it computes it, to the same bits as NumPy does after a tile of rows
is computed; so the chunk is read once and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.buffers import borrowed
from darray.kernels.compiled_groups import ROW, CompiledGroup
from darray.kernels.evaluation import TILE, evaluation
from darray.kernels.line_sums import is_line, sum_of_line
from darray.kernels.moments import Mean
from darray.kernels.programs import Program
from darray.kernels.reductions import (
    NO_VALUE,
    Partial,
    Reduction,
    UfuncReduction,
)
from darray.kernels.tiling import Tiling
from darray.kernels.warnings_ledger import Ledger, recording

if TYPE_CHECKING:
    from darray.kernels.reducing import Reducer

__all__ = ["adds", "partial_by_rows", "partial_of_stack"]

Array = NDArray[Any]

# Elements that are computed before they are added: whole rows.
_TOGETHER = 4 * TILE


def adds(reduction: Reduction, dtype: np.dtype[Any]) -> bool:
    """Whether the partial results of `reduction` are sums, in single or double precision.

    Examples
    --------
    >>> adds(Mean(), np.dtype("f4")), adds(Mean(), np.dtype("i4"))
    (True, False)
    >>> adds(UfuncReduction(np.maximum), np.dtype("f8"))
    False
    """
    if dtype.char not in "fd" or not dtype.isnative:
        return False
    if isinstance(reduction, Mean):
        is_sum = not reduction.skip_nan
    elif isinstance(reduction, UfuncReduction):
        is_sum = reduction.ufunc is np.add and reduction.initial is NO_VALUE
    else:
        return False
    # None equals double precision, as NumPy's dtypes have it.
    return is_sum and (reduction.dtype is None or reduction.dtype == dtype)


def partial_by_rows(
    program: Program,
    tiling: Tiling,
    inputs: Sequence[Array],
    reducer: Reducer,
    lengths: tuple[int, ...],
    ledger: Ledger,
) -> Partial | None:
    """The partial result of a chunk that is reduced along all axes.

    None for a reducer that does not add what the program gives, and where its inputs do not lie
    in line, element by element. What is added to what depends on the size of the chunk alone.
    """
    ((register, _),) = program.results
    if register is None or register >= 0:
        return None
    dtype = program.instructions[~register].dtype
    if not adds(reducer.reduction, dtype) or not all(
        one.size == 1 or (one.shape == lengths and one.flags.c_contiguous) for one in inputs
    ):
        return None
    size = prod(lengths)
    lines = [one.reshape(-1) for one in inputs]
    # The last may be the sum of a shorter row.
    sums = np.empty(-(-size // ROW), dtype)
    if not _add_compiled(program, lines, sums, size, reducer, ledger):
        with evaluation(tiling, lines, (size,), (min(size, _TOGETHER),), ledger) as tiles:
            for start in range(0, size, _TOGETHER):
                part = slice(start, min(start + _TOGETHER, size), 1)
                (values,) = tiles.at((part,))
                values = np.broadcast_to(values, (part.stop - start,))
                _add(values, sums[start // ROW :], reducer, ledger)
    with recording(reducer.errors, ledger, reducer.origin):
        total = np.full((1,) * len(lengths), np.add.reduce(sums), dtype)
    assert isinstance(reducer.reduction, Mean | UfuncReduction)
    return reducer.reduction.partial_of_sum(total, lengths, reducer.axes, dtype)


def partial_of_stack(reducer: Reducer, stack: Array, ledger: Ledger) -> Partial | None:
    """The partial result of chunks of one shape, ``stack[i]``, whose number is a power of two.

    What joining the partial results of the chunks gives, to the bit, in a few calls for all of
    them, and in memory that is used again. The chunks follow each other along the first axis.
    None for a reducer that does not add, for chunks that do not lie in line, and for other axes
    than all, or the first of two.

    Examples
    --------
    >>> from darray.kernels.reducing import Reducer
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> total = Reducer(UfuncReduction(np.add), (0,), warn, 0)
    >>> partial_of_stack(total, np.arange(8.0).reshape(4, 2), Ledger())
    (array([28.]),)
    """
    axes, reduction, dtype = reducer.axes, reducer.reduction, stack.dtype
    count, *lengths = stack.shape
    if not stack.flags.c_contiguous or not adds(reduction, dtype):
        return None
    if len(axes) == len(lengths):
        add = _added_whole
    elif len(lengths) == 2 and axes == (0,):
        add = _added_along_first
    else:
        return None
    with recording(reducer.errors, ledger, reducer.origin):
        total = add(stack)
    assert isinstance(reduction, Mean | UfuncReduction)
    return reduction.partial_of_sum(total, (count * lengths[0], *lengths[1:]), axes, dtype)


def _added_whole(stack: Array) -> Array:
    """The sum of all chunks of a stack, with axes of length 1."""
    count = len(stack)
    nbytes = count * stack.itemsize
    with borrowed(2 * nbytes) as memory:
        sums, others = [memory[start : start + nbytes].view(stack.dtype) for start in (0, nbytes)]
        if is_line(stack[0]):
            for number, chunk in enumerate(stack):
                sums[number] = sum_of_line(chunk)
        else:
            np.add.reduce(stack.reshape(count, -1), axis=1, out=sums)
        while count > 1:
            np.add(sums[:count:2], sums[1:count:2], out=others[: count // 2])
            sums, others, count = others, sums, count // 2
        return np.array(sums[0]).reshape((1,) * (stack.ndim - 1))


def _added_along_first(stack: Array) -> Array:
    """The sum of all rows of chunks with two axes, as one row.

    Of the sums of chunks those are held that have no neighbour yet: so few that a cache holds them.
    """
    count, _, length = stack.shape
    shape = (count.bit_length() + 1, length)
    nbytes = prod(shape) * stack.itemsize
    with borrowed(nbytes) as memory:
        row, *waiting = memory[:nbytes].view(stack.dtype).reshape(shape)
        for number, chunk in enumerate(stack):
            np.add.reduce(chunk, axis=0, out=row)
            # By their places: sums of two to the power of the place chunks each.
            level = 0
            while number >> level & 1:
                np.add(waiting[level], row, out=row)
                level += 1
            row, waiting[level] = waiting[level], row
        return np.array(waiting[count.bit_length() - 1])[np.newaxis]


def _add_compiled(
    program: Program,
    lines: Sequence[Array],
    sums: Array,
    size: int,
    reducer: Reducer,
    ledger: Ledger,
) -> bool:
    """Write the sums of rows by the one compiled loop that the program is, if it is."""
    (instruction, *others) = program.instructions
    group = instruction.function
    if others or not isinstance(group, CompiledGroup) or group.sums is None:
        return False
    rows, rest = divmod(size, ROW)
    whole, last = [], []
    for register, constant in instruction.operands:
        if register is None:
            whole.append(constant)
            last.append(constant)
        elif lines[register].size == 1:
            whole.append(np.broadcast_to(lines[register], (rows, ROW)))
            last.append(np.broadcast_to(lines[register], (rest,)))
        else:
            whole.append(lines[register][: rows * ROW].reshape(rows, ROW))
            last.append(lines[register][rows * ROW :])
    group.add_rows(whole, sums[:rows], ledger, reducer.errors, reducer.origin)
    if rest:
        values = np.empty(rest, sums.dtype)
        group.run(last, values, ledger)
        _add(values, sums[rows:], reducer, ledger)
    return True


def _add(values: Array, sums: Array, reducer: Reducer, ledger: Ledger) -> None:
    """Write the sums of the rows of `values`, of which the last may be shorter."""
    rows = len(values) // ROW
    with recording(reducer.errors, ledger, reducer.origin):
        if rows:
            np.add.reduce(values[: rows * ROW].reshape(rows, ROW), axis=1, out=sums[:rows])
        if len(values) > rows * ROW:
            sums[rows] = np.add.reduce(values[rows * ROW :])
