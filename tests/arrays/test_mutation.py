"""Random programs that change arrays, with DArrays and with NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from darray import advanced_indexing
from darray.expr import gathers
from darray.kernels import cpu
from darray.lowering import computing, gathering
from tests.arrays.mutation import collecting, making, viewing, writing
from tests.arrays.mutation.drawing import Scribe, lines
from tests.arrays.mutation.worlds import Difference, Program, reduced, run

pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = settings(
    max_examples=300 * int(os.environ.get("DARRAY_EXAMPLES", "1")),
    stateful_step_count=20,
    # Programs that fail are reduced line by line, which is quicker.
    phases=[Phase.generate],
)

KINDS = [
    making.distributing,
    making.creating,
    making.remembering,
    making.capturing,
    making.wrapping,
    making.applying,
    making.combining,
    making.choosing,
    making.casting,
    making.rechunking,
    making.reducing,
    making.scanning,
    making.picking,
    viewing.slicing,
    viewing.taking,
    viewing.turning,
    viewing.splitting,
    viewing.stretching,
    viewing.reshaping,
    viewing.halving,
    viewing.dropping,
    writing.assigning,
    writing.scattering,
    writing.filling,
    writing.updating,
    writing.updating_parts,
    writing.protecting,
    writing.repeating,
    writing.stepping,
    writing.calling,
    writing.reducing_into,
    writing.copying,
    writing.putting,
    writing.changing,
    collecting.collecting,
    collecting.computing,
    collecting.converting,
    collecting.persisting,
]


class Mutation(RuleBasedStateMachine):
    """Grows a program line by line; each kind of line is a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.program = Program()
        self.has_failed = False

    @initialize(line=lines(making.distributing))
    def start(self, line: str) -> None:
        self.step(line)

    def step(self, line: str) -> None:
        self.has_failed = True
        self.program.run(line)
        self.has_failed = False

    def teardown(self) -> None:
        if not self.has_failed:
            self.program.compare()


def machine(name: str, kinds: list[Callable[[Scribe], str]]) -> type[Mutation]:
    """A machine whose programs have lines of these kinds; others come with another name."""

    def rule_of(kind):
        def step(self, line: str) -> None:
            self.step(line)

        step.__name__ = kind.__name__
        return rule(line=lines(kind))(step)

    return type(name, (Mutation,), {kind.__name__: rule_of(kind) for kind in kinds})


def check(name: str) -> None:
    """Run random programs; show one that fails without the lines that do not matter."""
    try:
        run_state_machine_as_test(machine(name, KINDS), settings=SETTINGS)
    except Difference as difference:
        raise reduced(difference) from None


@pytest.mark.usefixtures("serial")
def test_serial():
    check("Serial")


@pytest.mark.usefixtures("threads")
def test_threads():
    check("Threads")


@pytest.mark.usefixtures("threads")
def test_as_if_large(monkeypatch):
    """What is done for large arrays alone, done for small ones."""
    monkeypatch.setattr(cpu, "WORTH_REUSE", 0)
    monkeypatch.setattr(computing, "DEEPEST", 3)
    monkeypatch.setattr(gathers, "GRAIN", 16)
    monkeypatch.setattr(gathering, "FEW", 1)
    monkeypatch.setattr(gathering, "SHARE", 2**26)
    monkeypatch.setattr(advanced_indexing, "FEW_CHUNKS", 1)
    monkeypatch.setattr(advanced_indexing, "LONG_RUN", 0)
    check("AsIfLarge")


# Programs that have failed, or shown where this machine expected too much.
PROGRAMS = {
    "a reversed view beside the array": """
        x0 = da.distribute(np.arange(3), da.Blocks(3))
        x0[..., 0] = 1
        x1 = np.where(np.arange(3) > 0, x0, x0[::-1])
    """,
    "a row beside the array": """
        x0 = da.distribute(np.arange(12).reshape(2, 3, 2), da.Blocks(-1, -1, -1))
        x0[0] = 1
        x1 = -x0
        x1 += x1[::-1]
        x2 = x1.T
    """,
    "a slice that is one row": """
        x0 = da.distribute(np.arange(6).reshape(2, 3), da.Blocks(2, 4))
        x0[None, None, -2, -2] = True
        x1 = x0 >= 3
        x2 = x1 == x0[1:]
    """,
    "more axes from one array": """
        x0 = da.distribute(np.arange(2), da.Blocks(3))
        x1 = x0.view()
        x1 += 1
        x2 = np.where(x0 == 0, x0, x1[..., None])
    """,
    "a cast to the same dtype": """
        x0 = da.distribute(np.arange(3), da.Blocks(2))
        x1 = x0.astype("int64", copy=False)
        x1[0] = 7
    """,
    "ravel copies what is not contiguous": """
        x0 = da.distribute(np.arange(6) * 1j, da.Blocks(4))
        x1 = x0[::2].ravel()
        x2 = x0.real.ravel()
        x3 = np.ravel(np.broadcast_to(x0[:1], 3))
        x4 = x0[1:].ravel()
        x5 = x0[::2].reshape(-1)
        x1[...] = 1
        x2[...] = 2
        x3[...] = 3
        x4[...] = 4
        x5[...] = 5
    """,
    "a complex number for the real parts": """
        x0 = da.distribute(np.arange(3) * 1j, da.Blocks(2))
        x0.real = 2 + 1j
        x0.imag = 3 + 1j
    """,
    "a complex array without axes is no float": """
        x0 = da.distribute(np.array(1j), da.Blocks())
        show(float(x0))
    """,
    "numbers alone are weak": """
        x0 = da.distribute(np.arange(3).astype("uint8"), da.Blocks(2))
        np.add(1, np.uint8(2), out=x0)
    """,
    "elements take what arrays refuse": """
        x0 = da.distribute(np.arange(3).astype("int8"), da.Blocks(2))
        x0[1] += 1.5
        x0[2] /= 2
        x0[...] += 1.5
    """,
    "scalars do not change": """
        x0 = da.distribute(np.arange(3), da.Blocks(2))
        x1 = x0[1]
        x2 = x0[1, ...]
        x0[1] = 9
        x1 += 1
        x2 += 1
    """,
    "an attribute that cannot be set": """
        x0 = da.distribute(np.arange(4).reshape(2, 2), da.Blocks(1, 2))
        x0.T += 1
    """,
    "positions are integers": """
        x0 = da.distribute(np.arange(3), da.Blocks(2))
        x1 = da.zeros((), "float64", blocks=da.Blocks())
        x0.argmax(axis=None, out=x1)
    """,
}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    run([line.strip() for line in PROGRAMS[name].strip().splitlines()])
