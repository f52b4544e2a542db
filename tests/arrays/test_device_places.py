"""Where arrays are computed and kept: in a block that asks for a device, after it, within it."""

from __future__ import annotations

import numpy as np
import pytest

import darray as da
from darray.functions.summaries import summary
from darray.kernels import table
from darray.kernels.devices import to_device, to_host
from darray.kernels.summary import Summary
from darray.lowering import computing
from darray.runtime import engine as engines
from darray.runtime import settings
from darray.runtime.spaces import Placed
from darray.runtime.tasks import value_of
from darray.testing.device_programs import agree, check_program
from darray.testing.separate_memory import KIND, SeparateArray, separate_memory
from tests.arrays.agreement import same_arrays
from tests.arrays.devices import moves, on_devices, there

A = np.random.default_rng(1).standard_normal((360, 300))
CHUNKS = 4 * 5
ENGINES = {
    "serial": {"engine": "serial"},
    "threads": {"engine": "threads", "threads": 2},
    "2 workers": {"engine": "workers", "threads": 2, "workers": 2},
}


@pytest.fixture(autouse=True, params=ENGINES)
def engine(request):
    """Every engine in one process."""
    before = settings.current()
    da.configure(**ENGINES[request.param])
    with separate_memory():
        yield request.param
    engines.close()
    settings._current = before


@pytest.fixture
def kernels(monkeypatch):
    """Kernels that a test registers are gone after it."""
    monkeypatch.setattr(table, "_kernels", {kind: dict(of) for kind, of in table._kernels.items()})


def cut():
    return da.distribute(A, da.Blocks(90, 60))


def kept_values(array):
    """The values of the chunks of a persisted array, where they are."""
    tasks = computing.chunk_tasks(array.expression)
    da.wait(tasks)
    return [one._value for one in tasks]


def test_kept_chunks_are_arrays_of_the_device():
    with there():
        x = (cut() + 1).persist()
    values = kept_values(x)
    assert len(values) == CHUNKS
    assert all(isinstance(one, Placed) and one.home.kind == KIND for one in values)
    assert all(type(one.at_home()) is SeparateArray for one in values)
    assert {task.processor.kind for task in computing.chunk_tasks(x.expression)} == {KIND}


def test_what_is_kept_there_is_used_there():
    with there():
        x = cut().persist()
        x.wait()
        with moves() as moved:
            y = (np.sqrt(x * x + 1) @ x[:300].T).persist()
            z = (y.rechunk(150) - y.mean(axis=0)).std(axis=1)
            z.persist().wait()
        assert (moved.home, moved.out) == ([], [])
        with moves() as moved:
            found = z.collect()
    assert sum(moved.home) == found.nbytes
    plain = np.sqrt(A * A + 1) @ A[:300].T
    np.testing.assert_allclose(found, (plain - plain.mean(axis=0)).std(axis=1), rtol=1e-11)


def test_looking_at_an_array_moves_nothing():
    with there():
        x = (cut() * 2).persist()
        kept_values(x)
        with moves() as moved:
            x.wait()
            assert x.shape == A.shape
            assert f"on 1 {KIND} processor" in str((x + 1).sum().explain())
            assert x.explain().kept_nbytes == A.nbytes
    assert x.explain().kind == "cpu"
    assert (moved.home, moved.out) == ([], [])


def test_after_the_block_the_host_computes():
    with there():
        x = (cut() + 1).persist()
        x.wait()
        lazy = np.sqrt(x * x)
    with moves() as moved:
        assert same_arrays(lazy.collect(), np.sqrt((A + 1) * (A + 1)))
    assert sum(moved.home) == A.nbytes
    assert not moved.out
    with moves() as moved:
        assert same_arrays((x - 1).collect(), (A + 1) - 1)
    assert not moved.home, "a copy of what came is kept beside it"


def test_what_is_kept_on_the_host_goes_there_once():
    x = (cut() + 1).persist()
    x.wait()
    with there():
        for _ in range(2):
            with moves() as moved:
                assert same_arrays(np.sin(x).collect(), np.sin(A + 1))
            assert len(moved.home) == CHUNKS
    # Where the values were not placed yet, each computation brings its own.
    assert len(moved.out) in (0, CHUNKS)


def test_a_kernel_is_picked_for_its_kind_alone(kernels):
    seen = {"device": set(), "host": set()}

    @da.kernel(np.cbrt, on=KIND)
    def there_only(x):
        seen["device"].add(type(x).__name__)
        return x * 0 + 7

    @da.kernel(np.exp, on="cpu")
    def here_only(x):
        seen["host"].add(type(x).__name__)
        return x * 0 + 5

    x = cut()
    assert same_arrays(np.cbrt(x).collect(), np.cbrt(A))
    assert (np.exp(x).collect() == 5).all()
    with there():
        assert (np.cbrt(x).collect() == 7).all()
        assert ((np.cbrt(x) + 1).sum(axis=0).collect() == 8 * 360).all()
        assert same_arrays(np.exp(x).collect(), np.exp(A))
    assert same_arrays(np.cbrt(x).collect(), np.cbrt(A))
    assert seen == {"device": {"SeparateArray"}, "host": {"ndarray"}}


