"""Regions: memory that is reached through other objects, and what a region leaves behind."""

from __future__ import annotations

import array
import contextvars
import functools
import gc
import operator
import threading
import warnings
import weakref

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime.region_arguments import RegionArguments
from darray.testing.separate_memory import KIND, separate_memory
from tests.runtime.test_datadeps import add, fill, ignore, recorded


def held_fill(gate, array, value):
    assert gate.wait(60)
    array[...] = value


def written_and_read(target, source):
    """What is read of `source`, after a task that waits has filled `target` with sevens."""
    gate = threading.Event()
    with da.spawn_datadeps():
        target, source = (one() if callable(one) else one for one in (target, source))
        da.spawn(held_fill, gate, da.InOut(target), 7)
        found = da.spawn(lambda x: np.array(x), source)
        gate.set()
    return found.result()


@pytest.mark.usefixtures("threads")
def test_the_value_of_a_task_may_lie_in_what_it_was_given():
    a = np.zeros(3)
    assert written_and_read(lambda: da.spawn(lambda x: x, da.InOut(a)), a)[0] == 7
    b = np.zeros(3)
    assert written_and_read(b, lambda: da.spawn(lambda x: x, da.InOut(b)))[0] == 7


@pytest.mark.usefixtures("threads")
def test_a_fetched_value_is_the_memory_of_its_task():
    gate = threading.Event()
    with da.spawn_datadeps():
        made = da.spawn(np.zeros, 3)
        da.spawn(held_fill, gate, da.InOut(made), 7)
        piece = made.result()[1:]
        inside = da.spawn(np.copy, piece)
        listed = da.spawn(lambda items: items[0].copy(), [made])
        gate.set()
    assert inside.result().tolist() == [7, 7]
    assert listed.result().tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    "views",
    [
        lambda a: (a, a.flat),
        lambda a: (a, memoryview(a)),
        lambda a: (a[1:], memoryview(a)[1:]),
        lambda a: (np.frombuffer(one := bytearray(24)), one),
        lambda a: (np.frombuffer(one := array.array("d", [0.0] * 3)), one),
        lambda a: (np.ma.array(a, copy=False), a),
        lambda a: (a, [a]),
        lambda a: (a, {"x": (a,)}),
    ],
    ids=["flat", "view", "piece", "bytes", "array", "masked", "list", "dict"],
)
@pytest.mark.usefixtures("threads")
def test_memory_is_known_whatever_object_shows_it(views):
    target, source = views(np.zeros(3))
    gate = threading.Event()
    with da.spawn_datadeps():
        held = da.spawn(held_fill, gate, da.InOut(target), 7)
        after = da.spawn(ignore, source)
        assert held in after._needs
        gate.set()


@pytest.mark.usefixtures("threads")
def test_methods_and_partial_functions_read_what_they_hold():
    a = np.zeros(3)
    for function in (a.sum, functools.partial(np.sum, a), functools.partial(np.sum, a=a)):
        a[:] = 0
        gate = threading.Event()
        with da.spawn_datadeps():
            da.spawn(held_fill, gate, da.Out(a), 1)
            total = da.spawn(function)
            gate.set()
        assert total.result() == 3


@pytest.mark.usefixtures("threads")
def test_containers_are_read_when_their_turn_comes():
    gate = threading.Event()
    items = [np.zeros(2)]

    def append(target):
        assert gate.wait(60)
        target.append(1)

    with da.spawn_datadeps():
        da.spawn(append, da.InOut(items))
        length = da.spawn(len, items)
        frozen = da.spawn(lambda x: x[0].flags.writeable, items)
        gate.set()
    assert length.result() == 2
    assert not frozen.result()


@pytest.mark.usefixtures("threads")
def test_parts_of_matrices_whose_rows_overlap():
    rows = np.lib.stride_tricks.sliding_window_view(np.zeros(12), 6, writeable=True)
    above, below = functools.partial(np.triu, k=3), functools.partial(np.tril, k=-3)
    assert recorded([da.Deps(rows, da.Out(above))], [da.Deps(rows, da.In(below))])[1] == {0}


@pytest.mark.usefixtures("threads")
def test_a_part_may_be_another_one_the_next_time():
    a, at = np.zeros(4), [0]

    def part(array):
        return array[at[0] : at[0] + 1]

    gate = threading.Event()
    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        at[0] = 0
        da.spawn(ignore, held, da.Deps(a, da.Out(part)))
        at[0] = 3
        second = da.spawn(ignore, held, da.Deps(a, da.Out(part)))
        assert second in da.spawn(ignore, held, a[3:])._needs
        gate.set()


