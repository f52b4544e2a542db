"""Programs whose elementwise parts are compiled: which instructions go together, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.kernels.compiled_groups import CompiledGroup
from darray.kernels.cpu import cast
from darray.kernels.loop_compiler import streaming, ufunc_of
from darray.kernels.loop_operations import KINDS, convertible, is_known
from darray.kernels.loop_source import Loop, Step
from darray.kernels.programs import Instruction, Operand, Program
from darray.kernels.table import kernel_for

__all__ = ["GroupPlan", "assembled", "compiled", "is_squaring", "plan", "plan_adding"]

DType: TypeAlias = np.dtype[Any]

# A single call is as fast by NumPy.
_WORTH_IT = 2

# Limits of one loop: LLVM's time grows with the calls, the stack with the inputs.
_MOST_CALLS = 64
_MOST_INPUTS = 24

_PLAIN_WHERE = kernel_for(np.where, "cpu")


class GroupPlan(Struct, frozen=True):
    """Instructions of a program that become one loop; only the last one's result is read.

    Attributes
    ----------
    members : tuple of int
        The instructions' numbers.
    registers : tuple of int
        What the group reads, in the order of the loop's first inputs.
    constants : tuple of (int, int)
        Instruction and operand of each of the loop's other inputs.
    """

    members: tuple[int, ...]
    registers: tuple[int, ...]
    constants: tuple[tuple[int, int], ...]
    loop: Loop


def compiled(program: Program, input_dtypes: Sequence[DType]) -> Program | None:
    """`program` with its elementwise parts compiled; None where that gains nothing. Waits.

    Raises
    ------
    ImportError, RuntimeError
        As `ufunc_of` does.
    """
    plans = plan(program, input_dtypes)
    return assembled(program, plans, [ufunc_of(one.loop) for one in plans]) if plans else None


@lru_cache(maxsize=4096)
def _loop_dtypes(ufunc: np.ufunc, given: tuple[Any, ...]) -> tuple[DType, ...] | None:
    """The dtypes to which NumPy brings the operands, and its result's; None if it has none."""
    try:
        found: tuple[DType, ...] = ufunc.resolve_dtypes((*given, None))
    except TypeError:
        return None
    return found


def _type_of(constant: Any) -> Any:
    """What a constant is for `ufunc.resolve_dtypes`; None if it is no number."""
    if isinstance(constant, np.generic):
        return constant.dtype
    if isinstance(constant, bool):
        return np.dtype(bool)
    for kind in (int, float, complex):
        if isinstance(constant, kind):
            return kind
    return None


def _typed(instruction: Instruction, given: list[Any]) -> tuple[DType, ...] | None:
    """The dtypes that the operands are brought to, if a loop can do what `instruction` does.

    ``given`` are the operands' dtypes, for Python's numbers their types.
    """
    function = instruction.function
    dtype = instruction.dtype
    if instruction.where is not None or instruction.output is not None:
        return None
    if any(one is None for one in given):
        return None
    wanted: tuple[DType, ...]
    if function is cast:
        parameters = dict(instruction.parameters)
        wanted = (dtype,) if parameters.get("dtype") == dtype else ()
    elif instruction.parameters:
        return None
    elif function is np.where:
        wanted = (np.dtype(bool), dtype, dtype)
        if kernel_for(function, "cpu") is not _PLAIN_WHERE or tuple(given) != wanted:
            return None
    else:
        if not isinstance(function, np.ufunc) or kernel_for(function, "cpu") is not function:
            return None
        kinds = "f" if is_squaring(instruction) else KINDS.get(function, "")
        found = _loop_dtypes(function, tuple(given)) if kinds else None
        if found is None or found[-1] != dtype or found[0].kind not in kinds:
            return None
        wanted = found[:-1]
        if any(one != wanted[0] for one in wanted):
            return None
    if len(wanted) != len(given) or not is_known(dtype):
        return None
    for one, other in zip(given, wanted, strict=True):
        if isinstance(one, np.dtype) and not convertible(one, other):
            return None
        if not is_known(other):
            return None
    return wanted


def is_squaring(instruction: Instruction) -> bool:
    """Whether `instruction` is a power whose exponent is the constant 2."""
    if instruction.function is not np.power:
        return False
    (base, _), (register, exponent) = instruction.operands
    return base is not None and register is None and bool(exponent == 2)


