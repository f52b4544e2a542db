"""Programs: flat lists of NumPy calls on the pieces of one chunk, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

__all__ = ["ErrorState", "Instruction", "Operand", "Program"]

# How floating-point errors are answered: numpy.geterr() as (divide, over, under, invalid), and
# the callback or log object of numpy.seterrcall().
ErrorState: TypeAlias = tuple[str, str, str, str, Any]

# The number of a register, or None, and a constant that stands instead of a register.
Operand: TypeAlias = tuple[int | None, Any]


class Instruction(Struct, frozen=True):
    """One call: ``function(*operands, **parameters)``, whose result is the next register.

    Attributes
    ----------
    where : Operand or None
        Elements for which a ufunc is computed; the others are zero.
    output : int or None
        Which result is meant of a function that returns several.
    errors : ErrorState
        How floating-point errors in the call are answered.
    origin : int
        Number of the expression that the call computes, which tells its warnings apart.
    dtype : numpy.dtype
        That of the result.
    """

    function: Callable[..., Any]
    operands: tuple[Operand, ...]
    parameters: tuple[tuple[str, Any], ...]
    where: Operand | None
    output: int | None
    errors: ErrorState
    origin: int
    dtype: np.dtype[Any]


class Program(Struct, frozen=True, eq=False):
    """Instructions over registers: register r >= 0 is input r, register ~i the result of call i.

    Invariants
    ----------
    * Instruction i reads only inputs and the results of instructions before it.
    * ``released[i]`` are the registers that no instruction after i reads and that are no
      results; each register is released at most once.

    Attributes
    ----------
    instructions : tuple of Instruction
        The calls, in order.
    released : tuple of tuples of int
        Registers to let go after each instruction.
    results : tuple of Operand
        What the program gives.
    tiling : object
        How it runs in tiles, once that was asked for; false if it cannot.
    """

    instructions: tuple[Instruction, ...]
    released: tuple[tuple[int, ...], ...]
    results: tuple[Operand, ...]
    tiling: Any = None

    @classmethod
    def assemble(cls, instructions: list[Instruction], results: list[Operand]) -> Program:
        """Make a program, working out when each register is read last.

        Examples
        --------
        >>> Program.assemble([], [(0, None)]).results
        ((0, None),)
        """
        if len(instructions) == 1:
            # Its inputs go when the program ends, which is at once.
            return cls(tuple(instructions), ((),), tuple(results))
        seen = {register for register, _ in results}
        released: list[tuple[int, ...]] = []
        for instruction in reversed(instructions):
            operands = instruction.operands
            if instruction.where is not None:
                operands = (*operands, instruction.where)
            last = {register for register, _ in operands if register is not None} - seen
            seen |= last
            released.append(tuple(sorted(last)))
        return cls(tuple(instructions), tuple(reversed(released)), tuple(results))

    @property
    def result_itemsize(self) -> int:
        """Bytes of one element of each result that a call makes."""
        calls = [~register for register, _ in self.results if register is not None and register < 0]
        return sum([max(1, self.instructions[call].dtype.itemsize) for call in calls])

    def bytes_per_element(self, input_itemsizes: list[int]) -> int:
        """Bytes that the registers of one element hold at the most, inputs included."""
        instructions = self.instructions
        live = most = sum(input_itemsizes)
        for instruction, released in zip(instructions, self.released, strict=True):
            live += max(1, instruction.dtype.itemsize)
            most = max(most, live)
            for register in released:
                live -= (
                    input_itemsizes[register]
                    if register >= 0
                    else max(1, instructions[~register].dtype.itemsize)
                )
        return most
