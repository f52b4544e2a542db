"""Whether a computation with DArrays does what the same one with NumPy arrays does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import darray as da

# What NumPy raises at once, since it follows from shapes, dtypes and Python numbers alone.
KNOWN_EARLY = (TypeError, OverflowError, IndexError, np.exceptions.AxisError)


@dataclass
class Outcome:
    """What a computation gave: arrays, or an error; and what it warned of."""

    arrays: list[NDArray[Any]] = field(default_factory=list)
    error: BaseException | None = None
    built: bool = False
    warnings: set[tuple[str, str]] = field(default_factory=set)
    calls: set[tuple[str, int]] = field(default_factory=set)


def observe(
    build: Callable[[], Any], errors: dict[str, str] | None = None, later: str = "ignore"
) -> Outcome:
    """Build under NumPy's error state `errors`, collect under another, and note what happens.

    Parameters
    ----------
    later
        How floating-point errors are answered where DArrays are collected; that must not matter.
    """
    outcome = Outcome()

    def called(kind: str, flag: int) -> None:
        outcome.calls.add((kind, flag))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with np.errstate(call=called, **(errors or {})):
                built = build()
            outcome.built = True
            every = list(built) if isinstance(built, (tuple, list)) else [built]
            if any(isinstance(one, da.DArray) for one in every):
                with np.errstate(all=later):
                    outcome.arrays = list(da.compute(*every))
                for lazy, array in zip(every, outcome.arrays, strict=True):
                    assert (lazy.shape, lazy.dtype) == (array.shape, array.dtype)
            else:
                outcome.arrays = [np.asarray(one) for one in every]
        except (ArithmeticError, ValueError, TypeError, IndexError, RuntimeError) as error:
            outcome.error = error
    # NumPy's scalars compute for themselves and say so; arrays without axes here do not.
    outcome.warnings = {
        (one.category.__name__, str(one.message).replace("scalar ", "")) for one in caught
    }
    return outcome


def same_values(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether all values are the same bits, but for which NaN or NaT it is."""
    if theirs.dtype.kind == "c":
        return same_values(ours.real, theirs.real) and same_values(ours.imag, theirs.imag)
    same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    if theirs.dtype.kind == "f":
        same &= (np.signbit(ours) == np.signbit(theirs)) | np.isnan(theirs)
    return bool(np.all(same))


def same_arrays(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Whether two arrays have one shape, dtype and values."""
    assert type(ours) is np.ndarray
    assert ours.flags.writeable
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return same_values(ours, theirs)


def assert_same(ours: Outcome, theirs: Outcome) -> None:
    """Check that two outcomes are alike: arrays, warnings, or the type of the error."""
    if theirs.error is not None:
        assert type(ours.error) is type(theirs.error), (ours.error, theirs.error)
        if isinstance(theirs.error, KNOWN_EARLY):
            assert not ours.built, f"raised only when collected: {ours.error!r}"
        return
    if ours.error is not None:
        raise ours.error
    assert len(ours.arrays) == len(theirs.arrays)
    for mine, other in zip(ours.arrays, theirs.arrays, strict=True):
        assert same_arrays(mine, other), (mine, other)
    assert ours.warnings == theirs.warnings
    assert ours.calls == theirs.calls


def check(
    build: Callable[..., Any],
    lazy: tuple[Any, ...],
    plain: tuple[Any, ...],
    errors: dict[str, str] | None = None,
    later: str = "ignore",
) -> None:
    """Check that ``build(*lazy)`` does what ``build(*plain)`` does."""
    theirs = observe(lambda: build(*plain), errors)
    ours = observe(lambda: build(*lazy), errors, later)
    assert_same(ours, theirs)
