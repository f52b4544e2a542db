"""Tilings: programs made ready to run in tiles, each call writing to a buffer used again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from darray.kernels.compiled_groups import CompiledGroup
from darray.kernels.cpu import cast
from darray.kernels.programs import ErrorState, Instruction, Program
from darray.kernels.table import kernel_for

__all__ = ["Step", "Tiling", "can_write", "select", "tiling_of"]

# Kinds of dtype whose elements lie in buffers as bytes.
_KINDS = frozenset("biufcmM")

# Integers with the bytes of an element, by its size.
_BITS = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}


class Step(Struct, frozen=True):
    """One call as the loop over tiles makes it: ``function(*operands, out=buffer)``.

    Attributes
    ----------
    operands : tuple of int
        Places of the operands among the values of a tile.
    place : int
        Where the result goes among them.
    slot : int
        The number of the buffer that the result is written to.
    origin : int
        Number of the expression that the call computes.
    """

    function: Callable[..., Any]
    operands: tuple[int, ...]
    place: int
    slot: int
    dtype: np.dtype[Any]
    origin: int


class Tiling(Struct, frozen=True):
    """A program as steps over the values of a tile: first constants, then results, then inputs.

    Invariants
    ----------
    * A step reads constants, inputs, and results of steps before it.
    * A step's slot is no slot of a value that is read after it or is a result of the program.
    * A slot that a step reads and writes holds elements of one dtype, and the step's function
      is a ufunc, which may write over what it reads.

    Attributes
    ----------
    groups : tuple
        Steps that answer floating-point errors alike, in order, with how they do; None for
        compiled groups, which see to their errors themselves.
    slot_itemsizes : tuple of int
        Bytes of the largest element in each slot.
    results : tuple of int
        Places of what the program gives.
    first_input : int
        Place of the first input.
    """

    constants: tuple[Any, ...]
    groups: tuple[tuple[ErrorState | None, tuple[Step, ...]], ...]
    slot_itemsizes: tuple[int, ...]
    results: tuple[int, ...]
    first_input: int


def tiling_of(program: Program) -> Tiling | None:
    """The tiling of `program`, found once; None where a call of it cannot write to a buffer."""
    if program.tiling is None:
        # Found twice by two threads at once, it is the same.
        force_setattr(program, "tiling", _tiling(program) or False)
    return program.tiling or None


def select(condition: Any, x: Any, y: Any, out: NDArray[Any]) -> None:
    """Write what ``np.where(condition, x, y)`` gives to `out`.

    Where all are of one dtype this chooses bits instead of jumping for each element, which costs
    a third where a processor cannot guess the condition.

    Examples
    --------
    >>> out = np.empty(2)
    >>> select(np.array([True, False]), np.array([1.0, 2.0]), np.float64(-0.0), out)
    >>> out
    array([ 1., -0.])
    """
    bits = _BITS.get(out.dtype.itemsize)
    x, y = _as_chosen(x, out.dtype), _as_chosen(y, out.dtype)
    condition = np.asarray(condition)
    if condition.dtype != bool:
        # What counts as true NumPy knows, of texts, objects and dates as well.
        condition = np.where(condition, True, False)
    if bits is None or condition.shape != out.shape:
        np.copyto(out, y)
        np.copyto(out, x, where=condition)
        return
    # All bits of an element, or none; made of bytes, of which a vector holds the most. True may be
    # any byte but zero, in memory that is viewed as bool.
    is_true = np.not_equal(condition.view(np.int8), 0)
    chosen = np.negative(is_true.view(np.int8)).astype(bits)
    found, other = out.view(bits), y.view(bits)
    np.bitwise_xor(x.view(bits), other, out=found)
    np.bitwise_and(found, chosen, out=found)
    np.bitwise_xor(found, other, out=found)


def _as_chosen(value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One of the two that are chosen from, as elements of the result."""
    array = np.asarray(value)
    return array if array.dtype == dtype else array.astype(dtype)


def _cast_into(array: NDArray[Any], out: NDArray[Any]) -> None:
    """Write `array` to `out` as `cast` gives it."""
    if array.dtype.kind == "c" and out.dtype.kind in "iufmM":
        array = array.real
    np.copyto(out, array, casting="unsafe")


