"""Regions: what waits for what, what runs side by side, what a failure leaves."""

from __future__ import annotations

import functools
import gc
import threading
import weakref

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime import tracking


def fill(array, value):
    array[...] = value


def add(array, value):
    array += value


def ignore(*args):
    """Do nothing."""


def recorded(*argument_lists):
    """For tasks with these arguments, one after another: the positions of those each waits for.

    None of them begins before all are spawned: each needs one that waits.
    """
    gate = threading.Event()
    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        tasks = [da.spawn(ignore, held, *arguments) for arguments in argument_lists]
        found = [{tasks.index(one) for one in set(task._needs) - {held}} for task in tasks]
        gate.set()
    return found


@pytest.mark.usefixtures("threads")
def test_reads_wait_for_writes_and_writes_for_reads():
    a, b = np.zeros(4), np.zeros(4)
    found = recorded(
        [da.In(a)],
        [a],
        [da.Out(a)],
        [da.In(a), b],
        [da.InOut(b)],
        [da.InOut(a), da.In(a)],
        [da.Out(a)],
    )
    assert found == [set(), set(), {0, 1}, {2}, {3}, {3}, {5}]


@pytest.mark.usefixtures("threads")
def test_parts_of_a_matrix_wait_for_what_they_overlap():
    a = np.zeros((4, 4))
    quarters = [a[:2, :2], a[:2, 2:], a[2:, :2], a[2:, 2:]]
    found = recorded(
        [da.InOut(a)],
        *[[da.InOut(one)] for one in quarters],
        [da.InOut(a[1:3, 1:3])],
        *[[da.InOut(one)] for one in quarters],
        [da.InOut(a[3])],
        [da.InOut(a[:, 0])],
        [da.InOut(a[0, 1:])],
    )
    assert found[:6] == [set(), {0}, {0}, {0}, {0}, {0, 1, 2, 3, 4}]
    assert all({5, at - 5} <= found[at] for at in range(6, 10))
    assert {8, 9} <= found[10]
    assert not {6, 7} & found[10]
    assert {10, 6, 8} <= found[11]
    assert {6, 7} <= found[12]
    assert not {10, 11} & found[12]


@pytest.mark.usefixtures("threads")
def test_interleaved_elements_are_apart():
    a, records = np.zeros((4, 6)), np.zeros(4, [("x", "f8"), ("y", "f4")])
    lines = [a[:, 1], a[:, ::2], a[:, 3::-2], a.T[5], records["x"], records["y"], records]
    found = recorded(*[[da.Out(one)] for one in lines])
    assert found == [set(), set(), {0}, set(), set(), set(), {4, 5}]


@pytest.mark.usefixtures("threads")
def test_triangles_and_diagonals():
    a = np.zeros((5, 5))
    parts = {
        "upper": np.triu,
        "lower": np.tril,
        "above": functools.partial(np.triu, k=1),
        "below": functools.partial(np.tril, k=-1),
        "diagonal": np.diag,
        "second": functools.partial(np.diag, k=2),
    }
    meets = {
        "upper": {"upper", "lower", "above", "diagonal", "second"},
        "lower": {"upper", "lower", "below", "diagonal"},
        "above": {"upper", "above", "second"},
        "below": {"lower", "below"},
        "diagonal": {"upper", "lower", "diagonal"},
        "second": {"upper", "above", "second"},
    }
    for one, first in parts.items():
        for other, second in parts.items():
            for b in (a, a.T):
                lists = [[da.Deps(b, da.Out(first))], [da.Deps(b, da.Out(second))]]
                expected = {0} if other in meets[one] else set()
                assert recorded(*lists)[1] == expected, (one, other)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (np.s_[3:, :2], {1}),
        (np.s_[:2, 3:], {0}),
        (np.s_[1:3, 1:3], {0, 1}),
        (np.s_[4:, 4:], set()),
        (np.s_[2:4, 3:], {0}),
    ],
)
@pytest.mark.usefixtures("threads")
def test_triangles_and_blocks(key, expected):
    above, below = functools.partial(np.triu, k=1), functools.partial(np.tril, k=-1)
    whole = np.zeros((7, 7))
    for a in (whole[1:6, 1:6], whole.T[1:6, 2:]):
        triangles = [[da.Deps(a, da.Out(above))], [da.Deps(a, da.Out(below))]]
        assert recorded(*triangles, [da.In(a[key])])[2] == expected