def through_the_host(block):
    """What no function should do, and the arrays of devices do not do by themselves."""
    return to_device(-to_host(block))


def negative_by_the_host(x):
    return x.map_blocks(through_the_host) if isinstance(x, da.DArray) else -x


@pytest.fixture
def npu(engine):
    """A processor that works in the memory of the host."""
    da.register_kind("npu", 1)
    yield
    da.register_kind("npu", None)


@pytest.mark.usefixtures("npu")
def test_kernels_of_a_kind_in_the_memory_of_the_host(kernels):
    seen = []
    with da.options(scope=da.scope(kind="npu")), moves() as moved:
        assert same_arrays(np.cbrt(cut()).collect(), np.cbrt(A))

        @da.kernel(np.cbrt, on="npu")
        def there_only(x):
            seen.append((type(x).__name__, da.current_task().processor.kind))
            return x * 0 + 7

        x = (np.cbrt(cut()) + 1).persist()
        assert same_arrays((x - A).collect(), 8 - A)
        np.testing.assert_allclose((x + A).mean(axis=0).collect(), (A + 8).mean(axis=0), rtol=1e-13)
        assert same_arrays((cut() * 2)[::-1, 5].collect(), (A * 2)[::-1, 5])
        np.testing.assert_allclose((cut().T @ cut()).collect(), A.T @ A, rtol=1e-11, atol=1e-11)
        assert "on 1 npu processor" in str((cut() + 1).explain())
    assert seen == [("ndarray", "npu")] * CHUNKS
    assert (moved.home, moved.out) == ([], [])
    assert same_arrays(np.cbrt(cut()).collect(), np.cbrt(A))


def test_kernels_of_reductions_products_and_functions_of_blocks(kernels):
    def own(x):
        return x - 1

    @da.kernel(np.maximum.reduce, on=KIND)
    def most(x, axis, keepdims):
        return np.maximum.reduce(x, axis=axis, keepdims=keepdims) + 100

    @da.kernel(np.matmul, on=KIND)
    def product(a, b):
        return np.matmul(a, b) * 2

    @da.kernel(own, on=KIND)
    def own_there(x):
        return x + 1

    with there():
        assert float(cut().max()) == A.max() + 100
        np.testing.assert_allclose((cut().T @ cut()).collect(), A.T @ A * 2, rtol=1e-11, atol=1e-11)
        assert same_arrays(cut().map_blocks(own).collect(), A + 1)
    assert float(cut().max()) == A.max()
    assert same_arrays(cut().map_blocks(own).collect(), A - 1)


def test_the_programs_of_every_device_notice_what_is_wrong(kernels):
    check_program("one call", KIND)
    with pytest.raises(AssertionError, match="nothing was computed on a device"):
        agree(lambda x: da.rechunk(x, 50) if isinstance(x, da.DArray) else x, (A,), KIND, 100)
    with pytest.raises(AssertionError, match="something else than the result"):
        agree(
            lambda x: x.map_blocks(through_the_host) if isinstance(x, da.DArray) else -x,
            (A,),
            KIND,
            100,
        )

    @da.kernel(np.sin, on=KIND)
    def wrong(x):
        return np.sin(x) * (1 + 1e-9)

    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_program("one call", KIND)
    check_program("one call", KIND, within=1e-8)


def test_scopes_with_processors_of_the_host_stay_there():
    for scope in (da.ANY, da.scope(kinds=["cpu", KIND]), da.DEFAULT, da.scope(thread=0, worker=0)):
        with da.options(scope=scope), moves() as moved:
            assert same_arrays((cut() * 3).collect(), A * 3)
        assert (moved.home, moved.out) == ([], [])


def test_devices_that_are_used_by_default():
    da.register_kind(KIND, None)
    da.register_kind(KIND, 1, default=True)
    with moves() as moved:
        assert same_arrays((cut() * 3).collect(), A * 3)
    assert (moved.home, moved.out) == ([], []), "the host's processors may do it, and do"


def test_a_kind_that_is_gone():
    da.register_kind(KIND, None)
    with pytest.raises(da.SchedulingError, match=KIND), there():
        (cut() * 3).collect()
    da.register_kind(KIND, 1)
    with there():
        assert same_arrays((cut() * 3).collect(), A * 3)


