"""Python's operators on arrays: those of NumPy, with comparisons that always answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from darray.expr import building

__all__ = ["Operators", "plain_arguments"]

# Python's numbers, which are given to a ufunc as they are.
_NUMBERS = frozenset({bool, int, float, complex})

# The operators of two operands that become ufuncs of elements.
_ELEMENTWISE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "and": np.bitwise_and,
    "xor": np.bitwise_xor,
    "or": np.bitwise_or,
}
_ORDERINGS = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

_IN_PLACE = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow")
_IN_PLACE_BITS = ("lshift", "rshift", "and", "xor", "or")


class Operators(NDArrayOperatorsMixin):
    """The operators of an array, by way of ``__array_ufunc__``."""

    __slots__ = ()

    def __eq__(self: Any, other: Any) -> Any:
        return _compared(np.equal, self, other)

    def __ne__(self: Any, other: Any) -> Any:
        return _compared(np.not_equal, self, other)

    def __contains__(self: Any, value: Any) -> bool:
        return bool((self == value).any())


def plain_arguments(inputs: Sequence[Any]) -> list[Any] | None:
    """`inputs` of a ufunc as arguments of an elementwise call; None if any is of another kind.

    Arrays give their expressions, and Python's numbers are given as they are.

    Examples
    --------
    >>> import darray as da
    >>> plain_arguments([da.zeros(2), 3])[0].shape, plain_arguments([da.zeros(2), "3"])
    ((2,), None)
    """
    found: list[Any] = []
    for one in inputs:
        if one.__class__ in _NUMBERS:
            found.append(one)
        elif isinstance(one, Operators):
            array: Any = one
            found.append(array.expression)
        else:
            return None
    return found


def _compared(ufunc: np.ufunc, array: Any, other: Any) -> Any:
    if getattr(type(other), "__array_ufunc__", array) is None:
        return NotImplemented
    try:
        return ufunc(array, other)
    except TypeError:
        # Values that NumPy has no comparison for, dates and bools say, are never equal: its
        # operators answer where its ufuncs raise.
        answer = array.compared_unlike(ufunc, other)
        if answer is NotImplemented:
            raise
        return answer


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    inherited = getattr(NDArrayOperatorsMixin, name)

    def operate(self: Any, other: Any) -> Any:
        # Python then computes a new one, as it does for NumPy's scalars, which never change.
        return NotImplemented if self.is_scalar else inherited(self, other)

    operate.__name__ = name
    return operate


def _elementwise(ufunc: np.ufunc, name: str, is_reflected: bool = False) -> Callable[..., Any]:
    """The operator `name`, which asks NumPy what to do with none but operands of other types."""
    inherited = getattr(NDArrayOperatorsMixin, name)

    def operate(self: Any, other: Any) -> Any:
        kind = other.__class__
        if kind is self.__class__:
            other = other.expression
        elif kind not in _NUMBERS:
            return inherited(self, other)
        mine = self.expression
        operands = (other, mine) if is_reflected else (mine, other)
        node = building.plain_call(ufunc, operands)
        if node is None:
            node = building.elementwise(ufunc, operands)[0]
        return self.result_of(node)

    operate.__name__ = name
    return operate


# What NumPy computes instead of these powers of arrays: other digits, and other names in warnings.
_POWERS: dict[tuple[type, Any], np.ufunc] = {
    (int, 2): np.square,
    (int, -1): np.reciprocal,
    (float, 0.5): np.sqrt,
}


def _instead_of_power(array: Any, exponent: Any) -> np.ufunc | None:
    kind = type(exponent)
    if (kind is not int and kind is not float) or array.is_scalar or array.dtype.kind not in "bfc":
        return None
    if array.dtype.kind == "b":
        return np.square if (kind, exponent) == (int, 2) else None
    return _POWERS.get((kind, exponent))


def _power(self: Any, other: Any) -> Any:
    ufunc = _instead_of_power(self, other)
    if ufunc is None:
        return _any_power(self, other)
    return self.result_of(building.elementwise(ufunc, (self.expression,))[0])


def _power_in_place(self: Any, other: Any) -> Any:
    ufunc = _instead_of_power(self, other)
    return _any_power_in_place(self, other) if ufunc is None else ufunc(self, out=(self,))


for _name, _ufunc in _ELEMENTWISE.items():
    setattr(Operators, f"__{_name}__", _elementwise(_ufunc, f"__{_name}__"))
    setattr(Operators, f"__r{_name}__", _elementwise(_ufunc, f"__r{_name}__", True))
for _name, _ufunc in _ORDERINGS.items():
    setattr(Operators, f"__{_name}__", _elementwise(_ufunc, f"__{_name}__"))
for _name in (*_IN_PLACE, *_IN_PLACE_BITS):
    setattr(Operators, f"__i{_name}__", _in_place(f"__i{_name}__"))

_any_power, _any_power_in_place = Operators.__pow__, Operators.__ipow__
_power.__name__, _power_in_place.__name__ = "__pow__", "__ipow__"
setattr(Operators, "__pow__", _power)  # noqa: B010 - as the others are set
setattr(Operators, "__ipow__", _power_in_place)  # noqa: B010 - as the others are set