@pytest.mark.usefixtures("threads")
def test_objects_wait_by_identity_and_fields_apart():
    class Box:
        def __init__(self):
            self.left, self.right = np.zeros(2), [0]

    box, other = Box(), Box()
    found = recorded(
        [da.InOut(box)],
        [da.InOut(other)],
        [da.Deps(box, da.InOut("left"))],
        [da.Deps(box, da.InOut("right"))],
        [da.In(box)],
        [da.InOut(box.left)],
        [da.InOut([box])],
        [7, "text", None, (1, 2)],
    )
    assert found == [set(), set(), {0}, {0}, {0, 2, 3}, {2}, {2, 3, 4}, set()]


@pytest.mark.usefixtures("threads")
def test_objects_of_a_registered_class_wait_by_what_they_consist_of():
    class Grid:
        def __init__(self, data):
            self.data = data

    da.register_spans(Grid, lambda grid: [grid.data])
    a = np.zeros(6)
    found = recorded([da.InOut(Grid(a[:3]))], [da.InOut(Grid(a[3:]))], [da.In(a[2:4])])
    assert found == [set(), set(), {0, 1}]
    with pytest.raises(TypeError, match="takes a class"):
        da.register_spans(Grid(a), lambda grid: [grid.data])


@pytest.mark.usefixtures("threads")
def test_a_large_array_with_many_pieces(monkeypatch):
    monkeypatch.setattr(tracking, "NARROW", 4)
    a = np.zeros(40)
    pieces = [a[4 * i : 4 * i + 4] for i in range(10)]
    found = recorded(
        *[[da.InOut(one)] for one in pieces],
        [da.InOut(a)],
        [da.InOut(pieces[3])],
        [da.In(a)],
        [da.InOut(pieces[5])],
        [da.InOut(a)],
    )
    assert found[10] == set(range(10))
    assert found[11:14] == [{10}, {10, 11}, {12}]
    assert {11, 12, 13} <= found[14] <= {10, 11, 12, 13}


@pytest.mark.usefixtures("threads")
def test_tasks_on_interleaved_columns_run_at_the_same_time():
    a = np.zeros((10, 4))
    both = threading.Barrier(2)

    def meet(column):
        both.wait(60)
        column += 1

    with da.spawn_datadeps():
        da.spawn(meet, da.InOut(a[:, ::2]))
        da.spawn(meet, da.InOut(a[:, 1::2]))
    assert a.min() == 1


@pytest.mark.usefixtures("threads")
def test_tasks_begin_while_the_block_runs_and_can_be_fetched_in_it():
    a = np.zeros(3)
    with da.spawn_datadeps():
        first = da.spawn(add, da.InOut(a), 1)
        first.result(60)
        second = da.spawn(np.sum, a)
        assert da.fetch(second) == 3
    assert first.done()


@pytest.mark.usefixtures("engine")
def test_a_task_of_the_region_is_an_argument_of_a_later_one():
    a, b = np.zeros(4), np.zeros(4)
    with da.spawn_datadeps():
        filled = da.spawn(np.full, 4, 42.0)
        da.spawn(np.copyto, da.Out(a), da.In(filled))
        da.spawn(add, da.InOut(filled), 1)
        da.spawn(np.copyto, da.Out(b), filled)
        da.spawn(add, da.InOut(b), 1)
    assert a.tolist() == [42] * 4
    assert b.tolist() == [44] * 4
    assert filled.result().tolist() == [43] * 4
    assert not filled.result().flags.writeable


