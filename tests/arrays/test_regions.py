"""DArrays and their chunks in regions."""

from __future__ import annotations

import numpy as np
import pytest

import darray as da

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.parametrize("access", [lambda x: x, da.In, da.InOut, da.Out])
def test_a_whole_array_is_refused_in_a_region(access):
    x = da.ones((4, 4), blocks=2)
    with da.spawn_datadeps(), pytest.raises(TypeError, match=r"A\.blocks\[i, j\]"):
        da.spawn(np.sum, access(x))


def test_chunks_are_read_in_a_region():
    x = da.distribute(np.arange(16.0).reshape(4, 4), 2)
    total = np.zeros(1)

    def add(array, chunk):
        array += chunk.sum()

    with da.spawn_datadeps():
        for i in range(2):
            for j in range(2):
                da.spawn(add, da.Accumulate(total), x.blocks[i, j])
    assert total[0] == x.sum()


def test_chunks_are_not_written_in_a_region():
    x = da.distribute(np.arange(4.0), 2)
    with da.spawn_datadeps(), pytest.raises(TypeError, match=r"x\[key\] = value"):
        da.spawn(np.ndarray.fill, da.InOut(x.blocks[0]), 1)
    assert x.collect().tolist() == [0, 1, 2, 3]
