"""Programs and functions on one chunk, by NumPy on a CPU thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray.kernels.programs import Instruction, Program
from darray.kernels.table import kernel, kernel_for
from darray.kernels.warnings_ledger import Ledger, recording

__all__ = ["cast", "run"]


def cast(array: NDArray[Any], dtype: DTypeLike, casting: Any = "unsafe") -> NDArray[Any]:
    """Return `array` as `dtype`; the function that a cast in a program calls."""
    result: NDArray[Any] = np.asarray(array).astype(dtype, casting=casting, copy=False)
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
    registers: list[Any] = list(inputs)
    at = 0
    while at < len(program.instructions):
        errors = program.instructions[at].errors
        with recording(errors, ledger) as record:
            # Instructions that answer errors alike share one context.
            while at < len(program.instructions):
                instruction = program.instructions[at]
                if instruction.errors != errors:
                    break
                record.name = instruction.function.__name__
                record.origin = instruction.origin
                registers.append(_call(instruction, registers))
                for register in program.released[at]:
                    registers[register] = None
                at += 1
    return tuple(
        [
            np.asarray(constant if register is None else registers[register])
            for register, constant in program.results
        ]
    )


def _call(instruction: Instruction, registers: list[Any]) -> Any:
    operands = [
        constant if register is None else registers[register]
        for register, constant in instruction.operands
    ]
    function = kernel_for(instruction.function, "cpu")
    parameters = dict(instruction.parameters)
    if instruction.where is not None:
        register, constant = instruction.where
        where = constant if register is None else registers[register]
        shape = np.broadcast_shapes(np.shape(where), *map(np.shape, operands))
        dtype = parameters.pop("result_dtype")
        # Elements left out are zero, so that results are the same on every run.
        zeros = np.zeros(shape, dtype)
        value = function(*operands, where=where, out=zeros, **parameters)
    else:
        value = function(*operands, **parameters)
    return value if instruction.output is None else value[instruction.output]
