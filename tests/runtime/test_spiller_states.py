"""The spiller through random histories: values, invariants, and disks that are full for a while."""

from __future__ import annotations

import errno
import gc
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import settings, spilling
from darray.runtime.spaces import AWAY, Placed
from darray.runtime.spill_files import SpillFiles, files_in

BLOCK = 64 * 1024
LIMIT = 6 * BLOCK


def made(number, nbytes):
    return np.full(nbytes, number % 100, np.int8)


def joined(*arrays):
    return np.concatenate(arrays)[::2].copy()


def paired(array):
    return (array[::2].copy(), 7, array[1::2].copy())


def is_away(task):
    return task._value.__class__ is Placed and task._value.value is AWAY


class Histories(RuleBasedStateMachine):
    """Results that are made, read, held, used, pinned in place and dropped, in little memory."""

    name = "serial"

    def __init__(self):
        super().__init__()
        self.before = settings.current()
        self.folder = tempfile.mkdtemp()
        da.configure(engine=self.name, threads=2, spill_folder=self.folder)
        self.engine = engines.current_engine()
        self.engine._schedule.budget.limit = LIMIT
        self.patch = pytest.MonkeyPatch()
        # Each task with what it gave; arrays that were read, with what is in them.
        self.tasks = []
        self.arrays = []
        self.staying = []
        self.is_full = False

    def teardown(self):
        self.patch.undo()
        spilling.may_leave(self.staying)
        self.tasks, self.arrays, self.staying = [], [], []
        # A thread of the engine may still have what it ran last.
        engines.close()
        gc.collect()
        files = files_in(self.folder)
        files.settle()
        files._check()
        assert files.used == 0
        assert self.engine._schedule.budget.room() == LIMIT
        settings._current = self.before
        shutil.rmtree(self.folder)

    def add(self, task, expected):
        """Keep a task that is finished, if there was room for it."""
        da.wait([task])
        if isinstance(task.exception(), da.MemoryLimitError):
            # Nobody but these can be in the way.
            assert self.is_full or self.arrays or self.staying
        else:
            self.tasks.append((task, expected))

    @rule(number=st.integers(0, 99), blocks=st.integers(1, 3))
    def make(self, number, blocks):
        nbytes = blocks * BLOCK
        task = da.spawn.options(memory=nbytes)(made, number, nbytes)
        self.add(task, made(number, nbytes))

    @precondition(lambda self: self.tasks)
    @rule(one=st.integers(0, 99), other=st.integers(0, 99))
    def join(self, one, other):
        chosen = [self.tasks[i % len(self.tasks)] for i in (one, other)]
        if any(isinstance(expected, tuple) for _, expected in chosen):
            return
        expected = joined(*[expected for _, expected in chosen])
        memory = 3 * expected.nbytes
        if memory + sum(expected.nbytes for _, expected in chosen) <= LIMIT:
            task = da.spawn.options(memory=memory)(joined, *[task for task, _ in chosen])
            self.add(task, expected)

    @precondition(lambda self: self.tasks)
    @rule(one=st.integers(0, 99))
    def pair(self, one):
        source, expected = self.tasks[one % len(self.tasks)]
        if not isinstance(expected, tuple) and 2 * expected.nbytes <= LIMIT:
            task = da.spawn.options(memory=expected.nbytes)(paired, source)
            self.add(task, paired(expected))

    @precondition(lambda self: self.tasks)
    @rule(one=st.integers(0, 99), is_held=st.booleans())
    def read(self, one, is_held):
        task, expected = self.tasks[one % len(self.tasks)]
        value = task.result()
        if isinstance(expected, tuple):
            assert value[1] == expected[1]
            np.testing.assert_array_equal(value[0], expected[0])
            np.testing.assert_array_equal(value[2], expected[2])
            return
        np.testing.assert_array_equal(value, expected)
        if is_held:
            self.arrays.append((value[3:], expected[3:]))

    @precondition(lambda self: self.arrays)
    @rule(one=st.integers(0, 99))
    def let_array_go(self, one):
        array, expected = self.arrays.pop(one % len(self.arrays))
        np.testing.assert_array_equal(array, expected)

    @precondition(lambda self: self.tasks)
    @rule(one=st.integers(0, 99))
    def drop(self, one):
        del self.tasks[one % len(self.tasks)]

    @precondition(lambda self: self.tasks and len(self.staying) < 2)
    @rule(one=st.integers(0, 99))
    def stay(self, one):
        task, _ = self.tasks[one % len(self.tasks)]
        spilling.stay(task)
        assert not is_away(task)
        self.staying.append(task)

    @precondition(lambda self: self.staying)
    @rule()
    def leave(self):
        spilling.may_leave([self.staying.pop()])

    @rule()
    def disk_is_full_or_not(self):
        self.is_full = not self.is_full
        if not self.is_full:
            self.patch.undo()
            return

        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch.setattr(SpillFiles, "store", fail)

    @invariant()
    def invariants_hold(self):
        self.engine._spiller._check([task for task, _ in self.tasks])
        self.engine._schedule._check([task for task, _ in self.tasks])
        files_in(self.folder)._check()
        for task in self.staying:
            assert not is_away(task), "what is to stay is in memory"

    @invariant()
    def what_is_held_is_right(self):
        for array, expected in self.arrays[-1:]:
            np.testing.assert_array_equal(array, expected)


class HistoriesOfThreads(Histories):
    name = "threads"


TestSerial = Histories.TestCase
TestThreads = HistoriesOfThreads.TestCase
TestSerial.settings = TestThreads.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=30
)
