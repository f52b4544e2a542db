"""Count, NaNs, extremes, mean and standard deviation of chunks, in one pass over their memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.kernels.moments import Moments, merge_moments
from darray.kernels.reduction_tiles import TILE, in_memory_order, strips
from darray.kernels.reductions import Partial, Warn, fold, join
from darray.runtime.boxes import Box

__all__ = ["Summary"]

Array: TypeAlias = NDArray[Any]

# Where the square of the mean is so many times the variance, the sum of squares has lost eight of
# its fifty-two bits, and the values are summed again with something near the mean taken off first.
_ILL_CONDITIONED = 256.0

# Dot products of rows this long are the fastest sums there are.  A BLAS would start threads of its
# own for long rows (OpenBLAS from 10,000 elements), beside ours.
_ROW = 2048
_ONES = np.ones(_ROW)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `darray describe` prints: count, nans, min, max, mean and population std.

    The result is a structured array with these fields.  NaNs are counted and left out of all
    else; where there is nothing but NaN, min, max, mean and std are NaN.  An infinity gives
    a std of NaN, as in NumPy.  No floating-point flag is raised.

    Examples
    --------
    >>> summary = Summary()
    >>> parts = [summary.partial(np.array(a), (0,), None, (), ()) for a in ([1.0, 2], [np.nan, 6])]
    >>> result = summary.finish(summary.combine(parts), print)
    >>> result.dtype.names
    ('count', 'nans', 'min', 'max', 'mean', 'std')
    >>> result[0].item()
    (3, 1, 1.0, 6.0, 3.0, 2.160246899469287)
    """

    @property
    def name(self) -> str:
        """The name that messages use."""
        return "summary"

    @property
    def needs_values(self) -> bool:
        """There are no extremes of nothing."""
        return True

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the structured dtype of the result; min and max have the operand's.

        Raises
        ------
        TypeError
            For other than real numbers and bool.
        """
        if operand.kind not in "biuf":
            raise TypeError(
                f"summary of an array of {operand!r}: real numbers and bool have one; "
                "take x.real and x.imag, or convert with astype"
            )
        native = operand.newbyteorder("=")
        return np.dtype(
            [
                ("count", np.int64),
                ("nans", np.int64),
                ("min", native),
                ("max", native),
                ("mean", np.float64),
                ("std", np.float64),
            ]
        )

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return count, nans, min, max, shift, offset and sum of squared deviations.

        The mean is shift + offset, as in `darray.kernels.moments`.
        """
        if where is not None:
            raise TypeError("summary has no argument 'where'; set values to NaN to leave them out")
        walk = in_memory_order(chunk, axes)
        length = prod([walk.array.shape[axis] for axis in walk.axes])
        if length == 0 and 0 not in walk.result_shape:
            raise ValueError("zero-size array to reduction operation summary which has no identity")
        native = chunk.dtype.newbyteorder("=")
        kinds = (np.int64, np.int64, native, native, np.float64, np.float64, np.float64)
        result = [np.empty(walk.result_shape, kind) for kind in kinds]
        axes_or_all = None if len(walk.axes) == walk.array.ndim else walk.axes
        buffer = np.empty(min(walk.array.size, TILE))
        with np.errstate(all="ignore"):
            for strip, tiles in strips(walk.array.shape, walk.axes):
                figures = _strip_figures(walk.array, axes_or_all, tiles, buffer)
                for whole, figure in zip(result, figures, strict=True):
                    whole[strip] = figure
        return tuple([walk.restore(whole) for whole in result])

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Add the counts, keep the extremes, merge the moments."""
        counts, nans, smallest, largest, shifts, offsets, squares = zip(*partials, strict=True)
        moments: list[Moments] = list(zip(counts, shifts, offsets, squares, strict=True))
        with np.errstate(all="ignore"):
            count, shift, offset, m2 = fold(merge_moments, moments)
        return (
            count,
            fold(functools.partial(join, np.add), nans),
            fold(functools.partial(join, np.fmin), smallest),
            fold(functools.partial(join, np.fmax), largest),
            shift,
            offset,
            m2,
        )

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the structured array."""
        count, nans, smallest, largest, shift, offset, m2 = partial
        result = np.empty(count.shape, self.result_dtype(smallest.dtype))
        result["count"], result["nans"] = count, nans
        result["min"], result["max"] = smallest, largest
        with np.errstate(all="ignore"):
            result["mean"] = np.where(count > 0, shift + offset, np.nan)
            result["std"] = np.sqrt(np.where(count > 0, m2, np.nan) / np.maximum(count, 1))
        return result


