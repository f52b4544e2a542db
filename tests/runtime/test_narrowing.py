"""Where tasks run by what they are given: scopes of results, of refs, of functions."""

from __future__ import annotations

import itertools
import re

import pytest

import darray.runtime as da
from darray.runtime import contexts
from darray.runtime.narrowing import kind_asked, scope_of_host
from darray.runtime.processor import Processor
from darray.testing import separate_memory  # noqa: F401 - has a kind with memory of its own

pytestmark = pytest.mark.usefixtures("nothing_registered_afterwards")

# On the serial engine there is one thread: other kinds stand for the processors apart.
FIRST, SECOND, THIRD = (da.scope(kind=f"kind{number}") for number in range(3))
EVERY = [FIRST, SECOND, THIRD]


@pytest.fixture
def kinds(one_worker):
    for number in range(3):
        da.register_kind(f"kind{number}", 1)
    return one_worker


def where(*_, **__):
    return da.current_task().processor


def run_on(scope, *args, **kwargs):
    return da.spawn.options(scope=scope)(where, *args, **kwargs)


def ref(scope, value=0):
    return da.Ref(da.spawn(int, value), None, scope)


def kind(number):
    return Processor(0, f"kind{number}", 0)


def test_task_runs_where_its_argument_may_be_used(kinds):
    """Behaviour 40."""
    arg = ref(SECOND)
    assert arg.scope == SECOND
    with da.options(scope=da.ANY):
        assert da.spawn(where, arg).result() == kind(1)
        assert da.spawn(where, key=arg).result() == kind(1)
        assert da.spawn(where, [1, {"a": (arg,)}]).result() == kind(1)
        assert da.spawn(lambda: da.spawn(where, arg).result()).result() == kind(1)
        assert da.spawn.options(scope=FIRST)(lambda: da.fetch(arg)).result() == 0
    assert run_on(SECOND | THIRD, arg).result() == kind(1)
    with pytest.raises(da.SchedulingError, match=r"DEFAULT \(the default scope\)"):
        da.spawn(where, arg).result()


def test_two_arguments_with_nothing_in_common(kinds):
    """Behaviour 41."""
    task = run_on(da.ANY, ref(FIRST), ref(SECOND))
    with pytest.raises(da.SchedulingError, match="no processor in common") as info:
        task.result()
    assert re.search(
        r"scope\(kind='kind0'\) \(its argument 1, <Ref to .*?>\); "
        r"scope\(kind='kind1'\) \(its argument 2, <Ref to .*?>\)\. Widen",
        str(info.value),
    )
    overlap = run_on(da.ANY, ref(FIRST | SECOND), ref(SECOND | THIRD))
    assert overlap.result() == kind(1)


SETS = [FIRST, FIRST | SECOND, SECOND | THIRD, None]


@pytest.mark.parametrize("spread", ["task", "block", "default"])
def test_compute_and_result_scopes(kinds, spread):
    """Behaviours 47, 48 and 49, wherever the options come from."""
    for scopes in itertools.product(SETS, repeat=3):
        given = dict(zip(("scope", "compute_scope", "result_scope"), scopes, strict=True))
        check({key: scope for key, scope in given.items() if scope is not None}, spread)


def check(given, spread):
    ran = []

    def work():
        ran.append(where())
        return ran[-1]

    task, result = spawned(work, given, spread), given.get("result_scope")
    allowed = given.get("compute_scope", given.get("scope", da.DEFAULT))
    if result is not None:
        allowed &= result
    assert da.Ref(task).scope == result
    if not allowed:
        with pytest.raises(da.SchedulingError, match="result_scope="):
            task.result()
        with pytest.raises(da.SchedulingError, match="result_scope="):
            da.spawn(str, task).result()
        assert ran == []
        return
    assert task.result() in allowed
    user = run_on(da.ANY, task)
    assert user.result() in (da.ANY if result is None else result)


def spawned(work, given, spread):
    if spread == "task":
        return da.spawn.options(**given)(work)
    if spread == "block":
        with da.options(**given):
            return da.spawn(work)
    da.register_default(work, **given)
    try:
        return da.spawn(work)
    finally:
        da.register_default(work)


