"""What compiling costs and saves on this machine: measured once, kept in the cache folder."""

from __future__ import annotations

import json
import math
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from msgspec import Struct, structs

from darray.kernels import loop_compiler
from darray.kernels.loop_source import Loop, Step, source

__all__ = ["TYPICAL", "Costs", "are_known", "current", "find_out"]

# Elements of the arrays with which is measured: they stay in a core's cache, as tiles do.
SIZE = 2**15
REPEATS = 9

# How far what is measured may be from what is typical, so that a machine that stood still for a
# while does not keep itself from compiling, or have it compile everything, from then on.
FARTHEST = 10.0


class Costs(Struct, frozen=True):
    """Seconds by which kernels are chosen.

    Attributes
    ----------
    saved : float
        What a loop saves per element of 8 bytes for each call but one, against NumPy in tiles.
    compiling : float
        What it takes to compile a loop and to check it.
    fetching : float
        What it takes to fetch one from the cache folder and to check it.
    """

    saved: float
    compiling: float
    fetching: float


# Those of machines that were at hand; `saved` was between 0.25 and 0.9 ns there.
TYPICAL = Costs(0.3e-9, 0.1, 0.01)

# Guards the next two; held while a file of a few bytes is read, and nothing else is taken then.
_lock = threading.Lock()
_known: Costs | None = None
# Whether this process measured, or could not: it does so once.
_is_measured = False


def current() -> Costs:
    """The costs on this machine as far as they are known, else `TYPICAL`.

    Examples
    --------
    >>> current().compiling > current().fetching
    True
    """
    global _known
    with _lock:
        if _known is None:
            _known = _kept() or TYPICAL
        return _known


def are_known() -> bool:
    """Whether there is nothing to measure: it was done, or nothing could be kept of it."""
    found = current()
    with _lock:
        return found is not TYPICAL or _is_measured or _file() is None


def find_out() -> None:
    """Measure what is not known of this machine yet, and keep it; takes some 0.2 s of one core.

    Programs that are met from then on, in this process and in later ones, are chosen for by it.

    Raises
    ------
    ImportError
        Without llvmlite.
    RuntimeError
        When LLVM refuses, or what it makes does not do on this machine what NumPy does.
    """
    global _known, _is_measured
    with _lock:
        _is_measured = True
    measured = _within_reason(_measure())
    file = _file()
    if file is not None:
        loop_compiler.write_kept(file, json.dumps(structs.asdict(measured)).encode())
    with _lock:
        _known = measured


def _file() -> Path | None:
    """Where costs are kept: a file for each machine and NumPy, as homes may be shared."""
    folder = loop_compiler.cache_folder()
    if folder is None:
        return None
    about = (platform.node(), platform.machine(), str(os.cpu_count()), np.__version__)
    return folder.parent / f"costs-{'-'.join(about)}"


def _kept() -> Costs | None:
    """What was measured before on this machine; None where nothing whole is kept of it."""
    file = _file()
    content = None if file is None else loop_compiler.read_kept(file)
    if content is None:
        return None
    kept = json.loads(content)
    if not isinstance(kept, dict) or set(kept) != set(Costs.__struct_fields__):
        # Another version measured other things.
        return None
    return _within_reason(Costs(**{name: float(value) for name, value in kept.items()}))


def _within_reason(costs: Costs) -> Costs:
    bounded = {
        name: min(max(value, typical / FARTHEST), typical * FARTHEST)
        for (name, value), typical in zip(
            structs.asdict(costs).items(), structs.astuple(TYPICAL), strict=True
        )
    }
    return Costs(**bounded)


def _reference() -> Loop:
    """``(a * b + c) * a - b`` of float64."""
    double = np.dtype(float)
    calls = [
        (np.multiply, (0, 1)),
        (np.add, (~0, 2)),
        (np.multiply, (~1, 0)),
        (np.subtract, (~2, 1)),
    ]
    steps = [Step(function, places, (double, double), double) for function, places in calls]
    return Loop((double,) * 3, frozenset(), tuple(steps))


def _measure() -> Costs:
    """Compile the loop of `_reference`, fetch it, and run it in turn with NumPy's calls."""
    loop = _reference()
    text = source(loop)
    began = perf_counter()
    code = loop_compiler.compiled(text)
    compiling = perf_counter() - began
    began = perf_counter()
    ufunc = loop_compiler.fetched(code, loop)
    fetching = perf_counter() - began
    a, b, c = np.random.default_rng(0).random((3, SIZE))
    out, between = np.empty((2, SIZE))

    def by_calls() -> None:
        np.multiply(a, b, out=between)
        np.add(between, c, out=between)
        np.multiply(between, a, out=between)
        np.subtract(between, b, out=out)

    def by_loop() -> None:
        ufunc(a, b, c, out=out)

    calls, compiled = _least((by_calls, by_loop))
    saved = (calls - compiled) / (SIZE * (len(loop.steps) - 1))
    return Costs(saved, compiling + fetching, fetching)


def _least(runs: tuple[Callable[[], None], ...]) -> list[float]:
    """The least seconds that each takes, run in turn."""
    least = [math.inf] * len(runs)
    for _ in range(REPEATS):
        for place, run in enumerate(runs):
            began = perf_counter()
            run()
            least[place] = min(least[place], perf_counter() - began)
    return least


def _after_fork() -> None:
    """Take the lock from a thread that this process, the child of a fork, does not have."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