class _Running:
    """The figures of one strip so far; scalars where everything is reduced to one.

    Parameters
    ----------
    shift
        Taken off the values before they are summed and squared.
    """

    __slots__ = (
        "axes",
        "buffer",
        "first",
        "largest",
        "length",
        "nans",
        "second",
        "shift",
        "smallest",
    )

    def __init__(self, axes: tuple[int, ...] | None, shift: Any, buffer: Array) -> None:
        self.axes = axes
        self.shift = shift
        self.buffer = buffer
        self.length = 0
        self.nans: Any = 0
        self.smallest: Any = None
        self.largest: Any = None
        self.first: Any = 0.0
        self.second: Any = 0.0

    def add(self, values: Array) -> None:
        """Add the values of a tile."""
        reduced: dict[str, Any] = {"axis": self.axes, "keepdims": self.axes is not None}
        smallest = np.minimum.reduce(values, **reduced)
        largest = np.maximum.reduce(values, **reduced)
        work = self.buffer[: values.size].reshape(values.shape)
        summed = values
        if self.shift is not None or values.dtype != np.float64 or not values.flags.c_contiguous:
            np.copyto(work, values)
            summed = work
        if self.shift is not None:
            np.subtract(work, self.shift, out=work)
        if (smallest != smallest).any():  # a tile's extremes are NaN where one of its values is
            missing = np.isnan(values)
            np.copyto(work, summed)
            np.copyto(work, 0, where=missing)
            summed = work
            self.nans = self.nans + np.add.reduce(missing, dtype=np.int64, **reduced)
            smallest = np.fmin.reduce(values, **reduced)
            largest = np.fmax.reduce(values, **reduced)
        first, second = _sums(summed, self.axes, work)
        if self.length == 0:
            self.first, self.second, self.smallest, self.largest = first, second, smallest, largest
        else:
            self.first += first
            self.second += second
            self.smallest = np.fmin(self.smallest, smallest)
            self.largest = np.fmax(self.largest, largest)
        self.length += values.size // max(first.size, 1)

    def moments(self) -> tuple[Any, Any, Any]:
        """Return the count, the mean off the shift, and the squared deviations from the mean."""
        count = self.length - self.nans
        offset = self.first / np.maximum(count, 1)
        return count, offset, self.second - offset * self.first

    def is_exact(self) -> bool:
        """Return whether taking the mean's square off cost no more digits than it may."""
        _, offset, m2 = self.moments()
        if (offset * self.first > _ILL_CONDITIONED * m2).any():
            return False
        # Squares of finite values may overflow where the squares of their deviations do not.
        lost = ~np.isfinite(m2)
        return not (lost.any() and (lost & np.isfinite(self.smallest + self.largest)).any())

    def centre(self, common: bool) -> Any:
        """Return a shift near the means so far: one for each result, or one `common` to all."""
        mean = self.moments()[1] + (0.0 if self.shift is None else self.shift)
        # A constant is its own mean, without rounding.
        centre = np.where(self.smallest == self.largest, self.smallest, mean)
        if not common:
            return np.where(np.isfinite(centre), centre, 0.0)
        finite = centre[np.isfinite(centre)]
        return np.mean(finite) if finite.size else 0.0


def _sums(values: Array, axes: tuple[int, ...] | None, work: Array) -> tuple[Any, Any]:
    """Return the sum and the sum of squares; `work` may be the values, and is overwritten."""
    if axes is not None:
        first = np.add.reduce(values, axis=axes, keepdims=True)
        np.square(values, out=work)
        return first, np.add.reduce(work, axis=axes, keepdims=True)
    flat = values.reshape(-1)
    whole = flat.size - flat.size % _ROW
    rows = flat[:whole].reshape(-1, _ROW)
    first, second = np.add.reduce(np.vecdot(rows, _ONES)), np.add.reduce(np.vecdot(rows, rows))
    if whole < flat.size:
        rest = flat[whole:]
        first, second = first + np.add.reduce(rest), second + np.vecdot(rest, rest)
    return first, second


def _strip_figures(
    array: Array, axes: tuple[int, ...] | None, tiles: Sequence[Box], buffer: Array
) -> tuple[Any, ...]:
    """Return the figures of one strip.

    The first tile tells whether a shift is needed, and whether one will do for all results, which
    costs less.  Where that was not enough for the other tiles, they are read once more.
    """
    shift = None
    for attempt in range(4):
        running = _Running(axes, shift, buffer)
        for number, tile in enumerate(tiles):
            running.add(array[tile])
            if number == 0 and attempt < 2 and len(tiles) > 1 and not running.is_exact():
                break
        if running.is_exact():
            break
        shift = running.centre(common=attempt == 0)
    count, offset, m2 = running.moments()
    start = 0.0 if running.shift is None else running.shift
    extremes = running.smallest, running.largest
    return count, running.nans, *extremes, start, offset, np.maximum(m2, 0)
