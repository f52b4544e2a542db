"""Operations of elements that compiled loops know, each to the bit what NumPy's loops do.

The code is LLVM's.  Nothing in it lets LLVM calculate otherwise than written: no fast-math flags,
no contraction, no undefined overflow.  Three things would still not be NumPy's:

* LLVM holds the sign of a NaN for arbitrary and drops changes of it; so masks of the sign come
  from memory, where it cannot know them (`_sign_mask`).
* Machines raise "invalid" in comparisons with NaN; NumPy tells nobody. So NaN is replaced before
  it is compared (`_ordered`).
* LLVM leaves out what nobody reads, and with it what it would have raised; `FLAGGING` names the
  operations that raise, for `loop_source` to see to it.

As in NumPy itself, where both operands are NaN either may be the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "FLAGGING",
    "KEEPS_BITS",
    "KINDS",
    "OPERATIONS",
    "Lines",
    "converted",
    "convertible",
    "is_known",
    "machine_type",
    "select",
]

DType: TypeAlias = np.dtype[Any]

# ``operation(lines, dtype of the operands, *operands)``: the name of the value.
Operation: TypeAlias = Callable[..., str]


class Lines:
    """Lines of LLVM's language in the making."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def add(self, code: str) -> str:
        """Add a line that makes a value; the value's name."""
        name = f"%v{len(self.text)}"
        self.text.append(f"  {name} = {code}")
        return name


def machine_type(dtype: DType) -> str:
    """LLVM's type for values of `dtype`; a bool in memory is an ``i8``."""
    if dtype.kind == "f":
        return "float" if dtype.itemsize == 4 else "double"
    return "i1" if dtype.kind == "b" else f"i{8 * dtype.itemsize}"


def is_known(dtype: DType) -> bool:
    """Whether loops can hold values of `dtype`."""
    return dtype.isnative and dtype.char in "?bBhHiIlLqQfd"


def _sign_mask(dtype: DType) -> str:
    """The name of the value, made where the loop begins, with the sign bit of `dtype` alone."""
    return f"%sign{8 * dtype.itemsize}"


def _magnitude_mask(dtype: DType) -> str:
    return f"%magnitude{8 * dtype.itemsize}"


def _bits(lines: Lines, dtype: DType, value: str) -> str:
    return lines.add(f"bitcast {machine_type(dtype)} {value} to i{8 * dtype.itemsize}")


def _from_bits(lines: Lines, dtype: DType, value: str) -> str:
    return lines.add(f"bitcast i{8 * dtype.itemsize} {value} to {machine_type(dtype)}")


def _zero(dtype: DType) -> str:
    return "0.0" if dtype.kind == "f" else "0"


def select(lines: Lines, dtype: DType, chosen: str, one: str, other: str) -> str:
    """Elements of `one` where `chosen`, else of `other`; both were computed already."""
    kind = machine_type(dtype)
    return lines.add(f"select i1 {chosen}, {kind} {one}, {kind} {other}")


def _ordered(lines: Lines, dtype: DType, how: str, a: str, b: str) -> str:
    """Compare floats without raising "invalid" for NaN, of which nothing is true."""
    kind = machine_type(dtype)
    unordered = lines.add(f"fcmp uno {kind} {a}, {b}")
    quiet_a = lines.add(f"select i1 {unordered}, {kind} 0.0, {kind} {a}")
    quiet_b = lines.add(f"select i1 {unordered}, {kind} 0.0, {kind} {b}")
    found = lines.add(f"fcmp {how} {kind} {quiet_a}, {quiet_b}")
    if how in ("olt", "ogt"):
        return found
    known = lines.add(f"xor i1 {unordered}, true")
    return lines.add(f"and i1 {found}, {known}")


def _compare(integer: str, floating: str) -> Operation:
    def comparison(lines: Lines, dtype: DType, a: str, b: str) -> str:
        if dtype.kind == "f":
            if floating in ("oeq", "une"):
                return lines.add(f"fcmp {floating} {machine_type(dtype)} {a}, {b}")
            return _ordered(lines, dtype, floating, a, b)
        how = integer
        if integer not in ("eq", "ne"):
            how = ("s" if dtype.kind == "i" else "u") + integer
        return lines.add(f"icmp {how} {machine_type(dtype)} {a}, {b}")

    return comparison


def _arithmetic(boolean: str, integer: str, floating: str) -> Operation:
    codes = {"b": boolean, "i": integer, "u": integer, "f": floating}

    def arithmetic(lines: Lines, dtype: DType, a: str, b: str) -> str:
        return lines.add(f"{codes[dtype.kind]} {machine_type(dtype)} {a}, {b}")

    return arithmetic


def _square(lines: Lines, dtype: DType, a: str) -> str:
    return _multiply(lines, dtype, a, a)