def test_result_is_used_in_the_whole_of_its_scope(kinds):
    """Behaviour 48."""
    task = da.spawn.options(compute_scope=FIRST | SECOND, result_scope=SECOND | THIRD)(where)
    assert task.result() == kind(1)
    assert da.Ref(task).scope == SECOND | THIRD
    assert run_on(THIRD, task).result() == kind(2)
    assert run_on(FIRST | THIRD, da.Ref(task)).result() == kind(2)
    with pytest.raises(da.SchedulingError, match="its argument 1"):
        run_on(FIRST, task).result()
    assert da.Ref(task, None, THIRD).scope == THIRD
    assert not da.Ref(task, None, FIRST).scope


def test_function_and_arguments_narrow_to_the_exact_intersection(kinds):
    """Behaviour 50."""
    sets = [one for n in range(1, 4) for one in itertools.combinations(EVERY, n)]
    made = {chosen: da.scope(*chosen) for chosen in sets}
    for function, arg in itertools.product(sets, repeat=2):
        common = set(function) & set(arg)
        assert run_on(da.ANY, ref(made[arg])).result() in made[arg]
        called = da.spawn.options(scope=da.ANY)(
            da.Ref(da.spawn(lambda: where), None, made[function]), ref(made[arg])
        )
        if common:
            assert called.result() in da.scope(*common)
        else:
            with pytest.raises(da.SchedulingError, match=r"its function, <Ref.*its argument 1, <"):
                called.result()


def test_three_scopes_may_conflict_where_no_two_do(kinds):
    pairs = [FIRST | SECOND, SECOND | THIRD, FIRST | THIRD]
    task = run_on(pairs[0], ref(pairs[1]), {"k": ref(pairs[2])}, ref(da.ANY))
    with pytest.raises(da.SchedulingError) as info:
        task.result()
    text = str(info.value)
    assert text.count("scope(kinds=[") == 3
    assert "(scope= of the task)" in text
    assert "its argument 1" in text
    assert "its argument 2" in text
    assert "its argument 3" not in text


def test_errors_name_where_scopes_came_from(kinds):
    arg = ref(FIRST)

    def match(origin):
        return pytest.raises(da.SchedulingError, match=re.escape(f"({origin})"))

    with da.options(scope=SECOND), match("the block da.options(scope=...)"):
        da.spawn(where, arg).result()
    with da.options(scope=SECOND), match("the block da.options(scope=...)"):
        da.spawn.options(priority=1)(where, arg).result()
    with da.options(result_scope=SECOND), match("the block da.options(result_scope=...)"):
        da.spawn.options(scope=da.ANY)(where, arg).result()
    with da.options(scope=FIRST), match("compute_scope= of the task"):
        da.spawn.options(compute_scope=SECOND)(where, arg).result()
    da.register_default(where, scope=THIRD)
    try:
        with match("scope= of where by da.register_default"):
            da.spawn(where, arg).result()
        assert run_on(FIRST, arg).result() == kind(0)
    finally:
        da.register_default(where)
    task = da.spawn.options(name="far", scope=SECOND)(where, arg)
    with pytest.raises(da.SchedulingError, match=r"task 'far', spawned at .*py:\d+, may run now"):
        task.result()


def test_dependents_fail_with_the_task_that_may_run_nowhere(kinds):
    conflicting = da.spawn.options(scope=FIRST, result_scope=SECOND, name="first")(where)
    calls = []
    following = run_on(THIRD, conflicting)
    last = da.spawn(calls.append, following)
    for task in (conflicting, following, last):
        with pytest.raises(da.SchedulingError, match="'first'"):
            task.result()
    assert calls == []


def test_narrowing_is_not_passed_on(kinds):
    def nested(_):
        return where(), da.spawn(where).result(), da.current_task()._options.outer

    ran, inner, outer = da.spawn.options(scope=da.ANY)(nested, ref(SECOND)).result()
    assert (ran, inner.kind, outer) == (kind(1), "cpu", None)
    with da.options(scope=da.ANY):
        outer = contexts.current.get()
        ran, inner, passed = da.spawn(nested, ref(SECOND)).result()
    assert ran == kind(1)
    assert inner in da.ANY
    assert passed is outer


