"""Which kernel runs a program: NumPy's ufuncs from the start, a compiled loop when it pays.

Compiling never delays what asks for a program: one thread does it aside, of its own, which is
there only while there is something to compile. A structure, which is a program without its
constants, is compiled when what that would have saved so far is what it costs, so that at most
twice the best is paid; or when the computation at hand has twice as much left to save. What is
computed a second time will mostly be computed many times, and is compiled sooner. So is what costs
less, because its machine code lies in the cache folder.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from darray.kernels import costs
from darray.kernels.compiled import GroupPlan, assembled, is_squaring, plan, plan_adding
from darray.kernels.compiled_groups import expects_errors
from darray.kernels.cpu import cast
from darray.kernels.loop_compiler import is_cached, ufunc_of
from darray.kernels.loop_source import Loop
from darray.kernels.programs import Instruction, Program
from darray.runtime import settings

__all__ = ["Selection", "wait"]

DType: TypeAlias = np.dtype[Any]

# Elements of a chunk below which choosing costs more than a loop saves: some 30 µs.
SMALL = 2**15

# Seconds to import llvmlite. What else is weighed is measured on each machine: `costs`.
IMPORTING = 0.06

# How many times more work than was seen is to come, where a structure came up before.
COMING = 8

# Structures that are remembered.
_MOST = 4096


class _Structure:
    """What is known of programs that differ in their constants only; changed under `_lock`.

    ``loops`` are those of the plans, and perhaps one that adds. ``stage`` goes from "new" to
    "cheap" when machine code is looked for in the cache folder, from there back to "unfound", from
    either to "asked", and ends as "ready" or "refused". Only when "ready" are there ``ufuncs``, one
    for each loop; only when "refused" a ``reason``. ``seen`` counts elements that NumPy computed,
    ``uses`` selections that had it computed.
    """

    def __init__(
        self, plans: tuple[GroupPlan, ...], saved: float, sums: Loop | None = None
    ) -> None:
        self.plans = plans
        self.loops = [one.loop for one in plans] + ([] if sums is None else [sums])
        self.saved = saved
        self.seen = 0
        self.uses = 0
        self.stage = "new"
        self.ufuncs: tuple[np.ufunc, ...] | None = None
        self.reason: str | None = None

    def _check(self) -> None:
        """Check what the type's description says."""
        assert self.stage in ("new", "cheap", "unfound", "asked", "ready", "refused")
        assert (self.stage == "ready") == (self.ufuncs is not None)
        assert (self.stage == "refused") == (self.reason is not None)
        assert self.ufuncs is None or len(self.ufuncs) == len(self.loops)


# Guards all of the following and every structure; taken last, and nothing is done under it that
# could take long or call anybody.
_lock = threading.Lock()
_structures: dict[Any, _Structure] = {}
_asked: deque[_Structure] = deque()
_thread: threading.Thread | None = None
_is_ending = False


