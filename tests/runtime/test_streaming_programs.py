"""Random streaming programs against the same programs with lists."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import darray.runtime as da
from tests.runtime.stream_programs import (
    Boom,
    Running,
    cancelled_meanwhile,
    compare,
    programs,
    taken,
)

# The engine is that of the test, for all examples: they leave nothing in it, which they check.
once = settings(
    max_examples=settings().max_examples * 3 // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def finished(running, engine, canceller=None):
    """Wait for the program, and check that it left nothing; the values of its output."""
    values = error = None
    if running.program.output is not None:
        values, error = taken(running.output)
    # What each task ended with is looked at afterwards.
    with suppress(Boom, da.CancelledError):
        assert running.region.wait(60), running.region.tasks
    if canceller is not None:
        canceller.join()
    running.check_engine(engine)
    return values, error


@once
@given(programs(may_fail=False))
def test_programs_give_what_lists_give(engine, program):
    running = Running(program)
    values, error = finished(running, engine)
    assert error is None
    if values is not None:
        compare(program.nodes[program.output], values)
    for place, notes in running.notes.items():
        compare(program.nodes[place], notes)
    for node, task in zip(program.nodes, running.tasks, strict=True):
        assert task.result() in node.results


@once
@given(st.data())
def test_programs_that_fail(engine, data):
    program = data.draw(programs(workers=len(da.workers())))
    running = Running(program)
    values, error = finished(running, engine)
    if values is not None:
        node = program.nodes[program.output]
        compare(node, values)
        if node.fails != "maybe":
            assert (error is None) == (node.fails == "never")
    for place, notes in running.notes.items():
        node = program.nodes[place]
        # A sink that is one stage further may miss what came just before the failure.
        node.exact = node.exact and node.fails == "never"
        compare(node, notes)
    for node, task in zip(program.nodes, running.tasks, strict=True):
        assert node.fails != "surely" or isinstance(task.exception(), Boom)
        assert node.fails != "never" or task.exception() is None
        if task.exception() is None:
            assert task.result() in node.results


@once
@given(st.data())
def test_programs_that_are_cancelled(threads, data):
    program = data.draw(programs(workers=len(da.workers())))
    place = data.draw(st.one_of(st.none(), st.integers(0, len(program.nodes) - 1)))
    running = Running(program)
    thread = cancelled_meanwhile(running, place)
    values, _ = finished(running, threads, thread)
    for node in program.nodes:
        node.exact = False
    if values is not None:
        compare(program.nodes[program.output], values)
    for place, notes in running.notes.items():
        compare(program.nodes[place], notes)
    for task in running.tasks:
        assert task.exception() is None or isinstance(task.exception(), Boom | da.CancelledError)