def _reciprocal(lines: Lines, dtype: DType, a: str) -> str:
    return lines.add(f"fdiv {machine_type(dtype)} 1.0, {a}")


def _intrinsic(name: str) -> Operation:
    def intrinsic(lines: Lines, dtype: DType, a: str) -> str:
        kind = machine_type(dtype)
        return lines.add(f"call {kind} @llvm.{name}.f{8 * dtype.itemsize}({kind} {a})")

    return intrinsic


def _negative(lines: Lines, dtype: DType, a: str) -> str:
    if dtype.kind != "f":
        return lines.add(f"sub {machine_type(dtype)} 0, {a}")
    bits = _bits(lines, dtype, a)
    turned = lines.add(f"xor i{8 * dtype.itemsize} {bits}, {_sign_mask(dtype)}")
    return _from_bits(lines, dtype, turned)


def _absolute(lines: Lines, dtype: DType, a: str) -> str:
    if dtype.kind in "bu":
        return a
    if dtype.kind == "i":
        negative = lines.add(f"icmp slt {machine_type(dtype)} {a}, 0")
        return select(lines, dtype, negative, _negative(lines, dtype, a), a)
    bits = _bits(lines, dtype, a)
    kept = lines.add(f"and i{8 * dtype.itemsize} {bits}, {_magnitude_mask(dtype)}")
    return _from_bits(lines, dtype, kept)


def _copysign(lines: Lines, dtype: DType, a: str, b: str) -> str:
    kind = f"i{8 * dtype.itemsize}"
    kept = lines.add(f"and {kind} {_bits(lines, dtype, a)}, {_magnitude_mask(dtype)}")
    sign = lines.add(f"and {kind} {_bits(lines, dtype, b)}, {_sign_mask(dtype)}")
    return _from_bits(lines, dtype, lines.add(f"or {kind} {kept}, {sign}"))


def _signbit(lines: Lines, dtype: DType, a: str) -> str:
    return lines.add(f"icmp slt i{8 * dtype.itemsize} {_bits(lines, dtype, a)}, 0")


def _same(lines: Lines, dtype: DType, a: str) -> str:
    return a


def _sign(lines: Lines, dtype: DType, a: str) -> str:
    zero, one, minus = _zero(dtype), "1", "-1"
    if dtype.kind == "f":
        one, minus = "1.0", "-1.0"
    positive = OPERATIONS[np.greater](lines, dtype, a, zero)
    if dtype.kind == "u":
        return select(lines, dtype, positive, one, zero)
    negative = OPERATIONS[np.less](lines, dtype, a, zero)
    rest = zero
    if dtype.kind == "f":
        # What is neither equals zero, whose sign goes, or is NaN, which stays.
        equal = OPERATIONS[np.equal](lines, dtype, a, zero)
        rest = select(lines, dtype, equal, zero, a)
    return select(lines, dtype, positive, one, select(lines, dtype, negative, minus, rest))


def _extremum(comparison: np.ufunc, boolean: str) -> Operation:
    def extremum(lines: Lines, dtype: DType, a: str, b: str) -> str:
        if dtype.kind == "b":
            return lines.add(f"{boolean} i1 {a}, {b}")
        first = OPERATIONS[comparison](lines, dtype, a, b)
        if dtype.kind == "f":
            # Where only `b` is NaN nothing is true of it, and it is taken.
            nan = _isnan(lines, dtype, a)
            first = lines.add(f"or i1 {nan}, {first}")
        return select(lines, dtype, first, a, b)

    return extremum


def _isnan(lines: Lines, dtype: DType, a: str) -> str:
    return lines.add(f"fcmp uno {machine_type(dtype)} {a}, 0.0")


def _magnitude_is(how: str) -> Operation:
    def is_so(lines: Lines, dtype: DType, a: str) -> str:
        kind = f"i{8 * dtype.itemsize}"
        infinity = 0x7F800000 if dtype.itemsize == 4 else 0x7FF0000000000000
        kept = lines.add(f"and {kind} {_bits(lines, dtype, a)}, {_magnitude_mask(dtype)}")
        return lines.add(f"icmp {how} {kind} {kept}, {infinity}")

    return is_so


def _truth(lines: Lines, dtype: DType, a: str) -> str:
    if dtype.kind == "b":
        return a
    code = "fcmp une" if dtype.kind == "f" else "icmp ne"
    return lines.add(f"{code} {machine_type(dtype)} {a}, {_zero(dtype)}")


def _logical(code: str) -> Operation:
    def logical(lines: Lines, dtype: DType, a: str, b: str) -> str:
        first, second = _truth(lines, dtype, a), _truth(lines, dtype, b)
        return lines.add(f"{code} i1 {first}, {second}")

    return logical


