"""Whether machine code does on this machine what NumPy does: tried before it is used."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darray.kernels.compiled_groups import ROW
from darray.kernels.loop_source import BLOCK, Loop

__all__ = ["disagreement"]

DType: TypeAlias = np.dtype[Any]

_SAMPLE = 4 * BLOCK + 3

# Pieces of the sample whose errors are told apart, and their length: a vector and something.
_PIECES, _PIECE = 48, 19

# Rows of each of three kinds that are added.
_SUMS = 16

# These read the sign of NaN, which is anybody's where there were two.
_TELLING = (np.copysign, np.signbit)


def disagreement(loop: Loop, ufunc: np.ufunc) -> str | None:
    """What `ufunc` does otherwise than NumPy's ufuncs in the place of `loop`; None for nothing.

    The operands are values at which processors and compilers differ, if they do.

    Examples
    --------
    >>> from darray.kernels.loop_source import Step
    >>> double = np.dtype(float)
    >>> root = Loop((double,), frozenset(), (Step(np.sqrt, (0,), (double,), double),))
    >>> disagreement(root, np.sqrt)
    >>> disagreement(root, np.square)
    'sqrt gives other values'
    """
    if loop.sums:
        return _sums_otherwise(loop, ufunc)
    random = np.random.Generator(np.random.PCG64(1))
    inputs = []
    exponents = {step.operands[1] for step in loop.steps if step.function is np.power}
    for k, dtype in enumerate(loop.dtypes):
        values = np.array([2], dtype) if k in exponents else _special_values(dtype)
        inputs.append(
            random.choice(values) if k in loop.constants else random.choice(values, _SAMPLE)
        )
    inputs = [np.asarray(one) for one in inputs]
    names = ", ".join([getattr(step.function, "__name__", "?") for step in loop.steps])
    with np.errstate(all="ignore"):
        made = _by_numpy(loop, inputs)
        theirs, ours = made[-1], ufunc(*inputs)
        counts = np.ones(theirs.shape, bool)
        if any(step.function in _TELLING for step in loop.steps):
            for one in (*inputs, *made):
                counts &= one == one
    if theirs.dtype != ours.dtype or not _same_bits(theirs[counts], ours[counts]):
        return f"{names} gives other values"
    for start in range(0, _PIECES * _PIECE, _PIECE):
        piece = [one[start : start + _PIECE] if one.ndim else one for one in inputs]
        if _errors(lambda p=piece: _by_numpy(loop, p)) - _errors(lambda p=piece: ufunc(*p)):
            return f"{names} tells of fewer errors"
    return None


def _sums_otherwise(loop: Loop, ufunc: np.ufunc) -> str | None:
    """What `disagreement` says of a loop that adds rows, of special and of usual values."""
    random = np.random.Generator(np.random.PCG64(2))
    exponents = {step.operands[1] for step in loop.steps if step.function is np.power}
    inputs = []
    for k, dtype in enumerate(loop.dtypes):
        if k in loop.constants:
            inputs.append(np.array(2 if k in exponents else 1, dtype))
            continue
        values = _special_values(dtype)
        same = np.broadcast_to(random.permutation(values)[:, np.newaxis], (len(values), ROW))
        same = same[np.arange(_SUMS) % len(values)]
        usual = random.uniform(0.5, 4, (_SUMS, ROW)).astype(dtype)
        inputs.append(np.concatenate([same, random.choice(values, (_SUMS, ROW)), usual]))
    names = ", ".join([getattr(step.function, "__name__", "?") for step in loop.steps])

    def by_numpy(rows: list[NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(np.add.reduce(_by_numpy(loop, rows)[-1], axis=1))

    with np.errstate(all="ignore"):
        theirs, ours = by_numpy(inputs), ufunc(*inputs)
    if theirs.dtype != ours.dtype or not _same_bits(theirs, ours):
        return f"sums of {names} have other values"
    for at in range(3 * _SUMS):
        rows = [one[at : at + 1] if one.ndim else one for one in inputs]
        if _errors(lambda r=rows: by_numpy(r)) - _errors(lambda r=rows: ufunc(*r)):
            return f"sums of {names} tell of fewer errors"
    return None


def _special_values(dtype: DType) -> NDArray[Any]:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        return np.array([ends.min, ends.min + 1, 0, 1, 2, 3, 77, ends.max // 2, ends.max], dtype)
    limits = np.finfo(dtype)
    some = [0.0, 0.1, 0.5, 1.0, 1.5, 3.0, 1e5, 2.0**63, limits.max, limits.tiny, np.inf]
    some += [limits.smallest_subnormal, limits.tiny / 3, limits.max / 2, limits.eps]
    half = np.array(some, dtype)
    return np.concatenate([half, -half, np.array([np.nan], dtype)])


def _by_numpy(loop: Loop, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The results of every step."""
    made: list[NDArray[Any]] = []
    for step in loop.steps:
        operands = [
            (inputs[k] if k >= 0 else made[~k]).astype(dtype)
            for k, dtype in zip(step.operands, step.loop_dtypes, strict=True)
        ]
        if isinstance(step.function, np.ufunc) or step.function is np.where:
            made.append(np.asarray(step.function(*operands)))
        else:
            made.append(operands[0])
    return made


def _same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    known = ~np.isnan(a)
    unsigned = f"u{a.dtype.itemsize}"
    bits = [one[known].view(unsigned) for one in (a, b)]
    return bool(np.array_equal(known, ~np.isnan(b)) and np.array_equal(*bits))


def _errors(call: Any) -> set[str]:
    found: set[str] = set()
    with np.errstate(all="call", call=lambda what, flags: found.add(what)):
        call()
    return found
