"""Engines for the tests of the runtime."""

from __future__ import annotations

import pytest

import darray.runtime as da
from darray.runtime import engine as engines
from darray.runtime import kinds, scope_keys, settings


@pytest.fixture(autouse=True)
def same_settings_afterwards():
    before = settings.current()
    yield
    engines.close()
    settings._current = before


@pytest.fixture
def nothing_registered_afterwards():
    """Kinds of processors, scope keys and tags that a test registers are gone after it."""
    yield
    for kind in list(kinds._kinds):
        da.register_kind(kind, None)
    for key in scope_keys.registered_keys():
        da.register_scope_key(key, None)
    for tag in list(scope_keys._tags):
        da.register_tag(tag, None)


@pytest.fixture(params=["serial", "threads"])
def engine(request):
    """Both engines, that of threads with two."""
    da.configure(engine=request.param, threads=2)
    return engines.current_engine()


@pytest.fixture
def threads():
    """The engine of threads, with two."""
    da.configure(engine="threads", threads=2)
    return engines.current_engine()


@pytest.fixture
def one_thread():
    """The engine of threads, with one."""
    da.configure(engine="threads", threads=1)
    return engines.current_engine()
