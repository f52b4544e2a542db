"""Lines that change arrays through any of their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.arrays.mutation.drawing import STRANGE, Scribe, casts_well, fits
from tests.arrays.mutation.making import OPERATORS, is_defined, reduction

BINARY = ("add", "multiply", "subtract", "maximum", "floor_divide", "less", "true_divide")
UNARY = ("negative", "square", "invert", "logical_not", "sign", "positive", "isfinite")


def assigning(s: Scribe) -> str:
    """Assign to part of an array by a basic key."""
    name = s.x()
    return _assignment(s, name, s.basic_key(s.values[name].shape))


def scattering(s: Scribe) -> str:
    """Assign to elements picked by a mask or by arrays of integers."""
    name = s.x(lambda array: array.ndim)
    return _assignment(s, name, s.advanced_key(s.values[name].shape, s.values[name]))


def _assignment(s: Scribe, name: str, key: str) -> str:
    target = s.value(f"{name}[{key}]")
    if not isinstance(target, np.ndarray):
        # What NumPy raises for an array that is assigned to one element depends on the dtype.
        return f"{name}[{key}] = {s.scalar(s.values[name].dtype)}"
    # By masks NumPy assigns one element after the other.
    parts = s.value(f"np.s_[{key.rstrip(',')},]")
    masks = any(getattr(getattr(part, "dtype", None), "kind", "") == "b" for part in parts)
    array = s.values[name]

    def suits(value: Any) -> bool:
        return _assigns_as_copied(value, target) and not (
            masks and np.may_share_memory(value, array)
        )

    return f"{name}[{key}] = {s.source(target, suits)}"


def _assigns_as_copied(value: Any, target: Any) -> bool:
    """Whether NumPy assigns as if it had copied `value` first; not to numbers from their parts."""
    alike = np.asarray(value).dtype == target.dtype
    return alike or not np.may_share_memory(value, target)


def filling(s: Scribe) -> str:
    """Assign a number to all elements, or to part of a complex array."""
    name = s.x()
    array = s.values[name]
    value = s.pick((s.scalar(array.dtype), s.pick(STRANGE) if array.flags.writeable else "0"))
    if array.dtype.kind == "c" and s.coin():
        part = s.pick(("real", "imag"))
        value = s.source(array, lambda value: np.asarray(value).dtype.kind != "c")
        return f"{name}.{part} {s.pick(('=', '+=', '-='))} {value}"
    return s.pick(("{}.fill({})", "{}[...] = {}")).format(name, value)  # type: ignore[no-any-return]


def updating(s: Scribe) -> str:
    """Change an array by an operator such as ``+=``."""
    name = s.x()
    return _update(s, name, s.values[name])


def updating_parts(s: Scribe) -> str:
    """Change part of an array by an operator such as ``+=``."""
    name = s.x(lambda array: array.ndim)
    target = f"{name}[{s.key(s.values[name].shape, s.values[name])}]"
    array = s.value(target)
    return _update(s, target, np.zeros((), "int8") if array is None else array)


def protecting(s: Scribe) -> str:
    """Say whether an array may be written to."""
    strange = any("diagonal" in line or "broadcast" in line for line in s.program.lines)
    if not s.rarely():
        return f"{s.new()} = {s.x()}.view()"
    # NumPy would let itself be told that elements which are seen twice may be written to.
    text = "{}.flags.writeable = False" if strange or s.coin() else "{}.setflags(write=True)"
    return text.format(s.x())


def repeating(s: Scribe) -> str:
    """Change an array many times: more steps than are kept pending."""
    name = s.x()
    array = s.values[name]
    steps = ["{0} ^= True"] if array.dtype == bool else ["{0} += 1"]
    if array.dtype.kind in "if":
        steps.append("{0} *= -1")
    if array.ndim:
        steps += ["{0}[...] = {0}[::-1]", "{0}[1:] = {0}[:-1]", "{0}[:1] = {0}[-1:]"]
    return f"for _ in range({s.pick((3, 300))}): {s.pick(steps).format(name)}"


def stepping(s: Scribe) -> str:
    """Change an array row by row."""
    name = s.x(lambda array: array.ndim > 1)
    step = "row ^= True" if s.values[name].dtype == bool else "row += 1"
    part = s.pick((name, f"{name}[::-1]", f"{name}.T"))
    return f"for row in {part}: {s.pick((step, 'row[...] = row[::-1]'))}"


def _update(s: Scribe, target: str, array: Any) -> str:
    def suits(value: Any) -> bool:
        kind = np.asarray(value).dtype
        return np.can_cast(np.result_type(kind, array.dtype), array.dtype, "same_kind")

    if not isinstance(array, np.ndarray) or not array.flags.writeable:
        # An error is enough.
        return f"{target} += {s.scalar(array.dtype)}"
    other = s.source(array, suits)
    symbol = s.pick(OPERATORS[:3] if array.dtype.kind == "c" else OPERATORS)
    if array.dtype.kind in "iu" and symbol == "/":
        symbol = s.pick(("//", "/"))
    elif array.dtype.kind == "f" and symbol in ("&", "|", "^", "<<"):
        symbol = s.pick(("*", symbol))
    elif array.dtype.kind == "b":
        symbol = s.pick(("^", "|", "&", symbol))
    value = s.value(other)
    if not fits(value, array) or not is_defined(s, f"x {symbol} y", array, value):
        symbol = "+"
    return f"{target} {symbol}= {other}"


def calling(s: Scribe) -> str:
    """Call a ufunc with ``out=``, mostly a DArray."""
    target = _output(s)
    array = s.value(target)
    if not isinstance(array, np.ndarray):
        target = s.x()
        array = s.values[target]
    names = BINARY if s.coin() else UNARY
    function = s.pick(names)
    if not array.flags.writeable:
        return f"np.add({s.x()}, 1, out={target})"
    operands = [s.source(array) for _ in range(2 if names is BINARY else 1)]
    if not any(one[0] == "x" for one in [target, *operands]):
        kinds = ("b",) if array.dtype == bool else ("b", array.dtype.kind)
        part = s.part(lambda value: fits(value, array) and value.dtype.kind in kinds, "x")
        return f"{target} |= True" if part is None else f"{target} += {part}"
    call = f"np.{function}({', '.join(operands)}"
    if not is_defined(s, call, *map(s.value, operands)):
        call = f"np.add({operands[0]}, 1"
    result = s.value(f"{call})")
    if result is None or not fits(result, array):
        call += ", casting='unsafe'"
    elif not np.can_cast(result.dtype, array.dtype, "same_kind"):
        call += ", casting='unsafe'" if casts_well(result, array.dtype) else ""
    elif s.rarely() and result.dtype == array.dtype:
        # Elsewhere elements that are not written to become what they are in the dtype of the
        # results, where operands overlap the output.
        call += f", where={s.mask(array.shape, array)}"
    text = f"{call}, out={target})"
    return f"{s.new()} = {text}" if target in s.names() and s.rarely() else text


def _output(s: Scribe) -> str:
    """Where a call puts its results: a DArray, part of one, or a NumPy array."""
    captured = s.names("n")
    if captured and s.rarely():
        return str(s.pick(captured))
    name = s.x()
    if s.coin():
        return name
    return f"{name}[{s.basic_key(s.values[name].shape)}]"


def reducing_into(s: Scribe) -> str:
    """Reduce with ``out=``."""
    call = reduction(s)
    result = np.asarray(0 if s.value(call) is None else s.value(call))
    name = call.split(".")[0]
    # NumPy lets the dtype of the output say in which one sums, products and means are computed.
    casting = "equiv" if call.split(".")[1][:4] in ("sum(", "prod", "mean") else "same_kind"

    def suits(value: Any) -> bool:
        return (
            np.shape(value) == result.shape
            and isinstance(value, np.ndarray)
            and not np.may_share_memory(value, s.values[name])
            and np.can_cast(result.dtype, value.dtype, casting)
        )

    target = s.part(suits)
    if target is None:
        return f"{s.new()} = {call}"
    return f"{call[:-1]}, out={target})"


def copying(s: Scribe) -> str:
    """Copy one array into another by ``np.copyto``."""
    target = _output(s)
    array = s.value(target)
    if not isinstance(array, np.ndarray):
        target = s.x()
        array = s.values[target]
    source = s.source(array, lambda value: _assigns_as_copied(value, array))
    if target[0] != "x" and source[0] != "x":
        source = s.x(lambda value: casts_well(value, array.dtype))
    if _is_same(s.value(source), array):
        # NumPy checks nothing else where an array is copied to itself.
        source = s.scalar(array.dtype)
    text = f"np.copyto({target}, {source}"
    if s.coin():
        text += f", where={s.mask(array.shape, array)}"
    unsafe = casts_well(s.value(source), array.dtype)
    return text + (", casting='unsafe')" if unsafe and s.coin() else ")")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two arrays show the same elements in the same order."""
    first, second = np.asarray(one), np.asarray(other)
    return first.ctypes.data == second.ctypes.data and first.strides == second.strides


