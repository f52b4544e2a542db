"""Chunks that look alike are planned as each of them would be by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.blocks import chunk_box, iterate_boxes
from darray.index_maps import IndexMap
from darray.lowering import alike
from darray.lowering.alike import Alike
from darray.lowering.computing import compute
from darray.lowering.fusion import fuse
from darray.lowering.loads import Gather, Generate, Ready, Within
from darray.lowering.margins import Sights
from darray.lowering.planning import Planner
from darray.runtime.boxes import box_shape, index_of
from darray.testing.strategies import boxes_in, chunks_for, shapes


def lying(piece):
    """Which elements of which memory a piece of an array is."""
    return piece.__array_interface__["data"][0], piece.shape, piece.strides


def seen(load, needs):
    """What a load brings, with what it needs by name, as plain data."""
    if isinstance(load, Ready):
        return ("ready", lying(load.piece))
    if isinstance(load, Generate):
        return ("generate", load.function, load.box, load.step, load.index_map)
    if isinstance(load, Within):
        return ("within", seen(load.whole, needs), load.part, load.index_map)
    assert isinstance(load, Gather)
    pieces = [
        (needs[position] if position >= 0 else lying(load.ready[~position]), part, place)
        for position, part, place in load.pieces
    ]
    return ("gather", pieces, load.shape, load.dtype, load.index_map)


SOURCES = ["memory", "persisted", "generated", "pending", "written"]


@st.composite
def sources(draw, shape):
    """An array of `shape` in chunks: there, or to be computed."""
    chunks = draw(chunks_for(shape))
    kind = draw(st.sampled_from(SOURCES))
    if kind == "generated":
        return da.random.default_rng(0).random(shape, blocks=chunks)
    x = da.distribute(np.arange(np.prod(shape)).reshape(shape), chunks)
    if kind == "persisted":
        return x.map_blocks(np.negative).persist()
    if kind == "pending":
        return x.map_blocks(np.negative)
    if kind == "written":
        x = x.copy()
        x[: shape[0] // 2] = 7
    return x


@st.composite
def expressions(draw):
    """A sum of views of a few arrays, some of them shifted, turned, or broadcast."""
    shape = draw(shapes(2, 9, min_dims=1, min_side=3))
    arrays = draw(st.lists(sources(shape), min_size=1, max_size=2))
    margin = [draw(st.integers(0, 2)) for _ in shape]
    # Steps may pass over whole chunks.
    steps = [draw(st.sampled_from([1, 1, 1, 2, 5])) for _ in shape]
    total = None
    for _ in range(draw(st.integers(1, 4))):
        x = draw(st.sampled_from(arrays))
        key = []
        for size, most, step in zip(shape, margin, steps, strict=True):
            start = draw(st.integers(0, most))
            part = slice(start, start + size - most, step)
            turned = draw(st.sampled_from([False, False, False, True]))
            index = range(size)[part]
            end = index[0] - 1 if index[0] else None
            key.append(slice(index[-1], end, -step) if turned else part)
        view = x[tuple(key)]
        if draw(st.sampled_from([False, False, False, True])):
            view = view[:1]
        total = view if total is None else total + view
    return total


@given(expressions(), st.data())
def test_a_plan_of_a_grid_is_that_of_its_chunks(total, data):
    node = total.expression
    group = fuse([node], node.shape)
    together, apart = Planner(), Planner()
    boxes = [box for _, box in iterate_boxes(data.draw(chunks_for(node.shape)))]
    boxes += [data.draw(boxes_in(node.shape, max_step=2)) for _ in range(3)]
    before = data.draw(st.integers(0, 1))
    for box in boxes:
        needs, alone = ["one"] * before, ["one"] * before
        found, _ = together.pieces(group, box, needs)
        expected = apart.pieces_apart(Sights(group), box, alone)
        assert needs == alone
        assert found.group is group
        assert found.shape == expected.shape == box_shape(box)
        assert [seen(one, needs) for one in found.loads] == [
            seen(one, alone) for one in expected.loads
        ]
    assert together.wanted == apart.wanted
    assert [list(one) for one in together.wanted.values()] == [
        list(one) for one in apart.wanted.values()
    ]
    assert together.kept_used.keys() == apart.kept_used.keys()
    assert together.reads_shared == apart.reads_shared


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("sides", [((10,) * 9,), ((4, 6, 3) * 3, (5,) * 4)])
def test_chunks_in_the_middle_share_their_pieces(sides):
    """Nothing that is alike is made twice, whatever the number of chunks."""
    shape = tuple(map(sum, sides))
    x = da.zeros(shape, blocks=da.Blocks(*sides)).map_blocks(np.negative)
    inner = tuple([slice(1, -1)] * len(shape))
    total = x[inner] + x[(slice(2, None), *inner[1:])] + x[(slice(None, -2), *inner[1:])]
    planner = Planner()
    planner.want_all(total.expression)
    stage = planner.run().stages[-1]
    distinct = {id(draft.call.pieces) for draft in stage.drafts}
    repeats = [len(set(sizes)) + 4 for sizes in sides]
    assert len(stage.drafts) == np.prod([len(sizes) for sizes in total.chunks])
    assert len(distinct) <= 1 + np.prod(repeats)


def test_chunks_that_steps_reach_past_are_counted_right():
    x = da.zeros(40, blocks=4).map_blocks(np.negative)
    node = x[::-9].expression
    group = fuse([node], node.shape)
    planner = Planner()
    planner.pieces(group, (slice(0, 1, 1),))
    found = [planner.pieces(group, (slice(at, at + 2, 1),))[1] for at in range(3)]
    assert [[index for _, (index,) in needs] for needs in found] == [[7, 9], [5, 7], [3, 5]]


def test_an_array_of_no_axes_is_read_as_one():
    single = da.distribute(np.array(2.0))
    drawn = da.random.default_rng(0).random(())
    total = single + drawn + da.distribute(np.ones(4), da.Blocks(2))
    group = fuse([total.expression], (4,))
    planner = Planner()
    for start in (0, 2, 0):
        pieces, _ = planner.pieces(group, (slice(start, start + 2, 1),))
        (found,) = pieces.compute(())
        assert found.tolist() == [3.0 + float(drawn)] * 2
    assert isinstance(planner.alike[id(group)], Alike)


class Values:
    """What tasks give, by what stands for them in plans."""

    def __init__(self):
        self.arrays = {}

    def of(self, need):
        if need == "one":
            return None
        if isinstance(need, da.Task):
            return need.result()
        node, index = need
        if node not in self.arrays:
            (self.arrays[node],) = compute([node])
        return self.arrays[node][index_of(chunk_box(node.chunks, index))]


def assert_reads_alike(found, needs, expected, alone, values):
    """Assert that pieces with some needs read what others read with theirs."""
    assert found.shape == expected.shape
    # What is shown both ways round is brought twice.
    assert set(needs) == set(alone)
    ours = found.inputs(list(map(values.of, needs)))
    theirs = expected.inputs(list(map(values.of, alone)))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@given(expressions(), st.data())
def test_what_is_put_together_by_tasks_is_the_same(total, data):
    """On irregular cuts, where hardly a chunk is like another."""
    node = total.expression
    group = fuse([node], node.shape)
    together, apart, values = Planner(), Planner(), Values()
    boxes = [box for _, box in iterate_boxes(data.draw(chunks_for(node.shape)))]
    boxes += [data.draw(boxes_in(node.shape, max_step=2)) for _ in range(3)]
    before = data.draw(st.integers(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        # As if there had been very many kinds of chunks.
        patch.setattr(alike, "TRIED", 0)
        patch.setattr(alike, "RARE", 2**40)
        for box in boxes:
            needs, alone = ["one"] * before, ["one"] * before
            found, _ = together.pieces(group, box, needs)
            expected = apart.pieces_apart(Sights(group), box, alone)
            assert_reads_alike(found, needs, expected, alone, values)
    assert together.wanted == apart.wanted
    assert together.reads_shared == apart.reads_shared


def test_an_irregular_cut_is_put_together_by_tasks():
    sizes = tuple(range(1, 200))
    x = da.distribute(np.arange(sum(sizes)), da.Blocks(sizes)).map_blocks(np.negative)
    node = (x[1:] + x[:-1] + x[::-1][1:]).expression
    group = fuse([node], node.shape)
    together, apart, values = Planner(), Planner(), Values()
    by_hulls = 0
    for _, box in iterate_boxes(node.chunks):
        expected = []
        pieces = apart.pieces_apart(Sights(group), box, expected)
        found, needs = together.pieces(group, box)
        assert_reads_alike(found, needs, pieces, expected, values)
        by_hulls += bool(found.hulls)
    assert by_hulls > 150


def test_leaves_that_show_distant_parts_are_put_together_apart():
    sizes = tuple(range(1, 300))
    x = da.zeros(sum(sizes), blocks=da.Blocks(sizes)).map_blocks(np.negative)
    for shift, count in ((9000, 3), (1, 1)):
        planner = Planner()
        planner.want_all((x[: -shift - 1] + x[1:-shift] + x[shift + 1 :]).expression)
        hulls = [draft.call.pieces.hulls for draft in planner.run().stages[-1].drafts]
        assert {len(one) for one in hulls} == {0, count}
        largest = max(
            math.prod([axis.length for axis in hull.axes]) for one in hulls for hull in one
        )
        assert largest <= max(1.5 * max(sizes), 4096)


def test_steps_over_whole_chunks_on_an_irregular_cut():
    x = np.arange(40_000.0)
    y = da.distribute(x, da.Blocks(2)).map_blocks(np.positive)
    cut = np.random.default_rng(0).integers(1, 20, 3000)
    for step in (2, 4, 5, -5):
        view = x[::step]
        ends = np.minimum(np.cumsum(cut), len(view))
        sizes = tuple(one for one in np.diff(ends, prepend=0).tolist() if one)
        sizes = (*sizes, len(view) - sum(sizes)) if sum(sizes) < len(view) else sizes
        np.testing.assert_array_equal(y[::step].rechunk(da.Blocks(sizes)).collect(), view)


def test_views_know_that_they_arrange_nothing():
    assert IndexMap.from_index(slice(1, 3), (5,)).arranges_nothing
    assert not IndexMap.from_index(slice(None, None, -1), (5,)).arranges_nothing
    assert not IndexMap.transpose(None, (2, 3)).arranges_nothing


def test_what_a_later_stage_has_read_once_is_gathered_from_then_on(tmp_path):
    values = np.random.default_rng(0).random((255, 255))
    da.to_zarr(values, str(tmp_path / "x.zarr"), chunks=da.Blocks(10, 50))
    x = da.from_zarr(str(tmp_path / "x.zarr"), blocks=da.Blocks(10, 50))
    for scale in (1, 2):
        made = np.concatenate([x + 1, x.T[:, :20] * scale], axis=1)
        expected = np.concatenate([values + 1, values.T[:, :20] * scale], axis=1)
        np.testing.assert_array_equal(made.collect(), expected)