class Selection:
    """The choice of a kernel for one program, made anew for each chunk until it is final.

    Parameters
    ----------
    program : Program
        What is to be run.
    input_dtypes : sequence of numpy.dtype
        Those of its inputs.
    expected : int
        Elements for which it will be run in all.
    is_added : bool
        Whether all that it gives for a chunk is added, row by row.

    Examples
    --------
    >>> selection = Selection(Program.assemble([], [(0, None)]), [np.dtype(float)])
    >>> selection.program_for(10).results
    ((0, None),)
    >>> selection.explanation()
    'NumPy: there are no two calls that one loop could do'
    """

    __slots__ = (
        "_chosen",
        "_is_counted",
        "_structure",
        "_to_come",
        "expected",
        "input_dtypes",
        "is_added",
        "program",
    )

    def __init__(
        self,
        program: Program,
        input_dtypes: Sequence[DType],
        expected: int = 0,
        is_added: bool = False,
    ) -> None:
        self.program = program
        self.is_added = is_added
        self.input_dtypes = tuple(input_dtypes)
        self.expected = self._to_come = expected
        self._structure: _Structure | None = None
        # Whether the structure knows of this selection; changed under `_lock`, as `expected` is.
        self._is_counted = False
        # Set once, to what does not depend on who sets it.
        has_choice = len(program.instructions) > (not is_added)
        self._chosen: Program | None = None if has_choice else program

    def __reduce__(self) -> tuple[type[Selection], tuple[Program, tuple[DType, ...], int, bool]]:
        return (Selection, (self.program, self.input_dtypes, self.expected, self.is_added))

    def of(self, program: Program) -> Selection:
        """A choice like this for `program`, which differs in the numbers of its calls."""
        return Selection(program, self.input_dtypes, self._to_come, self.is_added)

    def again(self) -> Selection:
        """A choice for another computation by the same program, which begins with what is known."""
        made = self.of(self.program)
        made._structure = self._structure
        chosen = self._chosen
        if chosen is not None and settings.current().jit and not expects_errors(chosen):
            made._chosen = chosen
        return made

    def program_for(self, elements: int) -> Program:
        """The program to run now, on a chunk of `elements`; with compiled groups if they are there.

        Never waits for a compiler and never raises.
        """
        if self._chosen is not None:
            return self._chosen
        if elements < SMALL or not settings.current().jit:
            return self.program
        structure = self._find()
        with _lock:
            ufuncs = structure.ufuncs
        if not structure.plans:
            self._chosen = self.program
        elif ufuncs is not None:
            made = assembled(self.program, structure.plans, *_parted(structure, ufuncs))
            self._chosen = made or self.program
        else:
            self._weigh(structure, elements)
        return self._chosen or self.program

    def _find(self) -> _Structure:
        if self._structure is None:
            self._structure = _structure_of(self.program, self.input_dtypes, self.is_added)
        return self._structure

    def _weigh(self, structure: _Structure, elements: int) -> None:
        """Count work that NumPy does, and ask for a loop if that is more than it should."""
        begin, known = False, costs.current()
        with _lock:
            structure.seen += elements
            structure.uses += not self._is_counted
            self._is_counted = True
            self.expected -= elements
            if structure.stage in ("new", "unfound") and not _is_ending:
                foreseen = structure.seen * (COMING if structure.uses > 1 else 1)
                worth = structure.saved * max(foreseen, self.expected / 2)
                importing = 0.0 if "llvmlite" in sys.modules else IMPORTING
                loops = len(structure.loops)
                if worth >= importing + known.compiling * loops:
                    structure.stage = "asked"
                elif structure.stage == "new" and worth >= importing + known.fetching * loops:
                    structure.stage = "cheap"
                if structure.stage in ("asked", "cheap"):
                    _asked.append(structure)
                    begin = True
        if begin:
            _begin()

    def explanation(self) -> str:
        """Which kernel runs the program and why, in one line."""
        if not settings.current().jit:
            return "NumPy: compiling is switched off (jit=False)"
        structure = self._find()
        with _lock:
            stage, reason, seen = structure.stage, structure.reason, structure.seen
        calls = sum([len(one.members) for one in structure.plans])
        loops = len(structure.plans)
        if not loops:
            return "NumPy: there are no two calls that one loop could do"
        what = f"{calls} of {len(self.program.instructions)} calls"
        if stage == "ready":
            return f"compiled: {what} in {loops} loop{'s' * (loops > 1)}"
        if stage == "refused":
            return f"NumPy: {what} cannot be compiled: {reason}"
        if stage in ("asked", "cheap"):
            return f"NumPy: {what} are being compiled"
        enough = costs.current().compiling * len(structure.loops) / structure.saved
        return (
            f"NumPy: {what} could be compiled, which pays from {enough:.0e} elements on, of which "
            f"{seen:.0e} were computed"
        )


def _parted(
    structure: _Structure, ufuncs: tuple[np.ufunc, ...]
) -> tuple[tuple[np.ufunc, ...], np.ufunc | None]:
    """The ufuncs of the plans, and that which adds, if there is one."""
    count = len(structure.plans)
    return ufuncs[:count], (ufuncs[count] if len(ufuncs) > count else None)


def _structure_of(program: Program, input_dtypes: tuple[DType, ...], is_added: bool) -> _Structure:
    key = (input_dtypes, tuple(map(_signature, program.instructions)), program.results, is_added)
    try:
        with _lock:
            found = _structures.get(key)
    except TypeError:
        # Something in the key cannot be looked up, so nothing is known of it.
        return _Structure((), 0.0)
    if found is not None:
        return found
    plans, sums = (
        plan_adding(program, input_dtypes) if is_added else (plan(program, input_dtypes), None)
    )
    saved, saved_each = 0.0, costs.current().saved
    for one in plans:
        sizes = [program.instructions[i].dtype.itemsize for i in one.members[1:]]
        saved += saved_each * sum(sizes) / 8
    if sums is not None:
        # Results are neither written nor read again.
        saved += saved_each * sums.steps[-1].dtype.itemsize / 8
    made = _Structure(plans, saved, sums)
    with _lock:
        while len(_structures) >= _MOST:
            del _structures[next(iter(_structures))]
        return _structures.setdefault(key, made)


