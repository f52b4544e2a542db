"""Streaming blocks beside the other blocks of spawns."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import darray.runtime as da

pytestmark = pytest.mark.usefixtures("engine")


def test_a_datadeps_block_inside_is_refused():
    with pytest.raises(RuntimeError, match="run over and over"):
        da.spawn_streaming(da.spawn_datadeps().__enter__)


def test_a_datadeps_block_inside_a_call():
    def doubled(x):
        values = np.array([float(x)])
        with da.spawn_datadeps():
            da.spawn(np.multiply, values, 2, da.Out(values))
        return float(values[0])

    with da.spawn_streaming() as s:
        out = s.output(da.spawn(doubled, da.spawn(iter(range(3)))))
    assert list(out) == [0.0, 2.0, 4.0]


def test_a_streaming_block_inside_a_datadeps_block():
    values = np.zeros(3)
    with da.spawn_datadeps():
        da.spawn(np.add, values, 1, da.Out(values))
        with da.spawn_streaming() as s:
            out = s.output(da.spawn(lambda x: x + 1, da.spawn(iter(range(3)))))
    assert list(out) == [1, 2, 3]
    assert values.tolist() == [1, 1, 1]


def test_a_sync_block_waits_for_the_tasks():
    seen = []
    with da.sync(), da.spawn_streaming():
        da.spawn(lambda x: seen.append(x), da.spawn(iter(range(100))))
    assert seen == list(range(100))


def test_nothing_that_was_given_is_kept_when_it_has_ended():
    class Given:
        pass

    given = Given()
    watched = weakref.ref(given)
    with da.spawn_streaming() as s:
        task = da.spawn.options(scope=da.scope(worker=0))(
            lambda x, _: x, da.spawn(iter(range(3))), given
        )
    s.wait()
    del given
    gc.collect()
    assert watched() is None
    assert task.result() is None
    assert len(s.statistics().edges) == 1
