"""Run a reduction over an array cut into chunks, and NumPy's function beside it."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

from darray.blocks import Chunks
from darray.kernels.reductions import Partial, Reduction, check_operand
from darray.testing.strategies import chunks_for, shapes

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """An array, how it is cut, what is reduced, and in which groups partial results are joined."""

    array: Array
    chunks: Chunks
    axes: tuple[int, ...]
    where: Array | None
    group: int


@dataclass
class Outcome:
    """What a reduction gave, with NumPy's messages and floating-point flags."""

    result: Array | None = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


@st.composite
def cases(
    draw: DrawFn,
    dtypes: SearchStrategy[np.dtype[Any]],
    elements: Callable[[np.dtype[Any]], SearchStrategy[Any]],
    *,
    masked: bool = False,
    one_or_all: bool = False,
) -> Case:
    """Draw cases; `one_or_all` reduces along one axis or all, as argmin does."""
    shape = draw(shapes(max_side=5))
    dtype = draw(dtypes)
    size = int(np.prod(shape, dtype=int))
    flat = np.empty(size, dtype)
    for i, value in enumerate(draw(st.lists(elements(dtype), min_size=size, max_size=size))):
        flat[i] = value
    array = flat.reshape(shape)
    if draw(st.booleans()):  # the strides of a transpose
        array = np.asarray(array.T, order="C").T
    every = tuple(range(len(shape)))
    if one_or_all:
        axes = draw(st.sampled_from([every, *[(axis,) for axis in every]]))
    else:
        axes = tuple(sorted(draw(st.sets(st.sampled_from(every))))) if every else ()
    where = None
    if masked and draw(st.booleans()):
        bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        where = np.array(bits, bool).reshape(shape)
    return Case(array, draw(chunks_for(shape)), axes, where, draw(st.integers(2, 4)))


def boxes_along(pieces: tuple[int, ...]) -> list[slice]:
    """Return the slices of an axis cut into pieces."""
    ends = np.cumsum(pieces).tolist()
    return [slice(end - n, end, 1) for end, n in zip(ends, pieces, strict=True)]


def partial_along(reduction: Reduction, case: Case, kept: tuple[slice, ...]) -> Partial:
    """Reduce the chunks that lie in one line along the reduced axes."""
    along = [
        boxes_along(case.chunks[axis]) if axis in case.axes else [kept[axis]]
        for axis in range(case.array.ndim)
    ]
    parts = []
    for box in product(*along):
        where = None if case.where is None else case.where[(*box, ...)]
        chunk = case.array[(*box, ...)]
        chunk.flags.writeable = False  # as tasks see it
        part = reduction.partial(chunk, case.axes, where, box, case.array.shape)
        assert all(isinstance(array, np.ndarray) for array in part)
        parts.append(pickle.loads(pickle.dumps(part)))
    while len(parts) > 1:
        parts = [
            reduction.combine(parts[i : i + case.group]) for i in range(0, len(parts), case.group)
        ]
    return parts[0]


def reduce_chunks(reduction: Reduction, case: Case, warn: Callable[[str], None]) -> Array:
    """Reduce the array chunk by chunk, the reduced axes kept."""
    array = case.array
    dtype = check_operand(reduction, array.dtype, array.shape, case.axes, case.where is not None)
    result = np.empty([1 if a in case.axes else n for a, n in enumerate(array.shape)], dtype)
    lines = [
        [slice(0, 1, 1)] if axis in case.axes else boxes_along(case.chunks[axis])
        for axis in range(array.ndim)
    ]
    for kept in product(*lines):
        piece = reduction.finish(partial_along(reduction, case, kept), warn)
        assert isinstance(piece, np.ndarray)
        assert piece.dtype == dtype
        assert piece.shape == result[(*kept, ...)].shape
        result[(*kept, ...)] = piece
    return result


def observe(call: Callable[[Callable[[str], None]], Any]) -> Outcome:
    """Call with a collector of warnings, and keep what happened."""
    outcome = Outcome()

    def note(kind: str, flag: int) -> None:
        outcome.flags.add(kind)

    with warnings.catch_warnings(record=True) as caught, np.errstate(all="call", call=note):
        warnings.simplefilter("always")
        try:
            outcome.result = np.asarray(call(outcome.warnings.append))
        except Exception as error:
            outcome.error = error
    outcome.warnings += [str(warning.message) for warning in caught]
    outcome.flags -= {"underflow"}
    return outcome


def compare(
    case: Case, function: Callable[..., Any], reduction: Callable[[], Reduction], **parameters: Any
) -> tuple[Outcome, Outcome]:
    """Return our outcome and NumPy's: the same error, or the same shape, dtype and warnings."""
    theirs = observe(lambda _: oracle(case, function, **parameters))
    ours = observe(lambda warn: reduce_chunks(reduction(), case, warn))
    if theirs.error is not None:
        assert type(ours.error) is type(theirs.error), (ours.error, theirs.error)
        assert str(ours.error) == str(theirs.error)
        return ours, theirs
    if ours.error is not None:
        raise ours.error
    assert ours.result is not None
    assert theirs.result is not None
    assert ours.result.shape == theirs.result.shape
    assert ours.result.dtype == theirs.result.dtype
    assert set(ours.warnings) == set(theirs.warnings)
    return ours, theirs


def oracle(case: Case, function: Callable[..., Any], **parameters: Any) -> Any:
    """Call NumPy's function on the whole array."""
    if case.where is not None:
        parameters["where"] = case.where
    reduce = function.reduce if isinstance(function, np.ufunc) else function
    return reduce(case.array, axis=case.axes, keepdims=True, **parameters)


def equal(a: Array | None, b: Array | None) -> bool:
    """Return whether all values are equal, NaN and NaT to themselves."""
    assert a is not None
    assert b is not None
    return bool(((a == b) | ((a != a) & (b != b))).all())
