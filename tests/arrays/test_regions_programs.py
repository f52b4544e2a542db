"""Random programs over chunks of arrays: as they are from top to bottom, on copies in NumPy."""

from __future__ import annotations

import os
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import darray as da
from darray.blocks import chunk_box
from darray.runtime import engine as engines
from darray.runtime import settings
from darray.runtime.accesses import Access

# How many programs; 2,000 take a quarter of an hour.
PROGRAMS = int(os.environ.get("DARRAY_TEST_PROGRAMS", "30"))

PRIME = 10_007
ENGINES = [("serial", 1), ("threads", 1), ("threads", 2), ("threads", 4)]

# Shape and cut of each array, and how it is made of its values.
ARRAYS = [
    ((12,), (5,), lambda a, cut: da.distribute(a, cut)),
    ((7, 8), (3, 4), lambda a, cut: da.distribute(a + 1, cut) - 1),
    ((6, 6), (6, 2), lambda a, cut: (da.distribute(a, cut) * 1).persist()),
    ((8, 4), (4, 4), lambda a, cut: da.wrap(a.copy(), cut)),
]

# Views of an array of which each chunk lies in one of its chunks.
VIEWS = [
    lambda x: x,
    lambda x: x,
    lambda x: x,
    lambda x: x.T,
    lambda x: x[::-1],
    lambda x: x[1:-1],
    lambda x: x[..., ::2],
    lambda x: x[None, 2],
    lambda x: x[:, None][1:] if x.ndim == 1 else x[1, ::-1],
]


class Numbers:
    """The arrays in NumPy, whose chunks are views of them; what is done is done at once."""

    def __init__(self, values):
        self.arrays = [array.copy() for array in values]
        self.cuts = [da.zeros(shape, blocks=cut) for shape, cut, _ in ARRAYS]
        self.loose = np.arange(30)

    def chunk(self, number, view, index):
        """A chunk of a view of an array."""
        chunks = view(self.cuts[number]).chunks
        return view(self.arrays[number])[chunk_box(chunks, index)]

    def spawn(self, function, *args):
        """Do what spawn does, here and now."""
        return function(*[one.value if isinstance(one, Access) else one for one in args])

    def state(self):
        return [array.tolist() for array in self.arrays]


class Chunks(Numbers):
    """The arrays as DArrays; what is done, tasks of a region do."""

    def __init__(self, values):
        super().__init__(values)
        self.arrays = [make(a, cut) for a, (_, cut, make) in zip(values, ARRAYS, strict=True)]

    def chunk(self, number, view, index):
        return view(self.arrays[number]).blocks[index]

    def spawn(self, function, *args):
        return da.spawn(function, *args)

    def state(self):
        return [array.collect().tolist() for array in self.arrays]


def cut(rng, length):
    start, stop = sorted(rng.sample(range(length + 1), 2))
    return slice(start, stop, rng.choice([1, 1, 2, -1]) if start == 0 else rng.choice([1, 2]))


def something(rng, world, kept):
    """A chunk, a part of one, an array that is none, or a ref that was made before."""
    kind = rng.choice(["chunk", "chunk", "part", "part", "loose", "kept"])
    if kind == "loose":
        return world.loose[cut(rng, 30)]
    if kind == "kept" and kept:
        return rng.choice(kept)
    number, view = rng.randrange(len(ARRAYS)), rng.choice(VIEWS)
    sizes = view(world.cuts[number]).chunks
    index = tuple([rng.randrange(len(axis)) for axis in sizes])
    found = world.chunk(number, view, index)
    if kind == "part":
        shape = [axis[at] for axis, at in zip(sizes, index, strict=True)]
        key = tuple([rng.choice([cut(rng, one), slice(None)]) for one in shape])
        found = found[rng.choice([key, key[:1], (..., *key[-1:]), (*key, None)])]
        if rng.random() < 0.3:
            found = found[::-1]
    if rng.random() < 0.3:
        kept.append(found)
    return found


def mix(number, pause, out, inputs):
    """Change `out` by what it and the inputs are."""
    total = number + sum(int(one.sum()) for one in inputs)
    if pause:
        time.sleep(pause)
    for place in np.ndindex(out.shape):
        out[place] = (out[place] * 3 + total) % PRIME
    return out


