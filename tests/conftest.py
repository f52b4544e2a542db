"""Hypothesis profiles, and the check that no module was loaded twice."""

from __future__ import annotations

import os
import sys

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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Fail the run when a module of the package was also loaded under its folder's bare name."""
    doubles = [name for name in sys.modules if name.split(".")[0] == "runtime" or name[:3] == "io."]
    if doubles:
        raise pytest.UsageError(f"loaded a second time under a bare name: {sorted(doubles)}")
