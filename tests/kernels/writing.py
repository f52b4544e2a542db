"""Programs written call by call, and checks that they are the same compiled."""

from __future__ import annotations

import numpy as np

from darray.kernels import cpu
from darray.kernels.compiled import compiled
from darray.kernels.compiled_groups import CompiledGroup
from darray.kernels.costs import TYPICAL
from darray.kernels.programs import Instruction, Program
from darray.kernels.warnings_ledger import Ledger, captured_errors, recording

DOUBLE = np.dtype(float)

# Elements of which three calls save more than a loop and llvmlite cost.
PLENTY = int(10 * TYPICAL.compiling / TYPICAL.saved)


class Writing:
    """A program in the making; operands are registers, constants are given in a list."""

    def __init__(self, *inputs):
        self.inputs = [np.asarray(one) for one in inputs]
        self.values = []
        self.calls = []

    def dtypes(self):
        return [one.dtype for one in self.inputs]

    def __call__(self, function, *operands, errors=None, **parameters):
        places = tuple(
            [(None, one[0]) if isinstance(one, list) else (one, None) for one in operands]
        )
        samples = [
            constant
            if r is None
            else (np.empty(0, self.dtypes()[r]) if r >= 0 else self.values[~r])
            for r, constant in places
        ]
        with np.errstate(all="ignore"):
            value = function(*samples, **parameters)
        self.values.append(value)
        errors = captured_errors() if errors is None else errors
        self.calls.append(
            Instruction(
                function, places, tuple(parameters.items()), None, None, errors,
                100 + len(self.calls), value.dtype,
            )
        )  # fmt: skip
        return -len(self.calls)

    def program(self, *results):
        return Program.assemble(self.calls, [(one, None) for one in results])


def evaluate(program, inputs, ledger):
    """Run `program` as a caller of compiled groups does."""
    made = []

    def value(operand):
        register, constant = operand
        if register is None:
            return constant
        return inputs[register] if register >= 0 else made[~register]

    for call in program.instructions:
        operands = [value(one) for one in call.operands]
        if isinstance(call.function, CompiledGroup):
            shape = np.broadcast_shapes(*map(np.shape, operands))
            out = np.empty(shape, call.dtype)
            call.function.run(operands, out, ledger)
            made.append(out)
        else:
            with recording(call.errors, ledger, call.origin):
                made.append(call.function(*operands, **dict(call.parameters)))
    return tuple([np.asarray(value(one)) for one in program.results])


def same(program, inputs, other=None):
    """Check that `program` compiled gives what it gives by NumPy; how its calls became fewer."""
    other = compiled(program, [one.dtype for one in inputs]) if other is None else other
    assert other is not None
    theirs, ours = Ledger(), Ledger()
    expected = cpu.run(program, inputs, theirs)
    for one, found in zip(expected, evaluate(other, inputs, ours), strict=True):
        assert one.dtype == found.dtype
        np.testing.assert_array_equal(np.broadcast_to(one, found.shape), found)
        if one.dtype.kind == "f":
            known = ~np.isnan(found)
            signs = np.signbit(np.broadcast_to(one, found.shape))[known]
            np.testing.assert_array_equal(signs, np.signbit(found)[known])
    assert ours._entries == theirs._entries
    return len(program.instructions), len(other.instructions)


def polynomial(constant=2.0, function=np.multiply):
    w = Writing(np.arange(5.0), np.ones(5))
    return w.program(w(np.add, w(function, w(np.add, 0, [constant]), 1), 1)), w.inputs


def is_compiled(program):
    return any(isinstance(one.function, CompiledGroup) for one in program.instructions)
