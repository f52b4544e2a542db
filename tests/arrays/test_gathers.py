"""How elements are gathered and scattered: in which ways, in how many tasks, in what memory."""

from __future__ import annotations

import pickle
from itertools import pairwise

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.expr import gathers
from darray.expr.nodes import Stored
from darray.expr.positions import grouped, piece_counts, piece_numbers
from darray.lowering import exchanging, gathering
from darray.lowering.planning import Planner
from darray.runtime import TasksPlanned
from darray.testing.strategies import advanced_indices, chunks_for
from tests.arrays.agreement import same_arrays
from tests.arrays.drawing import pairs

#: What a plan has a stage of, and the constants that lead to it.
WAYS = {
    "gather": {"FEW": 10**9},
    "gather: assemble": {"FEW": 0, "SPARSE": 2**60},
    "gather: send": {"FEW": 0, "SPARSE": 2**60, "SHARE": 2**60},
}


@pytest.fixture(params=sorted(WAYS))
def way(request, monkeypatch):
    """One way to gather, whatever the size of an array, in as many pieces as it has chunks."""
    monkeypatch.setattr(gathers, "GRAIN", 1)
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(gathering, name, value)
    return request.param


def stages_of(lazy):
    planner = Planner()
    planner.want_all(lazy.expression)
    return [stage.name for stage in planner.run().stages if stage.drafts]


@pytest.mark.usefixtures("engine")
def test_every_way_gives_the_same(way):
    @given(st.data(), pairs(dtype="i4"))
    @settings(max_examples=60, deadline=None)
    def run(data, pair):
        lazy, plain = pair
        lazy, plain = (lazy + lazy).copy(), np.asarray(plain + plain)
        key = data.draw(advanced_indices(plain.shape))
        try:
            expected = np.array(plain[key])
        except IndexError:
            return
        assert same_arrays(lazy[key].collect(), expected)
        lazy[key] = expected[..., ::-1] if expected.ndim else expected
        places = np.arange(plain.size).reshape(plain.shape)[key]
        plain.reshape(-1)[places.reshape(-1)] = expected[..., ::-1].reshape(-1)
        assert same_arrays(lazy.collect(), plain)

    with np.errstate(all="ignore"):
        run()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("blocks", [(1, 2, 3), (4, 3, 2), ((1, 3), (2, 1), (1, 4))])
def test_the_ways_are_those_meant(way, blocks):
    plain = np.arange(60).reshape(4, 3, 5)
    x = da.distribute(plain, da.Blocks(*blocks)).map_blocks(np.negative)
    rng = np.random.default_rng(0)
    for axis in range(3):
        order = rng.permutation(plain.shape[axis])
        key = (*(slice(None),) * axis, order)
        lazy = x[key]
        if len(x.chunks[axis]) > 1:
            assert way in stages_of(lazy.rechunk(-1))
        assert same_arrays(lazy.collect(), -plain[key])


def planned(compute):
    """The numbers of tasks of the computations that `compute` makes."""
    events = []
    with da.subscribe(events.append):
        compute()
    return [event.tasks for event in events if isinstance(event, TasksPlanned)]


SOURCES = {
    "memory": (lambda x: x, 0),
    "computed": (lambda x: x * 2 + 1, 0),
    "persisted": (lambda x: x.copy().persist(), 0),
    "from blocks": (lambda x: x.map_blocks(np.negative), 1000),
}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("source", SOURCES)
def test_a_permutation_takes_a_bounded_number_of_tasks(source):
    """One that moved elements from each of 1,000 chunks to each would take a million."""
    form, most = SOURCES[source]
    plain = np.random.default_rng(0).random(10**6)
    order = np.random.default_rng(1).permutation(10**6)
    x = form(da.distribute(plain, da.Blocks(1000)))
    y = x[order]
    assert y.chunks == x.chunks
    expected = x.collect()
    found = []
    (count,) = planned(lambda: found.append(y.collect()))
    assert np.array_equal(found[0], expected[order])
    assert count <= most + 40
    z = x.copy()
    z[order] = x
    # What is computed on the way is there already, but for what cannot be kept as it is.
    (count,) = planned(lambda: found.append(z.collect()))
    expected[order] = expected.copy()
    assert np.array_equal(found[1], expected)
    assert count <= most + 60


