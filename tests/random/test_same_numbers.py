"""The numbers are those of the seed and the shape, whatever the Blocks, engine and threads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.random import default_rng
from tests.random.conftest import running
from tests.random.methods import EVERY, draw

SIZE = (100, 3)
CUTS = ["auto", 7, (50, 1), ((1, 40, 59), (2, 1)), (-1, 2)]


def drawn(name, blocks, size=SIZE):
    arguments, options = EVERY[name]
    rng = default_rng(11)
    rng.random()
    x = draw(rng, name, arguments, options, size)
    if blocks != "auto":
        blocks = (blocks,) * len(size) if isinstance(blocks, int) else blocks
        rng = default_rng(11)
        rng.random()
        more = (-1,) * (x.ndim - len(size))
        x = draw(rng, name, arguments, options, size, blocks=da.Blocks(*blocks, *more))
    return x


@pytest.mark.parametrize("name", EVERY)
def test_cut_does_not_matter(name):
    whole = drawn(name, "auto").collect()
    for blocks in CUTS[1:]:
        np.testing.assert_array_equal(drawn(name, blocks).collect(), whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("blocks", ["auto", 300, (17, 999), ((1, 499, 500), (1000,)), (-1, 128)])
def test_cut_and_threads_do_not_matter_over_many_tiles(blocks, threads):
    shape = (1000, 1000)
    for name in ("standard_normal", "integers8", "poisson", "normal"):
        with running(engine="serial"):
            whole = drawn(name, "auto", shape).collect()
        with running(engine="threads", threads=threads):
            np.testing.assert_array_equal(drawn(name, blocks, shape).collect(), whole)
    assert len(np.unique(whole)) > 0.99 * whole.size


@pytest.mark.parametrize("name", EVERY)
def test_every_box_is_that_of_the_whole(name):
    size = (300, 300)
    arguments, options = EVERY[name]
    if name.endswith("_arrays"):
        arguments = ([np.resize(one, 300) for one in arguments[:1]],)[0]
        arguments += [1.0] if name.startswith("normal") else []
        arguments += [1000] if name.startswith("integers") else []
        arguments += [[0.25, 0.75]] if name.startswith("multinomial") else []
    x = draw(default_rng(2), name, arguments, options, size)
    whole = x.collect()
    for index in (
        np.s_[:1],
        np.s_[77:201, 33:34],
        np.s_[299, 299],
        np.s_[::-50, ::7],
        np.s_[60:61, 3:290],
        np.s_[:, :0],
    ):
        np.testing.assert_array_equal(x[index].collect(), whole[index])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_box_of_any_shape_is_that_of_the_whole(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 40), max_size=3)))
    name = data.draw(st.sampled_from(["normal", "standard_gamma", "binomial", "integers8"]))
    arguments, options = EVERY[name]
    function = draw(default_rng(4), name, arguments, options, shape).expression.function
    whole = function(tuple(slice(0, length, 1) for length in shape))
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    box = tuple(slice(first, last, 1) for first, last in ends)
    np.testing.assert_array_equal(function(box), whole[box])


@pytest.mark.parametrize("name", EVERY)
def test_shape_and_dtype_are_those_of_numpy(name):
    arguments, options = EVERY[name]
    theirs = draw(np.random.default_rng(0), name, arguments, options, SIZE)
    ours = drawn(name, "auto")
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert (ours.collect().shape, ours.collect().dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("name", EVERY)
def test_functions_of_boxes_can_be_sent_to_other_processes(name):
    x = drawn(name, "auto")
    function = pickle.loads(pickle.dumps(x.expression.function))
    box = tuple(slice(0, length, 1) for length in x.shape)
    np.testing.assert_array_equal(function(box), x.collect())


def test_reductions_and_views_see_the_same_numbers():
    x = default_rng(0).random((500, 300), blocks=(90, 70))
    whole = x.collect()
    np.testing.assert_array_equal(x.max(axis=0).collect(), whole.max(axis=0))
    np.testing.assert_array_equal(x.T[5:, ::2].collect(), whole.T[5:, ::2])
    np.testing.assert_array_equal((x - x).collect(), 0)


@pytest.mark.parametrize("size", [0, (0,), (3, 0), (), (1, 1)])
def test_sizes_without_elements_or_axes(size):
    for name in ("random", "normal", "integers", "multinomial", "multivariate_normal"):
        arguments, options = EVERY[name]
        ours = draw(default_rng(0), name, arguments, options, size)
        theirs = draw(np.random.default_rng(0), name, arguments, options, size)
        assert isinstance(ours, da.DArray)
        assert ours.collect().shape == theirs.shape


def test_single_draws_are_numbers_of_numpys_types():
    ours, theirs = default_rng(0), np.random.default_rng(0)
    for name, (arguments, options) in EVERY.items():
        if not name.startswith(("multi", "dirichlet")) and not name.endswith("_arrays"):
            one, other = (draw(rng, name, arguments, options, None) for rng in (ours, theirs))
            assert type(one) is type(other), name
    assert draw(ours, "dirichlet", *EVERY["dirichlet"], None).shape == (3,)
