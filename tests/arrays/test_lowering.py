"""What is planned: fused tasks, boxes read, deep and wide expressions, memory, plain data."""

import math
import pickle
import time

import cloudpickle
import numpy as np
import pytest

import darray as da
from darray.expr.nodes import Stored
from darray.lowering.loads import Within
from darray.lowering.planning import Planner
from darray.runtime import TaskEnded, TasksPlanned
from tests.arrays.agreement import same_arrays

PLAIN = np.arange(64.0).reshape(8, 8)


class Recorded:
    """A stored array that notes which boxes of it are read."""

    def __init__(self, array, chunks):
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.chunks = chunks
        self.boxes = []

    def read(self, box):
        self.boxes.append(box)
        return self.array[box].copy()

    @property
    def elements(self):
        return sum(math.prod(len(range(8)[part]) for part in box) for box in self.boxes)

    def lazy(self):
        return da.DArray.of(Stored(self.shape, self.dtype, self.chunks, self))


@pytest.fixture
def stored(threads):
    return Recorded(PLAIN, ((2, 2, 2, 2), (4, 4)))


def tasks_of(compute):
    """Return the names of the tasks that ran, and the numbers of tasks that were planned."""
    events = []
    with da.subscribe(events.append):
        compute()
    ended = [event.name for event in events if isinstance(event, TaskEnded)]
    return ended, [event.tasks for event in events if isinstance(event, TasksPlanned)]


@pytest.mark.usefixtures("threads")
def test_a_reduction_and_what_it_reduces_are_one_task_a_chunk():
    x = da.distribute(PLAIN, da.Blocks(2, 4))
    y = da.distribute(PLAIN + 1, da.Blocks(2, 4))
    ended, planned = tasks_of(np.sqrt(x * x + y * y).sum().collect)
    assert ended.count("sum") == 8
    assert len(ended) == 8 + 1 + 1  # the chunks, the join of eight, the copy into the result
    assert planned == [len(ended)]


@pytest.mark.usefixtures("threads")
def test_elementwise_chains_are_one_task_a_chunk():
    x = da.distribute(PLAIN, da.Blocks(2, 4))
    ended, _ = tasks_of((np.sqrt(x * 2)[::-1].T - x.T).rechunk(da.Blocks(4, 2)).collect)
    assert len(ended) == 8


@pytest.mark.usefixtures("threads")
def test_one_chunk_takes_no_task():
    x = da.distribute(PLAIN)
    assert tasks_of((np.sqrt(x * 2) + x.sum(axis=0)).collect) == ([], [])


def test_slices_read_the_boxes_that_they_need(stored):
    x = stored.lazy()
    assert same_arrays((x + 1)[2:4, ::3].collect(), (PLAIN + 1)[2:4, ::3])
    assert stored.elements == 2 * 3
    stored.boxes.clear()
    assert float((np.sqrt(x) * 2)[7, 7]) == np.sqrt(63) * 2
    assert stored.elements == 1
    stored.boxes.clear()
    assert same_arrays(x[::-1].T[1].collect(), PLAIN[::-1].T[1])
    assert stored.elements == 8
    stored.boxes.clear()
    assert x[3:3].collect().shape == (0, 8)
    assert stored.elements == 0


def test_reductions_together_read_each_chunk_once(stored):
    x = stored.lazy()
    da.compute(x.min(), x.max(), x.mean(), x.std(axis=0), x.sum(axis=1))
    assert sorted(map(str, stored.boxes)) == sorted(set(map(str, stored.boxes)))
    assert stored.elements == 64


def test_an_array_used_twice_is_read_once(stored):
    x = stored.lazy()
    (x * x + x).sum().collect()
    assert stored.elements == 64


def test_persisted_chunks_are_not_read_again(stored):
    x = stored.lazy().persist()
    x.wait()
    stored.boxes.clear()
    assert same_arrays((x + 1).collect(), PLAIN + 1)
    assert stored.boxes == []


def chain(x, length):
    for _ in range(length):
        x = x + 1.0
    return x


@pytest.mark.parametrize("blocks", [10, 5])
@pytest.mark.usefixtures("threads")
def test_chains_of_a_thousand(blocks):
    x = da.zeros(10, blocks=blocks)
    assert same_arrays(chain(x, 1000).collect(), np.full(10, 1000.0))
    assert float(chain(x, 1000).sum()) == 10000.0


@pytest.mark.alone
@pytest.mark.parametrize("blocks", [10, 5])
@pytest.mark.usefixtures("serial")
def test_the_cost_of_chains_grows_with_their_length(blocks):
    x = da.zeros(10, blocks=blocks)

    def cost(length):
        best = math.inf
        for _ in range(3):
            began = time.process_time()
            chain(x, length).collect()
            best = min(best, time.process_time() - began)
        return best

    # Quadratic cost would make 64 times of it; linear cost makes 8, of which timers are unsure.
    assert cost(1600) < 30 * cost(200)