class Recorded:
    """A stored array that notes which boxes of it are read."""

    def __init__(self, array, chunks):
        self.array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, chunks
        self.boxes = []

    def read(self, box):
        self.boxes.append(box)
        return self.array[box].copy()


@pytest.mark.usefixtures("engine")
def test_only_the_chunks_that_are_picked_from_are_read():
    source = Recorded(np.arange(10**6), ((10**4,) * 100,))
    x = da.DArray.of(Stored(source.shape, source.dtype, source.chunks, source))
    assert x[[3, 5]].collect().tolist() == [3, 5]
    assert source.boxes == [(slice(3, 6, 1),)]
    source.boxes.clear()
    assert (x + 1)[[999_999, 0]].collect().tolist() == [10**6, 1]
    assert sorted(part.start for (part,) in source.boxes) == [0, 999_999]


@pytest.mark.usefixtures("engine")
def test_sparse_positions_do_not_assemble_the_array(monkeypatch):
    monkeypatch.setattr(gathers, "GRAIN", 1)
    source = Recorded(np.arange(10**5), ((100,) * 1000,))
    x = da.DArray.of(Stored(source.shape, source.dtype, source.chunks, source))
    order = np.random.default_rng(0).integers(0, 10**5, 40)
    assert (x * 2)[order].collect().tolist() == (order * 2).tolist()
    assert len(source.boxes) <= 40


@pytest.mark.usefixtures("threads")
def test_few_elements_are_picked_out_of_the_chunks_that_are_there():
    x = (da.arange(10**6, blocks=1000) * 2).persist()
    order = np.random.default_rng(0).integers(0, 10**6, 500)
    assert stages_of(x[order]) == ["gather"]
    assert same_arrays(x[order].collect(), order * 2)


@pytest.fixture
def limited():
    da.configure(engine="threads", threads=2, memory_limit="200MB")
    yield
    da.configure(engine="threads", threads=None, memory_limit=None)


@pytest.mark.parametrize("form", [lambda x: x, lambda x: x + 1], ids=["read", "computed"])
def test_a_source_beyond_the_share_is_exchanged_in_rounds(limited, form):
    """32 MB, of which a quarter of the 72 MB that are left is to be held."""
    count = 4 * 10**6
    x = form(da.from_function(lambda i: 3.0 * i, count, blocks=100_000))
    order = np.random.default_rng(0).permutation(count)
    names = stages_of(x[order])
    assert names.count("gather: send") > 2
    found = x[order].collect()
    assert np.array_equal(found, 3.0 * order + float(x[0]))
    found = None
    y = x.copy()
    y[order] = x
    assert float((y[order[:1000]] - x[:1000]).sum()) == 0.0


