"""Any order of asking, compiling and switching keeps what the states of structures promise."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from darray.kernels import selection
from darray.kernels.selection import SMALL, Selection
from darray.runtime import settings
from tests.kernels.writing import DOUBLE, PLENTY, is_compiled, polynomial

FUNCTIONS = [np.multiply, np.subtract, np.divide]


class Choosing(RuleBasedStateMachine):
    """A compiler that is quick, and refuses what it is told to."""

    def __init__(self):
        super().__init__()
        self.before = settings.current()
        self.cached = False
        self.refused = set()
        self.final = {}
        self.patches = [
            mock.patch.object(selection, "_structures", {}),
            mock.patch.object(selection, "ufunc_of", self.ufunc_of),
            mock.patch.object(selection, "is_cached", self.is_cached),
        ]
        for patch in self.patches:
            patch.start()

    def is_cached(self, loop):
        return self.cached

    def ufunc_of(self, loop):
        if loop.steps[1].function in self.refused:
            raise RuntimeError("refused")
        return np.add

    @initialize()
    def begin(self):
        self.selections = {one: self.fresh(one) for one in FUNCTIONS}

    def fresh(self, function):
        return Selection(polynomial(function=function)[0], [DOUBLE] * 2)

    @rule(function=st.sampled_from(FUNCTIONS), expected=st.sampled_from([0, PLENTY]))
    def select(self, function, expected):
        self.selections[function] = self.fresh(function)
        self.selections[function].expected = expected

    @rule(
        function=st.sampled_from(FUNCTIONS),
        elements=st.sampled_from([1, SMALL, PLENTY // 100, PLENTY // 10, PLENTY]),
    )
    def ask(self, function, elements):
        chosen = self.selections[function]
        program = chosen.program_for(elements)
        assert is_compiled(program) or program is chosen.program
        if is_compiled(program):
            assert chosen.program_for(1) is program
        assert chosen.explanation()

    @rule(function=st.sampled_from(FUNCTIONS))
    def refuse(self, function):
        self.refused.add(function)

    @rule(cached=st.booleans())
    def keep(self, cached):
        self.cached = cached

    @rule(jit=st.booleans())
    def switch(self, jit):
        settings.update(jit=jit)

    @rule()
    def wait(self):
        selection.wait()
        assert selection._thread is None
        assert not selection._asked
        for structure in selection._structures.values():
            assert structure.stage not in ("asked", "cheap")

    @rule()
    def be_forked(self):
        selection.wait()
        selection._after_fork()

    @invariant()
    def states_are_as_promised(self):
        with selection._lock:
            for key, structure in selection._structures.items():
                structure._check()
                if key in self.final:
                    assert structure.stage == self.final[key]
                if structure.stage in ("ready", "refused"):
                    self.final[key] = structure.stage

    def teardown(self):
        selection.wait()
        for patch in self.patches:
            patch.stop()
        settings._current = self.before


TestChoosing = Choosing.TestCase
TestChoosing.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
