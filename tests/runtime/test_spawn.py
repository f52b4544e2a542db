"""Spawning: what tasks are given, what they return, how they are called."""

from __future__ import annotations

import threading
from collections import namedtuple

import numpy as np
import pytest

import darray.runtime as da
from darray.runtime.arguments import actions, register_argument
from darray.runtime.engine import current_engine
from tests.runtime.shared import Notes

pytestmark = pytest.mark.usefixtures("engine")


def test_task_gives_value_of_call():
    task = da.spawn(divmod, 17, 5)
    assert task.result() == (3, 2)
    assert task.done()
    assert not task.running()
    assert not task.cancelled()
    assert task.exception() is None
    assert task.wait() is True


def test_tasks_among_arguments_become_values():
    two, three = da.spawn(int, "2"), da.spawn(int, "3")
    assert da.spawn(pow, two, three).result() == 8
    assert da.spawn(int, "ff", base=da.spawn(int, "16")).result() == 255


def test_tasks_in_nested_containers_become_values():
    one, key = da.spawn(int, 1), da.spawn(str, "k")
    nest = {"a": [one, (one, 2)], key: {one, 5}, "f": frozenset([one])}
    expected = {"a": [1, (1, 2)], "k": {1, 5}, "f": frozenset([1])}
    assert da.spawn(lambda value: value, nest).result() == expected
    assert da.spawn(lambda *, value: value, value=nest).result() == expected
    assert da.fetch(nest) == expected


def test_container_is_taken_as_it_was_when_given():
    gate = threading.Event()
    gate.set()
    first = da.spawn(int, 1)
    given = [first]
    total = da.spawn(lambda values: list(values), given)
    given.append(da.spawn(gate.wait))
    assert total.result() == [1]


def test_container_that_holds_itself_is_left_from_there_on():
    loop = [1]
    loop.append(loop)
    assert da.spawn(lambda value: value is loop, loop).result()


def test_other_containers_go_by_reference():
    pair = namedtuple("pair", "a b")(1, 2)
    plain = [1, 2]
    assert da.spawn(lambda x: x, pair).result() is pair
    assert da.spawn(lambda x: x, plain).result() is plain


def test_ref_becomes_its_value():
    ref = da.Ref(da.spawn(int, 7))
    assert da.spawn(abs, ref).result() == 7
    assert da.fetch([ref, (ref,)]) == [7, (7,)]
    assert ref.task.result() == 7
    assert "Ref" in repr(ref)


def test_function_may_be_task_or_ref():
    chosen = da.spawn(lambda: pow)
    assert da.spawn(chosen, 2, 5).result() == 32
    assert da.spawn(da.Ref(chosen), 2, 6).result() == 64


def test_function_that_cannot_be_called_is_refused_at_once():
    with pytest.raises(TypeError, match=r"spawn\(\) calls its first argument, but 3"):
        da.spawn(3)


def test_result_of_a_task_may_be_a_task():
    inner = da.spawn(lambda: da.spawn(int, 4)).result()
    assert isinstance(inner, da.Task)
    assert inner.result() == 4


def test_arrays_are_handed_over_read_only():
    array = np.arange(4.0)
    assert not da.spawn(lambda a: a.flags.writeable, array).result()
    assert not da.spawn(lambda a: a["k"][0].flags.writeable, {"k": [array]}).result()
    assert array.flags.writeable
    result = da.spawn(np.add, array, 1).result()
    assert not result.flags.writeable
    assert not da.spawn(lambda: [np.zeros(2)]).result()[0].flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 1


def test_writing_to_an_argument_names_the_ways_to_declare_it():
    def write(array):
        array[0] = 1

    with pytest.raises(ValueError, match="read-only") as caught:
        da.spawn(write, np.zeros(3)).result()
    note = "\n".join(caught.value.__notes__)
    assert "da.mutable" in note
    assert "InOut" in note
    assert "DArray" in note


def test_fetch_copies_where_asked_to():
    task = da.spawn(np.arange, 3)
    copy = da.fetch(task, copy=True)
    copy[0] = 9
    assert task.result()[0] == 0
    assert da.fetch({"k": [task]}, copy=True)["k"][0].flags.writeable


def test_fetch_of_plain_values_gives_them_back():
    assert da.fetch(3) == 3
    assert da.fetch([1, {"a": (2,)}]) == [1, {"a": (2,)}]