@pytest.mark.usefixtures("engine")
def test_values_that_name_themselves():
    class Node:
        def __init__(self, data):
            self.data = data

    da.register_spans(Node, lambda node: [node, node.data])
    node, ring = Node(np.zeros(2)), [0]
    ring.append(ring)
    with da.spawn_datadeps():
        da.spawn(lambda one: add(one.data, 1), da.InOut(node))
        da.spawn(lambda one: one.append(1), da.InOut(ring))
        total = da.spawn(np.sum, node.data)
    assert total.result() == 2
    assert len(ring) == 3


@pytest.mark.usefixtures("engine")
def test_a_region_is_entered_once_and_takes_no_tasks_after_its_end():
    region = da.spawn_datadeps()
    with region:
        context = contextvars.copy_context()
        with pytest.raises(RuntimeError, match="entered before"):
            region.__enter__()
    with pytest.raises(RuntimeError, match="entered before"):
        region.__enter__()
    with pytest.raises(RuntimeError, match="has ended"):
        context.run(da.spawn, int)


@pytest.mark.usefixtures("threads")
def test_a_failure_that_the_block_fetches_is_not_raised_before_an_earlier_one():
    gate = threading.Event()

    def fail(error, wait):
        assert not wait or gate.wait(60)
        raise error

    def body():
        da.spawn(fail, KeyError("first"), True)
        second = da.spawn(fail, IndexError("second"), False)
        second.wait()
        gate.set()
        second.result()

    with pytest.raises(KeyError, match="first"):
        da.spawn_datadeps(body)


