"""Lines that make new arrays, from nothing and from what others hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.arrays.mutation.drawing import Scribe, casts_well, fits, is_exact

UNARY = ("-{}", "np.square({})", "~{}", "abs({})", "np.sign({})", "np.isfinite({})")
UNARY += ("np.logical_not({})", "np.conjugate({})", "+{}", "np.trunc({})")
OPERATORS = ("+", "*", "-", "//", "%", "&", "|", "^", "<<", "/", "**")
COMPARISONS = ("<", ">=", "==", "!=")
FUNCTIONS = ("maximum", "minimum", "logical_and", "fmax", "floor_divide", "copysign", "hypot")
REDUCTIONS = ("sum", "max", "min", "any", "all", "argmax", "argmin", "prod", "mean")


def distributing(s: Scribe) -> str:
    """Make an array of what is in memory."""
    captured = s.names("n")
    text = s.pick(captured) if captured and s.rarely() else s.literal(s.shape())
    return f"{s.new()} = da.distribute({text}, {s.blocks(s.value(text).shape)})"


def creating(s: Scribe) -> str:
    """Make an array of one value or of a range."""
    shape, dtype = s.shape(), s.dtype()
    blocks = f"blocks={s.blocks(shape)}"
    what = s.pick(("zeros", "ones", "full", "arange"))
    if what == "arange":
        length = s.pick((5, 8, 1, 0))
        return f"{s.new()} = da.arange({length}, blocks={s.blocks((length,))})"
    if what == "full":
        return f"{s.new()} = da.full({shape}, {s.scalar(np.dtype(dtype))}, {blocks})"
    return f"{s.new()} = da.{what}({shape}, {dtype!r}, {blocks})"


def remembering(s: Scribe) -> str:
    """Make an array of NumPy's, for DArrays to be combined with."""
    return f"{s.new('n')} = {s.literal(s.shape())}"


def capturing(s: Scribe) -> str:
    """Combine an array with one of NumPy's, which changes right afterwards."""
    captured = s.names("n")
    if not captured:
        return f"{s.new('n')} = {s.literal(s.shape())}"
    other = s.pick(captured)
    array = s.values[other]
    name = s.x(lambda value: fits(array, value) and casts_well(array, value.dtype))
    new = s.new()
    texts = [
        f"{new} = {name} + {other}",
        f"{new} = np.where({other} > 1, {name}, 2)",
        f"{new} = da.distribute({other}, {s.blocks(array.shape)})",
    ]
    if fits(array, s.values[name]) and casts_well(array, s.values[name].dtype):
        texts += [f"{name}[...] = {other}", f"{name} += {other}"]
    change = s.pick((f"{other}[...] = 7", f"{other} *= 3"))
    return f"{s.pick(texts)}; {change}"


def wrapping(s: Scribe) -> str:
    """Share the memory of an array of NumPy's, which the program leaves alone from then on."""
    wrapped = [line for line in s.program.lines if "da.wrap(" in line]
    if len(s.names("w")) == len(wrapped):
        return f"w{len(wrapped)} = {s.literal(s.shape())}"
    name = f"w{len(wrapped)}"
    return f"{s.new()} = da.wrap({name}, {s.blocks(s.values[name].shape)})"


def applying(s: Scribe) -> str:
    """Apply a function of one array."""
    name = s.x()
    text = s.pick(UNARY).format(name)
    if not is_defined(s, text, s.values[name]):
        text = f"-{name}"
    return f"{s.new()} = {text}"


def combining(s: Scribe) -> str:
    """Combine two arrays, or an array and a number."""
    return f"{s.new()} = {combination(s)}"


def combination(s: Scribe) -> str:
    """An elementwise expression of an array and something else."""
    name = s.x()
    other = s.operand(s.values[name])
    pair = (name, other) if s.coin() else (other, name)
    kind = s.pick(("operator", "operator", "comparison", "function"))
    if kind == "function":
        text = f"np.{s.pick(FUNCTIONS)}({pair[0]}, {pair[1]})"
    else:
        symbol = s.pick(OPERATORS if kind == "operator" else COMPARISONS)
        text = f"{pair[0]} {symbol} {pair[1]}"
    first, second = s.value(pair[0]), s.value(pair[1])
    return text if is_defined(s, text, first, second) else f"{pair[0]} + {pair[1]}"


