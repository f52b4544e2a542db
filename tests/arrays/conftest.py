"""Engines for the tests of arrays: every property holds on both."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

import darray as da
from darray.kernels import costs, selection
from darray.runtime import engine as engines
from darray.runtime import settings


def _using(**changes):
    before = settings.current()
    da.configure(**changes)
    # Limits are tested to the byte, whatever earlier tests have left alive.
    engines._former = None
    yield
    engines.close()
    settings._current = before


@pytest.fixture(scope="module", params=["serial", "threads"])
def engine(request):
    """Both engines, that of threads with two; once a module, as Hypothesis wants it."""
    yield from _using(engine=request.param, threads=2)


@pytest.fixture
def serial():
    yield from _using(engine="serial")


@pytest.fixture
def threads():
    yield from _using(engine="threads", threads=2)


@pytest.fixture
def compiled_at_once(monkeypatch, tmp_path):
    """Whatever could be compiled is, at once, and none of it is there before."""
    before = settings.current()
    da.configure(jit=True, cache_folder=str(tmp_path))
    monkeypatch.setattr(selection, "_structures", {})
    monkeypatch.setattr(selection, "IMPORTING", 0.0)
    monkeypatch.setattr(costs, "_known", replace(costs.TYPICAL, compiling=0.0, fetching=0.0))
    monkeypatch.setattr(costs, "_is_measured", True)
    yield
    selection.wait()
    da.configure(jit=before.jit, cache_folder=before.cache_folder)
