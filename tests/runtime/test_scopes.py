"""Scopes: the algebra of sets of processors, how they are written, and where tasks run."""

from __future__ import annotations

import itertools
import pickle
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray.runtime as da
from darray.runtime import scope_keys
from darray.runtime.processor import Processor
from darray.runtime.scopes import MOST_TERMS

PROCESSORS = [
    Processor(worker, kind, index)
    for worker in range(4)
    for kind in ("cpu", "cuda", "npu")
    for index in range(4)
]
NUMBERS = st.none() | st.frozensets(st.integers(0, 4), min_size=1)
KINDS = st.frozensets(st.sampled_from(["cpu", "cuda", "npu"]), min_size=1)

pytestmark = pytest.mark.usefixtures("nothing_registered_afterwards")


def threads_of(draw):
    return da.scope(workers=draw(NUMBERS), threads=draw(NUMBERS))


@st.composite
def simple(draw):
    if draw(st.booleans()):
        return threads_of(draw)
    return da.scope(workers=draw(NUMBERS), kinds=draw(KINDS))


def unions(simple):
    return st.recursive(
        simple,
        lambda inner: (
            st.builds(lambda a, b: a | b, inner, inner)
            | st.builds(lambda a, b: a & b, inner, inner)
        ),
        max_leaves=5,
    )


SCOPES = unions(simple() | st.sampled_from([da.ANY, da.DEFAULT]))
OF_THREADS = unions(st.composite(threads_of)())


def members(scope):
    return {one for one in PROCESSORS if one in scope}


@given(SCOPES, SCOPES)
def test_operators_are_those_of_sets(a, b):
    assert members(a & b) == members(a) & members(b)
    assert members(a | b) == members(a) | members(b)
    assert members(da.scope(a, b)) == members(a) | members(b)
    if a <= b:
        assert members(a) <= members(b)


@given(SCOPES, SCOPES, SCOPES)
def test_laws_of_sets_hold_by_equality(a, b, c):
    assert a & b == b & a
    assert a | b == b | a
    assert a & (b | c) == (a & b) | (a & c)
    assert a | (b & c) == (a | b) & (a | c)
    assert a | (a & b) == a == a & (a | b)
    assert a & b <= a <= a | b <= da.ANY
    assert a & da.ANY == a
    assert a | da.ANY == da.ANY
    assert hash(a & (b | c)) == hash((a & b) | (a & c))


@given(OF_THREADS, OF_THREADS)
def test_comparison_of_scopes_of_threads_is_exact(a, b):
    """Behaviour 46: subsets and equality over unions."""
    every = {Processor(w, kind, t) for w in range(6) for t in range(6) for kind in ("cpu", "x")}
    of_a, of_b = ({one for one in every if one in scope} for scope in (a, b))
    assert (a <= b) == (of_a <= of_b)
    assert (a == b) == (of_a == of_b)
    assert bool(a) == bool(of_a)


@given(SCOPES)
def test_scopes_are_read_back_as_they_are_written(a):
    names = {"scope": da.scope, "ANY": da.ANY, "DEFAULT": da.DEFAULT, "nothing": None}
    assert not (a.is_empty and members(a))
    if a.terms:
        assert eval(repr(a), names) == a
    assert pickle.loads(pickle.dumps(a)) == a


WAYS = [
    (da.scope(worker=1), da.scope(workers=[1])),
    (da.scope(thread=1), da.scope(threads=[1])),
    (da.scope(thread=1, worker=2), da.scope(worker=2, thread=1)),
    (da.scope(thread=1, worker=2), da.scope(worker=2) & da.scope(thread=1)),
    (da.scope(workers=[1, 2]), da.scope(da.scope(worker=2), da.scope(worker=1))),
    (
        da.scope(da.scope(worker=1) | da.scope(worker=2), da.scope(worker=3)),
        da.scope(workers=range(1, 4)),
    ),
    (
        da.scope(workers=[0, 1], threads=[0, 1]),
        da.scope(*(da.scope(worker=i, thread=j) for i in (0, 1) for j in (0, 1))),
    ),
    (
        da.scope(workers=[0, 1], thread=0) | da.scope(worker=0, threads=[0, 1]),
        (
            da.scope(worker=0, thread=1)
            | da.scope(worker=1, thread=0)
            | da.scope(worker=0, thread=0)
        ),
    ),
    (da.scope(), da.DEFAULT),
    (da.scope(kind="cpu", thread=0), da.scope(thread=0)),
    (da.scope(kinds=["npu", "cpu"]), da.scope(kind="cpu") | da.scope(kind="npu")),
    (da.scope(tags=["a", "b"]), da.scope(tag="b") | da.scope(tag="a")),
]