@pytest.mark.usefixtures("engine")
def test_what_is_read_is_read_only_and_what_is_written_is_the_object_itself():
    a = np.zeros(3)
    seen = []
    with da.spawn_datadeps():
        da.spawn(lambda x: seen.append(x), da.InOut(a))
        da.spawn(lambda x, y: seen.append((x.flags.writeable, y is a)), a, da.Out(a))
    assert seen[0] is a
    assert seen[1] == (False, True)
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"), da.spawn_datadeps():
        da.spawn(add, da.InOut(frozen), 1)


@pytest.mark.usefixtures("engine")
def test_keywords_options_and_waiting_for_others():
    a = np.zeros(3)
    log = []
    before = da.spawn(log.append, "before")
    with da.spawn_datadeps():
        spawn = da.spawn.options(name="increment", after=before)
        named = spawn(lambda x, by: log.append(da.current_task().name), x=da.InOut(a), by=1)
        da.spawn(lambda x: log.append("later"), x=a)
    assert log == ["before", "increment", "later"]
    assert named.result() is None


@pytest.mark.usefixtures("engine")
def test_regions_within_regions_and_within_tasks():
    a = np.ones(4)

    def double(array):
        with da.spawn_datadeps():
            da.spawn(add, da.InOut(array[:2]), array[:2].copy())
            da.spawn(add, da.InOut(array[2:]), array[2:].copy())

    with da.spawn_datadeps():
        da.spawn(add, da.InOut(a), 1)
        with da.spawn_datadeps():
            da.spawn(double, da.InOut(a))
            inner = da.spawn(np.copy, a)
        da.spawn(add, da.InOut(a), 1)
    assert inner.result().tolist() == [4] * 4
    assert a.tolist() == [5] * 4


@pytest.mark.usefixtures("engine")
def test_tasks_that_tasks_spawn_are_not_part_of_the_region():
    a = np.zeros(3)
    with pytest.raises(TypeError, match="spawn_datadeps"), da.spawn_datadeps():
        da.spawn(lambda x: da.spawn(add, da.InOut(x), 1).result(), da.InOut(a))


@pytest.mark.usefixtures("engine")
def test_the_function_form_gives_what_the_function_gives():
    a = np.zeros(2)

    def body():
        da.spawn(fill, da.Out(a), 5)
        return 42

    assert da.spawn_datadeps(body) == 42
    assert a.tolist() == [5, 5]


@pytest.mark.usefixtures("engine")
def test_a_failure_stops_what_comes_after_and_leaves_what_was_before():
    a, b, c = np.zeros(3), np.zeros(3), np.zeros(3)

    def fail(array):
        array[0] = 9
        raise LookupError("no such thing")

    spawned = []

    def body():
        da.spawn(fill, da.Out(a), 1)
        da.wait(da.spawn(fail, da.InOut(b)))
        spawned.append(da.spawn(add, da.InOut(b), 1))
        spawned.append(da.spawn(fill, da.Out(c), 1))

    with pytest.raises(LookupError, match="no such thing") as caught:
        da.spawn_datadeps(body)
    assert a.tolist() == [1] * 3
    assert b.tolist() == [9, 0, 0]
    assert c.tolist() == [0] * 3
    assert [one.exception() for one in spawned] == [caught.value] * 2
    notes = "\n".join(caught.value.__notes__)
    assert "undefined now: InOut ndarray of shape (3,) and dtype float64" in notes
    assert "fail" in notes
    assert "2 task(s) of the region after it did not run" in notes


