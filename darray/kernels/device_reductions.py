"""Reductions of chunks on a device, by NumPy's functions on the arrays of the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np

from darray.kernels.devices import DeviceArray, called
from darray.kernels.extrema import ArgExtremum, NanExtremum
from darray.kernels.mean_squares import MeanSquare
from darray.kernels.moments import Mean, Variance
from darray.kernels.reductions import (
    CountNonzero,
    NanFilled,
    Reduction,
    UfuncReduction,
    Warn,
    fold,
    without_imaginary,
)
from darray.runtime.boxes import Box

__all__ = ["ReductionThere", "combined", "reduction_there"]

# Arrays of the device, and what is the same for all results: counts, dtypes.
Partial: TypeAlias = tuple[Any, ...]


class ReductionThere(Protocol):
    """How a reduction is done on a device; as `darray.kernels.reductions.Reduction` says."""

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Reduce one chunk."""

    def join(self, a: Partial, b: Partial) -> Partial:
        """Join partial results of chunks that follow each other in C order."""

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the result."""


# How each class of reductions is done on devices.
_THERE: dict[type, Callable[[Any], ReductionThere]] = {}


def reduction_there(reduction: Reduction) -> ReductionThere:
    """How `reduction` is done on a device.

    Raises
    ------
    NotImplementedError
        Where it is done on the host alone.
    """
    make = _THERE.get(type(reduction))
    if make is None:
        raise NotImplementedError(
            f"{reduction.name} is not computed on devices with memory of their own; collect the "
            "array, or persist it, and go on outside the block that asks for the device"
        )
    return make(reduction)


def combined(there: ReductionThere, partials: Sequence[Partial]) -> Partial:
    """Partial results of chunks that follow each other, joined pairwise."""
    return fold(there.join, partials)


def _has_nan(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fc"


def _sum(
    values: DeviceArray,
    axes: tuple[int, ...],
    where: DeviceArray | None,
    dtype: np.dtype[Any] | None = None,
) -> DeviceArray:
    options: dict[str, Any] = {} if where is None else {"where": where}
    if dtype is not None:
        options["dtype"] = dtype
    return called(np.add.reduce, values, axis=axes, keepdims=True, **options)


def _count(chunk: DeviceArray, axes: tuple[int, ...], where: DeviceArray | None) -> Any:
    """How many elements are reduced to each one: a number where it is the same for all."""
    if where is None:
        return prod([chunk.shape[axis] for axis in axes])
    return _sum(where, axes, None, np.dtype(np.intp))


def _any(condition: Any) -> bool:
    """Whether anything is true of what a device, or Python, compared."""
    return condition if isinstance(condition, bool) else bool(called(np.any, condition))


def _both(valid: DeviceArray | None, where: DeviceArray | None) -> DeviceArray | None:
    if valid is None or where is None:
        return where if valid is None else valid
    return called(np.logical_and, valid, where)


class _Ufunc:
    """`ufunc.reduce`."""

    def __init__(self, reduction: UfuncReduction) -> None:
        self.reduction = reduction

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Reduce one chunk."""
        reduction = self.reduction
        options: dict[str, Any] = {} if where is None else {"where": where}
        if reduction.dtype is not None:
            options["dtype"] = reduction.dtype
        initial = reduction.initial_of_chunk(chunk.dtype, where is not None)
        if initial is not np._NoValue:
            options["initial"] = initial
        values = without_imaginary(chunk, reduction.dtype)
        return (called(reduction.ufunc.reduce, values, axis=axes, keepdims=True, **options),)

    def join(self, a: Partial, b: Partial) -> Partial:
        """Join by the ufunc."""
        (one,), (other,) = a, b
        return (called(self.reduction.ufunc, one, other).astype(one.dtype),)

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the reduction, the initial value added."""
        (reduced,) = partial
        initial = self.reduction.initial
        if self.reduction.initial_of_chunk(reduced.dtype, False) is initial:
            # There is none, or every chunk began with it.
            return reduced
        start = np.asarray(initial).astype(reduced.dtype)[()]
        return called(self.reduction.ufunc, start, reduced).astype(reduced.dtype)


class _NanFilled(_Ufunc):
    """`ufunc.reduce` with every NaN replaced."""

    def __init__(self, reduction: NanFilled) -> None:
        super().__init__(reduction.reduction)
        self.fill = reduction.fill

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Reduce one chunk."""
        if _has_nan(chunk.dtype):
            fill = chunk.dtype.type(self.fill)
            chunk = called(np.where, called(np.isnan, chunk), fill, chunk)
        return super().partial(chunk, axes, where, box, shape)