@pytest.mark.parametrize(("one", "other"), WAYS, ids=[str(number) for number in range(len(WAYS))])
def test_the_same_set_is_the_same_scope(one, other):
    """Behaviours 42 and 43."""
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def test_texts_of_scopes():
    scope = da.scope
    texts = {
        "ANY": da.ANY,
        "DEFAULT": scope(),
        "scope(thread=0, worker=1)": scope(worker=1, thread=0),
        "scope(thread=0, worker=0) | scope(worker=1)": scope(worker=0, thread=0) | scope(worker=1),
        "scope(kind='cpu') | scope(kind='npu')": scope(kinds=["cpu", "npu"]),
        "scope(tag='a') & scope(tag='b') & DEFAULT": scope(tag="a") & scope(tag="b") & scope(),
        "scope(hosts=['m', 'n'])": scope(host="m") | scope(host="n"),
        "scope(nothing)": scope(thread=0) & scope(thread=1),
    }
    assert {text: repr(scope) for text, scope in texts.items()} == {text: text for text in texts}


@pytest.mark.parametrize(
    ("keys", "error", "match"),
    [
        ({"worker": 1, "workers": [2]}, TypeError, "worker= or workers="),
        ({"workers": []}, ValueError, "allows no processor"),
        ({"threads": []}, ValueError, "allows no processor"),
        ({"tags": []}, ValueError, "allows no processor"),
        ({"thread": -1}, ValueError, "count from 0"),
        ({"thread": True}, ValueError, "count from 0"),
        ({"kind": 3}, ValueError, "by its name"),
        ({"hosts": "n1"}, TypeError, "write host="),
        ({"worker": 1, "speed": 3}, TypeError, r"no key 'speed'; it takes worker=, thread=, host="),
        ({"thread": 0, "kind": "gpu"}, TypeError, "CPU threads"),
    ],
)
def test_scope_refuses_what_makes_no_sense(keys, error, match):
    """Behaviour 43."""
    with pytest.raises(error, match=match):
        da.scope(**keys)


def test_operators_refuse_what_is_no_scope():
    for wrong in (lambda: da.scope(thread=0) & 3, lambda: da.scope(()), lambda: da.scope("any")):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="not both"):
        da.scope(da.ANY, worker=1)


def test_large_unions_are_bounded_and_right():
    count = 12
    scopes = [da.scope(worker=i, threads=[j for j in range(count) if j != i]) for i in range(count)]
    union = da.scope(*scopes)
    assert len(union.terms) <= MOST_TERMS
    for worker, thread in itertools.product(range(count), repeat=2):
        assert (Processor(worker, "cpu", thread) in union) == (worker != thread)
    assert all(one <= union for one in scopes)
    assert da.scope(workers=[0, 1], threads=[2, 3]) <= union
    assert not da.scope(workers=[0, 1], threads=[1, 2, 3]) <= union
    assert union <= da.scope(workers=range(count), threads=range(count))
    assert da.scope(*(one & union for one in scopes)) <= union


def test_workers_and_hosts_alone_mean_processors_used_by_default(engine):
    da.register_kind("npu", 1)
    npu = Processor(0, "npu", 0)
    host = socket.gethostname()
    assert [npu in da.scope(worker=0), npu in da.scope(host=host), npu in da.scope()] == [False] * 3
    assert npu in da.scope(worker=0, kind="npu")
    assert npu in da.scope(host=host, kind="npu")
    assert npu in da.ANY
    assert npu not in da.DEFAULT
    assert da.scope(kind="cpu") <= da.DEFAULT
    assert not da.scope(kind="npu") <= da.DEFAULT
    assert not da.scope(kind="npu") & da.DEFAULT
    assert da.scope(thread=0) <= da.scope(kind="cpu")


def test_hosts(one_worker):
    assert da.processors(da.scope(host=socket.gethostname())) == da.processors()
    assert da.processors(da.scope(host="elsewhere")) == []
    scope_keys.name_host(3, "elsewhere")
    assert Processor(3, "cpu", 0) in da.scope(hosts=["elsewhere", "n2"])
    scope_keys.name_host(3, None)
    assert Processor(3, "cpu", 0) not in da.scope(host="elsewhere")


def test_tags_are_looked_up_when_tasks_are_spawned(one_worker):
    big = da.scope(tag="bigmem")
    task = da.spawn.options(scope=big)
    with pytest.raises(da.SchedulingError, match=r"tag='bigmem'.*try a wider scope"):
        task(int).result()
    da.register_tag("bigmem", da.scope(thread=0))
    assert task(lambda: da.current_task().processor.index).result() == 0
    assert da.processors(big & da.scope(worker=0)) == [Processor(0, "cpu", 0)]
    da.register_tag("far", da.scope(worker=9))
    assert da.processors(da.scope(tags=["far", "bigmem"])) == [Processor(0, "cpu", 0)]
    assert da.processors(da.scope(tag="far") & big) == []
    da.register_tag("bigmem", None)
    with pytest.raises(da.SchedulingError):
        task(int).result()


def test_wrong_tags_are_refused():
    with pytest.raises(TypeError, match="a tag is text"):
        da.register_tag(3, da.ANY)
    with pytest.raises(TypeError, match=r"what da.scope\(...\) returns"):
        da.register_tag("a", "b")
    with pytest.raises(ValueError, match="said without tags"):
        da.register_tag("a", da.scope(tag="b"))


