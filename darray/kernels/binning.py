"""Exact histograms of chunks whose range nobody knows beforehand, merged in any order."""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.kernels.reduction_tiles import TILE, in_memory_order, strips
from darray.kernels.reductions import Partial, Warn, fold
from darray.runtime.boxes import Box

__all__ = ["Histogram", "counts_and_edges"]

Array: TypeAlias = NDArray[Any]

# The exponent of the smallest float64: no bin is narrower.
_NARROWEST = -1074
# Multiplying by a larger power of two than this is no single float64 operation.
_SCALABLE = 1000
# Bin numbers have at most as many bits, so that every edge is a float64.
_PRECISION = 53


class Histogram(Struct, frozen=True):
    """Counts in at most `bins` bins whose edges are multiples of a power of two.

    A chunk's bins are as narrow as its range allows.  Merging makes the bins of both as wide as
    the wider ones, and then wider until the common range fits, by dividing bin numbers; so the
    result depends on neither the cuts nor the order of merging, and is what `np.histogram` counts
    between the same edges.  Only for a reduction along all axes.

    The result is one record, which `counts_and_edges` reads:

    ======================  ========================================================
    exponent                bins are ``2.0**exponent`` wide
    first                   the first bin's number: it begins at ``first * 2.0**exponent``
    length                  how many bins are in use, 0 where nothing was counted
    counts                  int64, of `bins` elements, 0 from `length` on
    nans                    how many values were NaN; these and infinities are in no bin
    negative_infinities
    positive_infinities
    ======================  ========================================================

    Integers beyond 2**53 are binned exactly, extended precision as float64.

    Examples
    --------
    >>> histogram = Histogram(bins=4)
    >>> parts = [
    ...     histogram.partial(np.array(a), (0,), None, (), ()) for a in ([0.5, 1.0, 7.5], [-1.0])
    ... ]
    >>> record = histogram.finish(histogram.combine(parts), print)
    >>> counts_and_edges(record)
    (array([1, 2, 1]), array([-4.,  0.,  4.,  8.]))
    """

    bins: int = 1024

    def __post_init__(self) -> None:
        """Refuse fewer than two bins: values around 0 are on both sides of an edge."""
        if self.bins < 2:
            raise ValueError(f"a histogram needs at least 2 bins, not {self.bins!r}")

    @property
    def name(self) -> str:
        """The name that messages use."""
        return "histogram"

    @property
    def needs_values(self) -> bool:
        """Nothing is counted in no bins."""
        return False

    @property
    def record(self) -> np.dtype[Any]:
        """The structured dtype of partial results and of the result."""
        fields = ["exponent", "first", "length", "nans"]
        fields += ["negative_infinities", "positive_infinities"]
        counts = ("counts", np.int64, (self.bins,))
        return np.dtype([*[(field, np.int64) for field in fields], counts])

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the record.

        Raises
        ------
        TypeError
            For other than real numbers and bool.
        """
        if operand.kind not in "biuf":
            raise TypeError(
                f"histogram of an array of {operand!r}: real numbers and bool have one; "
                "take x.real and x.imag, or convert with astype"
            )
        return self.record

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the record of one chunk."""
        if len(axes) != chunk.ndim:
            raise ValueError(f"histogram is along all axes, not along {axes!r} of {chunk.ndim}")
        values = chunk if where is None else chunk[np.broadcast_to(where, chunk.shape)]
        record = np.zeros((1,) * chunk.ndim, self.record)
        record["exponent"] = _NARROWEST if values.dtype.kind == "f" else 0
        if values.size == 0:
            return (record,)
        lowest, highest = values.min(), values.max()
        if values.dtype.kind == "f" and not (np.isfinite(lowest) and np.isfinite(highest)):
            record["nans"] = np.count_nonzero(np.isnan(values))
            record["negative_infinities"] = np.count_nonzero(values == -np.inf)
            record["positive_infinities"] = np.count_nonzero(values == np.inf)
            values = values[np.isfinite(values)]
            if values.size == 0:
                return (record,)
            lowest, highest = values.min(), values.max()
        exponent = self._exponent(lowest, highest)
        first = _bin_of(lowest, exponent)
        length = _bin_of(highest, exponent) - first + 1
        record["exponent"], record["first"], record["length"] = exponent, first, length
        walk = in_memory_order(values, tuple(range(values.ndim)))
        for _, tiles in strips(walk.array.shape, walk.axes, TILE):
            for tile in tiles:
                numbers = _bin_numbers(walk.array[tile].reshape(-1), exponent, first, length)
                record["counts"] += np.bincount(numbers, minlength=self.bins)
        return (record,)

    def _exponent(self, lowest: Any, highest: Any) -> int:
        """Return the exponent of the narrowest bins that may be: the same for every cut."""
        if isinstance(lowest, np.floating):
            largest = max(abs(float(lowest)), abs(float(highest)))
            exponent = max(frexp(largest)[1] - _PRECISION if largest else _NARROWEST, _NARROWEST)
        else:
            largest_integer = max(abs(int(lowest)), abs(int(highest)))
            exponent = max(largest_integer.bit_length() - _PRECISION, 0)
        while _bin_of(highest, exponent) - _bin_of(lowest, exponent) >= self.bins:
            exponent += 1
        return exponent

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Add the counts between the wider edges."""
        return (fold(self._merged, [part[0] for part in partials]),)

    def _merged(self, a: Array, b: Array) -> Array:
        merged = np.zeros(a.shape, self.record)
        for field in ("nans", "negative_infinities", "positive_infinities"):
            merged[field] = a[field] + b[field]
        used = [(part.reshape(1)[0], int(part["length"].item())) for part in (a, b)]
        exponent = max(int(part["exponent"]) for part, _ in used)
        parts = [(part, length) for part, length in used if length]
        if not parts:
            merged["exponent"] = exponent
            return merged
        while True:
            starts = [int(p["first"]) >> (exponent - int(p["exponent"])) for p, _ in parts]
            ends = [
                (int(p["first"]) + length - 1) >> (exponent - int(p["exponent"]))
                for p, length in parts
            ]
            if max(ends) - min(starts) < self.bins:
                break
            exponent += 1
        first = min(starts)
        counts = merged["counts"].reshape(self.bins)
        for part, length in parts:
            numbers = [
                ((int(part["first"]) + i) >> (exponent - int(part["exponent"]))) - first
                for i in range(length)
            ]
            np.add.at(counts, numbers, part["counts"][:length])
        merged["exponent"], merged["first"] = exponent, first
        merged["length"] = max(ends) - first + 1
        return merged

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the record."""
        return partial[0]