def plan(
    program: Program, input_dtypes: Sequence[DType], least: int = _WORTH_IT
) -> tuple[GroupPlan, ...]:
    """Find the groups of `program`, of `least` calls or more, that are worth a loop of their own.

    Examples
    --------
    >>> double, quiet = np.dtype(float), ("ignore",) * 4 + (None,)
    >>> calls = [
    ...     Instruction(np.multiply, ((0, None), (0, None)), (), None, None, quiet, 0, double),
    ...     Instruction(np.sqrt, ((-1, None),), (), None, None, quiet, 1, double),
    ... ]
    >>> [one.members for one in plan(Program.assemble(calls, [(-2, None)]), [double])]
    [(0, 1)]
    """
    instructions = program.instructions
    typed: list[tuple[DType, ...] | None] = []
    for instruction in instructions:
        given = [
            _type_of(constant)
            if register is None
            else (input_dtypes[register] if register >= 0 else instructions[~register].dtype)
            for register, constant in instruction.operands
        ]
        reads = any(register is not None for register, _ in instruction.operands)
        found = _typed(instruction, given) if reads else None
        for (register, constant), dtype in zip(instruction.operands, found or (), strict=False):
            if register is None and _held(constant, dtype) is None:
                found = None
        typed.append(found)
    plans = []
    for root, members in _grouped(program, typed).items():
        chosen = tuple(sorted(members))
        if len(chosen) >= least:
            assert chosen[-1] == root
            plans.append(_planned(program, input_dtypes, chosen, typed))
    return tuple(sorted(plans, key=lambda one: one.members[-1]))


def _held(constant: Any, dtype: DType) -> NDArray[Any] | None:
    """`constant` as a loop takes it; None if `dtype` cannot hold it, of which NumPy would tell."""
    try:
        with np.errstate(all="raise"):
            return np.asarray(constant, dtype)
    except (OverflowError, FloatingPointError):
        return None


def _grouped(program: Program, typed: list[tuple[DType, ...] | None]) -> dict[int, list[int]]:
    """Instructions that can be compiled, by the last of their group, which alone is read."""
    instructions = program.instructions
    # By instruction: the groups that read it, None for what is no group.
    readers: list[set[int | None]] = [set() for _ in instructions]
    for register, _ in program.results:
        if register is not None and register < 0:
            readers[~register].add(None)
    group_of: dict[int, int] = {}
    groups: dict[int, list[int]] = {}
    reads: dict[int, set[Operand]] = {}
    for i in reversed(range(len(instructions))):
        group: int | None = None
        if typed[i] is not None:
            group = _only(readers[i])
            mine = {_operand_key(i, k, one) for k, one in enumerate(instructions[i].operands)}
            if group is None or (
                len(groups[group]) >= _MOST_CALLS or len(reads[group] | mine) > _MOST_INPUTS
            ):
                group = i
                groups[i], reads[i] = [], set()
            groups[group].append(i)
            reads[group] = (reads[group] | mine) - {(~i, None)}
            group_of[i] = group
        where = instructions[i].where
        operands = instructions[i].operands if where is None else (*instructions[i].operands, where)
        for register, _ in operands:
            if register is not None and register < 0:
                readers[~register].add(group)
    return groups


def _operand_key(instruction: int, place: int, operand: Operand) -> Operand:
    """What tells the inputs of a loop apart: registers, and each constant."""
    register, _ = operand
    return (register, None) if register is not None else (None, (instruction, place))


def _only(found: set[int | None]) -> int | None:
    return next(iter(found)) if len(found) == 1 else None


