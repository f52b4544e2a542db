"""Ways to run a computation, and every method that draws."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

import darray as da
from darray.runtime import engine as engines
from darray.runtime import settings


@contextmanager
def running(**changes):
    """Run on an engine of the given settings, and go back to the one before."""
    before = settings.current()
    engines.close()
    da.configure(**changes)
    try:
        yield
    finally:
        engines.close()
        settings._current = before


@pytest.fixture(autouse=True)
def serial():
    with running(engine="serial"):
        yield