def counts_and_edges(record: Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the counts and the edges of a `Histogram`'s result, as `np.histogram` does.

    Where nothing was counted there is one bin from 0 to 1.

    Examples
    --------
    >>> histogram = Histogram(bins=4)
    >>> counts_and_edges(histogram.partial(np.arange(8), (0,), None, (), ())[0])
    (array([2, 2, 2, 2]), array([0., 2., 4., 6., 8.]))
    """
    only = np.asarray(record).reshape(1)[0]
    length = int(only["length"])
    if length == 0:
        return np.zeros(1, np.int64), np.array([0.0, 1.0])
    return only["counts"][:length].copy(), _edges(only["first"], length, only["exponent"])


def _edges(first: Any, length: int, exponent: Any) -> NDArray[np.float64]:
    numbers = np.arange(int(first), int(first) + length + 1).astype(np.float64)
    with np.errstate(over="ignore"):  # the last edge beyond the largest float64 is infinite
        return np.asarray(np.ldexp(numbers, int(exponent)))


def _bin_of(value: Any, exponent: int) -> int:
    """Return the number of the bin that `value` is in, by integer arithmetic."""
    if not isinstance(value, np.floating):
        return int(value) >> exponent
    numerator, denominator = float(value).as_integer_ratio()
    places = exponent + denominator.bit_length() - 1
    return numerator >> places if places >= 0 else numerator << -places


def _bin_numbers(values: Array, exponent: int, first: int, length: int) -> NDArray[np.int64]:
    """Return for each value how many bins after the first it is."""
    if values.dtype.kind != "f":
        wide = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64)
        return np.asarray((wide >> wide.dtype.type(exponent)).astype(np.int64) - first)
    scaled = values.astype(np.float64)
    if abs(exponent) <= _SCALABLE:
        try:
            # A power of two changes no digit, unless it makes a value so small that it loses some:
            # then a negative one could become 0, which is in another bin.
            with np.errstate(under="raise"):
                np.multiply(scaled, 2.0**-exponent, out=scaled)
            np.floor(scaled, out=scaled)
            np.subtract(scaled, first, out=scaled)
            return scaled.astype(np.int64)
        except FloatingPointError:
            scaled = values.astype(np.float64)
    edges = _edges(first, length, exponent)
    return np.asarray(np.searchsorted(edges, scaled, side="right") - 1)
