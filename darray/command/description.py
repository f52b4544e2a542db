"""``darray describe``: the figures of a stored array in one pass."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import darray as da
from darray.command import plotting, rendering
from darray.command.findings import FIGURES, Bins, Findings
from darray.command.interruption import uninterrupted
from darray.command.mistakes import Mistake, told_in_one_line
from darray.functions.summaries import summary, value_histogram
from darray.kernels.binning import counts_and_edges
from darray.runtime import limits, settings
from darray.runtime.consumers.progress import bytes_text, progress

__all__ = ["add_command", "configure", "describe", "open_array"]

_READERS = {"zarr": da.from_zarr, "npy": da.from_npy}
_KINDS = "biuf"  # of dtypes that have a mean and an order
# The results along an axis are held by the program itself, in so large a part of its memory.
_RESULT_SHARE = 0.25


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``describe`` to the program."""
    parser = commands.add_parser(
        "describe",
        help="print the statistics of a stored array of any size",
        description="Print count, NaNs, min, max, mean and standard deviation of an array, "
        "larger than memory or not, in one pass over it.",
    )
    parser.add_argument(
        "store", metavar="STORE", help="a Zarr array, store.zarr/name in a group, or an .npy file"
    )
    parser.add_argument("--axis", type=int, metavar="N", help="also give the figures along an axis")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the mean along the axis (by default 0) and a histogram"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    add_limits(parser)
    parser.set_defaults(run=run)


def add_limits(parser: argparse.ArgumentParser, memory: str | None = None) -> None:
    """Add the options that limit what the program uses."""
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        default=memory,
        help=f"memory to stay within, such as 1GB (default: {memory or '60 %% of the machine'})",
    )
    parser.add_argument(
        "--threads", metavar="N", help="threads to run on (default: one a processor)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Describe the array and print, and draw, what was found."""
    configure(arguments)
    array = open_array(arguments.store)
    axis = checked_axis(array, arguments.axis, arguments.store)
    with ExitStack() as stack:
        plot = None
        if arguments.plot is not None:
            if array.size == 0:
                raise Mistake(f"{arguments.store!r} has no elements: there is nothing to plot")
            plot = stack.enter_context(plotting.plot_file(arguments.plot))
        findings = describe(array, arguments.store, axis, plot is not None)
        if arguments.json:
            print(json.dumps(rendering.as_json(findings), allow_nan=False))
        else:
            print(rendering.as_text(findings))
        if plot is not None:
            plot.write(plotting.draw(findings, plot.format))
    return 0


def configure(arguments: argparse.Namespace) -> None:
    """Set the limits that `arguments` ask for."""
    if arguments.memory is not None:
        with told_in_one_line(ValueError, TypeError, about="--memory"):
            da.configure(memory_limit=arguments.memory)
    if arguments.threads is not None:
        with told_in_one_line(ValueError, TypeError, about="--threads"):
            da.configure(threads=arguments.threads)


def open_array(path: str) -> da.DArray:
    """Return the stored array at `path`.

    Raises
    ------
    Mistake
        Where there is none, or none of numbers.
    """
    with told_in_one_line(OSError, ValueError, TypeError, ImportError), uninterrupted():
        file = da.File(path)
        if file.format not in _READERS:
            raise ValueError(f"{path!r} is of format {file.format!r}, which holds no array")
        array = _READERS[file.format](path)
    if array.dtype.kind not in _KINDS:
        raise Mistake(
            f"{path!r} holds {array.dtype}: only real numbers have the figures that are asked for"
        )
    return array


def checked_axis(array: da.DArray, axis: int | None, path: str) -> int | None:
    """Return `axis` counted from the front.

    Raises
    ------
    Mistake
        Where the array has no such axis.
    """
    if axis is None:
        return None
    if not -array.ndim <= axis < array.ndim:
        axes = f"axes 0 to {array.ndim - 1}" if array.ndim else "no axes"
        raise Mistake(f"--axis {axis}: {path!r} has {axes}, its shape is {array.shape}")
    return axis % array.ndim


def describe(array: da.DArray, path: str, axis: int | None = None, plot: bool = False) -> Findings:
    """Compute the figures of `array` in one pass, and those along `axis`; for a plot also more.

    Progress is shown on standard error.

    Raises
    ------
    Mistake
        Where a chunk, or the result along the axis, does not fit the memory limit, or the store
        cannot be read.
    """
    along = 0 if axis is None and plot and array.ndim > 1 else axis
    began = perf_counter()
    if array.size:
        found = _compute(array, along, plot)
    else:
        found = {"whole": _of_nothing(())}
        if along is not None:
            found["along"] = _of_nothing(array.shape[:along] + array.shape[along + 1 :])
    seconds = perf_counter() - began
    return Findings(
        path=path,
        shape=array.shape,
        dtype=array.dtype,
        chunks=tuple(max(sizes) for sizes in array.chunks),
        nbytes=array.nbytes,
        whole=np.asarray(found["whole"]),
        axis=along,
        along=found.get("along"),
        asked=axis is not None,
        line=found.get("line"),
        bins=found.get("bins"),
        seconds=seconds,
    )


def _compute(array: da.DArray, along: int | None, plot: bool) -> dict[str, Any]:
    """Compute the fields of Findings that need the elements, all in one pass."""
    wanted: dict[str, Any] = {"whole": summary(array)}
    if along is not None:
        wanted["along"] = summary(array, axis=along)
        _require_room(wanted["along"], along)
    if plot:
        wanted["bins"] = value_histogram(array, plotting.bin_count(array.size))
        if array.ndim == 1:
            wanted["line"] = array[:: plotting.thinned_step(array.size)]
    with told_in_one_line(OSError, ValueError, MemoryError, ImportError), progress("describe"):
        computed = da.compute(*wanted.values())
    found: dict[str, Any] = dict(zip(wanted, computed, strict=True))
    if plot:
        found["bins"] = Bins(*counts_and_edges(found["bins"]))
    return found


def _of_nothing(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return summaries of no elements: the counts are 0, and nothing else exists."""
    kinds = [(name, np.int64 if name in ("count", "nans") else np.float64) for name in FIGURES]
    result = np.zeros(shape, kinds)
    for name in ("min", "max", "mean", "std"):
        result[name] = np.nan
    return result


def _require_room(result: da.DArray, axis: int) -> None:
    limit = limits.memory_limit(settings.current())
    if result.nbytes > _RESULT_SHARE * limit:
        raise Mistake(
            f"the figures along axis {axis} have the shape {result.shape} and take "
            f"{bytes_text(result.nbytes)}, more than a quarter of the memory limit of "
            f"{bytes_text(limit)}: give more with --memory, or take a longer axis"
        )
