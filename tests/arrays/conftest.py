"""Engines for the tests of arrays: every property holds on both."""

from __future__ import annotations

import pytest

import darray as da
from darray.runtime import engine as engines
from darray.runtime import settings


def _using(**changes):
    before = settings.current()
    da.configure(**changes)
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
