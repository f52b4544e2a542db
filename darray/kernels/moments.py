"""Mean, variance and standard deviation of chunks, with and without NaN."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import isfinite, prod, sqrt
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.kernels.buffers import ALIGNMENT, borrowed
from darray.kernels.line_sums import is_line, sum_of_line
from darray.kernels.quick_moments import FEWEST, quick_moments
from darray.kernels.reduction_tiles import in_memory_order, strips
from darray.kernels.reductions import (
    Partial,
    Warn,
    as_array,
    counts_along,
    fold,
    is_silent,
    join,
    nan_mask,
    without_imaginary,
)
from darray.runtime.boxes import Box

__all__ = ["SMALLEST", "Mean", "Moments", "Variance", "merge_moments", "squared_deviations"]

Array: TypeAlias = NDArray[Any]

# Elements whose deviations and squares are held at a time: 512 KiB each as float64.
_TILE = 1 << 16

# Below it a quotient may have lost digits, of which Python does not tell.
SMALLEST = float(np.finfo(np.float64).tiny)

# Count, shift, offset, sum of squared deviations.  The mean is shift + offset: kept apart, the
# difference of two means close to each other keeps the digits that their sums would have lost.
Moments: TypeAlias = tuple[Array, Array, Array, Array]


def _witness(chunk: Array) -> Array:
    """Return an array that tells `finish` the dtype of the operand."""
    return _zero(chunk.ndim, chunk.dtype)


@functools.lru_cache(maxsize=256)
def _zero(dimensions: int, dtype: np.dtype[Any]) -> Array:
    found = np.zeros((1,) * dimensions, dtype)
    # Chunks of one dtype share it.
    found.flags.writeable = False
    return found


def _dtype_of(
    function: Callable[..., Any], operand: np.dtype[Any], dtype: np.dtype[Any] | None
) -> np.dtype[Any]:
    # One element for each of no results: NumPy warns of nothing and computes nothing.
    found: np.dtype[Any] = function(np.empty((0, 1), operand), axis=1, dtype=dtype).dtype
    return found


_known_dtype = functools.lru_cache(maxsize=1024)(_dtype_of)


class Mean(Struct, frozen=True):
    """`np.mean` and, with `skip_nan`, `np.nanmean`.

    Examples
    --------
    >>> mean = Mean()
    >>> parts = [mean.partial(np.array(a), (0,), None, (), ()) for a in ([1, 2], [6])]
    >>> mean.finish(mean.combine(parts), print)
    array([3.])
    """

    dtype: np.dtype[Any] | None = None
    skip_nan: bool = False

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return "nanmean" if self.skip_nan else "mean"

    @property
    def needs_values(self) -> bool:
        """The mean of nothing is NaN, with a warning."""
        return False

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype NumPy gives the result."""
        if self.skip_nan and operand.hasobject:
            raise NotImplementedError(
                f"{self.name} of an array of {operand!r} in chunks; "
                "convert it with astype, or collect it and use NumPy"
            )
        function = np.nanmean if self.skip_nan else np.mean
        if is_silent(operand, self.dtype):
            return _known_dtype(function, operand, self.dtype)
        return _dtype_of(function, operand, self.dtype)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the sum, the count and the operand's dtype."""
        mask = nan_mask(chunk) if self.skip_nan else None
        dtype = self.dtype
        if dtype is None and chunk.dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        elif dtype is None and chunk.dtype == np.float16 and not self.skip_nan:
            dtype = np.dtype(np.float32)
        values, counted = without_imaginary(chunk, dtype), where
        if mask is not None and mask.any():
            values = values.copy()
            np.copyto(values, 0, where=mask)
            counted = ~mask if where is None else ~mask & where
        is_own = dtype is None or dtype == values.dtype
        if where is None and len(axes) == chunk.ndim and is_own and is_line(values):
            total = np.full((1,) * chunk.ndim, sum_of_line(values))
        else:
            total = np.add.reduce(
                values,
                axis=axes,
                dtype=dtype,
                keepdims=True,
                where=True if where is None else where,
            )
            total = as_array(total, dtype or chunk.dtype)
        return total, counts_along(chunk.shape, axes, counted), _witness(chunk)

    def partial_of_sum(
        self, total: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Partial:
        """Return the partial result of a chunk of `shape` whose sum along `axes` is `total`."""
        return total, counts_along(shape, axes, None), _zero(len(shape), dtype)

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Add sums and counts, pairwise."""
        totals, counts, witnesses = zip(*partials, strict=True)
        add = functools.partial(join, np.add)
        return fold(add, totals), fold(add, counts), witnesses[0]

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return sum / count, with NumPy's warning where there was nothing to count."""
        total, count, witness = partial
        if total.size == 1 == count.size and total.dtype == witness.dtype == np.float64:
            number = count.item()
            mean = total.item() / number if number else 0.0
            if abs(mean) >= SMALLEST:
                # What NumPy gives, without its calls.
                return np.array(mean).reshape(total.shape)
        skipping = self.skip_nan and witness.dtype.kind in "fc"
        # As NumPy: of no results nanmean says nothing, and it raises no flags for its 0 / 0.
        if not count.all() and not (skipping and total.size == 0):
            warn("Mean of empty slice")
        mean = total.copy()
        with np.errstate(invalid="ignore", divide="ignore") if skipping else nullcontext():
            np.true_divide(mean, count, out=mean, casting="unsafe")
        return mean.astype(self.result_dtype(witness.dtype), copy=False)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Join the moments of two sets of values, without looking at the values again.

    The formula of Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances" (1979): the squared deviations from the common mean are those from
    the two means and, for the distance of these, delta**2 * n_a * n_b / (n_a + n_b).

    Examples
    --------
    >>> one = tuple(np.array([v]) for v in (1, 5.0, 0.0, 0.0))
    >>> two = tuple(np.array([v]) for v in (1, 5.0, 2.0, 0.0))
    >>> merge_moments(one, two)
    (array([2]), array([5.]), array([1.]), array([2.]))
    """
    count_a, shift_a, offset_a, m2_a = a
    count_b, shift_b, offset_b, m2_b = b
    count = count_a + count_b
    share_a, share_b = count_a / np.maximum(count, 1), count_b / np.maximum(count, 1)
    shift = np.where(count_a > 0, shift_a, shift_b)
    mean_a = np.where(count_a > 0, _distance(shift_a, shift) + offset_a, 0)
    mean_b = np.where(count_b > 0, _distance(shift_b, shift) + offset_b, 0)
    # The difference of two infinite means is no news: their m2 is NaN already, or infinite.
    delta = _distance(mean_b, mean_a)
    offset = mean_a * share_a + mean_b * share_b
    between = delta * (count_a * share_b)
    m2 = m2_a + m2_b + (between * delta.conj()).real
    return np.asarray(count), np.asarray(shift), np.asarray(offset), np.asarray(m2)


def _merged(a: Moments, b: Moments) -> Moments:
    """What `merge_moments` gives; of single, finite, real values without its twenty calls."""
    if a[1].size == 1 == b[1].size and a[1].dtype == b[1].dtype == np.float64:
        count_a, shift_a, offset_a, m2_a = [one.item() for one in a]
        count_b, shift_b, offset_b, m2_b = [one.item() for one in b]
        if count_a and count_b:
            count = count_a + count_b
            mean_b = (shift_b - shift_a) + offset_b
            share = count_b / count
            delta = mean_b - offset_a
            offset = offset_a * (count_a / count) + mean_b * share
            m2 = m2_a + m2_b + delta * (count_a * share) * delta
            # Python tells of no error, so what is not finite is left to NumPy.
            if isfinite(m2) and isfinite(offset):
                shape = a[1].shape
                return a[0] + b[0], a[1], np.full(shape, offset), np.full(shape, m2)
    return merge_moments(a, b)


def _distance(a: Array, b: Array) -> Array:
    """Return a - b, 0 where they are equal, infinities included."""
    distance = np.zeros(np.broadcast_shapes(a.shape, b.shape), np.result_type(a, b))
    np.subtract(a, b, out=distance, where=a != b)
    return distance


class Variance(Struct, frozen=True):
    """`np.var`, `np.std`, `np.nanvar`, `np.nanstd`.

    A chunk is walked twice: for its means, and in tiles for the deviations from them.  Within a
    tile the arithmetic is NumPy's (float16 is computed in float32); tiles and chunks are joined in
    float64 at least, and the result is cast at the end.

    Parameters
    ----------
    ddof
        Taken off the number of values in the divisor.
    root
        Whether to return the standard deviation.

    Examples
    --------
    >>> var = Variance(ddof=1)
    >>> parts = [var.partial(np.array(a), (0,), None, (), ()) for a in ([1, 2], [6])]
    >>> var.finish(var.combine(parts), print)
    array([7.])
    """

    dtype: np.dtype[Any] | None = None
    ddof: Any = 0
    root: bool = False
    skip_nan: bool = False

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return ("nan" if self.skip_nan else "") + ("std" if self.root else "var")

    @property
    def needs_values(self) -> bool:
        """The variance of nothing is NaN, with a warning."""
        return False

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype NumPy gives the result.

        Raises
        ------
        NotImplementedError
            For objects, and for a dtype that cuts the mean short before it is subtracted: an
            integer one, or a real one for complex values.
        """
        if operand.hasobject:
            raise NotImplementedError(
                f"{self.name} of an array of {operand!r} in chunks; "
                "convert it with astype, or collect it and use NumPy"
            )
        function = np.nanvar if self.skip_nan else np.var
        if self.dtype is not None and operand.kind in "biufc":
            if self.skip_nan and operand.kind in "fc" and self.dtype.kind not in "fc":
                raise TypeError("If a is inexact, then dtype must be inexact")
            if self.dtype.kind not in ("c" if operand.kind == "c" else "fc"):
                raise NotImplementedError(
                    f"{self.name} with dtype {self.dtype.name!r} of an array of {operand.name} in "
                    "chunks: NumPy would round the mean to it; leave dtype out and use astype"
                )
        np.less_equal(np.intp(1), self.ddof)
        if is_silent(operand, self.dtype):
            return _known_dtype(function, operand, self.dtype)
        return _dtype_of(function, operand, self.dtype)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return count, shift, offset, sum of squared deviations, and the operand's dtype."""
        mask = nan_mask(chunk) if self.skip_nan else None
        valid = None if where is None else np.broadcast_to(where, chunk.shape)
        if mask is not None and mask.any():
            valid = ~mask if valid is None else ~mask & valid
        count = counts_along(chunk.shape, axes, valid)
        work = self._work_dtype(chunk.dtype)
        is_whole = valid is None and len(axes) == chunk.ndim
        if is_whole and work == chunk.dtype and chunk.size >= FEWEST:
            walk = in_memory_order(chunk, axes)
            found = quick_moments(walk.array) if walk.array.ndim == 1 else None
            if found is not None and np.geterr()["under"] == "ignore":
                shift, offset, m2 = [np.full((1,) * chunk.ndim, one) for one in found]
                return count, shift, offset, m2, _witness(chunk)
        if valid is None:
            total = np.asarray(np.add.reduce(chunk, axis=axes, dtype=work, keepdims=True))
        else:
            total = _valid_sum(chunk, valid, axes, work)
        shift = np.zeros(total.shape, work)
        if is_whole and chunk.ndim == 1 and _is_plain(work, chunk):
            np.true_divide(total, count, out=shift, casting="same_kind")
            offset, m2 = _deviations_of_line(chunk, shift)
        else:
            np.true_divide(total, count, out=shift, where=count > 0, casting="same_kind")
            offset, m2 = _deviations(chunk, valid, axes, shift, count)
        wide = np.result_type(work, np.float64)
        return count, shift.astype(wide, copy=False), offset, m2, _witness(chunk)

    def _work_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of deviations and squares: NumPy's, but for float16, which overflows."""
        return _work_dtype(operand, self.dtype)

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Merge the moments, pairwise."""
        moments: list[Moments] = [(n, shift, rest, m2) for n, shift, rest, m2, _ in partials]
        return (*fold(_merged, moments), partials[0][4])

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the variance or its root, with NumPy's warning where too little was counted."""
        count, _, _, m2, witness = partial
        if m2.size == 1 == count.size and m2.dtype == witness.dtype == np.float64:
            number, squares = count.item(), m2.item()
            if isinstance(self.ddof, int | float) and number > self.ddof:
                quotient = squares / (number - self.ddof)
                if quotient >= SMALLEST:
                    # What NumPy gives, without its calls.
                    return np.array(sqrt(quotient) if self.root else quotient).reshape(m2.shape)
        dtype = self.result_dtype(witness.dtype)
        degrees = count - self.ddof
        if self.skip_nan and witness.dtype.kind in "fc":
            lacking = np.broadcast_to(degrees <= 0, m2.shape)
            with np.errstate(invalid="ignore", divide="ignore"):
                variance = np.true_divide(m2, degrees)
            if lacking.any():
                warn("Degrees of freedom <= 0 for slice.")
                variance = np.where(lacking, np.nan, variance)
        else:
            if (degrees <= 0).any():
                warn("Degrees of freedom <= 0 for slice")
            variance = np.true_divide(m2, np.maximum(degrees, 0))
        result = np.asarray(variance).astype(dtype)
        return np.asarray(np.sqrt(result)) if self.root else result


@functools.lru_cache(maxsize=1024)
def _work_dtype(operand: np.dtype[Any], dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    if operand.kind in "biu":
        return np.result_type(dtype or np.float64, np.float64)
    return np.result_type(operand, dtype or operand, np.float32)


def _is_plain(work: np.dtype[Any], chunk: Array) -> bool:
    """Whether sums in `work` are Python's floats, and `chunk` is looked at as a whole."""
    return work.char in "fd" and 0 < chunk.size <= _TILE


def _deviations_of_line(chunk: Array, shift: Array) -> tuple[Array, Array]:
    """Return what `_deviations` does, bit for bit, of one axis of few real numbers.

    There the interpreter's share would be the greatest.
    """
    nbytes = chunk.size * shift.dtype.itemsize
    with borrowed(nbytes) as memory:
        offset, m2 = squared_deviations(chunk, shift, memory[:nbytes].view(shift.dtype))
    return np.array([offset]), np.array([m2])


def squared_deviations(line: Array, shift: Any, buffer: Array) -> tuple[float, float]:
    """Return what the mean of a line lies off `shift`, and the squared deviations from the mean.

    `buffer` is written to, an array of the length of the line.

    Examples
    --------
    >>> squared_deviations(np.array([1.0, 2.0, 6.0]), 2.0, np.empty(3))
    (1.0, 14.0)
    """
    deviation = np.subtract(line, shift, out=buffer)
    first = 0.0 + float(np.add.reduce(deviation))
    second = 0.0 + float(np.add.reduce(np.square(deviation, out=deviation)))
    offset = first / line.size
    correction = offset * first
    left = second - (correction if isfinite(correction) else 0.0)
    # NaN stays.
    m2 = 0.0 if left <= 0 else left
    return offset if isfinite(offset) else 0.0, m2


def _valid_sum(chunk: Array, valid: Array, axes: tuple[int, ...], work: np.dtype[Any]) -> Array:
    walk = in_memory_order(chunk, axes)
    total = np.zeros(walk.result_shape, work)
    mask = _alike(valid, walk.order, walk.array.shape)
    for strip, tiles in strips(walk.array.shape, walk.axes):
        for tile in tiles:
            values = walk.array[tile].astype(work)
            np.copyto(values, 0, where=~mask[tile])
            total[strip] += np.add.reduce(values, axis=walk.axes, keepdims=True)
    return walk.restore(total)


def _alike(array: Array, order: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Return an array of the chunk's shape in the order and shape of a walk of the chunk."""
    return array.transpose(order).reshape(shape)


def _deviations(
    chunk: Array, valid: Array | None, axes: tuple[int, ...], shift: Array, count: Array
) -> tuple[Array, Array]:
    """Return what the true means lie off `shift`, and the squared deviations from these means.

    The sum of the deviations themselves corrects for a shift that was rounded.
    """
    walk = in_memory_order(chunk, axes)
    shifts = _alike(shift, walk.order, walk.result_shape)
    mask = None if valid is None else _alike(valid, walk.order, walk.array.shape)
    first = np.zeros(walk.result_shape, np.result_type(shift.dtype, np.float64))
    second = np.zeros(walk.result_shape, first.real.dtype)
    size = min(prod(walk.array.shape), _TILE)
    squares = -(-size * shift.dtype.itemsize // ALIGNMENT) * ALIGNMENT
    with borrowed(squares + size * shift.real.dtype.itemsize) as memory:
        deviation_buffer = memory[: size * shift.dtype.itemsize].view(shift.dtype)
        square_buffer = memory[squares:][: size * shift.real.dtype.itemsize].view(shift.real.dtype)
        for strip, tiles in strips(walk.array.shape, walk.axes, _TILE):
            found = [first[strip], second[strip]]
            for tile in tiles:
                values = walk.array[tile]
                deviation = deviation_buffer[: values.size].reshape(values.shape)
                square = square_buffer[: values.size].reshape(values.shape)
                np.subtract(values, shifts[strip], out=deviation)
                if mask is not None:
                    np.copyto(deviation, 0, where=~mask[tile])
                found[0] += np.add.reduce(deviation, axis=walk.axes, keepdims=True)
                np.square(deviation.real, out=square)
                if np.iscomplexobj(deviation):
                    square += np.square(deviation.imag)
                found[1] += np.add.reduce(square, axis=walk.axes, keepdims=True)
    first, second = walk.restore(first), walk.restore(second)
    # What is not finite here had its flags raised above, and NumPy's two passes have no such step.
    with np.errstate(all="ignore"):
        offset = first / np.maximum(count, 1)
        correction = (offset * first.conj()).real
    offset = np.where(np.isfinite(offset), offset, 0)
    correction = np.where(np.isfinite(correction), correction, 0)
    return offset, np.asarray(np.maximum(second - correction, 0))
