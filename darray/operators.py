"""Python's operators on arrays: those of NumPy, with comparisons that always answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

__all__ = ["Operators"]

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


for _name in (*_IN_PLACE, *_IN_PLACE_BITS):
    setattr(Operators, f"__i{_name}__", _in_place(f"__i{_name}__"))
