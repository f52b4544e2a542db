"""Strided logical views of arrays as data: which source element each output element is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import index as as_integer
from typing import Any, NamedTuple, Protocol, Self

from msgspec import Struct
from msgspec.structs import force_setattr

from darray.blocks import Chunks, Shape, cut_between
from darray.runtime.boxes import Box

__all__ = ["NEW", "Arrangeable", "AxisMap", "IndexMap", "is_basic"]

NEW = -1  # the source axis of an output axis that was added by newaxis or broadcasting
MOST_AXES = 64  # what NumPy allows

_REVERSED = slice(None, None, -1)
_WHOLE = slice(None)
_NO_INDEX = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) "
    "and integer or boolean arrays are valid indices"
)


class AxisMap(NamedTuple):
    """Where the elements along one output axis lie: `start`, then every `step`, `size` of them.

    `source` is the source axis, or `NEW` for an axis along which all elements are the same one.
    `step` is never 0; it is 1 where `size` is at most 1, so that equal views compare equal.

    Examples
    --------
    >>> IndexMap.from_index(slice(None, None, -2), (7,)).axes
    (AxisMap(source=0, start=6, step=-2, size=4),)
    """

    source: int
    start: int
    step: int
    size: int


class Arrangeable(Protocol):
    """What `IndexMap.arrange` rearranges: an array with basic indices and ``transpose``."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the view that a basic index describes."""

    def transpose(self, axes: Any, /) -> Any:
        """Return the view with the axes in another order."""


