"""Random programs over overlapping memory: a region gives what they give from top to bottom."""

from __future__ import annotations

import functools
import operator
import os
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray.runtime as da
from darray.runtime import tracking
from darray.runtime.accesses import Access
from darray.runtime.engine import current_engine
from darray.testing.separate_memory import KIND, separate_memory

# How many programs; 10,000 take a quarter of an hour.
PROGRAMS = int(os.environ.get("DARRAY_TEST_PROGRAMS", "60"))

PRIME = 10_007
RECORD = np.dtype([("a", "i8"), ("b", "i8")])
TRIANGLES = {
    "upper": np.triu,
    "lower": np.tril,
    "above": functools.partial(np.triu, k=1),
    "below": functools.partial(np.tril, k=-1),
    "diagonal": np.diag,
    "beside": functools.partial(np.diag, k=1),
}


def elements_of(matrix, name):
    """Indices of the elements that a part of a matrix has."""
    rows, columns = np.indices(matrix.shape)
    apart = columns - rows
    inside = {
        "upper": apart >= 0,
        "lower": apart <= 0,
        "above": apart >= 1,
        "below": apart <= -1,
        "diagonal": apart == 0,
        "beside": apart == 1,
    }
    return np.nonzero(inside[name])


class World:
    """Buffers, and views of them in all arrangements."""

    def __init__(self):
        self.flat = np.arange(60, dtype=np.int64)
        self.matrix = np.arange(64, dtype=np.int64).reshape(8, 8)
        self.records = np.zeros(10, RECORD)
        self.bytes = bytearray(16 * 8)
        self.lists = [[0], [0]]
        # Arrays that tasks made: copies, and what they were given.
        self.made = []

    def view(self, rng):
        """Some view; of the same buffer also through different objects."""

        def cut(length):
            start, stop = sorted(rng.sample(range(length + 1), 2))
            return slice(start, stop, rng.choice([1, 1, 2, 3]))

        kind = rng.choice(["flat", "flat", "matrix", "matrix", "record", "buffer", "wide"])
        if kind == "flat":
            return self.flat[cut(60)][:: rng.choice([1, -1])]
        if kind == "matrix":
            block = self.matrix[cut(8), cut(8)]
            return rng.choice(
                [block, block.T, block[::-1], np.einsum("ii->i", self.matrix), block.T[1:]]
            )
        if kind == "record":
            return self.records[cut(10)][rng.choice("ab")]
        if kind == "buffer":
            return np.frombuffer(self.bytes, np.int64)[cut(16)]
        return np.lib.stride_tricks.as_strided(self.flat[cut(50)][:1], (3, 2), (16, 8))

    def something(self, rng):
        """Some view, or an array that a task made, or will; perhaps it is waited for."""
        if not self.made or rng.random() < 0.7:
            return self.view(rng)
        made = rng.choice(self.made[-3:])
        if rng.random() < 0.2 and isinstance(made, da.Task):
            made.wait()
        return made

    def state(self):
        """All values."""
        arrays = [self.flat, self.matrix, self.records, np.frombuffer(self.bytes, np.int64)]
        arrays += da.fetch(self.made)
        return [one.tolist() for one in arrays] + [list(one) for one in self.lists]


def mix(number, pause, out, *inputs):
    """Change `out` by what it and the inputs are."""
    total = number + sum(int(one.sum()) for one in inputs)
    if pause:
        time.sleep(pause)
    for place in np.ndindex(out.shape):
        out[place] = (out[place] * 3 + total) % PRIME
    return out


def add_to(number, pause, out, *inputs):
    """Add to `out` what the inputs are, in two steps that nobody must come between."""
    total = number + sum(int(one.sum()) for one in inputs)
    held = (out + total) % PRIME
    if pause:
        time.sleep(pause)
    out[...] = held


def overwrite(number, pause, out, *inputs):
    """Replace `out` by what the inputs are."""
    total = number + sum(int(one.sum()) for one in inputs)
    if pause:
        time.sleep(pause)
    out[...] = total % PRIME


def mix_part(number, pause, name, matrix, other):
    """Change a part of a matrix by another part of it."""
    total = number + int(matrix[elements_of(matrix, other)].sum())
    if pause:
        time.sleep(pause)
    at = elements_of(matrix, name)
    matrix[at] = (matrix[at] + total) % PRIME


def extend(number, target, source):
    """Change a list by an array, a number or another list."""
    target.append((number + int(np.sum(source)) + len(target)) % PRIME)


KINDS = ["mix", "mix", "add", "add", "overwrite", "part", "extend", "make", "hand on"]


