"""Random programs over several mutables: tasks find what the order of submission gives."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray.runtime as da

MUTABLES = 3

# How many programs.
PROGRAMS = int(os.environ.get("DARRAY_TEST_PROGRAMS", "25"))


class Program:
    """Tasks spawned by one thread and, each in its place, by the tasks themselves."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.mutables = [da.mutable(list) for _ in range(MUTABLES)]
        # How many tasks use each now: below zero for one that writes.
        self.users = [0] * MUTABLES
        # Of each spawner, the tasks in order: their number, what they use, the tasks.
        self.spawned = {None: []}

    def run(self, number, uses, fails, nested, values):
        """Append `number` to what is written; what was there before."""
        for key, writes in uses.items():
            assert self.users[key] == 0 if writes else self.users[key] >= 0
            self.users[key] += -1 if writes else 1
        seen = {key: list(values[key]) for key in uses}
        for child, own, access in nested:
            task = self.spawn(number, child, own, access, random.Random(child), [])
            if child % 3 == 0:
                try:
                    task.wait()
                except da.DeadlockError:
                    assert not task.done()
        for key, writes in uses.items():
            if writes:
                values[key].append(number)
        for key, writes in uses.items():
            self.users[key] -= -1 if writes else 1
        if fails:
            raise ArithmeticError(seen)
        return seen

    def spawn(self, spawner, number, uses, access, rng, nested):
        """Spawn a task that uses what `uses` says."""
        given = {key: access[key](self.mutables[key]) for key in uses}
        fails = rng.random() < 0.2
        after = [one for _, _, one in self.spawned[spawner][-4:]] if rng.random() < 0.1 else []
        options = {"priority": rng.randrange(3)} if rng.random() < 0.2 else {}
        if rng.random() < 0.1:
            options["scope"] = da.scope(thread=0)
        self.spawned.setdefault(number, [])
        spawn = da.spawn.options(after=after, **options)
        task = spawn(self.run, number, {**uses}, fails, nested, given)
        self.spawned[spawner].append((number, uses, task))
        return task

    def draw_uses(self):
        """What a task uses: keys, each with whether it is written; and how that is said."""
        keys = self.rng.sample(range(MUTABLES), self.rng.choice([1, 1, 1, 2, 3]))
        uses, access = {}, {}
        for key in keys:
            access[key] = self.rng.choice([da.In, da.In, da.InOut, da.Out, lambda m: m])
            uses[key] = access[key] is not da.In
        return uses, access

    def play(self, count):
        """Spawn `count` tasks, and cancel some."""
        for number in range(count):
            nested = []
            if self.rng.random() < 0.15:
                nested = [(1000 * (number + 1) + one, *self.draw_uses()) for one in range(2)]
            task = self.spawn(None, number, *self.draw_uses(), self.rng, nested)
            if self.rng.random() < 0.1:
                task.cancel()
            if self.rng.random() < 0.05:
                self.rng.choice(self.spawned[None])[2].wait()
        while unfinished := [
            task for own in list(self.spawned.values()) for _, _, task in own if not task.done()
        ]:
            da.wait(unfinished)

    def check(self):
        """Assert that whatever one spawner spawned, in order, saw and wrote in that order."""
        final = da.fetch(self.mutables)
        assert self.users == [0] * MUTABLES
        began = {}
        for own in self.spawned.values():
            for number, uses, task in own:
                if task.processor is not None:
                    error = task.exception()
                    assert error is None or isinstance(error, ArithmeticError)
                    began[number] = uses, task.result() if error is None else error.args[0]
        for key, value in enumerate(final):
            wrote = [number for number, (uses, _) in began.items() if uses.get(key)]
            assert sorted(value) == sorted(wrote), "each wrote once, and none that did not begin"
        for spawner, own in self.spawned.items():
            for key, value in enumerate(final):
                written = []
                for number, uses, _ in own:
                    if number in began and key in uses:
                        seen = began[number][1][key]
                        assert seen == value[: len(seen)]
                        assert [one for one in seen if one in written] == written
                        later = {one for one, _, _ in own} - set(written)
                        assert not later & set(seen), "none sees what comes after it"
                        if uses[key]:
                            assert value[len(seen)] == number
                            written.append(number)
                if spawner in began and key in began[spawner][0] and began[spawner][0][key]:
                    place = value.index(spawner)
                    assert all(value.index(one) > place for one in written), "children wait"


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=PROGRAMS)
def test_tasks_find_what_the_order_of_submission_gives(count, seed):
    da.configure(engine="threads" if count else "serial", threads=count or 1)
    program = Program(seed)
    program.play(60)
    program.check()
    engine = program.mutables[0].task._engine
    da.configure()
    engine._schedule._check(())
    assert engine._schedule.outstanding == 0
    assert not any(one.line._party_of for one in program.mutables)
