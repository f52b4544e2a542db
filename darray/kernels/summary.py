"""Count, NaNs, extremes, mean and standard deviation of chunks, in one pass over their memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
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

# Rows shorter than half of this are laid side by side until they are as long.
_ROW = 2048


class Summary(Struct, frozen=True):
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
        if chunk.size == 0 and 0 not in walk.result_shape:
            raise ValueError("zero-size array to reduction operation summary which has no identity")
        with np.errstate(all="ignore"):
            figures = self._figures(walk.array, walk.axes)
        return tuple([walk.restore(figure) for figure in figures])

    def _figures(self, array: Array, axes: tuple[int, ...]) -> Partial:
        """Return the partial result of an array in memory order."""
        if axes == (0,) and array.ndim == 2 and array.flags.c_contiguous:
            # NumPy goes along rows: rows of a few elements are laid side by side as one.
            beside = 1 << max(_ROW // max(array.shape[1], 1), 1).bit_length() - 1
            count = len(array) // beside
            if beside > 1 and count > 1:
                return self._figures_of_short_rows(array, count, beside)
        native = array.dtype.newbyteorder("=")
        kinds = (np.int64, np.int64, native, native, np.float64, np.float64, np.float64)
        shape = [1 if axis in axes else length for axis, length in enumerate(array.shape)]
        result = tuple([np.empty(shape, kind) for kind in kinds])
        buffer = np.empty(min(array.size, TILE))
        axes_or_all = None if len(axes) == array.ndim else axes
        for strip, tiles in strips(array.shape, axes):
            figures = _strip_figures(array, axes_or_all, tiles, buffer)
            for whole, figure in zip(result, figures, strict=True):
                whole[strip] = figure
        return result

    def _figures_of_short_rows(self, array: Array, count: int, beside: int) -> Partial:
        """Return the partial result along axis 0, `beside` rows, a power of two, taken as one."""
        width = array.shape[1]
        long = array[: count * beside].reshape(count, beside * width)
        figures = tuple([f.reshape(beside, width) for f in self._figures(long, (0,))])
        while beside > 1:
            beside //= 2
            halves = tuple([f[:beside] for f in figures]), tuple([f[beside:] for f in figures])
            figures = self.combine(halves)
        rest = array[len(long) * long.shape[1] // width :]
        return self.combine([figures, self._figures(rest, (0,))]) if len(rest) else figures

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
    axes
        The reduced axes, or None for all.
    shift
        Taken off the values before they are summed and squared.
    buffer
        Room for the largest tile as float64.
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

    def add(self, values: Array, at_once: bool = False) -> None:
        """Add the values of a tile; `at_once`, the only one, is shifted by its own means."""
        reduced: dict[str, Any] = {"axis": self.axes, "keepdims": self.axes is not None}
        smallest = np.minimum.reduce(values, **reduced)
        largest = np.maximum.reduce(values, **reduced)
        missing = None
        if values.dtype.kind == "f" and (smallest != smallest).any():
            # A tile's extremes are NaN where one of its values is.
            missing = np.isnan(values)
            self.nans = self.nans + np.add.reduce(missing, dtype=np.int64, **reduced)
            smallest = np.fmin.reduce(values, **reduced)
            largest = np.fmax.reduce(values, **reduced)
        if self.length == 0:
            self.smallest, self.largest = smallest, largest
        else:
            self.smallest = np.fmin(self.smallest, smallest)
            self.largest = np.fmax(self.largest, largest)
        self.length += values.size // max(smallest.size, 1)
        work = self.buffer[: values.size].reshape(values.shape)
        summed = self._shifted(values, missing, work)
        if at_once:
            self.first = np.add.reduce(summed, **reduced)
            self.shift = self.centre(common=False)
            self.first = np.where(np.isfinite(self.first), 0.0, self.first)
            summed = self._shifted(summed, missing, work)
        else:
            self.first = self.first + np.add.reduce(summed, **reduced)
        np.square(summed, out=work)
        self.second = self.second + np.add.reduce(work, **reduced)

    def _shifted(self, values: Array, missing: Array | None, work: Array) -> Array:
        """Return the values less the shift as float64, 0 where one is missing."""
        if self.shift is not None:
            if values.dtype != np.float64:
                np.copyto(work, values)
                values = work
            np.subtract(values, self.shift, out=work)
        elif values.dtype == np.float64 and values.flags.c_contiguous and missing is None:
            return values
        else:
            np.copyto(work, values)
        if missing is not None:
            np.copyto(work, 0, where=missing)
        return work

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


def _strip_figures(
    array: Array, axes: tuple[int, ...] | None, tiles: Sequence[Box], buffer: Array
) -> tuple[Any, ...]:
    """Return the figures of one strip.

    A single tile stays in the cache while its means are taken off.  Of several, the first tells
    whether a shift is needed, and whether one will do for all results, which costs less.  Where
    that was not enough for the other tiles, they are read once more.
    """
    shift = None
    for attempt in range(1 if len(tiles) == 1 else 4):
        running = _Running(axes, shift, buffer)
        for number, tile in enumerate(tiles):
            running.add(array[tile], at_once=len(tiles) == 1)
            if number == 0 and attempt < 2 and len(tiles) > 1 and not running.is_exact():
                break
        if len(tiles) == 1 or running.is_exact():
            break
        shift = running.centre(common=attempt == 0)
    count, offset, m2 = running.moments()
    start = 0.0 if running.shift is None else running.shift
    extremes = running.smallest, running.largest
    return count, running.nans, *extremes, start, offset, np.maximum(m2, 0)
