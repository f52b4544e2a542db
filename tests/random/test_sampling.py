"""Permutations, choices and shuffles."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

import darray as da
from darray.random import default_rng
from darray.random.permutations import WHOLE, Permutation
from tests.random.conftest import running

LEVEL = 1e-3


@pytest.mark.parametrize("length", [0, 1, 2, 5, 1000, WHOLE, WHOLE + 1, 100_003, 2**20])
def test_permutation_has_every_number_once(length):
    x = default_rng(4).permutation(length, blocks=max(1, length // 3)).collect()
    assert x.dtype == np.int64
    assert (np.bincount(x, minlength=length) == 1).all()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 17, 1000, 4097])
def test_network_permutes_any_range(length):
    x = Permutation((1, 2, 3), length).by_network(np.arange(length))
    assert sorted(x) == list(range(length))


@pytest.mark.parametrize("length", [1000, 200_000])
def test_permutation_is_the_same_whatever_the_cut(length):
    whole = default_rng(4).permutation(length).collect()
    for blocks in (length // 7, ((1, length - 1),), length // 2):
        with running(engine="threads", threads=3):
            x = default_rng(4).permutation(length, blocks=blocks)
            np.testing.assert_array_equal(x.collect(), whole)
            np.testing.assert_array_equal(x[5:900:7].collect(), whole[5:900:7])


def test_every_permutation_of_few_elements_is_equally_likely():
    rng = default_rng(4)
    counts = Counter(tuple(rng.permutation(4).tolist()) for _ in range(2400))
    assert len(counts) == math.factorial(4)
    assert stats.chisquare(list(counts.values())).pvalue > LEVEL


@pytest.mark.parametrize("length", [WHOLE + 1, 100_003, 10**6])
def test_long_permutations_are_even_in_places_and_in_pairs(length):
    places = np.array([0, 1, length // 2, length - 1])
    rng = default_rng(length)
    found = []
    for _ in range(1000):
        found.append(Permutation(rng.bit_generator.next_key(), length)(places))
    sent = np.array(found)
    for column in sent.T:
        assert stats.kstest(column / length, "uniform").pvalue > LEVEL
    for i, j in ((0, 1), (0, 2), (2, 3)):
        pairs = np.histogram2d(sent[:, i], sent[:, j], bins=8, range=[[0, length]] * 2)[0]
        assert stats.chisquare(pairs.ravel()).pvalue > LEVEL
    gaps = (sent[:, 1] - sent[:, 0]) % length
    assert stats.kstest(gaps / length, "uniform").pvalue > LEVEL


def test_long_permutation_has_no_trace_of_the_order_before():
    length = 300_000
    x = default_rng(1).permutation(length).collect()
    counts = np.histogram2d(np.arange(length), x, bins=40)[0]
    # Each row and column of the table is full, which takes as many degrees of freedom.
    assert stats.chisquare(counts.ravel(), ddof=2 * 40 - 2).pvalue > LEVEL
    ascents = np.count_nonzero(np.diff(x) > 0)
    assert abs(ascents - length / 2) < 4 * math.sqrt(length / 12)
    assert np.count_nonzero(x == np.arange(length)) < 8
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / math.sqrt(length)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_permutation_of_an_array_moves_whole_lines(axis):
    array = np.arange(70 * 30).reshape(70, 30)
    x = default_rng(3).permutation(array, axis=axis, blocks=(11, 7))
    assert x.dtype == array.dtype
    order = default_rng(3).permutation(array.shape[axis]).collect()
    np.testing.assert_array_equal(x.collect(), np.take(array, order, axis))
    np.testing.assert_array_equal(x[3:50, 4:].collect(), np.take(array, order, axis)[3:50, 4:])


def test_permuted_orders_each_line_by_itself():
    array = np.arange(400 * 30).reshape(400, 30)
    x = default_rng(3).permuted(array, axis=1).collect()
    np.testing.assert_array_equal(np.sort(x, axis=1), array)
    first = np.bincount(x[:, 0] % 30, minlength=30)
    assert stats.chisquare(first).pvalue > LEVEL
    assert len({tuple(row % 30) for row in x}) == 400
    y = default_rng(3).permuted(array.T, axis=0, blocks=(7, 100)).collect()
    np.testing.assert_array_equal(y, x.T)


def test_permuted_is_the_same_for_arrays_in_chunks():
    array = np.arange(40_000 * 30).reshape(40_000, 30)
    whole = default_rng(3).permuted(array, axis=1).collect()
    for blocks in ("auto", (999, 30), (20_000, 7)):
        x = default_rng(3).permuted(da.distribute(array, blocks), axis=1, blocks=(7000, 11))
        np.testing.assert_array_equal(x.collect(), whole)
        assert x.chunks == da.zeros(array.shape, blocks=(7000, 11)).chunks


def test_permuted_without_an_axis_moves_all_elements():
    array = np.arange(60).reshape(3, 4, 5)
    x = default_rng(3).permuted(array, blocks=2).collect()
    assert x.shape == array.shape
    assert sorted(x.ravel()) == list(range(60))
    assert not (np.sort(x, axis=2) == array).all()


def test_choice_with_replacement_is_even():
    x = default_rng(1).choice(20, size=(300, 100), blocks=37)
    assert stats.chisquare(np.bincount(x.collect().ravel(), minlength=20)).pvalue > LEVEL
    letters = default_rng(1).choice(["a", "bc", "d"], size=3000).collect()
    assert letters.dtype == np.dtype("<U2")
    assert stats.chisquare(list(Counter(letters.tolist()).values())).pvalue > LEVEL


def test_choice_follows_its_probabilities():
    p = np.array([0.1, 0.0, 0.4, 0.5])
    x = default_rng(1).choice(4, size=50_000, p=p).collect()
    counts = np.bincount(x, minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[p > 0], p[p > 0] * x.size).pvalue > LEVEL
    y = default_rng(1).choice(4, size=50_000, p=p, blocks=777)
    np.testing.assert_array_equal(y.collect(), x)


@pytest.mark.parametrize("population", [50, 200_000])
def test_choice_without_replacement(population):
    x = default_rng(1).choice(population, size=(5, 8), replace=False).collect()
    assert len(set(x.ravel())) == 40
    assert 0 <= x.min() <= x.max() < population
    y = default_rng(1).choice(population, size=(5, 8), replace=False, blocks=3).collect()
    np.testing.assert_array_equal(x, y)
    rng = default_rng(5)
    sums = [float(rng.choice(population, 3, replace=False).mean()) for _ in range(1000)]
    error = population / math.sqrt(12 * 3 * 1000)
    assert abs(np.mean(sums) - (population - 1) / 2) < 4 * error


def test_weighted_choice_without_replacement_is_drawn_once():
    p = np.arange(1, 101) / 5050
    x = default_rng(1).choice(100, size=60, replace=False, p=p, blocks=7)
    first = x.collect()
    assert len(set(first)) == 60
    np.testing.assert_array_equal(x[10:30].collect(), first[10:30])
    assert np.mean(first) > 49.5
    rng = default_rng(2)
    heads = [rng.choice(3, size=1, replace=False, p=[0.2, 0.3, 0.5]).item() for _ in range(600)]
    assert stats.chisquare(np.bincount(heads), [120, 180, 300]).pvalue > LEVEL


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [None, (), 5, (2, 3)])
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_choice_of_lines_has_numpys_shape(axis, size, replace, weighted):
    array = np.arange(7 * 8 * 9).reshape(7, 8, 9)
    length = array.shape[axis]
    p = np.full(length, 1 / length) if weighted else None
    x = default_rng(1).choice(array, size, replace, p, axis)
    expected = np.random.default_rng(1).choice(array, size, replace, p, axis)
    assert isinstance(x, da.DArray)
    found = x.collect()
    assert found.shape == expected.shape
    every = {tuple(line.ravel()) for line in np.moveaxis(array, axis, 0)}
    depth = found.ndim - 2
    moved = np.moveaxis(found, range(axis, axis + depth), range(depth))
    lines = moved.reshape(-1, *moved.shape[depth:])
    assert {tuple(line.ravel()) for line in lines} <= every


def test_single_choices_are_numbers_of_numpys_types():
    for population in (5, np.arange(5.0), ["a", "b"]):
        ours = default_rng(0).choice(population)
        assert type(ours) is type(np.random.default_rng(0).choice(population))


@pytest.mark.parametrize("make", [list, np.array])
def test_shuffle_in_place(make):
    x = make(range(100))
    assert default_rng(1).shuffle(x) is None
    assert sorted(x) == list(range(100)) != list(x)


CALLS = {
    "permutation": lambda rng, x: rng.permutation(x, axis=1),
    "permutation of one axis": lambda rng, x: rng.permutation(x[:, 0]),
    "choice": lambda rng, x: rng.choice(x, size=(5, 2), axis=1),
    "choice without replacement": lambda rng, x: rng.choice(x, 7, replace=False, axis=-1),
    "choice by probabilities": lambda rng, x: rng.choice(x, 3, p=[0.5, 0.0, 0.5]),
    "choice of one": lambda rng, x: rng.choice(x[0]),
    "choice of one line": lambda rng, x: rng.choice(x, axis=1),
    "permuted": lambda rng, x: rng.permuted(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_darrays_are_put_in_the_order_that_arrays_are(name):
    plain = np.arange(60).reshape(3, 20) * 2
    x = da.distribute(plain, da.Blocks(2, 6)) + 0
    with running(engine="threads", threads=2):
        found = CALLS[name](default_rng(3), x)
        assert isinstance(found, da.DArray)
        expected = np.asarray(CALLS[name](default_rng(3), plain))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.collect(), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_shuffling_a_darray_in_place(axis):
    plain = np.arange(60).reshape(6, 10)
    x = da.distribute(plain, da.Blocks(2, 4))
    view = x[1:]
    assert default_rng(1).shuffle(x, axis) is None
    np.testing.assert_array_equal(x.collect(), default_rng(1).permutation(plain, axis).collect())
    assert x.chunks == ((2, 2, 2), (4, 4, 2))
    np.testing.assert_array_equal(view.collect(), x.collect()[1:])
    with pytest.raises(np.exceptions.AxisError):
        default_rng(1).shuffle(x, 2)


def test_what_darrays_cannot_do_yet_says_what_to_use():
    rng = default_rng(0)
    with pytest.raises(NotImplementedError, match="rechunk"):
        rng.permuted(da.zeros(10**6, blocks=10**5), axis=0)
    with pytest.raises(NotImplementedError, match="collect"):
        rng.multinomial(5, da.ones(2) / 2)
    with pytest.raises(NotImplementedError, match="collect"):
        rng.multivariate_normal(da.zeros(2), np.eye(2))
