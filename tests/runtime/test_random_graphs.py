"""Random graphs of tasks give on every engine what they give on the serial one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray.runtime as da


def combine(number, inputs, nested):
    if number % 13 == 5:
        raise ArithmeticError(number)
    total = number + sum(inputs)
    if nested:
        total += sum(da.fetch([da.spawn(abs, -depth) for depth in range(nested)]))
    return total % 10_007


def run(seed, count):
    """The outcomes of a graph of tasks that depends on the seed alone.

    Of a failure only the type: of several failed inputs the one that failed first decides.
    """
    rng = random.Random(seed)
    tasks = []
    for number in range(count):
        inputs = rng.sample(tasks, min(len(tasks), rng.choice([0, 1, 1, 2, 5])))
        options = {}
        if rng.random() < 0.2:
            options["priority"] = rng.randrange(-2, 3)
        if rng.random() < 0.2:
            options["occupancy"] = rng.choice([0.0, 0.5])
        if rng.random() < 0.2:
            options["scope"] = da.scope(thread=0)
        if rng.random() < 0.2:
            options["memory"] = 1000
        if tasks and rng.random() < 0.2:
            options["after"] = rng.choice(tasks)
        nested = rng.choice([0, 0, 0, 3])
        spawn = da.spawn.options(**options) if options else da.spawn
        tasks.append(spawn(combine, number, inputs, nested))
    da.wait(tasks)
    return [type(task.exception()) if task.exception() else task.result() for task in tasks]


@pytest.mark.parametrize("count", [1, 2, 4])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_engines_agree(count, seed):
    da.configure(engine="serial")
    expected = run(seed, 60)
    da.configure(engine="threads", threads=count)
    assert run(seed, 60) == expected
    engine = da.spawn(int)._engine
    da.configure()
    engine._check()
    assert engine._schedule.outstanding == 0
