"""Engines for the tests of the runtime."""

from __future__ import annotations

import pytest

import darray.runtime as da
import tests.runtime.shared  # noqa: F401 - lets tasks on several workers signal one another
from darray.runtime import engine as engines
from darray.runtime import kinds, scope_keys, settings
from darray.runtime.devices import host_buffers
from darray.runtime.devices.host_buffers import Pool


@pytest.fixture(autouse=True)
def same_settings_afterwards():
    before = settings.current()
    # Limits are tested to the byte, whatever earlier tests have left alive.
    engines.close()
    engines._former = None
    yield
    # What a test that failed left behind would never end.
    da.cancel_all()
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


# The engines that every test of the runtime runs on: a name, and threads and workers.
ENGINES = {
    "serial": {"engine": "serial"},
    "threads": {"engine": "threads", "threads": 2},
    "2 workers": {"engine": "workers", "threads": 2, "workers": 2},
    "3 workers": {"engine": "workers", "threads": 2, "workers": 3},
}


@pytest.fixture(params=ENGINES)
def engine(request):
    """Every engine."""
    da.configure(**ENGINES[request.param])
    return engines.current_engine()


@pytest.fixture(params=[name for name in ENGINES if name != "serial"])
def threads(request):
    """Every engine on which two tasks run at once."""
    da.configure(**ENGINES[request.param])
    return engines.current_engine()


@pytest.fixture(params=["2 workers", "3 workers"])
def workers(request):
    """The engine of several workers."""
    da.configure(**ENGINES[request.param])
    return engines.current_engine()


@pytest.fixture(params=["serial", "threads"])
def one_worker(request):
    """The engines of one worker, for what is said of its processors."""
    da.configure(**ENGINES[request.param])
    return engines.current_engine()


@pytest.fixture
def two_threads():
    """The engine of threads alone, for what it costs and for what is its own."""
    da.configure(**ENGINES["threads"])
    return engines.current_engine()


@pytest.fixture
def one_thread():
    """The engine of threads, with one."""
    da.configure(engine="threads", threads=1)
    return engines.current_engine()


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own for `empty`, which keeps up to 64 MiB."""
    pool = Pool(lambda: 2**26, idle=3600)
    monkeypatch.setattr(host_buffers, "POOL", pool)
    yield pool
    pool._check()
    pool.close()
