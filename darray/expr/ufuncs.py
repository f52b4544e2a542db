"""NumPy's ufuncs on expressions: calls, reductions, what their keywords mean."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from darray.expr import building
from darray.expr.nodes import Expression
from darray.kernels.reduction_table import reduction_of
from darray.kernels.reductions import NO_VALUE
from darray.kernels.warnings_ledger import caller_depth

__all__ = ["call", "reduce_call"]

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
        For generalised ufuncs, such as matmul, which do not work element by element.
    TypeError, ValueError
        As NumPy raises them.
    """
    if ufunc.signature is not None:
        raise NotImplementedError(
            f"darray has no {ufunc.__name__} that works chunk by chunk yet; where the arrays fit "
            f"in memory use np.{ufunc.__name__} on np.asarray(x)"
        )
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
        arguments = (building.captured(np.asarray(arguments[0])), *arguments[1:])
    return building.elementwise(ufunc, arguments, keywords, where, ufunc.nout)


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