def _planned(
    program: Program,
    input_dtypes: Sequence[DType],
    members: tuple[int, ...],
    typed: list[tuple[DType, ...] | None],
) -> GroupPlan:
    instructions = program.instructions
    place = {~member: ~i for i, member in enumerate(members)}
    registers: dict[int, int] = {}
    constants: dict[tuple[int, int], DType] = {}
    for i in members:
        wanted = typed[i]
        assert wanted is not None
        for k, (register, _) in enumerate(instructions[i].operands):
            if register is None:
                constants[i, k] = wanted[k]
            elif register not in place:
                registers.setdefault(register, len(registers))
    numbers = {one: len(registers) + j for j, one in enumerate(constants)}
    steps = []
    for i in members:
        wanted = typed[i]
        assert wanted is not None
        operands = [
            numbers[i, k] if register is None else place.get(register, registers.get(register, 0))
            for k, (register, _) in enumerate(instructions[i].operands)
        ]
        steps.append(Step(instructions[i].function, tuple(operands), wanted, instructions[i].dtype))
    dtypes = [
        input_dtypes[register] if register >= 0 else instructions[~register].dtype
        for register in registers
    ]
    loop = Loop((*dtypes, *constants.values()), frozenset(numbers.values()), tuple(steps))
    return GroupPlan(members, tuple(registers), tuple(constants), loop)


def plan_adding(
    program: Program, input_dtypes: Sequence[DType]
) -> tuple[tuple[GroupPlan, ...], Loop | None]:
    """Find the groups of a program whose results will be added, and the loop that adds them.

    That is None where no one loop could do all of it; where one can, a single call is worth it.

    Examples
    --------
    >>> double, quiet = np.dtype(float), ("ignore",) * 4 + (None,)
    >>> call = Instruction(np.square, ((0, None),), (), None, None, quiet, 0, double)
    >>> plans, loop = plan_adding(Program.assemble([call], [(-1, None)]), [double])
    >>> [one.members for one in plans], loop.sums
    ([(0,)], True)
    """
    plans = plan(program, input_dtypes, least=1)
    if len(plans) == 1 == len(program.results):
        (one,) = plans
        loop = one.loop
        if len(one.members) == len(program.instructions) and loop.steps[-1].dtype.char in "fd":
            return plans, replace(loop, sums=True)
    return plan(program, input_dtypes), None


def assembled(
    program: Program,
    plans: Sequence[GroupPlan],
    ufuncs: Sequence[np.ufunc],
    sums: np.ufunc | None = None,
) -> Program | None:
    """`program` with each group's instructions as one, whose function is a `CompiledGroup`.

    ``sums`` is what was made of the loop that `plan_adding` gives, where that is wanted. None where
    the plans, made for other constants, do not fit the constants of this one.
    """
    instructions = program.instructions
    roots: dict[int, tuple[GroupPlan, np.ufunc, list[Operand]]] = {}
    for one, ufunc in zip(plans, ufuncs, strict=True):
        constants: list[Operand] = []
        dtypes = one.loop.dtypes[len(one.registers) :]
        for (i, k), dtype in zip(one.constants, dtypes, strict=True):
            held = _held(instructions[i].operands[k][1], dtype)
            if held is None:
                return None
            constants.append((None, held))
        roots[one.members[-1]] = (one, ufunc, constants)
    inside = {member for one in plans for member in one.members}
    moved: dict[int, int] = {}

    def follow(operand: Operand) -> Operand:
        register, constant = operand
        return (None, constant) if register is None else (moved.get(register, register), None)

    built: list[Instruction] = []
    for i, instruction in enumerate(instructions):
        if i in roots:
            one, ufunc, constants = roots[i]
            arrays = [follow((register, None)) for register in one.registers]
            group = CompiledGroup(ufunc, _alone(program, one), sums, streaming(ufunc))
            built.append(
                replace(instruction, function=group, operands=(*arrays, *constants), parameters=())
            )
        elif i in inside:
            continue
        else:
            operands = tuple([follow(one) for one in instruction.operands])
            where = None if instruction.where is None else follow(instruction.where)
            built.append(replace(instruction, operands=operands, where=where))
        moved[~i] = -len(built)
    return Program.assemble(built, [follow(one) for one in program.results])


def _alone(program: Program, one: GroupPlan) -> Program:
    """The instructions of a group as a program over what the group reads."""
    inner = {register: k for k, register in enumerate(one.registers)}
    inner.update({~member: ~i for i, member in enumerate(one.members)})
    calls = []
    for member in one.members:
        call = program.instructions[member]
        operands = [(None if r is None else inner[r], constant) for r, constant in call.operands]
        calls.append(replace(call, operands=tuple(operands)))
    return Program.assemble(calls, [(-len(calls), None)])
