"""Constants: operands that have one value everywhere, and calls of which all operands are such.

They are computed once, when a program is made, instead of once for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from darray.expr.nodes import Expression, Filled, Generated, Memory
from darray.kernels.cpu import cast
from darray.kernels.programs import Instruction
from darray.kernels.table import kernel_for

__all__ = ["constant_of", "folded", "takes_constants"]

# What other values become as scalars depends on how they got there.
_KINDS = frozenset("biufc")


def constant_of(node: Expression) -> Any:
    """The scalar that every element of `node` is, of its dtype; None where that is not known.

    Examples
    --------
    >>> constant_of(Memory((), np.dtype("f4"), (), np.array(2, "f4")))
    np.float32(2.0)
    >>> constant_of(Generated((3,), np.dtype("i8"), ((3,),), Filled(7, np.dtype("i8"))))
    np.int64(7)
    """
    if node.kept is not None or node.dtype.kind not in _KINDS or not node.dtype.isnative:
        return None
    if isinstance(node, Memory) and not node.shape and not node.is_shared:
        return node.array[()]
    if isinstance(node, Generated) and isinstance(node.function, Filled):
        return np.asarray(node.function.value, node.dtype)[()]
    return None


def takes_constants(function: Callable[..., Any], dtype: np.dtype[Any]) -> bool:
    """Whether a call that gives elements of `dtype` gives the same for scalars as for arrays.

    Users' own functions need not take scalars.

    Examples
    --------
    >>> takes_constants(np.add, np.dtype(float)), takes_constants(len, np.dtype(float))
    (True, False)
    """
    if dtype.kind not in _KINDS:
        return False
    if isinstance(function, np.ufunc):
        return kernel_for(function, "cpu") is function
    return function in (np.where, cast)


def folded(call: Instruction) -> Any:
    """What a call of scalars gives, as a scalar of its dtype; None where it is to be made later.

    So is one that meets floating-point errors, which are answered where the array is computed.

    Examples
    --------
    >>> warn = ("warn", "warn", "ignore", "warn", None)
    >>> operands = ((None, np.float32(4)), (None, 0))
    >>> folded(Instruction(np.add, operands, (), None, None, warn, 0, np.dtype("f4")))
    np.float32(4.0)
    >>> folded(Instruction(np.divide, operands, (), None, None, warn, 0, np.dtype("f4")))
    """
    if any(register is not None for register, _ in call.operands):
        return None
    if call.where is not None or call.output is not None:
        return None
    operands = [np.asarray(one) if isinstance(one, np.generic) else one for _, one in call.operands]
    try:
        with np.errstate(all="raise"):
            value = kernel_for(call.function, "cpu")(*operands, **dict(call.parameters))
    except FloatingPointError:
        return None
    found = np.asarray(value)
    return found[()] if found.dtype == call.dtype and found.shape == () else None
