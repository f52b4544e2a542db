"""Streams are apart from each other, and their count is safe between threads."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

import darray as da
from darray.random import default_rng
from darray.random.streams import Stream, TiledStreams


def seeded(seed):
    return np.random.SeedSequence(seed)


def test_every_bit_of_the_tile_number_changes_every_bit_of_the_output_half_the_time():
    numbers = np.random.default_rng(1)
    flips = np.zeros((64, 64))
    tried = 200
    for trial in range(tried):
        # Keys of few bits are the hardest to mix.
        key = (0, 0, 0) if trial % 2 else tuple(numbers.integers(0, 2**63, 3).tolist())
        stream = Stream(key)
        tile = int(numbers.integers(0, 2**20))
        first = stream.at(tile).bit_generator.random_raw()
        for bit in range(64):
            other = stream.at(tile ^ 1 << bit).bit_generator.random_raw()
            flips[bit] += [(first ^ other) >> place & 1 for place in range(64)]
    deviations = (flips - tried / 2) / np.sqrt(tried / 4)
    assert np.abs(deviations).max() < 5
    assert 0.9 < (deviations**2).mean() < 1.1


def test_stream_does_not_remember_the_tile_before():
    stream = Stream((1, 2, 3))
    # Half of a word is left over from numbers of 32 bits.
    stream.at(0).random(dtype=np.float32)
    assert stream.at(1).integers(0, 2**32, 3, np.uint32).tolist() == (
        Stream((1, 2, 3)).at(1).integers(0, 2**32, 3, np.uint32).tolist()
    )


def first_values(key, tiles):
    stream = Stream(key)
    return np.array([stream.at(tile).random(2) for tile in range(tiles)])


def test_first_numbers_of_neighbouring_tiles_are_even_and_not_correlated():
    # One p-value may be small by chance; those of many keys are even themselves.
    found = []
    for seed in range(30):
        key = (seed, 2 * seed + 1, 7) if seed % 2 else TiledStreams(seeded(seed)).next_key()
        values = first_values(key, 4000)
        for lag in (1, 2, 3, 256):
            for column in (0, 1):
                found.append(stats.pearsonr(values[:-lag, 0], values[lag:, column]).pvalue)
        found += [stats.kstest(column, "uniform").pvalue for column in values.T]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert min(found) > 0.01 / len(found)


def test_elements_of_neighbouring_tiles_are_not_correlated():
    x = default_rng(3).standard_normal((400, 5000)).collect()
    for axis, lag in ((0, 50), (0, 1), (1, 250), (1, 1)):
        ahead = np.take(x, np.arange(lag, x.shape[axis]), axis)
        behind = np.take(x, np.arange(x.shape[axis] - lag), axis)
        deviation = (ahead * behind).sum() / np.sqrt(ahead.size)
        assert abs(deviation) < 4


def test_threads_get_different_streams():
    rng = default_rng(1)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: rng.bit_generator.next_key(), range(2000)))
    again = default_rng(1)
    assert sorted(keys) == sorted(again.bit_generator.next_key() for _ in range(2000))
    assert len(set(keys)) == 2000


def test_successive_draws_and_children_differ():
    rng = default_rng(1)
    children = rng.spawn(2)
    arrays = [one.random(10).tolist() for one in (rng, rng, *children, *children[0].spawn(1))]
    assert len({tuple(array) for array in arrays}) == 5
    assert rng.spawn(1)[0].random(10).tolist() not in arrays


def test_children_are_those_of_the_seed():
    first = default_rng(1).spawn(2)
    second = [default_rng(seed) for seed in np.random.SeedSequence(1).spawn(2)]
    for one, other in zip(first, second, strict=True):
        assert one.random(5).tolist() == other.random(5).tolist()


@pytest.mark.parametrize("seed", [0, 5, 2**100, [1, 2, 3], np.array([4, 5]), (7,)])
def test_generators_of_one_seed_agree(seed):
    first, second = default_rng(seed), default_rng(seed)
    for _ in range(2):
        assert first.random(5).tolist() == second.random(5).tolist()
    assert default_rng(np.random.SeedSequence(seed)).random(3).tolist() == (
        default_rng(seed).random(3).tolist()
    )


def test_no_seed_is_a_fresh_one():
    first, second = default_rng(), default_rng()
    assert first.random(5).tolist() != second.random(5).tolist()
    again = default_rng(first.bit_generator.seed_seq.entropy)
    again.random(5)
    assert again.random(5).tolist() == first.random(5).tolist()


@pytest.mark.parametrize("seed", ["x", 1.5, -1])
def test_bad_seeds_raise_what_numpy_raises(seed):
    with pytest.raises((TypeError, ValueError)) as numpy_raised:
        np.random.default_rng(seed)
    with pytest.raises(numpy_raised.type, match=str(numpy_raised.value)):
        default_rng(seed)


def test_generator_is_returned_and_one_of_numpy_refused():
    rng = default_rng(0)
    assert default_rng(rng) is rng
    assert default_rng(rng.bit_generator).bit_generator is rng.bit_generator
    with pytest.raises(TypeError, match="seed_seq"):
        default_rng(np.random.default_rng(0))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copy_goes_on_as_the_generator_does(duplicate):
    rng = default_rng(3)
    rng.random(4)
    rng.spawn(1)
    other = duplicate(rng)
    assert other.random(4).tolist() == rng.random(4).tolist()
    assert other.spawn(1)[0].random() == rng.spawn(1)[0].random()


def test_state_is_read_and_set():
    rng = default_rng(3)
    rng.random()
    state = rng.bit_generator.state
    drawn = rng.random(3).tolist()
    rng.bit_generator.state = state
    assert rng.random(3).tolist() == drawn
    with pytest.raises(ValueError, match="PCG64"):
        rng.bit_generator.state = np.random.PCG64(0).state


def test_array_of_draws_survives_its_generator():
    rng = default_rng(3)
    x = rng.random(1000, blocks=300)
    y = x * 2
    rng.random(5)
    del rng
    assert (y == x + x).all()
    assert x[17:20].tolist() == x.tolist()[17:20]
    assert isinstance(x, da.DArray)
    assert isinstance(TiledStreams(np.random.SeedSequence(1)).seed_seq, np.random.SeedSequence)