_WHERE = kernel_for(np.where, "cpu")

# Functions besides ufuncs that can write to a buffer.
_WRITING: dict[Callable[..., Any], Callable[..., None]] = {np.where: select, cast: _cast_into}


def _writing(instruction: Instruction) -> Callable[..., Any] | None:
    """What is called as ``function(*operands, out=buffer)``; None if nothing is."""
    if instruction.where is not None or instruction.output is not None:
        return None
    dtype = instruction.dtype
    if dtype.kind not in _KINDS or not dtype.isnative or not dtype.itemsize:
        return None
    function = instruction.function
    kernel = kernel_for(function, "cpu")
    if kernel is not function and kernel is not _WHERE:
        # Somebody's own code for it, which gives what it gives.
        return None
    if function in _WRITING:
        return _WRITING[function]
    is_plain = isinstance(function, np.ufunc | CompiledGroup) and not instruction.parameters
    return function if is_plain else None


def can_write(instruction: Instruction) -> bool:
    """Whether the result of `instruction` can be written to a buffer as it is computed.

    Examples
    --------
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> call = Instruction(np.sqrt, ((0, None),), (), None, None, warn, 0, np.dtype(float))
    >>> can_write(call)
    True
    """
    return _writing(instruction) is not None


class _Slots:
    """Which buffers hold results that are still read, while steps are laid out."""

    def __init__(self) -> None:
        self.itemsizes: list[int] = []
        self.free: list[int] = []
        self.taken: dict[int, int] = {}

    def take(self, call: int, itemsize: int) -> int:
        """A slot for the result of `call`."""
        slot = self.free.pop() if self.free else len(self.itemsizes)
        if slot == len(self.itemsizes):
            self.itemsizes.append(0)
        self.itemsizes[slot] = max(self.itemsizes[slot], itemsize)
        self.taken[call] = slot
        return slot

    def pass_on(self, call: int, dying: list[int], instructions: Any) -> int | None:
        """The slot of a result that `call` reads last and may write over."""
        dtype = instructions[call].dtype
        for old in dying:
            if instructions[old].dtype == dtype and old in self.taken:
                slot = self.taken[call] = self.taken.pop(old)
                return slot
        return None


def _errors_of(pair: tuple[Step, Instruction]) -> ErrorState | None:
    _, instruction = pair
    return None if isinstance(instruction.function, CompiledGroup) else instruction.errors


def _tiling(program: Program) -> Tiling | None:
    instructions = program.instructions
    writing = [_writing(one) for one in instructions]
    if any(function is None for function in writing):
        return None
    constants: list[Any] = []
    operands: list[list[int | None]] = []
    for instruction in instructions:
        places: list[int | None] = []
        for register, constant in instruction.operands:
            if register is None:
                places.append(len(constants))
                constants.append(constant)
            else:
                places.append(None)
        operands.append(places)
    first_call = len(constants)
    first_input = first_call + len(instructions)

    def place_of(register: int) -> int:
        return first_input + register if register >= 0 else first_call + ~register

    slots = _Slots()
    steps: list[Step] = []
    for call, instruction in enumerate(instructions):
        dying = [~register for register in program.released[call] if register < 0]
        is_ufunc = isinstance(instruction.function, np.ufunc)
        slot = slots.pass_on(call, dying, instructions) if is_ufunc else None
        if slot is None:
            slot = slots.take(call, instruction.dtype.itemsize)
        slots.free += [slots.taken.pop(old) for old in dying if old in slots.taken]
        found = [
            place if place is not None else place_of(register)  # type: ignore[arg-type]
            for place, (register, _) in zip(operands[call], instruction.operands, strict=True)
        ]
        function = writing[call]
        assert function is not None
        steps.append(
            Step(
                function,
                tuple(found),
                first_call + call,
                slot,
                instruction.dtype,
                instruction.origin,
            )
        )
    if any(register is None for register, _ in program.results):
        return None
    results = tuple([place_of(register) for register, _ in program.results])  # type: ignore[arg-type]
    groups = [
        (errors, tuple([step for step, _ in found]))
        for errors, found in groupby(zip(steps, instructions, strict=True), key=_errors_of)
    ]
    return Tiling(tuple(constants), tuple(groups), tuple(slots.itemsizes), results, first_input)