def _signature(instruction: Instruction) -> Any:
    """What counts of an instruction: all but its constants, errors and number."""
    function = instruction.function
    operands = tuple(
        [
            register if register is not None else _kind_of(constant)
            for register, constant in instruction.operands
        ]
    )
    parameters = instruction.parameters if function is cast else bool(instruction.parameters)
    where = None if instruction.where is None else instruction.where[0]
    if is_squaring(instruction):
        operands = (operands[0], (operands[1], np.square))
    return (function, operands, parameters, where, instruction.output, instruction.dtype)


def _kind_of(constant: Any) -> Any:
    """What counts of a constant: its type, and of Python's integers which dtypes can hold them."""
    if constant.__class__ is int:
        return (int, constant < 0, (~constant if constant < 0 else constant).bit_length())
    return getattr(constant, "dtype", type(constant))


def _begin() -> None:
    """See to it that a thread compiles what is asked for."""
    global _thread
    with _lock:
        if _thread is not None or not _asked or _is_ending:
            return
        _thread = threading.Thread(target=_compile_all, name="darray-jit", daemon=True)
        try:
            # Under the lock, so that nobody finds a thread that cannot be waited for yet.
            _thread.start()
        except RuntimeError:
            # No more threads, or the interpreter ends.
            _thread = None
            while _asked:
                _refuse(_asked.popleft(), "no thread could be started to compile it")


def _refuse(structure: _Structure, reason: str) -> None:
    structure.stage, structure.reason = "refused", reason


def _compile_all() -> None:
    """Compile what is asked for until there is nothing more; then see what compiling costs."""
    has_compiled = is_last = False
    while True:
        structure = _next(is_last)
        if structure is not None:
            has_compiled = _compile(structure) or has_compiled
        elif is_last or _is_ending:
            return
        else:
            if has_compiled:
                _measure_costs()
            is_last = True


def _next(is_last: bool) -> _Structure | None:
    """What is to be compiled now; where there is nothing, and `is_last`, this thread is no more."""
    global _thread
    with _lock:
        if _asked and not _is_ending:
            return _asked.popleft()
        if is_last or _is_ending:
            _thread = None
        return None


def _compile(structure: _Structure) -> bool:
    """Compile or fetch the loops of `structure`; whether that was done."""
    fetches_only = structure.stage == "cheap"
    ufuncs, reason = None, ""
    try:
        loops = structure.loops
        if not fetches_only or all([is_cached(loop) for loop in loops]):
            ufuncs = tuple([ufunc_of(loop) for loop in loops])
    except ModuleNotFoundError as error:
        reason = f"{error}; pip install 'darray[jit]' brings it"
    except Exception as error:
        # Whatever it is, NumPy can do without; the explanation tells.
        reason = f"{type(error).__name__}: {error}"
    with _lock:
        if ufuncs is not None:
            structure.stage, structure.ufuncs = "ready", ufuncs
        elif reason:
            _refuse(structure, reason)
        else:
            structure.stage = "unfound"
    return ufuncs is not None


def _measure_costs() -> None:
    """Measure what nobody measured on this machine yet, while nothing is asked for."""
    if not costs.are_known():
        try:
            costs.find_out()
        except Exception:
            # What is typical serves instead.
            logging.getLogger("darray").warning(
                "could not measure what compiling costs", exc_info=True
            )


def wait() -> None:
    """Wait until all that was asked for is compiled or refused.

    Examples
    --------
    >>> wait()
    """
    thread = _thread
    if thread is not None:
        thread.join()


def _end() -> None:
    """Let the thread finish what it compiles, and nothing more: LLVM cannot be left half way."""
    global _is_ending
    with _lock:
        _is_ending = True
        _asked.clear()
    wait()


def _after_fork() -> None:
    """Begin anew in the child of a fork, which has no thread that compiles."""
    global _lock, _thread
    _lock = threading.Lock()
    _thread = None
    _asked.clear()
    for structure in list(_structures.values()):
        if structure.stage in ("asked", "cheap"):
            structure.stage = "new"


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
