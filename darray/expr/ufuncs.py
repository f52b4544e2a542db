"""NumPy's ufuncs on expressions: calls, reductions, what their keywords mean."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from darray.expr import building, products
from darray.expr.nodes import Expression
from darray.kernels.reduction_table import reduction_of
from darray.kernels.reductions import NO_VALUE
from darray.kernels.warnings_ledger import caller_depth

__all__ = ["call", "outer_arguments", "reduce_call"]

_KEYWORDS = {"dtype", "casting", "order", "subok", "signature", "sig"}

# NumPy says this where elements are left out and nothing says what they hold instead.
_UNINITIALIZED = (
    "'where' used without 'out', expect unitialized memory in output. If this is intentional, "
    "use out=None."
)


def call(
    ufunc: np.ufunc, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Expression, ...]:
    """Expressions of the results of ``ufunc(*arguments, **keywords)``, without ``out``.

    Raises
    ------
    NotImplementedError
        For generalised ufuncs other than matmul and its kin.
    TypeError, ValueError
        As NumPy raises them.
    """
    if ufunc.signature is not None:
        return (products.call(ufunc, arguments, keywords),)
    where = keywords.pop("where", True)
    unknown = set(keywords) - _KEYWORDS
    if unknown:
        raise TypeError(
            f"{ufunc.__name__}() got an unexpected keyword argument {sorted(unknown)[0]!r}"
        )
    for name in ("order", "subok"):
        # Chunks are always computed in C order and are plain arrays.
        keywords.pop(name, None)
    if where is not True:
        where = building.as_argument(where)
        if not isinstance(where, Expression):
            where = building.captured(np.asarray(where, dtype=bool))
    if not any(isinstance(one, Expression) for one in arguments):
        # Not one of Python's numbers, if there is another: these adapt to the dtypes of the rest.
        typed = [isinstance(one, np.generic) for one in arguments]
        place = typed.index(True) if any(typed) else 0
        made = building.captured(np.asarray(arguments[place]))
        arguments = (*arguments[:place], made, *arguments[place + 1 :])
    return building.elementwise(ufunc, arguments, keywords, where, ufunc.nout)


def outer_arguments(ufunc: np.ufunc, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What ``ufunc.outer(*arguments)`` calls the ufunc with: every element with every other.

    Raises
    ------
    TypeError, ValueError
        As NumPy raises them.
    """
    if ufunc.signature is not None:
        raise TypeError("method outer is not allowed in ufunc with non-trivial signature")
    if ufunc.nin != 2:
        raise ValueError("outer product only supported for binary functions")
    first, second = arguments
    if not (np.shape(first) and np.shape(second)):
        return arguments
    return products.outer_operands(first, second)


def warn_uninitialized() -> None:
    """Warn as NumPy does of ``where=`` without ``out=``, where its version does."""
    if np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        warnings.warn(_UNINITIALIZED, UserWarning, stacklevel=caller_depth())


def reduce_call(
    ufunc: np.ufunc,
    operand: Expression,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    initial: Any = NO_VALUE,
    where: Any = True,
) -> Expression:
    """Expression of ``ufunc.reduce(operand, ...)``; the first axis by default, as NumPy's.

    Raises
    ------
    NotImplementedError
        For ufuncs whose result depends on the order of the operands.
    """
    reduction = reduction_of(ufunc, dtype=dtype, initial=initial)
    return building.reduce(operand, reduction, axis, keepdims, where)