@pytest.mark.alone
@pytest.mark.usefixtures("serial")
def test_the_cost_of_plans_grows_with_their_chunks():
    def cost(chunks):
        x = da.distribute(np.zeros(chunks), da.Blocks(1))
        y = np.sqrt(x * x + x[::-1])
        began = time.process_time()
        planner = Planner()
        planner.want_all(y.expression)
        assert planner.run().count() == chunks
        return time.process_time() - began

    # In turn, as a busy machine is faster at one moment than at another.
    few, many = zip(*[(cost(800), cost(6400)) for _ in range(5)], strict=True)
    # Quadratic cost would make 64 times of it; linear cost makes 8, of which timers are unsure.
    assert min(many) < 30 * min(few)


@pytest.mark.usefixtures("threads")
def test_one_element_of_many_chunks_is_the_work_of_one():
    array = np.arange(1600.0).reshape(40, 40)
    recorded = Recorded(array, ((1,) * 40, (1,) * 40))
    x = recorded.lazy()
    one = np.sqrt(x * x + 1)[5, 7]
    planner = Planner()
    planner.want_all(one.expression)
    assert planner.run().count() == 1
    assert float(one) == math.sqrt(array[5, 7] ** 2 + 1)
    assert recorded.boxes == [(slice(5, 6, 1), slice(7, 8, 1))]


@pytest.mark.usefixtures("threads")
def test_differences_of_differences_do_not_multiply():
    plain = np.random.default_rng(0).random(400)
    y, expected = da.distribute(plain, da.Blocks(100)), plain
    for _ in range(20):
        y, expected = y[1:] - y[:-1], expected[1:] - expected[:-1]
    planner = Planner()
    planner.want_all(y.expression)
    (stage,) = planner.run().stages
    # One subtraction for each step and shift: 1 + 2 + ... + 20.
    programs = {len(draft.call.pieces.program.instructions) for draft in stage.drafts}
    assert programs == {210}
    assert same_arrays(y.collect(), expected)


@pytest.mark.usefixtures("threads")
def test_wide_expressions():
    parts = [da.full(3, i, blocks=2) for i in range(300)]
    assert int(np.concatenate(parts).sum()) == 3 * sum(range(300))
    assert same_arrays(np.stack(parts)[:, 0].collect(), np.arange(300))
    assert int(sum(parts).sum()) == 3 * sum(range(300))


@pytest.mark.usefixtures("threads")
def test_a_chunk_that_cannot_fit_is_refused_before_anything_runs():
    da.configure(memory_limit="2GB")
    count = []
    x = da.zeros((10**5, 10**5), blocks=da.Blocks(5 * 10**4, 10**5))
    y = x.map_blocks(lambda block: count.append(1) or block)
    for build in (lambda: y.sum().collect(), y.persist, lambda: (x + 1).persist()):
        with pytest.raises(da.MemoryLimitError, match=r"Blocks.*memory_limit"):
            build()
    assert count == []
    assert float(x[:3, :3].sum()) == 0.0


@pytest.mark.usefixtures("threads")
def test_what_chunk_tasks_call_is_plain_data():
    """Other processes can be sent it: what it gives there is what it gives here."""
    x = da.distribute(PLAIN, da.Blocks(4, 8))
    with np.errstate(all="ignore"):
        build = np.sqrt(x * 2 - 5).astype("f4").clip(0, 3)[::-1, None]
        built = [
            build,
            build.sum(axis=0),
            x.map_blocks(lambda b: b + 1).mean(),
            da.ones(4, blocks=2),
        ]
    for lazy in built:
        planner = Planner()
        planner.want_all(lazy.expression)
        values, twins = {}, {}
        for draft in planner.run().drafts():
            call = pickle.loads(cloudpickle.dumps(draft.call))
            values[draft.key] = draft.call(*(values[need] for need in draft.needs))
            twins[draft.key] = call(*(twins[need] for need in draft.needs))
            mine, twin = (
                v if isinstance(v, tuple) else (v,) for v in (values[draft.key], twins[draft.key])
            )
            np.testing.assert_equal(twin, mine)
        assert values


def test_margins_of_a_stencil_are_gathered_once():
    x = da.zeros((80, 80), blocks=da.Blocks(20, 20)).persist()
    inner = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] + x[1:-1, 1:-1]
    planner = Planner()
    planner.fill(inner.expression, np.empty(inner.shape))
    for draft in planner.run().drafts():
        assert len(draft.needs) == len(set(draft.needs)) <= 9
        wholes = {id(load.whole) for load in draft.call.pieces.loads if isinstance(load, Within)}
        assert len(wholes) == 1
    array = np.arange(1600.0).reshape(40, 40)
    y = da.distribute(array, da.Blocks(10, (7, 23, 10))).map_blocks(np.copy)
    summed = y[:-2, 1:-1] - y[2:, 1:-1].T.T + y[1:-1, :-2] * 2 + y[::-1][1:-1, 2:]
    expected = array[:-2, 1:-1] - array[2:, 1:-1] + array[1:-1, :-2] * 2 + array[::-1][1:-1, 2:]
    assert (summed.collect() == expected).all()
    y[0] = array[0] = 7
    turned = y[::-1, 1:] * y.T[:, :-1] - y[:, 1:]
    assert (turned.collect() == array[::-1, 1:] * array.T[:, :-1] - array[:, 1:]).all()
