"""Programs and functions on one chunk, by NumPy on a CPU thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray.kernels.programs import Instruction, Operand, Program
from darray.kernels.table import kernel, kernel_for
from darray.kernels.warnings_ledger import Ledger, recording

__all__ = ["cast", "run"]

# Bytes from which it pays to write a result over an operand that is read for the last time.
WORTH_REUSE = 2**15


def cast(array: NDArray[Any], dtype: DTypeLike, casting: Any = "unsafe") -> NDArray[Any]:
    """Return `array` as `dtype`; the function that a cast in a program calls."""
    values = np.asarray(array)
    if values.size and values.dtype.kind == "c" and np.dtype(dtype).kind in "iufmM":
        # NumPy warns that this discards the imaginary part, and has, of no elements.
        values = values.real
    result: NDArray[Any] = values.astype(dtype, casting=casting, copy=False)
    return result


@kernel(np.where, on="cpu")
def _where(condition: NDArray[Any], x: Any, y: Any) -> NDArray[Any]:
    # np.where takes Python scalars for arrays of their default dtype before it promotes;
    # they arrive here already cast, and go through unchanged.
    chosen: NDArray[Any] = np.where(condition, x, y)
    return chosen


def run(
    program: Program, inputs: Sequence[NDArray[Any]], ledger: Ledger
) -> tuple[NDArray[Any], ...]:
    """Run `program` on the pieces of one chunk; what it gives.

    Raises
    ------
    FloatingPointError
        Where the errors of an instruction are to be raised.
    """
    given: list[Any] = list(inputs)
    made: list[Any] = []
    instructions = program.instructions
    shown = _shown(program)
    at = 0
    while at < len(instructions):
        errors = instructions[at].errors
        with recording(errors, ledger) as record:
            # Instructions that answer errors alike share one context.
            while at < len(instructions) and instructions[at].errors == errors:
                instruction = instructions[at]
                record.origin = instruction.origin
                made.append(_call(instruction, given, made, _dying(program, at, shown)))
                for register in program.released[at]:
                    if register >= 0:
                        given[register] = None
                    else:
                        made[~register] = None
                at += 1
    return tuple([np.asarray(_value(operand, given, made)) for operand in program.results])


def _value(operand: Operand, given: list[Any], made: list[Any]) -> Any:
    register, constant = operand
    if register is None:
        return constant
    return given[register] if register >= 0 else made[~register]


def _call(instruction: Instruction, given: list[Any], made: list[Any], dying: list[int]) -> Any:
    operands = [_value(operand, given, made) for operand in instruction.operands]
    function = kernel_for(instruction.function, "cpu")
    if instruction.where is not None:
        parameters = dict(instruction.parameters)
        where = _value(instruction.where, given, made)
        shape = np.broadcast_shapes(np.shape(where), *map(np.shape, operands))
        # Elements left out are zero, so that results are the same on every run.
        zeros = tuple([np.zeros(shape, dtype) for dtype in parameters.pop("result_dtypes")])
        out: Any = zeros if len(zeros) > 1 else zeros[0]
        value = function(*operands, where=where, out=out, **parameters)
    elif instruction.parameters:
        value = function(*operands, **dict(instruction.parameters))
    else:
        spare = None
        if dying and isinstance(function, np.ufunc) and instruction.output is None:
            spare = _spare(instruction, operands, [made[i] for i in dying])
        value = function(*operands) if spare is None else function(*operands, out=spare)
    return value if instruction.output is None else value[instruction.output]


def _shown(program: Program) -> set[int]:
    """The calls whose results may still be seen once nobody reads them.

    A ufunc makes an array of its own; any other function may hand on what it was given, or a
    view of it.
    """
    shown = set()
    for call, instruction in enumerate(program.instructions):
        if not isinstance(kernel_for(instruction.function, "cpu"), np.ufunc):
            shown.add(call)
            if instruction.function is not np.where:
                read = [register for register, _ in instruction.operands if register is not None]
                shown |= {~register for register in read if register < 0}
    return shown


def _dying(program: Program, at: int, shown: set[int]) -> list[int]:
    """The calls whose results call `at` reads last, and that nothing but the program holds."""
    released = program.released[at]
    return [~register for register in released if register < 0 and ~register not in shown]


def _spare(instruction: Instruction, operands: list[Any], dying: list[Any]) -> NDArray[Any] | None:
    """An array among `dying` whose memory can take the result of the call."""
    for found in dying:
        if (
            type(found) is np.ndarray
            and found.nbytes >= WORTH_REUSE
            and found.dtype == instruction.dtype
            and all(np.shape(one) in ((), found.shape) for one in operands)
        ):
            return found
    return None