def _not(lines: Lines, dtype: DType, a: str) -> str:
    return lines.add(f"xor i1 {_truth(lines, dtype, a)}, true")


def _invert(lines: Lines, dtype: DType, a: str) -> str:
    ones = "true" if dtype.kind == "b" else "-1"
    return lines.add(f"xor {machine_type(dtype)} {a}, {ones}")


_multiply = _arithmetic("and", "mul", "fmul")

# By ufunc: the kinds of the operands' dtype for which it is proven, and how it is computed.
_TABLE: dict[np.ufunc, tuple[str, Operation]] = {
    np.add: ("biuf", _arithmetic("or", "add", "fadd")),
    np.subtract: ("iuf", _arithmetic("", "sub", "fsub")),
    np.multiply: ("biuf", _multiply),
    np.true_divide: ("f", _arithmetic("", "", "fdiv")),
    np.square: ("iuf", _square),
    np.reciprocal: ("f", _reciprocal),
    np.sqrt: ("f", _intrinsic("sqrt")),
    np.floor: ("f", _intrinsic("floor")),
    np.ceil: ("f", _intrinsic("ceil")),
    np.trunc: ("f", _intrinsic("trunc")),
    np.rint: ("f", _intrinsic("rint")),
    np.negative: ("iuf", _negative),
    np.positive: ("iuf", _same),
    np.conjugate: ("iuf", _same),
    np.absolute: ("biuf", _absolute),
    np.fabs: ("f", _absolute),
    np.copysign: ("f", _copysign),
    np.sign: ("iuf", _sign),
    np.minimum: ("biuf", _extremum(np.less, "and")),
    np.maximum: ("biuf", _extremum(np.greater, "or")),
    np.fmin: ("biu", _extremum(np.less, "and")),
    np.fmax: ("biu", _extremum(np.greater, "or")),
    np.equal: ("biuf", _compare("eq", "oeq")),
    np.not_equal: ("biuf", _compare("ne", "une")),
    np.less: ("biuf", _compare("lt", "olt")),
    np.less_equal: ("biuf", _compare("le", "ole")),
    np.greater: ("biuf", _compare("gt", "ogt")),
    np.greater_equal: ("biuf", _compare("ge", "oge")),
    np.logical_and: ("biuf", _logical("and")),
    np.logical_or: ("biuf", _logical("or")),
    np.logical_xor: ("biuf", _logical("xor")),
    np.logical_not: ("biuf", _not),
    np.bitwise_and: ("biu", _arithmetic("and", "and", "")),
    np.bitwise_or: ("biu", _arithmetic("or", "or", "")),
    np.bitwise_xor: ("biu", _arithmetic("xor", "xor", "")),
    np.invert: ("biu", _invert),
    np.isnan: ("f", _isnan),
    np.isinf: ("f", _magnitude_is("eq")),
    np.isfinite: ("f", _magnitude_is("ult")),
    np.signbit: ("f", _signbit),
}

OPERATIONS: dict[np.ufunc, Operation] = {ufunc: code for ufunc, (_, code) in _TABLE.items()}
KINDS: dict[np.ufunc, str] = {ufunc: kinds for ufunc, (kinds, _) in _TABLE.items()}

# What may raise floating-point errors of floats.
FLAGGING = frozenset(
    {
        np.add,
        np.subtract,
        np.multiply,
        np.true_divide,
        np.square,
        np.power,
        np.reciprocal,
        np.sqrt,
        np.floor,
        np.ceil,
        np.trunc,
        np.rint,
    }
)

# What needs every bit of its operands but their signs.
KEEPS_BITS = FLAGGING | {np.negative, np.absolute, np.fabs, np.positive, np.conjugate}


def convertible(given: DType, wanted: DType) -> bool:
    """Whether a loop can bring values of `given` to `wanted` as NumPy does."""
    if not (is_known(given) and is_known(wanted)):
        return False
    # What becomes of floats that no integer equals depends on the machine.
    return given.kind != "f" or wanted.kind in "fb"


def converted(lines: Lines, given: DType, wanted: DType, value: str) -> str:
    """`value` of dtype `given` as `wanted`, for which `convertible` holds."""
    source, target = machine_type(given), machine_type(wanted)
    if wanted.kind == "b":
        return _truth(lines, given, value)
    if given.kind == "f":
        if given.itemsize == wanted.itemsize:
            return value
        code = "fptrunc" if given.itemsize > wanted.itemsize else "fpext"
    elif wanted.kind == "f":
        code = "sitofp" if given.kind == "i" else "uitofp"
    elif source == target:
        return value
    elif given.kind != "b" and given.itemsize > wanted.itemsize:
        code = "trunc"
    else:
        code = "sext" if given.kind == "i" else "zext"
    return lines.add(f"{code} {source} {value} to {target}")
