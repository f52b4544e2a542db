"""``darray demo``: a store larger than its memory limit, described and checked."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

import darray as da
from darray.command import description
from darray.command.findings import Findings
from darray.command.interruption import uninterrupted
from darray.command.mistakes import Mistake, told_in_one_line
from darray.command.rendering import as_text, number_text, table
from darray.command.synthetic_field import SyntheticField
from darray.runtime import limits, settings
from darray.runtime.boxes import Box
from darray.runtime.consumers.progress import bytes_text, progress

__all__ = ["add_command", "field_of", "peak_resident"]

_PLANE = (256, 512)
_CHUNK = (64, 128, 256)  # 8 MiB
# float64 arithmetic rounds by 1.1e-16 a step, and fewer than a thousand steps lie between a value
# and the result: sums within a chunk are by pairs, and chunks are merged one by one or in a tree.
# A sum in float32 misses by 1e-7 or more.
_ROUNDING = 1e-12
# What peak resident memory may be over the limit.
_OVER_LIMIT = 1.1


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the program."""
    parser = commands.add_parser(
        "demo",
        help="describe a store made for the purpose, and check the figures",
        description="Make a Zarr store larger than the memory limit, describe it, and check the "
        "figures and the memory used. The exit status is 1 when a check fails.",
    )
    parser.add_argument("--size", default="2GB", help="bytes of the store (default: %(default)s)")
    parser.add_argument(
        "--keep", metavar="FOLDER", help="make the store in this folder and leave it there"
    )
    description.add_limits(parser, memory="600MB")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the store, describe it, check everything; remove the store."""
    with told_in_one_line(ValueError, about="--size"):
        field = field_of(settings.parse_bytes(arguments.size))
    description.configure(arguments)
    _zarr()
    limit = limits.memory_limit(settings.current())
    with _folder(arguments.keep) as folder:
        free = shutil.disk_usage(folder).free
        if free < field.nbytes:
            raise Mistake(
                f"a store of {bytes_text(field.nbytes)} does not fit {folder!r}, where "
                f"{bytes_text(free)} are free: give a smaller --size, or --keep another folder"
            )
        store = os.path.join(folder, "demo.zarr")
        text = f"making {store}: {bytes_text(field.nbytes)}, memory limit {bytes_text(limit)}"
        print(text, flush=True)
        began = perf_counter()
        write(field, store)
        writing = perf_counter() - began
        findings = description.describe(description.open_array(store), store, axis=0)
    print(as_text(findings), end="\n\n")
    checks = figure_checks(findings, field)
    peak = peak_resident()
    memory_kept = peak <= _OVER_LIMIT * limit
    print(table([("check", "found", "exact", "off by", "allowed", ""), *map(_row, checks)]))
    for name, seconds in (("written", writing), ("described", findings.seconds)):
        print(f"{name} in {seconds:.1f} s, {bytes_text(field.nbytes / seconds)}/s")
    print(
        f"peak resident memory {bytes_text(peak)}, limit {bytes_text(limit)} and 10 %: "
        f"{_verdict(memory_kept)}"
    )
    passed = memory_kept and all(abs(found - exact) <= room for _, found, exact, room in checks)
    print("all checks passed" if passed else "a check FAILED")
    return 0 if passed else 1


def field_of(nbytes: int) -> SyntheticField:
    """Return the synthetic field of about so many bytes.

    Examples
    --------
    >>> field_of(2 * 10**9).shape
    (3815, 256, 512)
    """
    return SyntheticField((round(nbytes / (4 * math.prod(_PLANE))), *_PLANE))


def write(field: SyntheticField, store: str) -> None:
    """Write the values of `field` to a new Zarr array at `store`, a task a chunk."""
    steps = (range(0, n, size) for n, size in zip(field.shape, _CHUNK, strict=True))
    boxes = [
        tuple(
            slice(start, min(start + size, n), 1)
            for start, size, n in zip(starts, _CHUNK, field.shape, strict=True)
        )
        for starts in product(*steps)
    ]
    with told_in_one_line(OSError, ValueError, about="cannot make the store"):
        with uninterrupted():
            array = _zarr().create_array(
                store, shape=field.shape, chunks=_CHUNK, dtype=np.float32, compressors=None
            )

        def write_chunk(box: Box) -> None:
            array[box] = field.values(box)

        with progress("write"):
            tasks = da.map(write_chunk, boxes)
            try:
                da.fetch(tasks)
            finally:
                # After Ctrl-C some still write, and the store is to be removed.
                da.wait(tasks)


def _zarr() -> ModuleType:
    try:
        import zarr
    except ImportError as error:
        raise Mistake('darray demo needs zarr: pip install "darray[zarr]"') from error
    return zarr


def figure_checks(findings: Findings, field: SyntheticField) -> list[tuple[str, Any, Any, float]]:
    """Return name, figure found, exact figure and the difference allowed, of every figure."""
    exact = field.figures()
    whole = {name: findings.whole[name].item() for name in ("count", "nans", "min", "max")}
    mean, std = float(exact.mean), math.sqrt(exact.variance)
    checks: list[tuple[str, Any, Any, float]] = [
        # Every value is exact in float32, so these four are too.
        ("count", whole["count"], exact.count, 0),
        ("NaNs", whole["nans"], exact.nans, 0),
        ("min", whole["min"], exact.min, 0),
        ("max", whole["max"], exact.max, 0),
        ("mean", findings.whole["mean"].item(), mean, _ROUNDING * mean),
        ("std", findings.whole["std"].item(), std, _ROUNDING * std),
    ]
    assert findings.along is not None
    exact_means = field.mean_along_first_axis()
    off = np.abs(findings.along["mean"] - exact_means) - _ROUNDING * exact_means
    # The one that is furthest off, or NaN, stands for all.
    worst = np.unravel_index(np.argmax(off), off.shape)
    place = ", ".join(map(str, worst))
    found, right = findings.along["mean"][worst].item(), exact_means[worst].item()
    checks.append((f"mean at (:, {place}), the worst", found, right, _ROUNDING * right))
    return checks


def peak_resident() -> int:
    """Return the most bytes that this process has ever had resident."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":
        # Not getrusage: its figure starts from that of the process that started this one.
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name == "VmHWM":
                    return 1024 * int(value.split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def _folder(keep: str | None) -> Iterator[str]:
    """Give the folder `keep`, made if need be, or one that is removed after the block."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="darray-demo-") as folder:
            yield folder
        return
    with told_in_one_line(OSError, about="--keep"):
        os.makedirs(keep, exist_ok=True)
    store = os.path.join(keep, "demo.zarr")
    if os.path.lexists(store):
        raise Mistake(f"--keep: there is {store!r} already: remove it, or give another folder")
    try:
        yield keep
    except BaseException:
        # Half a store is of no use to anyone.
        shutil.rmtree(store, ignore_errors=True)
        raise


def _row(check: tuple[str, Any, Any, float]) -> tuple[str, ...]:
    name, found, exact, room = check
    off = abs(found - exact)
    return (
        name,
        number_text(found),
        number_text(exact),
        f"{off:.1e}" if off else "0",
        f"{room:.1e}" if room else "0",
        _verdict(off <= room),
    )


def _verdict(passed: bool) -> str:
    return "ok" if passed else "FAILED"
