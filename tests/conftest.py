"""Hypothesis profiles, tests that run alone, and the check that no module was loaded twice."""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A time limit for one example measures the machine's load, not the package, and pytest's
# faulthandler_timeout already ends what hangs.  Failures must be the same on every machine.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", settings.get_profile("ci"), derandomize=False, max_examples=2000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Nothing is left in the user's folders, nor found there.
os.environ.setdefault("DARRAY_CACHE_FOLDER", "none")

# ------------------------------------------------------------------ tests that run alone
# `pytest -n 2` runs tests in two processes.  Every test holds the room, byte 1 of a file, locked
# while it runs: a test marked `alone` for itself, others together.  Who wants the room passes the
# gate, byte 0, one at a time, and keeps it until he is in: nobody goes past one who waits.

_GATE, _ROOM = 0, 1
_TURNS = pytest.StashKey[Any]()


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_configure(config: pytest.Config) -> None:
    """Open the file of locks where this is one of several processes."""
    if hasattr(config, "workerinput"):
        file = config.rootpath / "build" / "turns"
        file.parent.mkdir(exist_ok=True)
        config.stash[_TURNS] = file.open("w+")
        config.add_cleanup(config.stash[_TURNS].close)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that run alone last: others wait for them, and the less the fewer are left."""
    items.sort(key=_is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait until nothing runs that `item` must not run beside.

    Outside pytest's own wrapper, so that faulthandler_timeout does not count the wait.
    """
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    fcntl.lockf(turns, fcntl.LOCK_EX, 1, _GATE)
    fcntl.lockf(turns, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH, 1, _ROOM)
    fcntl.lockf(turns, fcntl.LOCK_UN, 1, _GATE)
    try:
        return (yield)
    finally:
        fcntl.lockf(turns, fcntl.LOCK_UN, 1, _ROOM)


# ------------------------------------------------------------------ what stays out of collections
# What was imported and collected lives to the end: 350,000 objects when all tests are run, which
# take half a second each time Python looks for garbage among them. It does so every few seconds,
# and whenever a task is about to fail for want of memory.


def pytest_collection_finish() -> None:
    """Keep what is there before the first test out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


# ------------------------------------------------------------------ modules loaded twice

_DOUBLES = pytest.StashKey[set[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of several processes has found; one that crashed has found nothing."""
    found = getattr(node, "workeroutput", {}).get("doubles", [])
    node.config.stash.setdefault(_DOUBLES, set()).update(found)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a module of the package was also loaded under its folder's bare name."""
    doubles = {name for name in sys.modules if name.split(".")[0] == "runtime" or name[:3] == "io."}
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["doubles"] = sorted(doubles)
        return
    doubles |= session.config.stash.get(_DOUBLES, set())
    if doubles:
        raise pytest.UsageError(f"loaded a second time under a bare name: {sorted(doubles)}")
