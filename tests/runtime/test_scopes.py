"""Scopes: the algebra of sets of processors, and where tasks run."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray.runtime as da
from darray.runtime.processor import Processor

PROCESSORS = [
    Processor(worker, kind, index)
    for worker in range(4)
    for kind in ("cpu", "cuda")
    for index in range(4)
]
NUMBERS = st.none() | st.frozensets(st.integers(0, 4), min_size=1)


@st.composite
def simple(draw):
    return da.scope(workers=draw(NUMBERS), threads=draw(NUMBERS))


SCOPES = st.recursive(
    simple(),
    lambda inner: (
        st.builds(lambda a, b: a | b, inner, inner) | st.builds(lambda a, b: a & b, inner, inner)
    ),
    max_leaves=5,
)


def members(scope):
    return {one for one in PROCESSORS if one in scope}


@given(SCOPES, SCOPES)
def test_operators_are_those_of_sets(a, b):
    assert members(a & b) == members(a) & members(b)
    assert members(a | b) == members(a) | members(b)
    if a <= b:
        assert members(a) <= members(b)


@given(SCOPES, SCOPES, SCOPES)
def test_laws_of_sets_hold_by_comparison(a, b, c):
    def same(x, y):
        return x <= y and y <= x

    assert same(a & b, b & a)
    assert same(a | b, b | a)
    assert same(a & (b | c), (a & b) | (a & c))
    assert same(a | (a & b), a)
    assert a & b <= a <= a | b
    assert a <= da.ANY
    assert (a <= b) == same(a & b, a)


@given(SCOPES)
def test_empty_scope_has_no_member(a):
    assert not (a.is_empty and members(a))
    assert eval(repr(a), {"scope": da.scope, "nothing": None}) == a if not a.is_empty else True


def test_scope_refuses_what_makes_no_sense():
    with pytest.raises(TypeError, match="worker= or workers="):
        da.scope(worker=1, workers=[2])
    with pytest.raises(ValueError, match="allows no processor"):
        da.scope(threads=[])
    with pytest.raises(ValueError, match="count from 0"):
        da.scope(thread=-1)
    with pytest.raises(ValueError, match="count from 0"):
        da.scope(thread=True)
    with pytest.raises(TypeError):
        da.scope(thread=0) & 3
    assert repr(da.scope(thread=0) & da.scope(thread=1)) == "scope(nothing)"


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
    nowhere = da.spawn.options(scope=da.scope(worker=9), name="far")(int)
    after = da.spawn(abs, nowhere)
    for task in (nowhere, after):
        with pytest.raises(da.SchedulingError, match=r"'far'.*scope\(worker=9\).*Processor\("):
            task.result(timeout=60)