def run(seed, count, spawn, world, failing=()):
    """Run a program that depends on the seed, and on which of its tasks fail."""
    rng = random.Random(seed)
    for number in range(count):
        pause = rng.choice([0, 0, 0, 0.0005])
        if number in failing:
            access = rng.choice([da.InOut, da.Accumulate])
            spawn(fail, number, pause, access(world.view(rng)))
        kind = rng.choice(
            ["mix", "mix", "add", "add", "overwrite", "part", "extend", "make", "hand on"]
        )
        if kind == "part":
            corner = world.matrix[rng.choice([0, 0, 1, 3]) :, rng.choice([0, 0, 2]) :]
            written, read = rng.choices(list(TRIANGLES), k=2)
            access = da.Deps(corner, da.InOut(TRIANGLES[written]), da.In(TRIANGLES[read]))
            spawn(mix_part, number, pause, written, access, read)
        elif kind == "make":
            world.made.append(spawn(np.array, world.view(rng)))
        elif kind == "hand on":
            world.made.append(spawn(mix, number, pause, da.InOut(world.view(rng))))
        elif kind == "extend":
            source = rng.choice([world.something(rng), world.lists[0], [world.something(rng)]])
            spawn(extend, number, da.InOut(world.lists[1]), source)
        else:
            inputs = [world.something(rng) for _ in range(rng.choice([0, 1, 1, 2]))]
            inputs = [rng.choice([da.In, lambda one: one])(one) for one in inputs]
            if kind == "mix":
                spawn(mix, number, pause, da.InOut(world.something(rng)), *inputs)
            elif kind == "add":
                spawn(add_to, number, pause, da.Accumulate(world.something(rng)), *inputs)
            else:
                spawn(overwrite, number, pause, da.Out(world.view(rng)), *inputs)


class Failed(Exception):
    """What the tasks that are to fail raise, with their numbers."""


def fail(number, pause, out):
    """Write a little, and fail."""
    time.sleep(pause)
    out[...] = number
    raise Failed(number)


def at_once(function, *args):
    """Do what spawn does, here and now, without looking at annotations."""
    return function(*[one.value if isinstance(one, Access) else one for one in args])


def spread(function, *args):
    """Do what spawn does, but make new arrays in the memory of a device."""
    if function is np.array:
        return da.spawn.options(scope=da.scope(kind=KIND))(operator.pos, *args)
    return da.spawn(function, *args)


ENGINES = [
    {"engine": "serial"},
    {"engine": "threads", "threads": 1},
    {"engine": "threads", "threads": 2},
    {"engine": "threads", "threads": 4},
    {"engine": "workers", "workers": 2, "threads": 2},
]


@pytest.mark.parametrize("narrow", [0, 16])
@given(seed=st.integers(0, 10**9), count=st.integers(1, 60))
@settings(max_examples=PROGRAMS)
def test_regions_give_what_the_program_gives_from_top_to_bottom(narrow, seed, count):
    expected = World()
    run(seed, count, at_once, expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "NARROW", narrow)
        patch.setattr(tracking, "IDLE_EXTENTS", 8)
        for engine in ENGINES:
            da.configure(**engine)
            world = World()
            with da.spawn_datadeps() as region:
                run(seed, count, da.spawn, world)
                region._tracker._check()
            assert world.state() == expected.state()


@given(seed=st.integers(0, 10**9), count=st.integers(1, 60))
@settings(max_examples=PROGRAMS // 2)
def test_regions_over_arrays_in_the_memory_of_devices(seed, count):
    expected = World()
    run(seed, count, at_once, expected)
    for engine in (ENGINES[0], ENGINES[2], ENGINES[4]):
        da.configure(**engine)
        world = World()
        with separate_memory():
            with da.spawn_datadeps():
                run(seed, count, spread, world)
            assert world.state() == expected.state()


@given(
    seed=st.integers(0, 10**9),
    count=st.integers(1, 40),
    failing=st.sets(st.integers(0, 40), min_size=1, max_size=4),
)
@settings(max_examples=PROGRAMS)
def test_the_failure_of_a_region_is_that_of_the_program_from_top_to_bottom(seed, count, failing):
    expected = [number for number in sorted(failing) if number < count][:1]
    for engine in ENGINES:
        da.configure(**engine)
        raised = []
        try:
            with da.spawn_datadeps():
                run(seed, count, da.spawn, World(), failing)
        except Failed as failure:
            raised = list(failure.args)
        assert raised == expected
        if engine["engine"] != "serial":
            current_engine()._check()
