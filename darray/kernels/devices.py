"""Programs on one chunk by a device with memory of its own: call by call, on its own arrays.

The class of the arrays answers to NumPy's functions, by ``__array_ufunc__`` and
``__array_function__``, and has of its own ``shape``, ``dtype``, ``real``, ``astype``, ``copy``,
``reshape``, ``transpose`` and basic indices, which give views. What a kind does better by itself
is a kernel in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray.kernels.cpu import cast
from darray.kernels.programs import Instruction, Operand, Program
from darray.kernels.table import DEVICES, kernel, kernel_for
from darray.kernels.warnings_ledger import Ledger, recording
from darray.runtime.spaces import Space, brought, here

__all__ = ["DeviceArray", "called", "filled", "kind_here", "run", "to_device", "to_host"]

# An array of the class that a kind of device has.
DeviceArray: TypeAlias = Any


# The kind of processor that computes, where that is not "cpu".
kind_here: ContextVar[str] = ContextVar("darray.kind")


def to_device(array: NDArray[Any]) -> DeviceArray:
    """An array of the host's as one of the device that the calling code runs on.

    What a broadcast array repeats goes there once.
    """
    space = here.get()
    host = Space(space.worker, "host", 0)
    if 0 in array.strides and array.size > 1:
        single = tuple([slice(None) if stride else slice(0, 1) for stride in array.strides])
        return np.broadcast_to(brought(array[single], host, space), array.shape)
    return brought(array, host, space)


def to_host(array: DeviceArray) -> NDArray[Any]:
    """An array of the device that the calling code runs on as one of the host's."""
    space = here.get()
    found: NDArray[Any] = brought(array, space, Space(space.worker, "host", 0))
    return found


def called(function: Any, *operands: Any, **parameters: Any) -> DeviceArray:
    """What `function` gives on the kind of processor that computes, by its kernel there."""
    return kernel_for(function, kind_here.get())(*operands, **parameters)


@kernel(cast, on=DEVICES)
def _cast(array: DeviceArray, dtype: DTypeLike, casting: Any = "unsafe") -> DeviceArray:
    if array.dtype.kind == "c" and np.dtype(dtype).kind in "iufmM":
        array = array.real
    if casting == "unsafe":
        return array.astype(dtype)
    return array.astype(dtype, casting=casting)


def run(program: Program, inputs: Sequence[DeviceArray], ledger: Ledger) -> tuple[Any, ...]:
    """Run `program` on the pieces of a chunk; what it gives, perhaps yet to be broadcast.

    Raises
    ------
    FloatingPointError
        Where the errors of an instruction are to be raised, and the device tells of them.
    """
    kind = kind_here.get()
    given: list[Any] = list(inputs)
    made: list[Any] = []
    for instruction, released in zip(program.instructions, program.released, strict=True):
        with recording(instruction.errors, ledger, instruction.origin), _explained(instruction):
            made.append(_call(instruction, given, made, kind))
        for register in released:
            if register >= 0:
                given[register] = None
            else:
                made[~register] = None
    return tuple([_value(one, given, made) for one in program.results])


@contextmanager
def _explained(instruction: Instruction) -> Iterator[None]:
    """Say what to do where the arrays of a device refuse the function of an instruction."""
    try:
        yield
    except (TypeError, NotImplementedError) as error:
        name = getattr(instruction.function, "__name__", repr(instruction.function))
        kind = kind_here.get()
        error.add_note(
            f"{name} was called with arrays of a device of kind {kind!r}; where these have no "
            f"such function, register a kernel, da.kernel(..., on={kind!r}), or collect the array "
            "and go on outside the block that asks for the device"
        )
        raise


def filled(value: Any, shape: tuple[int, ...]) -> DeviceArray:
    """What a program gave, a number or an array, broadcast to the shape of its chunk."""
    array = value if hasattr(value, "shape") else to_device(np.asarray(value))
    return array if array.shape == shape else np.broadcast_to(array, shape)


def _value(operand: Operand, given: list[Any], made: list[Any]) -> Any:
    register, constant = operand
    if register is None:
        return constant
    return given[register] if register >= 0 else made[~register]


def _call(instruction: Instruction, given: list[Any], made: list[Any], kind: str) -> Any:
    operands = [_value(operand, given, made) for operand in instruction.operands]
    function = kernel_for(instruction.function, kind)
    parameters = dict(instruction.parameters)
    if instruction.where is not None:
        where = _value(instruction.where, given, made)
        shapes = [getattr(one, "shape", ()) for one in operands]
        shape = np.broadcast_shapes(where.shape, *shapes)
        dtypes = parameters.pop("result_dtypes")
        # Elements left out are zero, as on the host.
        zeros = tuple([np.zeros(shape, dtype, like=where) for dtype in dtypes])
        out: Any = zeros if len(zeros) > 1 else zeros[0]
        value = function(*operands, where=where, out=out, **parameters)
    else:
        value = function(*operands, **parameters)
    return value if instruction.output is None else value[instruction.output]
