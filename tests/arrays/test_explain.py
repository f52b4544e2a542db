"""What `explain` says a computation will do is what it does."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import darray as da
from darray.runtime import TaskEnded
from darray.runtime.budget import Budget
from darray.runtime.engines.threads import ThreadsEngine

# Tasks do not take the times that they take where a plan is played through: more of their results
# may wait at a time than was predicted, by this factor at the most for what is run here.
SLACK = 1.25


@pytest.fixture
def seen(monkeypatch):
    """The most bytes that were reserved by tasks or held by results at a time."""
    gc.collect()
    most = {"nbytes": 0, "before": None}
    admit, hold = Budget.admit, Budget.hold

    def note(budget):
        budget.room()
        if most["before"] is None:
            most["before"] = budget.held
        most["nbytes"] = max(most["nbytes"], budget.running + budget.held - most["before"])

    def admitted(self, nbytes):
        if most["before"] is None:
            note(self)
        result = admit(self, nbytes)
        note(self)
        return result

    def held(self, *arguments):
        result = hold(self, *arguments)
        note(self)
        return result

    monkeypatch.setattr(Budget, "admit", admitted)
    monkeypatch.setattr(Budget, "hold", held)
    return most


@pytest.fixture
def handed_over(monkeypatch):
    """An event that tasks wait for: the caller has handed all of them over, and holds none."""
    event = threading.Event()
    wait = ThreadsEngine.wait

    def waiting(self, *arguments):
        event.set()
        return wait(self, *arguments)

    monkeypatch.setattr(ThreadsEngine, "wait", waiting)
    event.set()
    return event


def noted(shape, blocks, ready=None):
    def value(i, j):
        assert ready is None or ready.wait(60)
        # One array of the size of the chunk: what else a function held, no plan could know.
        return i * 1.0 + j * 1.0

    return da.from_function(value, shape, blocks=blocks)


def stencil(x):
    return x[1:-1, 1:-1] + x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]


def assigned(x):
    x[100:300, 50:] = x[:200, 50:] * 2
    x += 1
    return x


PROGRAMS = {
    "elementwise": lambda x: np.sqrt(x * x + 1),
    "sum": lambda x: x.sum(),
    "mean of rows": lambda x: x.mean(axis=1),
    "std of columns": lambda x: (x + 1).std(axis=0),
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "normalised rows": lambda x: x / x.sum(axis=1, keepdims=True),
    "several passes": lambda x: ((x - x.mean(axis=0)) ** 2).max() + x.min(),
    "mapped": lambda x: x.map_blocks(np.sort).sum(axis=0),
    "mapped twice": lambda x: x.map_blocks(np.sort).rechunk((400, 30)).map_blocks(np.abs),
    "recut": lambda x: x.map_blocks(np.negative).rechunk((40, 400)).sum(),
    "joined": lambda x: np.concatenate([x, x[::-1]], axis=1).sum(axis=1),
    "stencil": lambda x: stencil(x.map_blocks(np.positive)),
    "assigned": assigned,
    "product": lambda x: (x @ x.T)[:200],
    "running sum": lambda x: np.cumsum(x),
    "running sums": lambda x: np.cumsum(x, axis=0),
    "reshaped": lambda x: x.map_blocks(np.positive).reshape(-1, 1600).sum(axis=1),
    "taken": lambda x: np.take(x, np.arange(0, 400, 3)[::-1], axis=1) + 1,
    "masked": lambda x: x[x % 3 == 1] * 2,
    "a slice": lambda x: x[10:200:3, ::-1],
    "one element": lambda x: x[3, 3],
    "one chunk": lambda x: x[:20, :20] + 1,
    "part of a reduction": lambda x: x.sum(axis=0)[:7],
}


@pytest.mark.alone
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("engine")
def test_tasks_and_reserved_memory_are_predicted(name, seen, handed_over):
    lazy = PROGRAMS[name](noted((400, 400), (100, 80), handed_over))
    plan = lazy.explain()
    if plan.threads > 1 and plan.tasks:
        handed_over.clear()
    ran = []
    with da.subscribe(ran.append):
        lazy.collect()
    ended = [event.name for event in ran if isinstance(event, TaskEnded)]
    assert len(ended) == plan.tasks
    if not plan.tasks:
        assert seen["nbytes"] == 0
        return
    planned = [stage.name for stage in plan.stages for _ in range(stage.tasks)]
    assert sorted(ended) == sorted(planned)
    # Two tasks that are predicted to run at a time may happen to run one after the other.
    assert plan.peak_nbytes / 2.5 <= seen["nbytes"] <= SLACK * plan.peak_nbytes


@pytest.mark.alone
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("engine")
def test_memory_that_is_really_used_stays_below_what_is_predicted(name, handed_over):
    lazy = PROGRAMS[name](noted((800, 800), (200, 200), handed_over))
    plan = lazy.explain()
    gc.collect()
    if plan.threads > 1 and plan.tasks:
        handed_over.clear()
    tracemalloc.start()
    try:
        result = lazy.collect()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.nbytes == plan.nbytes
    # Plans, tasks and programs take some memory besides the elements.
    assert peak - plan.nbytes <= SLACK * plan.peak_nbytes + 1_000_000


@pytest.mark.usefixtures("threads")
def test_what_is_made_between_the_elements_of_a_strided_view_is_counted():
    every_third = noted((800, 800), (200, 200))[10:200:3, ::-1]
    # Functions make boxes without gaps: of 190 rows, for 64.
    assert [stage.memory for stage in every_third.explain().stages] == [190 * 200 * 8]


@pytest.mark.usefixtures("threads")
def test_the_text_is_a_table():
    plan = np.sqrt(noted((400, 400), (100, 80)) * 2 + 1).mean(axis=0).explain()
    assert repr(plan) == str(plan)
    lines = str(plan).splitlines()
    assert lines[:6] == [
        "DArray (400,) float64, 3.2 kB, 5 chunks: 30 tasks on 2 threads",
        "",
        "stage           tasks  chunk      a task holds  computes",
        "mean               20  (100, 80)        196 kB  multiply, add, sqrt",
        "mean of chunks      5                        -",
        "collect             5  (80,)             640 B",
    ]
    assert lines[7:10] == [
        "reads           0 B from stores",
        "kept already    nothing that is used",
        "will be kept    3.2 kB",
    ]
    assert lines[-1] == "computed by     NumPy"


@pytest.mark.usefixtures("threads")
def test_nothing_is_computed():
    x = noted((40, 40), 10).map_blocks(lambda block: 1 / 0)
    events = []
    with da.subscribe(events.append):
        plan = (x + 1).explain()
    assert events == []
    assert plan.tasks == 32
    assert x.expression.kept is None
    assert plan.stages[0].chunk_shape == (10, 10)


@pytest.mark.usefixtures("engine")
def test_what_is_there_already_is_told():
    in_memory = da.distribute(np.ones((4, 4)), 2)
    assert in_memory.explain().stages == ()
    assert "nothing to compute" in str(in_memory.explain())
    kept = (noted((40, 40), 10) * 2).persist()
    kept.wait()
    plan = (kept + 1).explain()
    assert (plan.kept_chunks, plan.kept_nbytes) == (16, 40 * 40 * 8)
    assert "16 chunks, 12.8 kB" in str(plan)


@pytest.mark.usefixtures("engine")
def test_bytes_read_are_told(tmp_path):
    da.tofile(da.ones((40, 40), blocks=10), tmp_path / "a.npy")
    x = da.from_npy(tmp_path / "a.npy", blocks=10)
    assert (x[:10] + 1).explain().read_nbytes == 10 * 40 * 8
    assert x.sum().explain().read_nbytes == x.nbytes


def test_too_large_tasks_are_told():
    da.configure(engine="threads", threads=2, memory_limit="300MB")
    try:
        large = noted((10_000, 4000), (10_000, 4000)) + 1
        assert "a single task does not fit: use smaller Blocks" in str(large.explain())
        with pytest.raises(da.MemoryLimitError):
            large.collect()
        columns = noted((4000, 8000), (4000, 1000)).map_blocks(np.negative)
        rows = columns.rechunk((500, 8000)).sum()
        assert "tasks will wait for memory" in str(rows.explain())
    finally:
        da.configure(engine="threads", threads=None, memory_limit=None)


@pytest.mark.usefixtures("threads")
def test_a_long_program_is_shortened():
    x = noted((40, 40), 10)
    for number in range(100):
        x = x + number
    plan = x.explain()
    assert len(plan.stages[0].functions) == 100
    assert "add, add, add, ... 95 more ..., add, add" in str(plan)


@pytest.mark.usefixtures("threads")
def test_results_are_let_go_without_a_collection_of_cycles():
    """Nothing that a computation leaves refers to itself."""
    gc.collect()
    gc.disable()
    try:
        y = noted((400, 400), 100).map_blocks(np.sort)
        y.sum(axis=0).collect()
        y.collect()
        kept = weakref.ref(y.expression.kept.chunks[0, 0])
        del y
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("threads")
def test_which_kernel_and_why_is_told():
    large = noted((4_000, 1_000), (500, 1_000))

    def kernels(array):
        return [stage.kernel for stage in array.explain().stages if stage.kernel]

    (text,) = kernels(np.sqrt(large * large + 1))
    assert text.endswith("in tiles that stay in a cache")
    assert "3 of 3 calls" in text
    assert "NumPy: 3 of 3 calls could be compiled, which pays from" in text
    da.configure(jit=False)
    try:
        (text,) = kernels(np.sqrt(large * large + 1))
    finally:
        da.configure(jit=True)
    assert "switched off" in text
    (text,) = kernels(np.divmod(large, 2)[0])
    assert text == "NumPy, call by call: divmod cannot write where it is told to"
    (text,) = kernels(noted((40, 40), 10) + 1)
    assert text == "NumPy, call by call: a chunk fits into the cache"
    assert "kernels         collect: NumPy" in str((large + 1).explain())