def test_chunks_that_cannot_be_computed_again_are_exchanged_at_once(limited):
    count = 6 * 10**6
    x = da.from_function(lambda i: 3.0 * i, count, blocks=100_000).map_blocks(np.negative)
    order = np.random.default_rng(0).permutation(count)[: count // 2]
    assert stages_of(x[order]).count("gather: send") == 1
    assert np.array_equal(x[order].collect(), -3.0 * order)


def test_a_mask_over_an_array_beyond_memory_is_kept_as_bools(limited):
    count = 10**7
    x = da.from_function(lambda i: i * 1.0, count, blocks=500_000)
    mask = x % 2 == 0
    picked = x[mask]
    assert picked.shape == (count // 2,)
    assert picked.chunks == ((250_000,) * 20,)
    assert float(picked[-1]) == count - 2
    assert float(picked.sum()) == float(np.arange(0, count, 2, dtype=float).sum())
    x[mask] = -picked
    assert float(x[:4].sum()) == 0 + 1 - 2 + 3


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("blocks", [(3, 4), (2, -1), (1, 5), (7, 1), (-1, 2)])
def test_masks_pick_in_c_order_however_the_array_is_cut(blocks):
    plain = np.random.default_rng(0).random((7, 12, 3))
    x = da.distribute(plain, da.Blocks(*blocks, 2))
    mask = plain[..., 0] > 0.4
    for lazy_mask in (mask, da.distribute(mask, da.Blocks(5, 5)), x[..., 0] > 0.4):
        assert same_arrays(x[lazy_mask].collect(), plain[mask])
        y, expected = x.copy(), plain.copy()
        y[lazy_mask] = x[lazy_mask][::-1]
        expected[mask] = plain[mask][::-1]
        assert same_arrays(y.collect(), expected)


def test_products_of_positions_are_picked_axis_by_axis(threads):
    """As positions of single elements they would be a hundred million."""
    x = da.ones((20_000, 20_000), blocks=2_000)
    rows, columns = np.ix_(np.arange(0, 20_000, 2)[::-1], np.arange(10_000))
    y = x[rows, columns]
    assert y.shape == (10_000, 10_000)
    assert float(y[:10, :10].sum()) == 100


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_positions_in_groups(data, shape):
    chunks = data.draw(chunks_for(tuple(shape)))
    count = data.draw(st.integers(1, 30))
    positions = tuple(
        [
            np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=count, max_size=count)))
            for n in shape
        ]
    )
    numbers = piece_numbers(positions, chunks)
    grid = [
        np.repeat(np.arange(len(sizes)), sizes)[one]
        for sizes, one in zip(chunks, positions, strict=True)
    ]
    assert (numbers == np.ravel_multi_index(tuple(grid), [len(sizes) for sizes in chunks])).all()
    found, counts = piece_counts(positions, chunks)
    assert dict(zip(found, counts, strict=True)) == dict(
        zip(*np.unique(numbers, return_counts=True), strict=True)
    )
    group, order = grouped(tuple(range(len(shape))), positions, chunks)
    target = np.zeros(shape, int)
    target[positions] = np.arange(count)
    ours = np.zeros(shape, int)
    ours[group.positions] = np.arange(count)[slice(None) if order is None else order]
    assert (ours == target).all()
    for piece, (start, stop) in enumerate(pairwise(group.starts)):
        inside = tuple([one[start:stop] for one in group.positions])
        assert (piece_numbers(inside, chunks) == piece).all()


@pytest.mark.parametrize("share", [4, 2**60])
def test_what_tasks_call_is_plain_data(share, monkeypatch):
    """Other processes can be sent it: what it gives there is what it gives here."""
    monkeypatch.setattr(gathers, "GRAIN", 1)
    monkeypatch.setattr(gathering, "SHARE", share)
    plain = np.arange(64.0).reshape(8, 8)
    x = da.distribute(plain, da.Blocks(2, 3)) + 1
    order = np.random.default_rng(0).permutation(8)
    mask = plain % 3 == 0
    y, z = x.copy(), x.copy()
    y[:, order] = x
    z[mask] = x[mask][::-1]
    for lazy in (x[order], x[:, order], x[mask], x[order, order[::-1]], y, z, x[[5, 1]]):
        planner = Planner()
        planner.want_all(lazy.expression)
        values, twins = {}, {}
        for draft in planner.run().drafts():
            call = pickle.loads(cloudpickle.dumps(draft.call))
            values[draft.key] = draft.call(*(values[need] for need in draft.needs))
            twins[draft.key] = call(*(twins[need] for need in draft.needs))
            np.testing.assert_equal(twins[draft.key], values[draft.key])
        assert values


def test_groups_are_few():
    assert exchanging.GROUPS**2 <= 2**12
