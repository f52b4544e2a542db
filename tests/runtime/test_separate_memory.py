"""A second kind of device: what is moved, where tasks run, and what does not mix."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime.spaces import HOST, Space, brought
from darray.testing.separate_memory import KIND, SeparateArray, separate_memory
from tests.runtime.shared import Notes

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(autouse=True)
def device(engine):
    """One device with memory of its own on every worker."""
    with separate_memory():
        yield


def there(function, *args, **kwargs):
    return da.spawn.options(scope=da.scope(kind=KIND))(function, *args, **kwargs)


def kind_of(value):
    return type(value).__name__, da.current_task().processor.kind


def test_arrays_do_not_mix():
    a, b = SeparateArray(np.arange(3.0)), np.arange(3.0)
    with pytest.raises(TypeError, match="does not mix with ndarray"):
        a + b
    with pytest.raises(TypeError, match="does not mix with ndarray"):
        np.add(b, a)
    with pytest.raises(TypeError, match="bring it to the host"):
        np.asarray(a)
    with pytest.raises(TypeError, match="does not mix"):
        a[0] = b[:1]
    assert (2 * a - a)[1:].to_host().tolist() == [1, 2]


def test_tasks_run_there_only_where_asked():
    assert da.spawn(kind_of, np.ones(3)).result() == ("ndarray", "cpu")
    assert there(kind_of, np.ones(3)).result() == ("SeparateArray", KIND)
    assert there(kind_of, 3).result() == ("int", KIND)
    with da.options(scope=da.scope(kind=KIND)):
        nested = da.spawn(lambda x: (kind_of(x), da.spawn(kind_of, x).result()), np.ones(3))
    assert nested.result() == (("SeparateArray", KIND),) * 2


def test_arguments_and_values_move_there_and_back():
    a = np.arange(6.0).reshape(2, 3)
    doubled = there(lambda x: x + x, a)
    np.testing.assert_array_equal(doubled.result(), 2 * a)
    assert isinstance(doubled.result(), np.ndarray)
    assert not doubled.result().flags.writeable
    assert da.spawn(kind_of, doubled).result() == ("ndarray", "cpu")
    assert there(kind_of, doubled).result() == ("SeparateArray", KIND)
    total = there(lambda x, y: (x * y).sum(), doubled, da.spawn(np.negative, doubled))
    assert float(total.result()) == -4 * (a * a).sum()


def test_containers_keywords_and_functions_move():
    a, b = np.arange(3.0), da.spawn(np.ones, 3)

    def check(items, *, named, number):
        assert all(isinstance(one, SeparateArray) for one in (*items, *named.values()))
        return {"sum": items[0] + items[1], "rest": (named["c"], number), 7: [None]}

    found = there(check, [a, b], named={"c": da.spawn(np.zeros, 2)}, number=5).result()
    assert found["sum"].tolist() == [1, 2, 3]
    assert (found["rest"][0].tolist(), found["rest"][1], found[7]) == ([0, 0], 5, [None])
    captured = np.full(2, 4.0)
    assert da.spawn(lambda x: float((x + captured).sum()), np.ones(2)).result() == 10


def test_what_was_not_moved_fails_its_task():
    hidden = Notes([np.ones(3)])
    failed = there(lambda x: x + hidden[0], np.ones(3))
    with pytest.raises(TypeError, match="does not mix with ndarray"):
        failed.result()
    assert there(int, 3).result() == 3


def test_tasks_spawned_there_take_their_arrays_along():
    def outer(x):
        y = x * 3
        return da.spawn(kind_of, y).result(), da.spawn(np.sum, y).result(), there(kind_of, y)

    found, total, again = there(outer, np.ones(4)).result()
    assert found == ("ndarray", "cpu")
    assert (total if isinstance(total, float) else float(total.to_host())) == 12
    assert again.result() == ("SeparateArray", KIND)


def test_a_value_moves_once_and_is_told():
    moved = Notes()
    made = there(lambda x: x + 1, np.zeros(1000))
    made.wait()
    with da.subscribe(moved.append):
        assert [float(da.spawn(np.sum, made).result()) for _ in range(3)] == [1000] * 3
        assert made.result() is made.result()
    arrays = [one for one in moved if isinstance(one, da.ValueMoved) and one.nbytes == 8000]
    ways = {(one.source, one.destination) for one in arrays}
    home = made.processor.worker
    first = f"{KIND} 0 of worker {home}"
    assert (first, f"worker {arrays[0].destination[-1]}") in ways
    assert len(arrays) == len(ways)


def test_what_is_there_is_read_only_too():
    made = there(lambda x: x + 1, np.zeros(3))

    def write(x):
        x[0] = 5.0

    for failed in (there(write, made), there(write, np.zeros(3))):
        with pytest.raises(ValueError, match="read-only") as caught:
            failed.result()
        assert any("declare it" in note for note in caught.value.__notes__)
    assert made.result().tolist() == [1, 1, 1]
    assert da.fetch(made, copy=True).flags.writeable


def test_failures_and_cancelling_there():
    def fail(x):
        raise LookupError(type(x).__name__)

    after = da.spawn(abs, there(fail, np.ones(3)))
    with pytest.raises(LookupError, match="SeparateArray"):
        after.result()
    assert there(kind_of, 3).result()[1] == KIND


def test_one_task_at_a_time_on_a_device(engine):
    if len(da.processors()) == 1:
        assert there(int, 1).result() == 1
        return
    busy, most = Notes(), Notes()

    def work():
        busy.append(1)
        most.append(len(busy))
        busy.pop()

    scope = da.scope(worker=0, kind=KIND)
    da.wait([da.spawn.options(scope=scope)(work) for _ in range(50)])
    assert most == [1] * 50


def test_async_functions_there():
    async def work(x):
        return x + 1, type(x).__name__

    value, name = there(work, np.zeros(3)).result()
    assert (value.tolist(), name) == ([1, 1, 1], "SeparateArray")


def test_regions_write_values_there_in_order():
    def add(x, number):
        x += number

    with da.spawn_datadeps():
        made = there(lambda x: x * 1.0, np.zeros(4))
        for number in (1, 2):
            there(add, da.InOut(made), number)
        there(lambda x: x.fill(7.0) if float(x.sum().to_host()) == 12 else None, da.InOut(made))
        total = there(lambda x: x.sum(), made)
        here = da.spawn(lambda x: (type(x).__name__, float(x.sum())), made)
        da.spawn(add, da.InOut(made), 1)
        back = there(lambda x: x.sum(), made)
    assert float(total.result()) == 28
    assert here.result() == ("ndarray", 28.0)
    assert float(back.result()) == 32
    assert made.result().tolist() == [8, 8, 8, 8]


def test_host_arrays_cannot_be_written_there():
    a = np.zeros(3)
    with pytest.raises(da.SchedulingError, match=KIND), da.spawn_datadeps():
        there(lambda x: x.fill(1.0), da.InOut(a))
    assert a.tolist() == [0, 0, 0]


def test_values_of_before_there_were_devices():
    da.configure()
    early = da.spawn(np.arange, 3)
    early.wait()
    assert there(kind_of, early).result() == ("SeparateArray", KIND)
    assert early.result().tolist() == [0, 1, 2]


def test_moving_there_and_back_is_the_identity():
    device = Space(0, KIND, 0)
    value = {"a": np.arange(3.0), "b": [1, (np.ones(2), "x")]}
    moved = brought(value, HOST, device)
    assert isinstance(moved["b"][1][0], SeparateArray)
    back = brought(moved, device, HOST)
    np.testing.assert_equal(back, value)
    other = brought(moved, device, Space(1, KIND, 0))
    assert isinstance(other["a"], SeparateArray)
    assert other["a"].memory is not moved["a"].memory


def test_both_kinds_work_side_by_side(engine):
    if len(da.processors()) == 1:
        return
    met = threading.Barrier(2)
    tasks = [da.spawn(met.wait, 60), there(met.wait, 60)]
    assert sorted(da.fetch(tasks)) == [0, 1]