class _NanExtremum(_Ufunc):
    """`nanmin` and `nanmax`."""

    def __init__(self, reduction: NanExtremum) -> None:
        super().__init__(reduction.reduction)

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the extremes, with a warning where all is NaN."""
        extremes = super().finish(partial, warn)
        if _any(called(np.isnan, extremes)):
            warn("All-NaN slice encountered")
        return extremes


class _CountNonzero(_Ufunc):
    """`count_nonzero`."""

    def __init__(self, reduction: CountNonzero) -> None:
        super().__init__(UfuncReduction(np.add, np.dtype(np.intp)))

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Count in one chunk."""
        return super().partial(chunk.astype(np.dtype(bool)), axes, where, box, shape)


class _Mean:
    """`mean` and `nanmean`: sums, counts, and the dtype of the operand."""

    def __init__(self, reduction: Mean) -> None:
        self.reduction = reduction

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Sum and count one chunk."""
        skips = self.reduction.skip_nan and _has_nan(chunk.dtype)
        dtype = self.reduction.dtype
        if dtype is None and chunk.dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        elif dtype is None and chunk.dtype == np.float16 and not skips:
            dtype = np.dtype(np.float32)
        valid = called(np.logical_not, called(np.isnan, chunk)) if skips else None
        counted = _both(valid, where)
        values = without_imaginary(chunk, dtype)
        return _sum(values, axes, counted, dtype), _count(chunk, axes, counted), chunk.dtype

    def join(self, a: Partial, b: Partial) -> Partial:
        """Add sums and counts."""
        return called(np.add, a[0], b[0]).astype(a[0].dtype), a[1] + b[1], a[2]

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return sum / count, with NumPy's warning where there was nothing to count."""
        total, count, operand = partial
        skips = self.reduction.skip_nan and _has_nan(operand)
        if _any(count == 0) and not (skips and not prod(total.shape)):
            warn("Mean of empty slice")
        with np.errstate(invalid="ignore", divide="ignore") if skips else nullcontext():
            mean = called(np.true_divide, total, count)
        return mean.astype(self.reduction.result_dtype(operand))


class _Variance:
    """`var` and `std`: counts, means, squared deviations from them, the dtype of the operand.

    Deviations are squared in double precision at least. Results of chunks are joined by the
    formula of Chan, Golub and LeVeque that `darray.kernels.moments.merge_moments` names.
    """

    def __init__(self, reduction: Variance) -> None:
        self.reduction = reduction

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the moments of one chunk: its mean first, then what lies off it."""
        skips = self.reduction.skip_nan and _has_nan(chunk.dtype)
        valid = called(np.logical_not, called(np.isnan, chunk)) if skips else None
        counted = _both(valid, where)
        values = chunk.astype(np.result_type(chunk.dtype, self.reduction.dtype or "f8", np.float64))
        count = _count(chunk, axes, counted)
        mean = called(np.true_divide, _sum(values, axes, counted), _at_least_one(count))
        rest = called(np.subtract, values, mean)
        squares = called(np.multiply, rest, called(np.conjugate, rest)).real
        return count, mean, _sum(squares, axes, counted), chunk.dtype

    def join(self, a: Partial, b: Partial) -> Partial:
        """Merge moments."""
        count_a, mean_a, squares_a, operand = a
        count_b, mean_b, squares_b, _ = b
        count = count_a + count_b
        share = count_b / _at_least_one(count)
        away = called(np.subtract, mean_b, mean_a)
        mean = called(np.add, mean_a, called(np.multiply, away, share))
        between = called(np.multiply, away, called(np.conjugate, away)).real
        between = called(np.multiply, between, count_a * share)
        return count, mean, called(np.add, called(np.add, squares_a, squares_b), between), operand

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the variance or its root, with NumPy's warning where too little was counted."""
        count, _, squares, operand = partial
        reduction = self.reduction
        skips = reduction.skip_nan and _has_nan(operand)
        result = _divided(squares, count - reduction.ddof, skips, warn)
        result = result.astype(reduction.result_dtype(operand))
        return called(np.sqrt, result) if reduction.root else result