def test_arrays_within_a_task_on_a_device():
    x = cut()

    def nested(chunk):
        assert type(chunk).__name__ == "SeparateArray"
        small = (x[:2] + 1).collect()
        large = (x.T @ x).collect()
        return da.current_task().processor.kind, small, large, float(x.max())

    for scope in (None, da.scope(kind=KIND)):
        with da.options(scope=scope or da.DEFAULT):
            spawn = da.spawn.options(scope=da.scope(worker=0, kind=KIND))
            kind, small, large, most = spawn(nested, A).result()
        assert kind == KIND
        assert same_arrays(small.copy(), A[:2] + 1)
        np.testing.assert_allclose(large, A.T @ A, rtol=1e-11, atol=1e-11)
        assert most == A.max()


def test_chunks_as_arguments_of_tasks():
    with there():
        x = (cut() + 1).persist()
        name = da.spawn(lambda chunk: type(chunk).__name__, x.blocks[0, 0]).result()
        of_memory = da.spawn(lambda chunk: type(chunk).__name__, cut().blocks[0, 0]).result()
    assert (name, of_memory) == ("SeparateArray", "SeparateArray")
    assert same_arrays(da.fetch(x.blocks[1, 1], copy=True), (A + 1)[90:180, 60:120].copy())


def test_stores_are_read_and_written(tmp_path):
    with there():
        da.tofile(cut() + 1, tmp_path / "a.npy")
        again = da.from_npy(tmp_path / "a.npy", blocks=(90, 60))
        with moves() as moved:
            total = (again * 2).sum(axis=0).collect()
    assert sum(moved.home) == total.nbytes
    np.testing.assert_allclose(total, ((A + 1) * 2).sum(axis=0), rtol=1e-12)
    assert same_arrays(np.load(tmp_path / "a.npy"), A + 1)


def test_a_failing_kernel_tells_what_to_do(kernels):
    @da.kernel(np.cbrt, on=KIND)
    def broken(x):
        return np.cbrt(np.asarray(x))

    with there(), pytest.raises(TypeError, match="bring it to the host") as caught:
        (np.cbrt(cut()) + 1).collect()
    notes = "\n".join(caught.value.__notes__)
    assert f"register a kernel, da.kernel(..., on={KIND!r}), or collect the array" in notes


def test_what_is_not_computed_there_says_so_before_it_starts():
    with (
        there(),
        moves() as moved,
        pytest.raises(NotImplementedError, match="summary is not") as caught,
    ):
        summary(cut() + 1, axis=0).collect()
    assert "collect the array, or persist it, and go on outside the block" in str(caught.value)
    assert (moved.home, moved.out) == ([], [])
    assert summary(cut() + 1, axis=0).collect().dtype == Summary().result_dtype(A.dtype)


def test_functions_of_blocks_that_leave_the_device_are_refused():
    with there(), pytest.raises(TypeError, match="returned list for block") as caught:
        cut().map_blocks(lambda block: [1, 2]).collect()
    assert "return an array of the device" in str(caught.value)
    with there(), pytest.raises(ValueError, match="expected float64 of shape"):
        cut().map_blocks(lambda block: block[1:]).collect()


def test_objects_and_records_are_refused():
    objects = da.distribute(np.array([[1, "a"]], object))
    records = da.distribute(np.zeros(4, [("n", "i4")]))
    with there():
        with pytest.raises(NotImplementedError, match="fields of records, here 'n'"):
            (records["n"] + 1).collect()
        with pytest.raises(TypeError):
            (objects * 2 + "b").collect()


def test_kernels_that_cannot_be():
    with pytest.raises(TypeError, match="name of a kind of processors, not 3"):
        da.kernel(np.sin, on=3)
    with pytest.raises(TypeError, match="a function that it is a kernel of, not 'sin'"):
        da.kernel("sin", on=KIND)
    for function in (np.add.reduce, np.maximum.accumulate, np.matmul):
        with pytest.raises(ValueError, match="would never be used"):
            da.kernel(function, on="cpu")


def test_several_devices_share_the_work():
    da.register_kind(KIND, None)
    with on_devices(3):
        x = (cut() * 2).persist()
        assert len(kept_values(x)) == CHUNKS
        with moves() as moved:
            found = (x.T @ x).collect()
        assert sum(moved.home) == found.nbytes
        np.testing.assert_allclose(found, (A * 2).T @ (A * 2), rtol=1e-11, atol=1e-11)
    da.register_kind(KIND, 1)


def test_values_of_tasks_are_brought_when_asked():
    with there():
        x = (cut() + 1).persist()
    (task, *_) = computing.chunk_tasks(x.expression)
    task.wait()
    with moves() as moved:
        value = value_of(task)
    assert type(value) is np.ndarray
    assert moved.home == [value.nbytes]