class IndexMap(Struct, frozen=True):
    """A view of an array of `source_shape` that basic indices, transposes and broadcasts give.

    `axes` has an entry for each output axis, `fixed` the (source axis, index) of each axis that an
    integer removed.  Every source axis is in exactly one of the two.  Maps are closed under
    composition: `after`.

    Raises
    ------
    ValueError
        When a source axis is missing or comes twice.

    Examples
    --------
    >>> view = IndexMap.from_index((slice(8, 2, -2), None, 1), (10, 5))
    >>> view.shape, view.source_box((slice(0, 2, 1), slice(0, 1, 1)))
    ((3, 1), (slice(6, 9, 2), slice(1, 2, 1)))
    """

    source_shape: Shape
    axes: tuple[AxisMap, ...]
    fixed: tuple[tuple[int, int], ...] = ()

    # What `arrange` does, found once: the transposition that puts the fixed axes first and the
    # others in output order, then the index that removes, reverses and adds; None if it is idle.
    _transposition: tuple[int, ...] | None = None
    _indexer: tuple[Any, ...] | None = None
    _shape: Shape = ()
    _is_identity: bool = False

    def __post_init__(self) -> None:
        """Check that the axes are complete, and find how pieces are arranged."""
        order = [axis for axis, _ in self.fixed]
        order += [axis.source for axis in self.axes if axis.source != NEW]
        in_place = list(range(len(self.source_shape)))
        if order != in_place and sorted(order) != in_place:
            raise ValueError(
                f"axes {self.axes!r} and fixed {self.fixed!r} must have each of the "
                f"{len(in_place)} axes of {self.source_shape!r} once"
            )
        indexer: list[Any] = [0] * len(self.fixed)
        indexer += [
            None if axis.source == NEW else _WHOLE if axis.step > 0 else _REVERSED
            for axis in self.axes
        ]
        idle = all(item is _WHOLE for item in indexer)
        if not self.axes:
            indexer.append(...)  # an array of no axes, where NumPy would give a scalar
        force_setattr(self, "_shape", tuple([axis.size for axis in self.axes]))
        force_setattr(
            self,
            "_is_identity",
            idle and order == in_place and not self.fixed and self._shape == self.source_shape,
        )
        force_setattr(self, "_transposition", None if order == in_place else tuple(order))
        force_setattr(self, "_indexer", None if idle else tuple(indexer))

    def __hash__(self) -> int:
        return hash((self.source_shape, self.axes, self.fixed))

    def __repr__(self) -> str:
        return (
            f"IndexMap(source_shape={self.source_shape!r}, axes={self.axes!r}, "
            f"fixed={self.fixed!r})"
        )

    @classmethod
    def identity(cls, shape: Shape) -> Self:
        """Return the view of all of an array, as it is.

        Examples
        --------
        >>> IndexMap.identity((3, 4)).is_identity
        True
        """
        return cls(shape, tuple([AxisMap(i, 0, 1, size) for i, size in enumerate(shape)]))

    @classmethod
    def from_index(cls, key: object, shape: Shape) -> Self:
        """Return the view that NumPy's basic index `key` gives of an array of `shape`.

        Raises
        ------
        IndexError, TypeError, ValueError
            Where and as NumPy raises them.
        NotImplementedError
            For advanced indices (arrays, lists, bools), see `is_basic`.

        Examples
        --------
        >>> IndexMap.from_index((-1, ..., slice(None, None, 3)), (5, 6, 7)).shape
        (6, 3)
        """
        parts = key if isinstance(key, tuple) else (key,)
        axes: list[AxisMap] = []
        fixed: list[tuple[int, int]] = []
        source = 0
        for part in _complete(parts, len(shape)):
            if part is None:
                axes.append(AxisMap(NEW, 0, 1, 1))
                continue
            length = shape[source]
            if isinstance(part, slice):
                axes.append(_slice_axis(source, part, length))
            else:
                if not -length <= part < length:
                    raise IndexError(
                        f"index {part} is out of bounds for axis {source} with size {length}"
                    )
                fixed.append((source, part % length))
            source += 1
        if len(axes) > MOST_AXES:
            raise IndexError(
                f"number of dimensions must be within [0, {MOST_AXES}], "
                f"indexing result would have {len(axes)}"
            )
        return cls(shape, tuple(axes), tuple(fixed))

    @classmethod
    def transpose(cls, axes: Iterable[int] | None, shape: Shape) -> Self:
        """Return the view with the axes in the order `axes`, or reversed for None.

        Raises
        ------
        numpy.exceptions.AxisError, ValueError
            As `numpy.transpose` does.

        Examples
        --------
        >>> IndexMap.transpose((2, 0, -2), (5, 6, 7)).shape
        (7, 5, 6)
        """
        dimensions = len(shape)
        order = list(reversed(range(dimensions)) if axes is None else axes)
        if len(order) != dimensions:
            raise ValueError(
                f"axes don't match array: {order!r} has {len(order)} axes, "
                f"the array of shape {shape!r} has {dimensions}"
            )
        order = _normal_axes(order, dimensions, f"repeated axis in transpose: {order!r}")
        return cls(shape, tuple(AxisMap(i, 0, 1, shape[i]) for i in order))

    @classmethod
    def broadcast(cls, from_shape: Shape, to_shape: Shape) -> Self:
        """Return the view that `numpy.broadcast_to` gives.

        Raises
        ------
        ValueError
            When `from_shape` does not broadcast to `to_shape`.

        Examples
        --------
        >>> IndexMap.broadcast((5, 1), (3, 5, 4)).source_box((slice(0, 3, 1),) * 3)
        (slice(0, 3, 1), slice(0, 1, 1))
        """
        added = len(to_shape) - len(from_shape)
        fits = added >= 0 and all(
            size in (1, wanted) for size, wanted in zip(from_shape, to_shape[added:], strict=True)
        )
        if not fits or min(to_shape, default=0) < 0:
            raise ValueError(
                f"shape {from_shape!r} cannot be broadcast to {to_shape!r}: from the last axis "
                "backwards, each length must be 1 or the one asked for"
            )
        axes = [AxisMap(NEW, 0, 1, size) for size in to_shape]
        fixed: list[tuple[int, int]] = []
        for source, size in enumerate(from_shape):
            if size == axes[added + source].size:
                axes[added + source] = AxisMap(source, 0, 1, size)
            else:
                fixed.append((source, 0))
        return cls(from_shape, tuple(axes), tuple(fixed))

    @classmethod
    def insert_axes(cls, axes: int | Sequence[int], shape: Shape) -> Self:
        """Return the view with new axes of length 1 at the positions `axes` of the result.

        Raises
        ------
        numpy.exceptions.AxisError, ValueError
            As `numpy.expand_dims` does.

        Examples
        --------
        >>> IndexMap.insert_axes((0, -1), (5, 6)).shape
        (1, 5, 6, 1)
        """
        wanted = _as_sequence(axes)
        dimensions = len(shape) + len(wanted)
        added = set(_normal_axes(wanted, dimensions, f"repeated axis: {axes!r}"))
        kept = iter(IndexMap.identity(shape).axes)
        return cls(
            shape,
            tuple(AxisMap(NEW, 0, 1, 1) if i in added else next(kept) for i in range(dimensions)),
        )

    @classmethod
    def drop_axes(cls, axes: int | Sequence[int] | None, shape: Shape) -> Self:
        """Return the view without `axes`, each of length 1, or without all such axes for None.

        Raises
        ------
        numpy.exceptions.AxisError, ValueError
            As `numpy.squeeze` does.

        Examples
        --------
        >>> IndexMap.drop_axes(None, (5, 1, 6, 1)).shape
        (5, 6)
        """
        if axes is None:
            dropped = [i for i, size in enumerate(shape) if size == 1]
        else:
            repeated = f"duplicate value in 'axis': {axes!r}"
            dropped = sorted(_normal_axes(_as_sequence(axes), len(shape), repeated))
        for axis in dropped:
            if shape[axis] != 1:
                raise ValueError(
                    "cannot select an axis to squeeze out which has size not equal to one: "
                    f"axis {axis} of shape {shape!r} has {shape[axis]}"
                )
        kept = tuple(axis for axis in IndexMap.identity(shape).axes if axis.source not in dropped)
        return cls(shape, kept, tuple((axis, 0) for axis in dropped))

    @property
    def shape(self) -> Shape:
        """The shape of the view."""
        return self._shape

    @property
    def is_identity(self) -> bool:
        """Whether the view is the whole array, as it is."""
        return self._is_identity

    @property
    def arranges_nothing(self) -> bool:
        """Whether pieces are as the view has them, so that there is nothing to arrange."""
        return self._transposition is None and self._indexer is None

    def after(self, inner: IndexMap) -> IndexMap:
        """Return the one view that this view of the view `inner` is.

        Raises
        ------
        ValueError
            When `inner` does not have the shape that this map is for.

        Examples
        --------
        >>> rows = IndexMap.from_index(slice(2, 10, 2), (10, 3))
        >>> IndexMap.from_index((-1, slice(1, None)), rows.shape).after(rows)
        IndexMap(source_shape=(10, 3), axes=(AxisMap(source=1, start=1, step=1, size=2),), \
fixed=((0, 8),))
        """
        if inner.shape != self.source_shape:
            raise ValueError(
                f"a view of an array of shape {self.source_shape!r} cannot come after "
                f"one that gives shape {inner.shape!r}"
            )
        axes = [
            axis if axis.source == NEW else _composed(axis, inner.axes[axis.source])
            for axis in self.axes
        ]
        fixed = [
            (within.source, within.start + within.step * position)
            for within, position in ((inner.axes[axis], index) for axis, index in self.fixed)
            if within.source != NEW
        ]
        # In order, so that one view has one description however it was come by.
        return IndexMap(inner.source_shape, tuple(axes), tuple(sorted([*inner.fixed, *fixed])))

    def source_box(self, box: Box) -> Box:
        """Return the box of the source that holds the elements of `box` of the output.

        An axis that an integer removed has length 1 in it; where `box` is empty, so is it.

        Examples
        --------
        >>> IndexMap.from_index((0, slice(9, None, -3)), (4, 20)).source_box((slice(1, 3, 1),))
        (slice(0, 1, 1), slice(3, 7, 3))
        """
        if self._is_identity and len(box) == len(self.axes):
            for wanted in box:
                if wanted.step != 1 or wanted.start >= wanted.stop:
                    break
            else:
                return box
        found: list[slice] = [_WHOLE] * len(self.source_shape)
        for axis, index in self.fixed:
            found[axis] = slice(index, index + 1, 1)
        for (source, start, step, _), wanted in zip(self.axes, box, strict=True):
            if source == NEW:
                continue
            if wanted.step == 1:
                count = wanted.stop - wanted.start
            else:
                count = len(range(wanted.start, wanted.stop, wanted.step))
            if count <= 0:
                found[source] = slice(0, 0, 1)
                continue
            first = start + step * wanted.start
            stride = step * wanted.step if count > 1 else 1
            last = first + stride * (count - 1)
            low, high = min(first, last), max(first, last)
            found[source] = slice(low, high + 1, abs(stride))
        return tuple(found)

    def output_box(self, box: Box) -> Box | None:
        """Return the box of the output whose elements lie in `box` of the source, or None.

        The steps of `box` are 1. Axes that the source does not have come whole.

        Examples
        --------
        >>> view = IndexMap.from_index((0, slice(9, None, -3)), (4, 20))
        >>> view.output_box((slice(0, 2, 1), slice(4, 8, 1)))
        (slice(1, 2, 1),)
        >>> view.output_box((slice(2, 4, 1), slice(4, 8, 1))) is None
        True
        """
        if any(not box[axis].start <= index < box[axis].stop for axis, index in self.fixed):
            return None
        found: list[slice] = []
        for source, start, step, size in self.axes:
            first, last = 0, size
            if source != NEW and step > 0:
                first = -((start - box[source].start) // step)
                last = -((start - box[source].stop) // step)
            elif source != NEW:
                first = (start - box[source].stop) // -step + 1
                last = (start - box[source].start) // -step + 1
            first, last = max(first, 0), min(last, size)
            if first >= last:
                return None
            found.append(slice(first, last, 1))
        return tuple(found)

    def inverse(self) -> IndexMap | None:
        """Return the view of the output that is the source again; None where parts are left out.

        Examples
        --------
        >>> turned = IndexMap.transpose((1, 0), (5, 6))
        >>> turned.inverse().after(turned).is_identity
        True
        >>> IndexMap.from_index(slice(1, None), (5,)).inverse() is None
        True
        """
        if any(self.source_shape[axis] != 1 for axis, _ in self.fixed):
            return None
        axes = [AxisMap(NEW, 0, 1, 1)] * len(self.source_shape)
        fixed: list[tuple[int, int]] = []
        for place, (source, start, step, size) in enumerate(self.axes):
            if source == NEW:
                if size != 1:
                    return None
                fixed.append((place, 0))
            elif size != self.source_shape[source] or abs(step) != 1:
                return None
            else:
                # A reversal undoes itself.
                axes[source] = AxisMap(place, start, step, size)
        return IndexMap(self.shape, tuple(axes), tuple(fixed))

    def arrange(self, piece: Arrangeable, box: Box) -> Any:
        """Return `piece`, which is ``source[source_box(box)]``, as the piece `box` of the output.

        Copies nothing, and returns `piece` itself where there is nothing to do.  Axes that the
        source does not have come with length 1, to be broadcast.  Every piece of a strided view is
        arranged alike, whatever its `box`; views of other kinds will want it.

        Examples
        --------
        >>> import numpy as np
        >>> source, view = np.arange(10), IndexMap.from_index((None, slice(8, 2, -2)), (10,))
        >>> box = (slice(0, 1, 1), slice(1, 3, 1))
        >>> view.arrange(source[view.source_box(box)], box)
        array([[6, 4]])
        """
        if self._transposition is not None:
            piece = piece.transpose(self._transposition)
        return piece if self._indexer is None else piece[self._indexer]

    def cut(self, chunks: Chunks, limit: int | None = None) -> Chunks:
        """Return the chunks of the output that do not cross those of the source, `chunks`.

        Axes that the source does not have stay whole; with `limit` they are cut so that no chunk
        of the output holds more than `limit` elements, as far as they allow.

        Examples
        --------
        >>> IndexMap.from_index(slice(9, None, -2), (10,)).cut(((4, 4, 2),))
        ((1, 2, 2),)
        >>> IndexMap.broadcast((3,), (5, 3)).cut(((3,),), limit=6)
        ((2, 2, 1), (3,))
        """
        pieces = [
            (axis.size,) if axis.source == NEW else cut_between(chunks[axis.source], *axis[1:])
            for axis in self.axes
        ]
        if limit is None:
            return tuple(pieces)
        own = math.prod(
            max(sizes) for axis, sizes in zip(self.axes, pieces, strict=True) if axis.source != NEW
        )
        room = limit // max(own, 1)
        for position in reversed(range(len(pieces))):
            axis = self.axes[position]
            if axis.source == NEW and axis.size:
                most = max(1, min(room, axis.size))
                full, rest = divmod(axis.size, most)
                pieces[position] = (most,) * full + (rest,) * (rest > 0)
                room //= most
        return tuple(pieces)


def is_basic(key: object) -> bool:
    """Tell whether `key` has no advanced index in it: no array, list, other sequence or bool.

    What is no index at all counts as basic; `IndexMap.from_index` raises NumPy's error for it.

    Examples
    --------
    >>> is_basic((1, slice(2), ..., None)), is_basic([1, 2]), is_basic((0, True))
    (True, False, False)
    """
    parts = key if isinstance(key, tuple) else (key,)
    return not any(map(_is_advanced, parts))


def _is_advanced(part: object) -> bool:
    """Tell whether `part` is an index by values: a bool, a sequence, an array with axes."""
    if isinstance(part, bool):
        return True
    if part is None or part is ... or isinstance(part, (int, slice, str, bytes)):
        return False
    dtype = getattr(part, "dtype", None)
    if dtype is None:
        return isinstance(part, Sequence)
    # An array, or a scalar with a dtype; those with no axes are integers if they are anything.
    kind = getattr(dtype, "kind", "i")
    return bool(kind == "b" or (kind in "iu" and getattr(part, "ndim", 0) > 0))


def _complete(parts: tuple[Any, ...], dimensions: int) -> list[Any]:
    """Return `parts` as ints, slices and None only, with one int or slice for each axis."""
    found: list[Any] = []
    ellipsis: int | None = None
    advanced: object = None
    consumed = 0
    for part in parts:
        if part is None:
            found.append(None)
        elif isinstance(part, slice):
            found.append(part)
            consumed += 1
        elif part is ...:
            if ellipsis is not None:
                raise IndexError("an index can only have a single ellipsis ('...')")
            ellipsis = len(found)
        elif _is_advanced(part):
            advanced = part
        else:
            found.append(_as_index(part))
            consumed += 1
    if advanced is not None:
        raise NotImplementedError(
            f"index {advanced!r} picks elements by value (a fancy index), which no strided view "
            "can: collect() the array first, or index with integers and slices"
        )
    if consumed > dimensions:
        raise IndexError(
            f"too many indices for array: array is {dimensions}-dimensional, "
            f"but {consumed} were indexed"
        )
    rest = [_WHOLE] * (dimensions - consumed)
    at = len(found) if ellipsis is None else ellipsis
    return found[:at] + rest + found[at:]


def _as_index(part: Any) -> int:
    """Return `part` as an integer index."""
    try:
        return as_integer(part)
    except TypeError as error:
        if getattr(part, "ndim", 0) > 0:
            message = "arrays used as indices must be of integer (or boolean) type"
            raise IndexError(message) from error
        raise IndexError(_NO_INDEX) from error


def _slice_axis(source: int, part: slice, length: int) -> AxisMap:
    """Return what a slice takes of an axis."""
    taken = range(*part.indices(length))
    return _canonical(source, taken.start, taken.step, len(taken))


def _composed(outer: AxisMap, inner: AxisMap) -> AxisMap:
    """Return `outer`, which counts along `inner`, in terms of what `inner` counts along."""
    if inner.source == NEW:
        return AxisMap(NEW, 0, 1, outer.size)
    start = inner.start + inner.step * outer.start
    return _canonical(inner.source, start, inner.step * outer.step, outer.size)


def _canonical(source: int, start: int, step: int, size: int) -> AxisMap:
    """Return the axis with the start and step that do not matter put to 0 and 1."""
    return AxisMap(source, start if size else 0, step if size > 1 else 1, size)


def _as_sequence(axes: int | Sequence[int]) -> Sequence[int]:
    """Return `axes` as a sequence, one axis or several."""
    return axes if isinstance(axes, Sequence) else (as_integer(axes),)


def _normal_axes(axes: Sequence[int], dimensions: int, repeated: str) -> list[int]:
    """Return `axes` counted from the front; ValueError(`repeated`) if one comes twice."""
    normal: list[int] = []
    for given in axes:
        axis = as_integer(given)
        if not -dimensions <= axis < dimensions:
            # Only the error comes from NumPy, because its users catch that very type.
            from numpy.exceptions import AxisError

            raise AxisError(axis, dimensions)
        normal.append(axis % dimensions)
    if len(set(normal)) != len(normal):
        raise ValueError(repeated)
    return normal
