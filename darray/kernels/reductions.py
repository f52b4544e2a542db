"""Reductions of chunks as plain data: what every reduction answers, and those of NumPy's ufuncs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from darray.kernels.line_sums import is_line, sum_of_line
from darray.runtime.boxes import Box, whole

__all__ = [
    "NO_VALUE",
    "CountNonzero",
    "NanFilled",
    "Partial",
    "Reduction",
    "UfuncReduction",
    "Warn",
    "as_array",
    "check_operand",
    "counts_along",
    "fold",
    "is_silent",
    "join",
    "nan_mask",
    "without_imaginary",
]

Array: TypeAlias = NDArray[Any]
Partial: TypeAlias = tuple[Array, ...]
Warn: TypeAlias = Callable[[str], None]
T = TypeVar("T")

# What NumPy's signatures have where a parameter was not given; `initial=None` means something.
NO_VALUE: Any = np._NoValue

# With these a value may be taken into the result any number of times.
_IDEMPOTENT = frozenset({np.minimum, np.maximum, np.fmin, np.fmax})


class Reduction(Protocol):
    """How one function reduces an array that is cut into chunks.

    Every chunk gives a partial result; those of chunks in one line along the reduced axes are
    combined, as often as wanted, and the last one is finished into the result.  Reductions are
    frozen, hashable and picklable.
    """

    @property
    def name(self) -> str:
        """The name that NumPy gives the function."""

    @property
    def needs_values(self) -> bool:
        """Whether reducing no elements to one is an error."""

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the result; raise what NumPy raises for a dtype it refuses."""

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Reduce one chunk, which lies at `box` in the whole array of `shape`.

        The arrays have length 1 along the reduced axes and the chunk's length along the others;
        one that would repeat itself along the others (a count) may have length 1 there too.
        """

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Join partial results of chunks that follow each other in C order."""

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the result, the reduced axes kept; `warn` takes NumPy's RuntimeWarnings."""