def test_registered_keys(one_worker):
    """Behaviour 44: custom scope keys."""
    da.register_kind("npu", 2)
    da.register_scope_key("npu", lambda one: one.index if one.kind == "npu" else None)
    second = da.spawn.options(scope=da.scope(npu=1))(lambda: da.current_task().processor)
    assert second.result() == Processor(0, "npu", 1)
    assert da.processors(da.scope(npus=[0, 1], worker=0)) == [
        Processor(0, "npu", 0),
        Processor(0, "npu", 1),
    ]
    assert repr(da.scope(npu=1)) == "scope(npu=1)"
    for taken in ("npu", "npus", "worker", "workers", "tag"):
        with pytest.raises(ValueError, match="there is a scope key"):
            da.register_scope_key(taken, lambda one: None)
    scope = da.scope(npu=1)
    da.register_scope_key("npu", None)
    assert da.processors(scope) == []
    with pytest.raises(da.SchedulingError, match="npu=1"):
        da.spawn.options(scope=scope)(int).result()
    with pytest.raises(TypeError, match="no key 'npu'"):
        da.scope(npu=1)
    with pytest.raises(ValueError, match="no scope key 'npu'"):
        da.register_scope_key("npu", None)


def test_function_of_a_key_is_called_once_a_processor_and_may_use_the_runtime(engine):
    da.spawn(int).result()
    asked = []

    def parity(processor):
        asked.append(processor)
        return da.spawn(lambda index: index % 2, processor.index).result()

    da.register_scope_key("parity", parity)
    assert asked == da.processors(da.ANY)
    da.fetch([da.spawn.options(scope=da.scope(parity=0))(int, 3) for _ in range(5)])
    assert asked == da.processors(da.ANY)


def test_key_whose_function_fails_is_not_registered(engine):
    da.spawn(int).result()
    with pytest.raises(ZeroDivisionError):
        da.register_scope_key("odd", lambda processor: 1 // 0)
    with pytest.raises(TypeError, match="no key 'odd'"):
        da.scope(odd=1)
    with pytest.raises(TypeError, match="a function of a processor"):
        da.register_scope_key("odd", 3)
    with pytest.raises(ValueError, match="is a name"):
        da.register_scope_key("not a name", lambda processor: 1)


def test_processors_of_given_and_of_ambient_scopes(one_worker):
    """Behaviour 45."""
    da.register_kind("npu", 1)
    npu = [Processor(0, "npu", 0)]
    threads = da.processors()
    assert {one.kind for one in threads} == {"cpu"}
    assert da.processors(da.ANY) == threads + npu
    assert da.processors(da.scope(kind="npu")) == npu
    with da.options(scope=da.scope(kinds=["npu", "cpu"])):
        assert da.processors() == threads + npu
        assert da.processors(da.scope(thread=0)) == threads[:1]
        assert da.spawn(da.processors).result() == threads + npu
        with da.options(compute_scope=da.scope(kind="npu")):
            assert da.processors() == npu
        with da.options(result_scope=da.scope(kind="npu")):
            assert da.processors() == npu


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("index", [0, 1])
def test_task_runs_in_its_scope(index):
    scoped = da.spawn.options(scope=da.scope(thread=index))
    tasks = [scoped(lambda: da.current_task().processor.index) for _ in range(50)]
    assert set(da.fetch(tasks)) == {index}


@pytest.mark.usefixtures("threads")
def test_contextual_scope_reaches_nested_tasks():
    def here():
        return da.current_task().processor.index

    with da.options(scope=da.scope(thread=1)):
        inner = da.spawn(lambda: da.fetch([da.spawn(here) for _ in range(10)]))
    assert set(inner.result()) == {1}


@pytest.mark.usefixtures("threads")
def test_pinned_tasks_leave_the_other_thread_free():
    gate = threading.Event()
    first = da.scope(worker=0, thread=0)
    held = da.spawn.options(scope=first)(gate.wait)
    queued = [da.spawn.options(scope=first)(int, i) for i in range(5)]
    assert da.spawn.options(scope=da.scope(thread=1))(int, 3).result(timeout=60) == 3
    assert da.spawn(int, 4).result(timeout=60) == 4
    assert not any(task.done() for task in queued)
    gate.set()
    assert da.fetch([held, queued]) == [True, [0, 1, 2, 3, 4]]


@pytest.mark.usefixtures("engine")
def test_scope_without_processor_fails_the_task_and_its_dependents():
    """Behaviour 38."""
    nowhere = da.spawn.options(scope=da.scope(worker=9), name="far")(int)
    after = da.spawn(abs, nowhere)
    for task in (nowhere, after):
        with pytest.raises(
            da.SchedulingError, match=r"'far'.*scope\(worker=9\).*Processor\(.*try a wider scope"
        ):
            task.result(timeout=60)