def add_to(number, pause, out, inputs):
    """Add to `out` what the inputs are, in two steps that nobody must come between."""
    total = number + sum(int(one.sum()) for one in inputs)
    held = (out + total) % PRIME
    if pause:
        time.sleep(pause)
    out[...] = held
    return out


def overwrite(number, pause, inputs, out):
    """Replace `out` by what the inputs are; these may be the same memory."""
    out[...] = number
    total = number + sum(int(one.sum()) for one in inputs)
    if pause:
        time.sleep(pause)
    out[...] = total % PRIME


def fail(number, pause, out):
    """Write a little, and fail."""
    out[...] = -1
    time.sleep(pause)
    raise Failed(number)


class Failed(Exception):
    """What the tasks that are to fail raise, with their numbers."""


def run(seed, count, world, failing=()):
    """Run a program that depends on the seed, and on which of its tasks fail; what tasks gave."""
    rng = random.Random(seed)
    kept, made = [], []
    for number in range(count):
        pause = rng.choice([0, 0, 0, 0.0005])
        if number in failing:
            world.spawn(fail, number, pause, da.InOut(something(rng, world, kept)))
        inputs = [something(rng, world, kept) for _ in range(rng.choice([0, 1, 1, 2]))]
        kind = rng.choice(["mix", "mix", "overwrite", "copy", "hand on"])
        if kind == "copy":
            made.append(world.spawn(np.array, da.In(something(rng, world, kept))))
        elif kind == "overwrite":
            out = da.Out(something(rng, world, kept))
            world.spawn(overwrite, number, pause, tuple(inputs), out)
        else:
            if made and rng.random() < 0.3:
                inputs.append(made[-1])
            access = rng.choice([da.InOut, da.Accumulate])
            out = access(something(rng, world, kept))
            function = add_to if access is da.Accumulate else mix
            result = world.spawn(function, number, pause, out, inputs)
            if kind == "hand on":
                made.append(result)
    return made


@pytest.fixture(autouse=True)
def same_settings_afterwards():
    before = settings.current()
    yield
    engines.close()
    settings._current = before


def values(seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, PRIME, shape) for shape, _, _ in ARRAYS]


@given(seed=st.integers(0, 10**9), counts=st.lists(st.integers(1, 25), min_size=1, max_size=3))
@hypothesis_settings(max_examples=PROGRAMS)
def test_regions_give_what_the_program_gives_from_top_to_bottom(seed, counts):
    expected = Numbers(values(seed))
    states, given = [expected.state()], []
    for round_, count in enumerate(counts):
        given.append([one.tolist() for one in run(seed + round_, count, expected)])
        states.append(expected.state())
        for array in expected.arrays[:2]:
            array[round_::3] += 1
    for engine, threads in ENGINES:
        da.configure(engine=engine, threads=threads)
        world = Chunks(values(seed))
        copies = []
        for round_, count in enumerate(counts):
            copies.append([array * 1 for array in world.arrays])
            before = world.state()
            with da.spawn_datadeps() as region:
                made = run(seed + round_, count, world)
                region._tracker._check()
                copies.append([array + 0 for array in world.arrays])
                assert world.state() == before
            assert world.state() == states[round_ + 1]
            assert [one.tolist() for one in da.fetch(made)] == given[round_]
            for one in copies[-2:]:
                assert [array.collect().tolist() for array in one] == before
            for array in world.arrays[:2]:
                array[round_::3] += 1
        assert world.state() == expected.state()


@given(
    seed=st.integers(0, 10**9),
    count=st.integers(1, 25),
    failing=st.sets(st.integers(0, 25), min_size=1, max_size=3),
)
@hypothesis_settings(max_examples=PROGRAMS)
def test_a_region_that_fails_leaves_the_arrays_as_they_were(seed, count, failing):
    expected = [number for number in sorted(failing) if number < count][:1]
    oracle = Numbers(values(seed))
    run(seed, count, oracle)
    for engine, threads in ENGINES:
        da.configure(engine=engine, threads=threads)
        world = Chunks(values(seed))
        raised = []
        try:
            with da.spawn_datadeps():
                run(seed, count, world, failing)
        except Failed as failure:
            raised = list(failure.args)
        assert raised == expected
        if raised:
            assert world.state() == Numbers(values(seed)).state()
            with da.spawn_datadeps():
                world.loose = np.arange(30)
                run(seed, count, world)
        assert world.state() == oracle.state()
        if engine == "threads":
            engines.current_engine()._check()