class _MeanSquare(_Mean):
    """`var` and `std` about means that are given: sums and counts of the squared distances."""

    def __init__(self, reduction: MeanSquare) -> None:
        super().__init__(reduction)
        self.square = reduction

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the sum over the degrees of freedom, or its root."""
        total, count, operand = partial
        square = self.square
        result = _divided(total, count - square.ddof, square.nan_if_lacking, warn)
        result = result.astype(square.result_dtype(operand))
        return called(np.sqrt, result) if square.root else result


def _divided(squares: DeviceArray, degrees: Any, nan_if_lacking: bool, warn: Warn) -> DeviceArray:
    """Sums of squares over degrees of freedom, with NumPy's warning where there are too few."""
    is_lacking = _any(degrees <= 0)
    if is_lacking:
        warn("Degrees of freedom <= 0 for slice" + ("." if nan_if_lacking else ""))
    if not nan_if_lacking:
        positive = max(degrees, 0) if _is_number(degrees) else called(np.maximum, degrees, 0)
        return called(np.true_divide, squares, positive)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = called(np.true_divide, squares, degrees)
    if not is_lacking:
        return variance
    return called(np.where, degrees <= 0, squares.dtype.type(np.nan), variance)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _at_least_one(count: Any) -> Any:
    return max(count, 1) if _is_number(count) else called(np.maximum, count, 1)


class _ArgExtremum:
    """`argmin` and the like: extremes, their indices, and whether there was a value."""

    def __init__(self, reduction: ArgExtremum) -> None:
        self.reduction = reduction

    def partial(
        self,
        chunk: DeviceArray,
        axes: tuple[int, ...],
        where: DeviceArray | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the extremes of one chunk and where they are in all."""
        if where is not None:
            name = self.reduction.name
            raise TypeError(f"{name}() has no argument 'where'; fill values in with np.where")
        largest, values, found = self.reduction.largest, chunk, None
        if self.reduction.skip_nan and _has_nan(chunk.dtype):
            nans = called(np.isnan, chunk)
            least = chunk.dtype.type(-np.inf if largest else np.inf)
            values = called(np.where, nans, least, chunk)
            valid = called(np.logical_not, nans)
            found = called(np.logical_or.reduce, valid, axis=axes, keepdims=True)
        kept = tuple([1 if axis in axes else length for axis, length in enumerate(chunk.shape)])
        outer = [axis for axis in range(len(chunk.shape)) if axis not in axes]
        lengths = [chunk.shape[axis] for axis in axes]
        lines = values.transpose([*outer, *axes])
        lines = lines.reshape((*[chunk.shape[axis] for axis in outer], prod(lengths)))
        local = called(np.argmax if largest else np.argmin, lines, axis=-1)[..., None]
        extremes = called(np.take_along_axis, lines, local, -1).reshape(kept)
        index, rest, stride = called(np.multiply, local, 0), local, 1
        for axis, length in zip(reversed(axes), reversed(lengths), strict=True):
            place = called(np.remainder, rest, length)
            rest = called(np.floor_divide, rest, length)
            place = called(np.multiply, place, box[axis].step)
            place = called(np.multiply, called(np.add, place, box[axis].start), stride)
            index = called(np.add, index, place)
            stride *= shape[axis]
        return extremes, index.astype(np.dtype(np.intp)).reshape(kept), found

    def join(self, a: Partial, b: Partial) -> Partial:
        """Keep the extreme of the extremes; among equal ones, the smallest index."""
        (one, at_one, found_one), (other, at_other, found_other) = a, b
        same = called(np.equal, one, other)
        better = called(np.greater if self.reduction.largest else np.less, other, one)
        if one.dtype.kind in "fcmM":
            # The first NaN wins over all.
            nan_one, nan_other = called(np.isnan, one), called(np.isnan, other)
            same = called(np.logical_or, same, called(np.logical_and, nan_one, nan_other))
            better = called(np.logical_or, better, nan_other)
        earlier = called(np.less, at_other, at_one)
        chosen = called(np.where, same, earlier, better)
        if one.dtype.kind in "fcmM":
            kept = called(np.logical_and, nan_one, called(np.logical_not, nan_other))
            chosen = called(np.logical_and, chosen, called(np.logical_not, kept))
        found = None if found_one is None else called(np.logical_or, found_one, found_other)
        return (
            called(np.where, chosen, other, one),
            called(np.where, chosen, at_other, at_one),
            found,
        )

    def finish(self, partial: Partial, warn: Warn) -> DeviceArray:
        """Return the indices.

        Raises
        ------
        ValueError
            With `skip_nan`, where there is nothing but NaN.
        """
        _, index, found = partial
        if found is not None and _any(called(np.logical_not, found)):
            raise ValueError("All-NaN slice encountered")
        return index


_THERE[UfuncReduction] = _Ufunc
_THERE[NanFilled] = _NanFilled
_THERE[NanExtremum] = _NanExtremum
_THERE[CountNonzero] = _CountNonzero
_THERE[Mean] = _Mean
_THERE[Variance] = _Variance
_THERE[MeanSquare] = _MeanSquare
_THERE[ArgExtremum] = _ArgExtremum