def fold(join: Callable[[T, T], T], items: Sequence[T]) -> T:
    """Join neighbours, then their results, until one is left: rounding grows by log2 of the number.

    Examples
    --------
    >>> fold(lambda a, b: f"({a}{b})", "abcde")
    '(((ab)(cd))e)'
    """
    level = list(items)
    while len(level) > 1:
        joined = [join(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = joined + level[2 * len(joined) :]
    return level[0]


def as_array(reduced: Any, dtype: np.dtype[Any]) -> Array:
    """Return what a ufunc's `reduce` gave as an array: of arrays without axes it gives a scalar.

    Parameters
    ----------
    dtype
        The dtype it was asked for; only whether it is that of objects matters.

    Examples
    --------
    >>> as_array(np.float32(2), np.dtype("f4"))
    array(2., dtype=float32)
    """
    if isinstance(reduced, np.ndarray) or not dtype.hasobject:
        return np.asarray(reduced)
    result = np.empty((), object)
    result[()] = reduced
    return result


def join(ufunc: np.ufunc, a: Array, b: Array) -> Array:
    """Return ``ufunc(a, b)`` as an array of the dtype of `a`, also where it has no axes.

    Examples
    --------
    >>> join(np.add, np.array(1, "i1"), np.array(2, "i1"))
    array(3, dtype=int8)
    """
    shape = a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)
    joined = np.empty(shape, a.dtype)
    ufunc(a, b, out=joined, casting="unsafe")
    return joined


def nan_mask(chunk: Array) -> NDArray[np.bool_] | None:
    """Return where NumPy's nan-functions see NaN, or None for a dtype that has none for them.

    Examples
    --------
    >>> nan_mask(np.array([1.0, np.nan]))
    array([False,  True])
    >>> nan_mask(np.arange(3)) is None
    True
    """
    if chunk.dtype.kind == "O":
        return np.asarray(np.not_equal(chunk, chunk, dtype=bool))
    return np.asarray(np.isnan(chunk)) if chunk.dtype.kind in "fc" else None


def counts_along(shape: tuple[int, ...], axes: tuple[int, ...], where: Array | None) -> Array:
    """Return how many elements are reduced to each one; a single number where there is no mask.

    Examples
    --------
    >>> counts_along((4, 3), (0,), None)
    array([[4]])
    >>> counts_along((2, 3), (0,), np.array([True, False, True]))
    array([[2, 0, 2]])
    """
    if where is not None:
        mask = np.broadcast_to(where, shape)
        return np.asarray(np.add.reduce(mask, axis=axes, dtype=np.intp, keepdims=True))
    count = 1
    for axis in axes:
        count *= shape[axis]
    return _one_count(count, len(shape))


@functools.lru_cache(maxsize=256)
def _one_count(count: int, dimensions: int) -> Array:
    found = np.full((1,) * dimensions, count, np.intp)
    # Chunks of one shape share it.
    found.flags.writeable = False
    return found


def check_operand(
    reduction: Reduction,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    masked: bool = False,
) -> np.dtype[Any]:
    """Return the dtype of a reduction's result, or raise what NumPy raises for such an operand.

    Besides the dtype this refuses an empty operand where the reduction needs values, a mask where
    there is neither identity nor initial value, and an initial value that the dtype cannot hold.
    Nothing of the operand is read.

    Parameters
    ----------
    masked
        Whether a `where` will be given.

    Examples
    --------
    >>> check_operand(UfuncReduction(np.add), np.dtype("u4"), (5, 2), (0,))
    dtype('uint64')
    >>> check_operand(UfuncReduction(np.minimum), np.dtype("u4"), (0, 2), (0,))
    Traceback (most recent call last):
    ValueError: zero-size array to reduction operation minimum which has no identity
    """
    result = reduction.result_dtype(dtype)
    small = tuple([min(length, 1) for length in shape])
    if masked or 0 in small:
        stand_in = np.zeros(small, dtype)
        where = np.ones(small, bool) if masked else None
        with np.errstate(all="ignore"):
            reduction.partial(stand_in, axes, where, whole(small), small)
    return result


def is_silent(operand: np.dtype[Any], dtype: np.dtype[Any] | None) -> bool:
    """Whether NumPy warns of nothing where it reduces `operand` in `dtype`.

    Else it is to be asked each time.

    Examples
    --------
    >>> is_silent(np.dtype("c16"), np.dtype("f8")), is_silent(np.dtype("c16"), None)
    (False, True)
    """
    return dtype is None or operand.kind != "c"


@functools.lru_cache(maxsize=1024)
def _reduced_dtype(
    ufunc: np.ufunc, operand: np.dtype[Any], dtype: np.dtype[Any] | None
) -> np.dtype[Any]:
    found: np.dtype[Any] = ufunc.reduce(np.empty((0, 1), operand), axis=1, dtype=dtype).dtype
    return found


@functools.lru_cache(maxsize=256)
def _require_reorderable(ufunc: np.ufunc) -> None:
    if ufunc.identity is not None or ufunc in _IDEMPOTENT:
        return
    for dtype in (float, int, bool, object):
        try:
            ufunc.reduce(np.ones((1, 1), dtype), axis=(0, 1))
        except TypeError:
            continue
        except ValueError as error:
            if "reorderable" not in str(error):
                raise
            break
        return
    raise NotImplementedError(
        f"{ufunc.__name__}.reduce of an array in chunks: {ufunc.__name__} is not reorderable, so "
        "results of chunks cannot be joined; collect the array and reduce it with NumPy"
    )


class UfuncReduction(Struct, frozen=True):
    """`ufunc.reduce` for a ufunc that NumPy lets reduce over several axes.

    Parameters
    ----------
    initial
        As in NumPy: a value to start from, or None for "there is no identity".
    name
        The name of the function this stands for; the ufunc's own where not given.

    Raises
    ------
    NotImplementedError
        For a ufunc that is not reorderable, such as `np.subtract`.
    ValueError, RuntimeError
        For a ufunc that NumPy does not reduce with at all.

    Examples
    --------
    >>> add = UfuncReduction(np.add, name="sum")
    >>> left, right = np.arange(3), np.arange(3, 5)
    >>> parts = [add.partial(a, (0,), None, (), ()) for a in (left, right)]
    >>> add.finish(add.combine(parts), print)
    array([10])
    """

    ufunc: np.ufunc
    dtype: np.dtype[Any] | None = None
    initial: Any = NO_VALUE
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse a ufunc that cannot be reduced in parts, and fill the name in."""
        _require_reorderable(self.ufunc)
        if isinstance(self.initial, np.ndarray) and self.initial.ndim == 0:
            force_setattr(self, "initial", self.initial[()])  # a scalar can be hashed
        if not self.name:
            force_setattr(self, "name", self.ufunc.__name__)

    @property
    def needs_values(self) -> bool:
        """Whether there is neither an identity nor an initial value."""
        return self.initial is None or (self.initial is NO_VALUE and self.ufunc.identity is None)

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype NumPy gives the result."""
        if self.initial is NO_VALUE and is_silent(operand, self.dtype):
            return _reduced_dtype(self.ufunc, operand, self.dtype)
        dtype: np.dtype[Any] = self.ufunc.reduce(
            np.empty((0, 1), operand), axis=1, dtype=self.dtype, initial=self.initial
        ).dtype
        if self.initial is not NO_VALUE and self.initial is not None:
            np.full((), self.initial, dtype)
        return dtype

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the ufunc's reduction of the chunk."""
        if where is None and len(axes) == chunk.ndim and self.adds(chunk):
            return (np.full((1,) * chunk.ndim, sum_of_line(chunk)),)
        reduced = self.ufunc.reduce(
            without_imaginary(chunk, self.dtype),
            axis=axes,
            dtype=self.dtype,
            keepdims=True,
            initial=self.initial_of_chunk(chunk.dtype, where is not None),
            where=True if where is None else where,
        )
        return (as_array(reduced, self.dtype or chunk.dtype),)

    def adds(self, chunk: Array) -> bool:
        """Whether all of a chunk would be added by `sum_of_line`.

        Examples
        --------
        >>> add = UfuncReduction(np.add)
        >>> add.adds(np.zeros(100_000)), add.adds(np.zeros(100_000, int))
        (True, False)
        """
        return (
            self.ufunc is np.add
            and self.initial is NO_VALUE
            and (self.dtype is None or self.dtype == chunk.dtype)
            and is_line(chunk)
        )

    def partial_of_sum(
        self, total: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Partial:
        """Return the partial result of a chunk of `shape` whose sum along `axes` is `total`."""
        return (total,)

    def initial_of_chunk(self, operand: np.dtype[Any], masked: bool) -> Any:
        """Return what the reduction of one chunk starts from.

        The initial value must enter the result once, so `finish` adds it, except where entering
        often is the same and a chunk without values needs it.
        """
        if self.initial is None or self.initial is NO_VALUE:
            return self.initial
        if self.ufunc in _IDEMPOTENT:
            return self.initial
        if masked and self.ufunc.identity is None:
            raise NotImplementedError(
                f"{self.name} with where= of an array in chunks needs an identity, which "
                f"{self.ufunc.__name__} does not have; collect the array and reduce it with NumPy"
            )
        # NumPy itself does not start from the identity for objects.
        return self.ufunc.identity if masked and operand.hasobject else NO_VALUE

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Join with the ufunc, pairwise."""
        return (fold(functools.partial(join, self.ufunc), [part[0] for part in partials]),)

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the reduction, the initial value added."""
        (reduced,) = partial
        if self.initial is None or self.initial is NO_VALUE or self.ufunc in _IDEMPOTENT:
            return reduced
        return join(self.ufunc, np.full(reduced.shape, self.initial, reduced.dtype), reduced)


def without_imaginary(chunk: Array, dtype: np.dtype[Any] | None) -> Array:
    """Return the real part where complex values are to be reduced as real or integer ones.

    NumPy gives the same values with a warning, which comes once, when the result's dtype is asked
    for, and not again from every thread.

    Examples
    --------
    >>> without_imaginary(np.array([1 + 2j]), np.dtype("f8"))
    array([1.])
    """
    to_real = chunk.dtype.kind == "c" and dtype is not None and dtype.kind in "iuf"
    return chunk.real if to_real else chunk


class NanFilled(Struct, frozen=True):
    """A ufunc reduction with every NaN replaced by `fill`: `nansum` and `nanprod`.

    Examples
    --------
    >>> nansum = NanFilled(UfuncReduction(np.add, name="nansum"), 0)
    >>> nansum.partial(np.array([1.0, np.nan, 2.0]), (0,), None, (), ())
    (array([3.]),)
    """

    reduction: UfuncReduction
    fill: int

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return self.reduction.name

    @property
    def needs_values(self) -> bool:
        """Whether there is neither an identity nor an initial value."""
        return self.reduction.needs_values

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype NumPy gives the result."""
        return self.reduction.result_dtype(operand)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the reduction of the chunk, NaN replaced."""
        mask = nan_mask(chunk)
        if mask is not None and mask.any():
            chunk = chunk.copy()
            np.copyto(chunk, self.fill, where=mask)
        return self.reduction.partial(chunk, axes, where, box, shape)

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Join with the ufunc, pairwise."""
        return self.reduction.combine(partials)

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the reduction, the initial value added."""
        return self.reduction.finish(partial, warn)


class CountNonzero(Struct, frozen=True):
    """`np.count_nonzero`.

    Examples
    --------
    >>> CountNonzero().partial(np.array([0, 3, 4]), (0,), None, (), ())
    (array([2]),)
    """

    @property
    def name(self) -> str:
        """The name of the function this stands for."""
        return "count_nonzero"

    @property
    def needs_values(self) -> bool:
        """Nothing counts as 0."""
        return False

    def result_dtype(self, operand: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of an index."""
        np.count_nonzero(np.empty((0, 1), operand), axis=1)
        return np.dtype(np.intp)

    def partial(
        self,
        chunk: Array,
        axes: tuple[int, ...],
        where: Array | None,
        box: Box,
        shape: tuple[int, ...],
    ) -> Partial:
        """Return the counts of the chunk."""
        if where is None and len(axes) == chunk.ndim:
            count = np.count_nonzero(chunk)
            return (np.full((1,) * chunk.ndim, count, np.intp),)
        nonzero = chunk.astype(bool, copy=False)
        mask = True if where is None else where
        counts = np.add.reduce(nonzero, axis=axes, dtype=np.intp, keepdims=True, where=mask)
        return (np.asarray(counts),)

    def combine(self, partials: Sequence[Partial]) -> Partial:
        """Add the counts."""
        return (fold(functools.partial(join, np.add), [part[0] for part in partials]),)

    def finish(self, partial: Partial, warn: Warn) -> Array:
        """Return the counts."""
        return partial[0]
