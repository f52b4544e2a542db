"""Arrays that statements change are computed once, with what shares their steps."""

from __future__ import annotations

import numpy as np
import pytest

import darray as da
from darray.expr.assignment import Assign
from darray.lowering import advancing
from darray.runtime import engine as engines
from darray.runtime import settings
from tests.arrays.agreement import same_arrays
from tests.arrays.test_long_programs import tasks_of

pytestmark = pytest.mark.usefixtures("engine")


def noted():
    """A function of blocks, and the list of how many elements it was called with each time."""
    calls = []

    def note(block):
        calls.append(block.size)
        return block

    return note, calls


def test_a_loop_that_asks_for_a_number_in_each_round_computes_each_round_once():
    x, y = da.arange(1000, blocks=500) * 1.0, da.ones(1000, blocks=500)
    note, calls = noted()
    number = 1.0
    for _ in range(40):
        change = (x * 0.5).map_blocks(note)
        x -= change * number
        y *= 1 + x / 1000
        y[1:] += y[:-1] * 0.5
        number = 1 / (1 + float(y.max()) % 1)
        assert max(x.expression.depth, y.expression.depth) <= 1
    assert len(calls) == 2 * 40

    plain_x, plain_y, number = np.arange(1000) * 1.0, np.ones(1000), 1.0
    for _ in range(40):
        plain_x -= plain_x * 0.5 * number
        plain_y *= 1 + plain_x / 1000
        plain_y[1:] += plain_y[:-1] * 0.5
        number = 1 / (1 + plain_y.max() % 1)
    assert same_arrays(y.collect(), plain_y)


def test_arrays_computed_together_read_each_other():
    calls = []

    def counted(value):
        calls.append(value)
        return value + 1

    x, y = da.zeros(10, blocks=5), da.zeros(10, blocks=5)
    for number in range(1, 4):
        x[...] = np.frompyfunc(counted, 1, 1)(x).astype(float)
        y += x
        y *= np.max(x)
        assert float(y.sum()) > 0
        assert len(calls) == 10 * number


def test_tasks_of_rounds_do_not_grow():
    x = da.zeros((60, 40), blocks=(20, 40))
    inner = x[1:-1, 1:-1]

    def rounds():
        for _ in range(10):
            inner[...] = 0.5 * (x[:-2, 1:-1] + x[2:, 1:-1]) + 1
            float(np.max(inner))

    first, later = tasks_of(rounds), tasks_of(rounds)
    assert first - 5 <= later <= first + 5


def test_steps_that_read_an_array_in_several_places_are_computed_once():
    x = da.arange(1000, blocks=500) * 1.0
    inner, left, right = x[1:-1], x[:-2], x[2:]

    def spread():
        for _ in range(200):
            inner[...] = inner + 0.25 * (left - inner) + 0.25 * (right - inner)
        assert float(x[500]) == 500

    assert tasks_of(spread) <= 2 * 200 * 1.1


def test_arrays_that_share_nothing_are_left_alone():
    note, calls = noted()
    source = da.ones(10, blocks=5)
    x, y, z = source.copy(), source.copy(), source.map_blocks(note)
    x += 1
    y *= z
    assert float(x.sum()) == 20
    assert calls == []
    assert float(y.sum()) == 10
    assert calls == [5, 5]


def test_a_small_part_is_computed_alone():
    note, calls = noted()
    x = da.zeros(100, blocks=10).map_blocks(note)
    x += 1
    assert float(x[33]) == 1
    assert float(x[30:60].sum()) == 30
    assert calls == [10] * 4
    assert float(x[1:].sum()) == 99
    assert len(calls) == 14


def test_a_failure_is_told_where_it_matters():
    def fail(block):
        raise KeyError("lost")

    shared = da.ones(10, blocks=5) * 2
    x, y = da.zeros(10, blocks=5), da.zeros(10, blocks=5)
    x += shared
    y += shared.map_blocks(fail) * shared
    assert float(x.sum()) == 20
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            y.sum().collect()
    assert float(x.sum()) == 20


def test_warnings_come_once_with_what_was_started():
    x, y = da.zeros(10, blocks=5), da.ones(10, blocks=5)
    shared = y * 2
    x /= shared * 0
    y += shared
    with pytest.warns(RuntimeWarning, match="invalid value") as told:
        assert float(y.sum()) == 30
    assert len(told) == 1
    assert np.isnan(x.collect()).all()


def test_errors_that_are_to_be_raised_come_with_their_array():
    x, y = da.zeros(10, blocks=5), da.ones(10, blocks=5)
    shared = y * 2
    with np.errstate(invalid="raise"):
        x /= shared * 0
    y += shared
    assert float(y.sum()) == 30
    with pytest.raises(FloatingPointError, match="invalid value"):
        x.collect()


def test_what_is_collected_again_and_again_is_computed_once():
    note, calls = noted()
    x = da.zeros(10, blocks=5)
    for frame in range(10):
        x += da.ones(10, blocks=5).map_blocks(note) / 2
        assert x.collect().tolist() == [(frame + 1) / 2] * 10
    assert len(calls) == 2 * 10

    y = da.zeros(10, blocks=5)
    y[2:] += 1
    y.collect()
    # Once may be the only time.
    assert y.expression.kept is None
    y += 1
    y.collect()
    assert y.expression.kept is not None


def test_an_element_changed_in_place_is_written_once():
    x = da.zeros(10, blocks=5)
    x[2:4] += 1
    x[...] -= 1
    written = x.expression
    assert x.collect().tolist() == [-1, -1, 0, 0, -1, -1, -1, -1, -1, -1]
    count = 0
    while written.operands:
        count += isinstance(written, Assign)
        written = written.operands[0]
    assert count == 1
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        x[...] = x[...]


def test_depth_is_measured_from_what_is_computed():
    x = da.ones(10, blocks=5)
    total = x.sum()
    for _ in range(5):
        total = (x * total).sum()
    deep = total + 1
    float(total)
    assert deep.expression.depth > 80
    advancing.measure_depth(deep.expression)
    assert deep.expression.depth == 2


@pytest.fixture
def little_memory():
    before = settings.current()
    da.configure(memory_limit="400MB")
    yield
    engines.close()
    settings._current = before


def test_what_is_kept_unasked_leaves_room_to_compute(little_memory):
    x = da.ones(5_000_000, blocks=500_000)
    results = [x.map_blocks(np.negative) * k for k in range(12)]  # 40 MB each
    for k, result in enumerate(results):
        assert float(result.sum()) == -5e6 * k
    changed = [x.copy() for _ in range(12)]
    for one in changed:
        one += results[0]
    for one in changed:
        assert float(one.sum()) == 5e6