def choosing(s: Scribe) -> str:
    """Choose between arrays by a mask."""
    name = s.x()
    array = s.values[name]
    return f"{s.new()} = np.where({s.mask(array.shape)}, {name}, {s.operand(array)})"


def casting(s: Scribe) -> str:
    """Copy an array, or make one of another dtype."""
    name = s.x()
    text = s.pick(("{}.copy()", "{}.astype({!r})", "{}.astype({!r}, copy=False)"))
    dtype = s.pick((s.values[name].dtype.name, s.dtype()))
    if not casts_well(s.values[name], dtype):
        dtype = "float64"
    return f"{s.new()} = {text.format(name, dtype)}"


def rechunking(s: Scribe) -> str:
    """Cut an array anew, which makes a new array."""
    name = s.x()
    return f"{s.new()} = da.rechunk({name}, {s.blocks(s.values[name].shape)})"


def reducing(s: Scribe) -> str:
    """Reduce an array along axes."""
    return f"{s.new()} = {reduction(s)}"


def reduction(s: Scribe) -> str:
    """A reduction of an array."""
    name = s.x()
    array = s.values[name]
    axes: tuple[Any, ...] = (None, *range(array.ndim), -1)
    what = s.pick(REDUCTIONS)
    if array.ndim > 1 and what[:3] != "arg":
        axes += ((0, 1),)
    if not _reduces_well(what, array):
        what = "any"
    keep = ", keepdims=True" if s.rarely() else ""
    return f"{name}.{what}(axis={s.pick(axes)}{keep})"


def scanning(s: Scribe) -> str:
    """Sum or multiply up along an axis."""
    name = s.x(lambda array: _reduces_well("prod", array))
    array = s.values[name]
    if not _reduces_well("prod", array):
        return f"{s.new()} = np.cumsum({name} > 1)"
    what = s.pick(("cumsum", "cumsum", "cumprod"))
    axis = s.pick((None, *range(array.ndim), -1))
    return f"{s.new()} = np.{what}({name}, axis={axis})"


def picking(s: Scribe) -> str:
    """Read elements by a mask or by arrays of integers, which makes a new array."""
    name = s.x(lambda array: array.ndim)
    array = s.values[name]
    if array.ndim and s.rarely():
        axis = s.number(0, array.ndim - 1)
        indices = s.integers(array.shape[axis], (3,))
        return f"{s.new()} = np.take({name}, {indices}, axis={axis})"
    return f"{s.new()} = {name}[{s.advanced_key(array.shape)}]"


def is_defined(s: Scribe, text: str, *operands: Any) -> bool:
    """Whether the bits of an elementwise expression follow from the values of its operands.

    Products and powers that are rounded come out differently where compilers use fused
    operations, and powers of integers to negative ones are errors only once they are computed.
    """
    kinds = {np.asarray(one).dtype.kind for one in operands if one is not None}
    exact = all(is_exact(one) for one in operands if one is not None)
    if "**" in text:
        exponent = operands[1]
        small = exponent is not None and np.ndim(exponent) == 0 and exponent in (0, 1, 2, 3)
        return exact and bool(small)
    if "hypot" in text or "c" in kinds:
        return exact and not any(one in text for one in ("/", "abs", "sign", "hypot"))
    return True


def _reduces_well(what: str, array: Any) -> bool:
    """Whether a reduction gives the same bits in every order."""
    if what in ("any", "all"):
        return True
    if what in ("sum", "mean"):
        return is_exact(array)
    if what == "prod" and array.dtype.kind != "c":
        with np.errstate(all="ignore"):
            product = np.abs(np.where(array == 0, 1, array).astype("complex128")).prod()
        return is_exact(array) and (array.dtype.kind in "biu" or bool(product < 2**20))
    signed_zeros = array.dtype.kind == "f" and np.any((array == 0) & np.signbit(array))
    return array.dtype.kind != "c" and not signed_zeros
