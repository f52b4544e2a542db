"""Elements picked and put on devices in each way there is, and calls that few plans have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import darray as da
from darray.lowering import device_plans, gathering
from darray.lowering.device_calls import WAYS
from darray.testing.strategies import advanced_indices
from tests.arrays.agreement import same_arrays
from tests.arrays.devices import moves, on_devices
from tests.arrays.drawing import pairs
from tests.arrays.test_gathers import way  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("engine", "device")

A = np.random.default_rng(2).standard_normal((24, 30))


@pytest.fixture(scope="module")
def device(engine):
    """Everything is computed on two devices."""
    with on_devices(2):
        yield


@pytest.fixture
def made(monkeypatch):
    """The classes of the calls that devices made."""
    classes = set()
    call = device_plans.OnDevice.__call__

    def noted(self, *values):
        classes.add(type(self.call).__name__)
        return call(self, *values)

    monkeypatch.setattr(device_plans.OnDevice, "__call__", noted)
    return classes


def test_every_way_to_gather(way, made):  # noqa: F811
    @given(st.data(), pairs(dtype="i4"))
    @settings(max_examples=40, deadline=None)
    def run(data, pair):
        lazy, plain = pair
        lazy, plain = (lazy + lazy).copy(), np.asarray(plain + plain)
        key = data.draw(advanced_indices(plain.shape))
        try:
            expected = np.array(plain[key])
        except IndexError:
            return
        assert same_arrays(lazy[key].collect(), expected)
        lazy[key] = expected[..., ::-1] if expected.ndim else expected
        places = np.arange(plain.size).reshape(plain.shape)[key]
        plain.reshape(-1)[places.reshape(-1)] = expected[..., ::-1].reshape(-1)
        assert same_arrays(lazy.collect(), plain)

    with np.errstate(all="ignore"):
        run()
    expected = {
        "gather": {"Fetch"},
        "gather: assemble": {"FillPart", "JoinParts", "Take"},
        "gather: send": {"SortPositions", "Send", "Receive"},
    }
    assert expected[way] <= made


def test_exchanges_in_rounds(monkeypatch, made):
    # Room for so few elements that there are several rounds.
    for name, value in {"FEW": 0, "SPARSE": 2**60, "SHARE": 2**60}.items():
        monkeypatch.setattr(gathering, name, value)
    plain = np.arange(200_000.0)
    x = da.distribute(plain, da.Blocks(10_000)) + 1
    order = np.random.default_rng(0).permutation(len(plain))
    with moves() as moved:
        found = x[order].collect()
    assert same_arrays(found, plain[order] + 1)
    assert sum(moved.home) == found.nbytes
    assert {"After", "Done"} <= made


def test_masks_put_and_picked(made):
    x, plain = da.distribute(A, da.Blocks(7, 8)).copy(), A.copy()
    mask = plain > 0.3
    x[x > 0.3] = (x[x > 0.3] * 2)[::-1]
    plain[mask] = (plain[mask] * 2)[::-1]
    rows = A[:, 2] > 0
    x[rows], plain[rows] = 5, 5
    assert same_arrays(x.collect(), plain)
    assert same_arrays(x[:, A[1] > 0].collect(), plain[:, A[1] > 0])
    assert {"DepositChunk", "ExtractChunk", "MapBlock"} <= made


def test_chunks_that_no_write_touches(made):
    x, plain = da.distribute(A, da.Blocks(7, 8)), A.copy()
    for lazy in (x.copy(), (x * 1).persist()):
        lazy[:3, 5] = 9
        plain[:3, 5] = 9
        assert same_arrays(lazy.persist().collect(), plain)
    assert {"AssignPart", "Unchanged"} <= made


def test_products_of_several_chains(made):
    a = np.random.default_rng(0).integers(-5, 5, (3, 2_000_000)).astype(float)
    x = da.distribute(a, da.Blocks(3, 100_000))
    with moves() as moved:
        found = (x @ x.T).collect()
    assert same_arrays(found, a @ a.T)
    assert moved.home == [found.nbytes]
    assert {"AddProducts", "JoinSums"} <= made


def test_stores_in_another_cut(tmp_path, made):
    pytest.importorskip("zarr")
    x = da.distribute(A, da.Blocks(1, 30)) + 1
    da.to_zarr(x, tmp_path / "a.zarr", chunks=(24, 10))
    again = da.from_zarr(tmp_path / "a.zarr")
    assert same_arrays((again.rechunk(5) - 1).collect(), A + 1 - 1)
    assert "Write" in made


def test_every_call_is_known_by_its_class():
    assert all(isinstance(one, type) and callable(code) for one, code in WAYS.items())