def putting(s: Scribe) -> str:
    """Write by ``np.put``, ``np.putmask`` and ``np.place``."""
    name = s.x()
    array = s.values[name]

    def suits(value: Any) -> bool:
        kind = np.asarray(value).dtype
        return (
            np.can_cast(kind, array.dtype, "same_kind")
            and casts_well(value, array.dtype)
            and not np.may_share_memory(value, array)
        )

    values = s.part(suits) if s.coin() else None
    if values is None:
        values = s.scalar(array.dtype)
    what = s.pick(("put", "putmask", "place"))
    if what == "put":
        indices = s.integers(array.size, s.pick(((2,), (3,), (1,))), array)
        mode = f", mode={s.pick(('wrap', 'clip'))!r}" if s.rarely() else ""
        return f"np.put({name}, {indices}, {values}{mode})"
    return f"np.{what}({name}, {s.mask(array.shape, array)}, {values})"


def changing(s: Scribe) -> str:
    """Change an array of NumPy's, from which DArrays may have been computed."""
    captured = s.names("n")
    if not captured:
        return f"{s.new('n')} = {s.literal(s.shape())}"
    name = s.pick(captured)
    array = s.values[name]
    if not s.rarely():
        return s.pick(("{}[...] = 7", "{}[...] = 0", "{} *= 3")).format(name)  # type: ignore[no-any-return]
    source = s.source(array, lambda value: casts_well(value, array.dtype))
    return f"{name}{s.pick(('[...] =', ' +='))} {source}"