def test_indexing_a_result_obeys_its_scope(kinds):
    task = da.spawn.options(scope=da.ANY, result_scope=THIRD)(lambda: [3, 4])
    with da.options(scope=da.ANY):
        item = task[1]
    assert item.result() == 4
    assert item.processor == kind(2)


@pytest.mark.parametrize("block", [da.spawn_bulk, da.spawn_sequential, da.sync, da.wait_all])
def test_narrowing_in_blocks_of_spawns(kinds, block):
    arg = ref(SECOND)
    with block():
        task = run_on(da.ANY, arg)
        with da.options(scope=da.ANY):
            other = da.spawn(where, arg)
    assert da.fetch([task, other]) == [kind(1), kind(1)]


def test_narrowing_in_a_region(kinds):
    """Scopes that conflict are the region's failure."""
    data = da.Ref(da.spawn(list, [1]), None, SECOND)
    with da.options(scope=da.ANY), da.spawn_datadeps():
        read = da.spawn(where, da.In(data))
        written = da.spawn(lambda one: one.append(where()), da.InOut(data))
        both = da.spawn(where, [data])
    assert da.fetch([read, both]) == [kind(1), kind(1)]
    assert written.processor == kind(1)
    assert data.task.result() == [1, kind(1)]
    calls = []
    with pytest.raises(da.SchedulingError, match="its argument 1"):  # noqa: SIM117
        with da.options(scope=FIRST), da.spawn_datadeps():
            da.spawn(calls.append, da.In(data))
    assert calls == []


def test_task_functions_take_the_scopes(kinds):
    @da.task(scope=da.ANY, result_scope=SECOND)
    def make():
        return where()

    assert make().result() == kind(1)
    assert da.Ref(make()).scope == SECOND


@pytest.mark.parametrize("key", ["scope", "compute_scope", "result_scope"])
def test_wrong_scopes_are_refused_at_once(key):
    for give in (da.spawn.options, lambda **given: da.register_default(where, **given)):
        with pytest.raises(TypeError, match=f"{key}= takes what da.scope"):
            give(**{key: "npu"})
    with pytest.raises(TypeError, match=f"{key}= takes what da.scope"), da.options(**{key: 3}):
        pass


def test_scopes_of_many_arguments_that_are_the_same_cost_one(kinds):
    args = [ref(SECOND) for _ in range(100)]
    assert run_on(da.ANY, args).result() == kind(1)
    with pytest.raises(da.SchedulingError) as info:
        run_on(da.ANY, args, [ref(FIRST) for _ in range(100)]).result()
    assert len(str(info.value)) < 1000


@pytest.mark.parametrize("default", [False, True])
def test_kinds_of_devices_that_are_asked_for(one_worker, default):
    """Those without a memory of their own come first; none where a thread is in the scope."""
    da.register_kind("own", 1)
    da.register_kind("another", 1)
    da.register_kind("separate", 1, default=default)
    asked = {
        da.DEFAULT: None,
        da.ANY: None,
        da.scope(kind="own"): "own",
        da.scope(kind="separate"): "separate",
        da.scope(kinds=["another", "separate", "own"]): "another",
        da.scope(kinds=["separate", "own"]): "own",
        da.scope(kinds=["separate", "cpu"]): None,
        da.scope(worker=0, kind="separate"): "separate",
        da.scope(worker=1, kind="separate"): None,
        da.scope(kind="gone"): None,
    }
    assert kind_asked() is None
    for scope, kind in asked.items():
        with da.options(scope=scope):
            assert kind_asked() == kind, scope
            nested = da.options(compute_scope=da.scope(kind="cpu"))
            with nested:
                assert kind_asked() is None
    device = Processor(0, "separate", 0)
    assert device not in scope_of_host(0)
    assert Processor(0, "own", 0) in scope_of_host(0)
    assert Processor(0, "cpu", 0) in scope_of_host(0)
    da.register_kind("separate", None)
    with da.options(scope=da.scope(kind="separate")):
        assert kind_asked() is None
