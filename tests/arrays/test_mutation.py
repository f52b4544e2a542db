"""Random programs that change arrays, with DArrays and with NumPy arrays."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.arrays.mutation import collecting, making, viewing, writing
from tests.arrays.mutation.drawing import lines
from tests.arrays.mutation.worlds import Difference, Program, reduced

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
        self.failed = False

    @initialize(line=lines(making.distributing))
    def start(self, line: str) -> None:
        self.step(line)

    def step(self, line: str) -> None:
        self.failed = True
        self.program.run(line)
        self.failed = False

    def teardown(self) -> None:
        if not self.failed:
            self.program.compare()


def machine(name: str, kinds: list) -> type[Mutation]:
    """A machine whose programs have lines of some kinds."""

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
    check("OnSerial")


@pytest.mark.usefixtures("threads")
def test_threads():
    check("OnThreads")