@pytest.mark.usefixtures("threads")
def test_of_several_failures_the_first_of_the_program_is_raised():
    late = threading.Event()

    def fail(error, event, sets):
        if sets:
            event.set()
        else:
            assert event.wait(60)
        raise error

    def body():
        da.spawn(fail, KeyError("first"), late, False)
        da.spawn(fail, IndexError("second"), late, True)

    with pytest.raises(KeyError, match="first") as caught:
        da.spawn_datadeps(body)
    assert any("IndexError('second')" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("engine")
def test_an_exception_of_the_block_is_raised_when_its_tasks_are_done():
    a = np.zeros(3)

    def body():
        da.spawn(fill, da.Out(a), 1)
        da.spawn(int, "x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        da.spawn_datadeps(body)
    assert a.tolist() == [1] * 3
    (note,) = caught.value.__notes__
    assert "had failed before: ValueError" in note


@pytest.mark.parametrize(
    ("access", "error", "message"),
    [
        (lambda a: da.Deps(a, da.Out(np.copy)), TypeError, "gives no view"),
        (lambda a: da.Deps(a, da.Out("x")), IndexError, "only integers"),
        (lambda a: da.Out(5), TypeError, "cannot be written to"),
        (lambda a: [da.Out(a)], TypeError, "annotate no item of a list"),
        (lambda a: da.InOut([da.spawn(int)]), TypeError, "must not hold tasks"),
        (lambda a: da.Deps([a], da.Out("x")), AttributeError, "does not have"),
        (lambda a: da.Deps(a), TypeError, "names no part"),
        (lambda a: da.Deps(a, np.triu), TypeError, "takes In, Out and InOut"),
        (lambda a: da.Deps(a, da.In(3)), TypeError, "a part is a function"),
        (lambda a: da.In(da.Out(a)), TypeError, "annotated once"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_mistakes_are_told_at_the_call_and_nothing_is_spawned(access, error, message):
    a = np.zeros((2, 2))
    with da.spawn_datadeps() as region:
        with pytest.raises(error, match=message):
            da.spawn(fill, access(a), 1)
        assert all(entry.function is not fill for entry in region._entries)
        da.spawn(fill, da.Out(a), 2)
    assert a.tolist() == [[2, 2], [2, 2]]


@pytest.mark.usefixtures("engine")
def test_annotations_outside_a_region_are_an_error():
    a = np.zeros(2)
    for annotated in (da.In(a), [da.Out(a)], {"x": da.InOut(a)}):
        with pytest.raises(TypeError, match=r"da\.spawn_datadeps"):
            da.spawn(fill, annotated, 1)


@pytest.mark.usefixtures("threads")
def test_a_long_region_keeps_no_array_that_it_is_done_with(monkeypatch):
    monkeypatch.setattr(tracking, "IDLE_EXTENTS", 16)
    monkeypatch.setattr(tracking, "IDLE_NBYTES", 2**12)
    seen = []
    with da.spawn_datadeps() as region:
        for i in range(300):
            array = np.full(64, i)
            seen.append(weakref.ref(array))
            da.spawn(add, da.InOut(array), 1).wait()
            del array
        gc.collect()
        assert sum(one() is not None for one in seen) < 60
        assert len(region._tracker._extents) < 60
        region._tracker._check()


@pytest.mark.usefixtures("engine")
def test_sums_of_many_arrays_by_pairs():
    arrays = [np.full(2, i) for i in range(200)]
    with da.spawn_datadeps():
        apart = 1
        while apart < len(arrays):
            for at in range(0, len(arrays) - apart, 2 * apart):
                da.spawn(add, da.InOut(arrays[at]), arrays[at + apart])
            apart *= 2
    assert arrays[0].tolist() == [sum(range(200))] * 2


@pytest.mark.usefixtures("threads")
def test_results_that_nobody_holds_are_let_go():
    seen = []

    def make(_):
        made = np.zeros(10)
        seen.append(weakref.ref(made))
        return made

    a = np.zeros(2)
    with da.spawn_datadeps():
        for _ in range(20):
            da.spawn(make, da.InOut(a))
        da.spawn(add, da.InOut(a), 1).wait()
        assert sum(one() is not None for one in seen) <= 1


@pytest.mark.usefixtures("engine")
def test_an_argument_that_failed_elsewhere_is_the_failure_of_the_region():
    failed = da.spawn(int, "x")
    failed.wait()
    a = np.zeros(2)

    def body():
        da.spawn(fill, da.Out(a), 1)
        da.spawn(add, da.InOut(a), failed)
        da.spawn(add, da.InOut(a), 5)

    with pytest.raises(ValueError, match="invalid literal") as caught:
        da.spawn_datadeps(body)
    assert a.tolist() == [1, 1]
    assert any("1 task(s) of the region after it did not run" in n for n in caught.value.__notes__)


@pytest.mark.usefixtures("threads")
def test_a_failure_with_many_tasks_behind_it_is_told_at_once():
    gate = threading.Event()
    a = np.zeros(2)

    def body():
        held = da.spawn(gate.wait, 60)
        da.spawn(int, "x", held)
        for _ in range(20_000):
            da.spawn(add, da.InOut(a), held)
        gate.set()

    with pytest.raises(ValueError, match="base") as caught:
        da.spawn_datadeps(body)
    assert any("did not run" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("engine")
def test_a_trace_has_the_tasks_of_a_region_and_what_they_wait_for():
    a = np.zeros(2)
    with da.trace() as traced, da.spawn_datadeps():
        da.spawn(fill, da.Out(a), 1)
        da.spawn(add, da.InOut(a), 1)
    assert {one.name for one in traced.summary().functions} == {"fill", "add"}


@pytest.mark.usefixtures("engine")
def test_regions_and_queues_within_one_another():
    a = np.ones(3)
    with da.spawn_bulk(), da.spawn_datadeps():
        da.spawn(add, da.InOut(a), 1)
        da.spawn(np.multiply, a, 3, da.Out(a))
    assert a.tolist() == [6] * 3
    with da.spawn_datadeps():
        da.spawn(add, da.InOut(a), 1)
        with da.spawn_bulk():
            da.spawn(np.multiply, a, 2, da.Out(a))
            da.spawn(add, da.InOut(a), 1)
        with da.spawn_sequential():
            da.spawn(np.multiply, a, 2, da.Out(a))
    assert a.tolist() == [30] * 3


@pytest.mark.usefixtures("engine")
def test_a_region_in_a_block_that_waits_for_all():
    a = np.ones(3)
    with da.sync(), da.spawn_datadeps():
        da.spawn(add, da.InOut(a), 1)
        with da.wait_all():
            da.spawn(add, da.InOut(a), 1)
        assert a.tolist() == [3] * 3


@pytest.mark.usefixtures("threads")
def test_a_running_task_that_writes_is_waited_for_when_it_is_cancelled():
    a = np.zeros(2)
    begun, gate = threading.Event(), threading.Event()

    def write(array):
        begun.set()
        assert gate.wait(60)
        array += 1

    with da.spawn_datadeps():
        task = da.spawn(write, da.InOut(a))
        assert begun.wait(60)
        task.cancel()
        assert not task.done()
        gate.set()
    assert a.tolist() == [1, 1]


@pytest.mark.usefixtures("engine")
def test_a_task_that_was_cancelled_ends_the_region():
    a = np.zeros(2)

    def body():
        with da.spawn_bulk():
            task = da.spawn(fill, da.Out(a), 1)
            da.spawn(add, da.InOut(a), 1)
            task.cancel()

    with pytest.raises(da.CancelledError):
        da.spawn_datadeps(body)
    assert a.tolist() == [0, 0]


@pytest.mark.usefixtures("engine")
def test_a_task_that_writes_is_not_tried_again():
    a = np.zeros(2)
    spawn = da.spawn.options(retries=1, retry_on=(ValueError,))
    with da.spawn_datadeps():
        with pytest.raises(ValueError, match="leave retries= out"):
            spawn(fill, da.Out(a), 1)
        assert spawn(np.sum, a).result() == 0