@pytest.mark.usefixtures("engine")
def test_an_argument_that_cannot_be_described_hides_no_failure():
    class Proxy:
        def __getattr__(self, name):
            raise ZeroDivisionError

    def fail(proxy):
        raise LookupError("gone")

    log = []

    def body():
        da.wait(da.spawn(fail, da.InOut(Proxy())))
        da.spawn(log.append, True)

    with pytest.raises(LookupError, match="gone") as caught:
        da.spawn_datadeps(body)
    assert log == []
    assert any("InOut Proxy" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("threads")
def test_a_region_that_ended_is_collected():
    a = np.zeros(2)
    with da.spawn_datadeps() as region:
        da.spawn(fill, da.Out(a), 1)
    seen, array_seen = weakref.ref(region), weakref.ref(a)
    del region, a
    gc.collect()
    assert seen() is None
    assert array_seen() is None


@pytest.mark.usefixtures("threads")
def test_many_tasks_that_are_arguments_and_outstanding():
    gate = threading.Event()
    total = np.zeros(1)
    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        made = [da.spawn(np.add, held, i) for i in range(5_000)]
        for one in made:
            da.spawn(add, da.Accumulate(total), one)
        gate.set()
    assert total[0] == sum(range(5_000)) + 5_000


@pytest.mark.parametrize("cut", [np.s_[:], np.s_[1:], np.s_[::-1], np.s_[:, ::2]], ids=str)
@pytest.mark.usefixtures("engine")
def test_the_value_of_a_task_is_written_though_it_is_a_view(cut):
    with da.spawn_datadeps():
        made = da.spawn(lambda: np.arange(12.0).reshape(3, 4)[cut])
        da.spawn(add, da.InOut(made), 1)
    np.testing.assert_array_equal(made.result(), np.arange(12.0).reshape(3, 4)[cut] + 1)


@pytest.mark.usefixtures("threads")
def test_the_value_of_a_task_may_lie_in_what_others_were_given_before_it():
    a, b = np.zeros(3), np.zeros(3)
    gate = threading.Event()
    with da.spawn_datadeps():
        da.spawn(ignore, da.InOut(a), b)
        made = da.spawn(lambda x, y: gate.wait(60) and x, da.InOut(a), b)
        da.spawn(held_fill, gate, da.InOut(a), 7)
        found = da.spawn(lambda x: x.copy(), made)
        gate.set()
    assert found.result().tolist() == [7] * 3


@pytest.mark.usefixtures("engine")
def test_an_array_whose_shape_is_set_between_two_tasks():
    a = np.arange(6.0)
    with da.spawn_datadeps(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        shapes = [da.spawn(np.shape, a), da.spawn(np.shape, a)]
        da.wait(shapes)
        a.shape = (2, 3)
        shapes += [da.spawn(np.shape, a), da.spawn(np.shape, da.In(a))]
    assert da.fetch(shapes) == [(6,), (6,), (2, 3), (2, 3)]


@pytest.mark.usefixtures("engine")
def test_an_object_that_answers_for_no_name_is_read_more_than_once():
    class Proxy:
        def __getattr__(self, name):
            raise ZeroDivisionError

    proxy = Proxy()
    with da.spawn_datadeps():
        tasks = [da.spawn(lambda x: x is proxy, proxy) for _ in range(3)]
    assert da.fetch(tasks) == [True] * 3


@pytest.mark.usefixtures("engine")
def test_a_failure_names_what_was_written_before_as_well():
    a, b = np.zeros(3), np.zeros(2)

    def fail(target, source, *, other):
        raise LookupError("gone")

    def body():
        da.spawn(add, da.InOut(a), 1)
        da.spawn(fail, da.InOut(a), a, other=da.Out(b))

    with pytest.raises(LookupError, match="gone") as caught:
        da.spawn_datadeps(body)
    notes = "\n".join(caught.value.__notes__)
    assert "InOut ndarray of shape (3,)" in notes
    assert "Out ndarray of shape (2,)" in notes


@pytest.mark.usefixtures("threads")
def test_what_a_task_holds_until_it_runs_is_little_work_for_the_collector():
    arrays = [np.zeros(2) for _ in range(3)]
    gate = threading.Event()
    with da.spawn_datadeps() as region:
        held = da.spawn(gate.wait, 60)
        for _ in range(4):
            da.spawn(ignore, held, *map(da.InOut, arrays))
        last = da.spawn(ignore, da.InOut(arrays[0]), arrays[1], 1)
        gc.collect()
        entry = region._entries[-1]
        assert entry.task is last
        assert not any(map(gc.is_tracked, (entry, entry.args, entry.written)))
        assert entry.extents is None
        assert last._watchers is entry
        gate.set()


@pytest.mark.usefixtures("threads")
def test_a_task_that_ends_while_it_is_looked_at_as_an_argument():
    class Opener:
        """Looking at what it consists of lets the task end."""

    gate, later = threading.Event(), threading.Event()

    def opened(_):
        gate.set()
        made.wait(60)
        return []

    da.register_spans(Opener, opened)
    with da.spawn_datadeps():
        made = da.spawn(lambda: gate.wait(60) and np.zeros(3))
        first = da.spawn(lambda *_: later.wait(60), da.InOut(made), Opener(), np.ones(3))
        assert first in da.spawn(ignore, made)._needs
        later.set()


@pytest.mark.usefixtures("threads")
def test_the_value_of_a_task_in_what_was_handed_on_by_one_that_waits():
    gate, later = threading.Event(), threading.Event()
    with da.spawn_datadeps():
        made = da.spawn(lambda: gate.wait(60) and np.zeros(3))
        handed = da.spawn(lambda x: later.wait(60) and x, da.InOut(made))
        gate.set()
        made.wait()
        da.spawn(ignore, np.zeros(3))
        third = da.spawn(fill, da.InOut(handed), 7)
        assert third in da.spawn(ignore, made)._needs
        later.set()
    assert made.result().tolist() == [7] * 3


@pytest.mark.usefixtures("one_worker")
def test_the_value_of_a_task_of_before_may_lie_in_what_that_was_given():
    """The task that gives the view is not of the region, and not done when it is an argument.

    On another worker it would give a view of a copy.
    """
    for _ in range(20):
        whole = da.spawn(np.zeros, 4)
        whole.wait()
        part = da.spawn(lambda items: items[0][::2], [whole])
        with da.spawn_datadeps():
            da.spawn(add, da.InOut(whole), 1)
            seen = da.spawn(lambda x: x.tolist(), part)
        assert seen.result() == [1, 1]


def test_a_value_that_comes_home_while_it_is_looked_for(monkeypatch):
    """Who follows the task that brings it home waits for it, although its place was just learnt."""
    da.configure(engine="threads", threads=2)
    made_may_end, first_may_begin = threading.Event(), threading.Event()
    first_began, first_may_end = threading.Event(), threading.Event()
    other = np.zeros(1)
    learn = RegionArguments._learn

    def hold(_):
        assert first_may_begin.wait(60)

    def make(array):
        assert made_may_end.wait(60)
        return operator.pos(array)

    def first(out, _):
        first_began.set()
        assert first_may_end.wait(60)
        out[...] = out * 3 + 1

    def second(out):
        out[...] = out * 3 + 2

    def learn_and_let_go(self, task):
        learn(self, task)
        if task is made:
            first_may_begin.set()
            assert first_began.wait(60)

    with separate_memory(), da.spawn_datadeps():
        da.spawn(hold, da.Out(other))
        made = da.spawn.options(scope=da.scope(kind=KIND))(make, np.arange(2))
        # Its value is known as that of a task then.
        da.spawn(first, da.InOut(made), da.In(other))
        made_may_end.set()
        made.wait()
        monkeypatch.setattr(RegionArguments, "_learn", learn_and_let_go)
        follower = da.spawn(second, da.InOut(made))
        monkeypatch.undo()
        assert first_began.is_set()
        assert not follower.wait(0.05)
        first_may_end.set()
    np.testing.assert_array_equal(da.fetch(made), (np.arange(2) * 3 + 1) * 3 + 2)
