"""Memory written over while it can be seen by nobody else, and never otherwise."""

from __future__ import annotations

import numpy as np
import pytest

import darray as da
from darray.kernels import cpu
from darray.lowering.assigning import AssignPart
from darray.lowering.planning import Planner
from tests.arrays.agreement import same_arrays

pytestmark = pytest.mark.usefixtures("engine")

PROGRAMS = {
    "a chain": lambda x: np.sqrt(x * x + 1) * 2 - x / 3,
    "read twice": lambda x: (x + 1) * (x + 1) - (x * 2),
    "used again later": lambda x: (y := x + 1) * 2 + y,
    "broadcast": lambda x: (x[:1] + 1) * x,
    "broadcast the other way": lambda x: (x * 2 + 1) * (x[:, :1] - 1),
    "another dtype": lambda x: ((x + 1).astype("f4") + 1).astype("f8") * 2,
    "the same dtype": lambda x: x.astype("f8") + 1,
    "comparison": lambda x: (x * 2 > 3) & (x + 1 < 9),
    "where": lambda x: np.where(x * 2 > 3, x * 3, x - 1) + 1,
    "two outputs": lambda x: np.divmod(x * 3, 2)[1] - 1,
    "a mask": lambda x: np.add(x * 2, 1, where=x + 1 > 3, out=x * 5) * 2,
    "transposed": lambda x: (x[:4, :4] * 2).T + x[:4, :4] * 3,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_temporaries_are_written_over_only_when_read(monkeypatch, name):
    monkeypatch.setattr(cpu, "WORTH_REUSE", 0)
    array = np.arange(24.0).reshape(4, 6)
    x = da.distribute(array, da.Blocks(2, 4))
    assert same_arrays(PROGRAMS[name](x).collect(), PROGRAMS[name](array))
    assert same_arrays(x.collect(), np.arange(24.0).reshape(4, 6))


def reused(*arrays):
    """Which writes of a computation of `arrays` go into the memory of the chunk before."""
    planner = Planner()
    for array in arrays:
        planner.fill(array.expression, np.empty(array.shape, array.dtype))
    calls = [draft.call for draft in planner.run().drafts()]
    return [call.reused is not None for call in calls if isinstance(call, AssignPart)]


def test_writes_go_into_the_memory_that_an_earlier_one_made():
    x = da.zeros(10, blocks=10).persist()
    for i in range(4):
        x[i] = i
    assert reused(x) == [False, True, True, True]
    assert x.collect().tolist() == [0, 1, 2, 3] + [0] * 6


def test_not_where_the_value_before_is_wanted():
    x = da.zeros(10, blocks=10).persist()
    x[0] = 1
    before = x.copy()
    x[1] = x[0] + 1
    x[2:4] = x[0:2]
    assert reused(x, before) == [False, False, True]
    now, then = da.compute(x, before)
    assert now.tolist() == [1, 2, 1, 2] + [0] * 6
    assert then.tolist() == [1] + [0] * 9


def test_not_where_the_chunks_stay():
    x = da.zeros(10, blocks=10)
    x[0] = 1
    before = x.copy().persist()
    x[1] = 2
    x.persist()
    assert x.collect().tolist() == [1, 2] + [0] * 8
    assert before.collect().tolist() == [1] + [0] * 9
