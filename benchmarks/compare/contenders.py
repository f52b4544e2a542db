"""The contenders: which are installed, and the configurations in which each one runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import darray as da
from benchmarks.compare.turns import Contender
from darray.runtime.settings import Settings

Arrays = Sequence[NDArray[Any]]
Formula = Callable[..., Any]

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DASK_CHUNK_BYTES = (2_000_000, 8_000_000, 16_000_000, 64_000_000)

# What other libraries' own functions, and another order of additions, may differ from NumPy.
ROUNDING = 1e-11


@cache
def missing() -> tuple[str, ...]:
    """The contenders that are not installed, or that this darray has no setting for."""
    found = [name for name in ("dask", "numba", "numexpr") if find_spec(name) is None]
    if "jit" not in Settings.__struct_fields__:
        found.append("darray without compiled kernels, which has no setting")
    return tuple(found)


def shared(arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    """`arrays`, which nobody writes to from now on, so that darray reads the same memory as NumPy.

    Where all is to stay in a cache, copies would push each other out of it.
    """
    for one in arrays:
        one.flags.writeable = False
    return arrays


def by_numpy(formula: Formula, arrays: Arrays) -> list[Contender]:
    return [Contender("NumPy", lambda: formula(*arrays))]


def by_numexpr(
    ways: Sequence[tuple[str, Callable[[Any, Arrays], Any]]], arrays: Arrays, error: float
) -> list[Contender]:
    """numexpr, which darray does not need; each way is called with it and the arrays."""
    if find_spec("numexpr") is None:
        return []
    import numexpr

    numexpr.set_num_threads(THREADS)

    def call(way: Callable[[Any, Arrays], Any]) -> Callable[[], Any]:
        return lambda: way(numexpr, arrays)

    return [Contender("numexpr", call(way), label, error) for label, way in ways]


def row_blocks(shape: tuple[int, ...], itemsize: int, nbytes: int) -> tuple[int, ...]:
    """Chunks of about `nbytes`, of whole rows."""
    row = max(1, itemsize * int(np.prod(shape[1:])))
    return (max(1, min(shape[0], nbytes // row)), *shape[1:])


def by_dask(
    formula: Formula,
    arrays: Arrays,
    error: float,
    chunk_bytes: Sequence[int] = DASK_CHUNK_BYTES,
    schedulers: Sequence[str] = ("threads",),
) -> list[Contender]:
    """dask.array at several sizes of chunks, BLAS at one thread."""
    if find_spec("dask") is None:
        return []
    import dask.array
    from threadpoolctl import threadpool_limits

    found: dict[tuple[str, Any], Contender] = {}
    for nbytes in chunk_bytes:
        chunks = [row_blocks(one.shape, one.itemsize, nbytes) for one in arrays]
        held = [dask.array.from_array(a, chunks=c) for a, c in zip(arrays, chunks, strict=True)]
        held = list(dask.persist(*held, scheduler="sync"))
        for scheduler in schedulers:

            def call(held: Sequence[Any] = held, scheduler: str = scheduler) -> Any:
                return formula(*held).compute(scheduler=scheduler, num_workers=THREADS)

            pieces = "1 chunk" if held[0].npartitions == 1 else f"{held[0].npartitions} chunks"
            found.setdefault(
                (scheduler, tuple(chunks)),
                Contender(
                    "dask",
                    call,
                    pieces if len(schedulers) == 1 else f"{pieces}, {scheduler}",
                    error,
                    within=lambda: threadpool_limits(1, user_api="blas"),
                ),
            )
    return list(found.values())


def by_hand(name: str | None, arrays: Arrays, expected: Any) -> list[Contender]:
    """The loop of `compiled` called `name`, which writes to memory that was touched before.

    Where a number is `expected` it returns one.
    """
    if name is None or find_spec("numba") is None:
        return []
    from benchmarks.compare import compiled

    loop = getattr(compiled, name)
    flat = [one.reshape(-1) for one in arrays]
    if not np.ndim(expected):
        return [Contender("hand-written", lambda: np.float64(loop(*flat)), error=ROUNDING)]
    # Zeros that the system lends are touched by writing to them alone.
    target = np.full_like(expected, 1.0)

    def call() -> Any:
        loop(*flat, target.reshape(-1))
        return target

    return [Contender("hand-written", call, error=ROUNDING)]


def by_darray(formula: Formula, arrays: Arrays, error: float = 0.0) -> list[Contender]:
    """darray, and darray without compiled kernels where there is a setting for that."""
    held = [da.distribute(one).persist() for one in arrays]
    for one in held:
        one.wait()

    def call() -> Any:
        return da.collect(formula(*held))

    if "jit" not in Settings.__struct_fields__:
        return [Contender("darray", call, error=error)]

    def switched(jit: bool) -> Callable[[], None]:
        def switch() -> None:
            # Settings take effect in a new engine; its threads are there before the clock starts.
            settings: dict[str, Any] = {"jit": jit}
            da.configure(**settings)
            call()

        return switch

    return [
        Contender("darray", call, error=error, prepared=switched(True)),
        Contender("darray, no jit", call, error=error, prepared=switched(False)),
    ]
