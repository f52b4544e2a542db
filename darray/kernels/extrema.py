"""Where the extremes are, and extremes that skip NaN: argmin, nanargmin, nanmin and the like."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.kernels.reductions import Partial, UfuncReduction, Warn, nan_mask
from darray.runtime.boxes import Box

__all__ = ["ArgExtremum", "NanExtremum", "uncopied"]

Array = NDArray[Any]

# Bytes up to which a copy, which stays in the cache, takes less time than to go without.
_SOON_COPIED = 2**18


class _Lent:
    """The memory of an array, of which it does not say that it is read-only."""

    def __init__(self, array: Array) -> None:
        self.array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def uncopied(array: Array) -> Array:
    """Return `array` as one of which NumPy's argmax and argmin make no copy.

    They only read, but copy whatever is read-only, which takes longer than looking for extremes
    where the array is no small one.

    Examples
    --------
    >>> array = np.arange(1e5)
    >>> array.flags.writeable = False
    >>> np.shares_memory(uncopied(array), array)
    True
    """
    flags = array.flags
    if array.nbytes <= _SOON_COPIED or flags.writeable or not flags.c_contiguous:
        return array
    if array.dtype.kind not in "biufc":
        return array
    return np.asarray(_Lent(array))


@functools.lru_cache(maxsize=1024)
def _require_order(largest: bool, operand: np.dtype[Any]) -> None:
    """Raise what NumPy raises where it finds no extreme among values of a dtype."""
    lines = np.zeros((1, 1), operand)
    _ = lines.argmax(axis=-1) if largest else lines.argmin(axis=-1)


class ArgExtremum(Struct, frozen=True):
    """`argmin`, `argmax`, `nanargmin`, `nanargmax`: the index of the first extreme in C order.

    The index is the one along the reduced axis, or the flat index in C order over the reduced
    axes of the whole array where there are several.  Without `skip_nan` the first NaN wins.

    Examples
    --------
    >>> argmin = ArgExtremum(largest=False)
    >>> row = np.array([3.0, 1.0, 1.0])
    >>> argmin.partial(row, (0,), None, (slice(10, 13, 1),), (20,))
    (array([1.]), array([11]))
    """

    largest: bool
    skip_nan: bool = False

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return ("nanarg" if self.skip_nan else "arg") + ("max" if self.largest else "min")

    @property
    def needs_values(self) -> bool:
        """There is no index into nothing."""
        return True

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of an index."""
        _require_order(self.largest, operand)
        return np.dtype(np.intp)

    def _extreme_index(self, lines: Array) -> NDArray[np.intp]:
        lines = uncopied(lines)
        index = lines.argmax(axis=-1) if self.largest else lines.argmin(axis=-1)
        return np.asarray(index)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the extremes and their indices, and with `skip_nan` where there was a value.

        As in NumPy a skipped NaN counts as the infinity that is least extreme, so that it wins
        over the same infinity further on.
        """
        if where is not None:
            raise TypeError(f"{self.name}() has no argument 'where'; fill values in with np.where")
        mask = nan_mask(chunk) if self.skip_nan else None
        values = chunk
        if mask is not None and mask.any():
            values = chunk.copy()
            np.copyto(values, -np.inf if self.largest else np.inf, where=mask)
        if mask is None and len(axes) == chunk.ndim and chunk.size and chunk.flags.c_contiguous:
            return self._partial_of_line(chunk, box, shape)
        kept = [1 if axis in axes else length for axis, length in enumerate(chunk.shape)]
        lengths = tuple([chunk.shape[axis] for axis in axes])
        moved = np.moveaxis(values, axes, range(chunk.ndim - len(axes), chunk.ndim))
        lines = moved.reshape(*moved.shape[: chunk.ndim - len(axes)], prod(lengths))
        local = self._extreme_index(lines)
        extremes = np.take_along_axis(lines, local[..., np.newaxis], -1).reshape(kept)
        index = local
        if axes and local.size:
            cuts = [box[axis] for axis in axes]
            places = np.unravel_index(local, lengths)
            whole_places = [
                cut.start + cut.step * place for cut, place in zip(cuts, places, strict=True)
            ]
            index = np.ravel_multi_index(whole_places, [shape[axis] for axis in axes])
        if mask is None:
            return extremes, np.asarray(index).reshape(kept)
        has_value = np.logical_not(np.logical_and.reduce(mask, axis=axes, keepdims=True))
        return extremes, np.asarray(index).reshape(kept), np.asarray(has_value)

    def _partial_of_line(self, chunk: Array, box: Box, shape: tuple[int, ...]) -> Partial:
        """The extreme of all of a chunk and its index, without arrays on the way."""
        line = chunk.reshape(-1)
        local = int(self._extreme_index(line))
        rest, index, stride = local, 0, 1
        for length, cut, whole in zip(chunk.shape[::-1], box[::-1], shape[::-1], strict=True):
            rest, place = divmod(rest, length)
            index += (cut.start + cut.step * place) * stride
            stride *= whole
        sides = (1,) * chunk.ndim
        place = np.array([index], np.intp).reshape(sides)
        return line[local : local + 1].reshape(sides).copy(), place

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Keep the extreme of the extremes; among equal ones, the smallest index."""
        if len(partials) == 1:
            return partials[0]
        extremes = np.stack([part[0] for part in partials], axis=-1)
        index = np.stack([part[1] for part in partials], axis=-1)
        # NumPy's argmin takes the first of equals and the first NaN: sort by index, then ask it.
        order = index.argsort(axis=-1)
        extremes = np.take_along_axis(extremes, order, -1)
        index = np.take_along_axis(index, order, -1)
        best = self._extreme_index(extremes)[..., np.newaxis]
        chosen = (
            np.take_along_axis(extremes, best, -1)[..., 0],
            np.take_along_axis(index, best, -1)[..., 0],
        )
        if len(partials[0]) == 2:
            return chosen
        return (*chosen, np.logical_or.reduce([part[2] for part in partials]))

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the indices.

        Raises
        ------
        ValueError
            With `skip_nan`, where there is nothing but NaN.
        """
        if len(partial) == 3 and not partial[2].all():
            raise ValueError("All-NaN slice encountered")
        return partial[1]


class NanExtremum(Struct, frozen=True):
    """`nanmin` and `nanmax`: `np.fmin` or `np.fmax`, with a warning where all is NaN.

    Examples
    --------
    >>> nanmin = NanExtremum(UfuncReduction(np.fmin, name="nanmin"))
    >>> nanmin.finish(nanmin.partial(np.full(2, np.nan), (0,), None, (), ()), print)
    All-NaN slice encountered
    array([nan])
    """

    reduction: UfuncReduction

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return self.reduction.name

    @property
    def needs_values(self) -> bool:
        """Whether there is no initial value."""
        return self.reduction.needs_values

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype NumPy gives the result."""
        if operand.hasobject:
            raise NotImplementedError(
                f"{self.name} of an array of {operand!r} in chunks; "
                "convert it with astype, or collect it and use NumPy"
            )
        return self.reduction.result_dtype(operand)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the extremes of the chunk."""
        return self.reduction.partial(chunk, axes, where, box, shape)

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Keep the extreme of the extremes."""
        return self.reduction.combine(partials)

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the extremes."""
        extremes = self.reduction.finish(partial, warn)
        if np.isnan(extremes).any():
            warn("All-NaN slice encountered")
        return extremes