def test_registered_argument_is_loaded_where_the_task_runs():
    class Source:
        def load(self):
            return np.full(2, da.current_task().processor.index)

    register_argument(Source, Source.load)
    loaded = da.spawn(lambda a: a, Source()).result()
    assert loaded.tolist() in ([0, 0], [1, 1])
    assert not loaded.flags.writeable
    assert da.spawn(lambda a: a["s"][0].shape, {"s": [Source()]}).result() == (2,)
    assert actions[Source] != 0


def test_after_orders_without_values():
    order = Notes()
    first = da.spawn(order.append, 1)
    da.spawn.options(after=first)(order.append, 2).result()
    da.spawn.options(after=[first, da.spawn(order.append, 3)])(order.append, 4).result()
    assert order == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="after= takes"):
        da.spawn.options(after=[3])


def test_failure_of_after_is_the_tasks_failure():
    failed = da.spawn(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        da.spawn.options(after=failed)(print, "not printed").result()


def test_name_and_place_are_told():
    task = da.spawn.options(name="load")(lambda: da.current_task().name)
    assert task.result() == "load"
    assert "test_spawn.py:" in repr(task)
    assert "load" in repr(task)
    assert "done" in repr(task)
    assert da.spawn(lambda: da.current_task().name).result().endswith("<lambda>")


def test_indexing_spawns_and_iterating_does_not_work():
    task = da.spawn(dict, a=[1, 2])
    assert task["a"][1].result() == 2
    assert da.spawn(np.eye, 2)[0, 0].result() == 1
    with pytest.raises(TypeError, match="not iterable"):
        list(task)
    with pytest.raises(TypeError):
        1 in task  # noqa: B015


def test_map_takes_items_in_parallel():
    tasks = da.map(pow, [2, 3, 4], iter([5, 2]))
    assert da.fetch(tasks) == [32, 9]
    assert da.map(pow, [], []) == []


def test_decorated_function_spawns():
    @da.task
    def add(a, b=1):
        """Add."""
        return a + b

    @da.task(name="named", priority=3)
    def named():
        return da.current_task().name

    assert add(add(1), b=3).result() == 5
    assert add.__wrapped__(1, 2) == 3
    assert add.__doc__ == "Add."
    assert named().result() == "named"


def test_current_task_is_the_one_that_runs():
    with pytest.raises(RuntimeError, match="outside a task"):
        da.current_task()
    outer, inner, again = da.spawn(
        lambda: (
            da.current_task(),
            da.spawn(da.current_task).result(),
            da.current_task(),
        )
    ).result()
    assert outer is again
    assert outer is not inner


def test_running_task_knows_its_processor():
    task = da.spawn(lambda: (da.current_task().running(), da.current_task().processor))
    running, processor = task.result()
    assert running
    assert processor in da.processors()
    assert task.processor == processor


def test_processors_and_workers():
    assert da.workers()[0] == 0
    every = da.processors()
    assert sorted({one.worker for one in every}) == da.workers()
    own = [one for one in every if one.worker == 0]
    assert [one.index for one in own] == list(range(len(own)))
    assert da.processors(da.scope(worker=0, thread=0)) == own[:1]
    assert da.processors(da.scope(worker=3)) == []


def test_options_reach_nested_tasks_and_own_options_do_not():
    def seen():
        options = da.current_task()._options
        return None if options is None else (options.priority, options.name)

    def both():
        return seen(), da.spawn(seen).result()

    with da.options(priority=5):
        assert da.spawn(both).result() == ((5, None), (5, None))
        assert da.spawn.options(priority=7, name="own")(both).result() == ((7, "own"), (5, None))
        with da.options(priority=0):
            assert da.spawn(both).result() == ((0, None), (0, None))
    assert da.spawn.options(priority=7)(both).result() == ((7, None), None)
    assert da.spawn(seen).result() is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"occupancy": 2}, ValueError),
        ({"occupancy": -0.1}, ValueError),
        ({"priority": 1.5}, TypeError),
        ({"memory": -1}, ValueError),
        ({"memory": "1GB"}, ValueError),
        ({"name": 3}, TypeError),
        ({"scope": "gpu"}, TypeError),
    ],
)
def test_wrong_options_are_refused_at_once(options, error):
    with pytest.raises(error, match=f"{next(iter(options))}="):
        da.spawn.options(**options)


def test_submitted_together_and_in_order():
    engine = current_engine()
    order = Notes()
    calls = [(order.append, (i,), None, False) for i in range(5)]
    code = test_submitted_together_and_in_order.__code__
    tasks = [da.Task(engine, call, None, code, 0) for call in calls]
    engine.submit_all([(task, [tasks[i - 1]] if i else None) for i, task in enumerate(tasks)])
    da.wait(tasks)
    assert order == [0, 1, 2, 3, 4]
