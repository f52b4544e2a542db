"""Elementwise calls that mix DArrays with pandas or SciPy's sparse arrays, which answer them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from darray.expr import foreign
from darray.expr.nodes import Expression
from darray.lowering import computing

__all__ = ["answer"]

# Ufuncs of a sparse array whose result SciPy does not have to make dense.
_SPARSE: dict[np.ufunc, Callable[[Any, Any], Any]] = {
    np.multiply: operator.mul,
    np.matmul: operator.matmul,
}

# Those that it answers beside a single number.
_SCALED: dict[np.ufunc, Callable[[Any, Any], Any]] = {
    **_SPARSE,
    np.true_divide: operator.truediv,
    np.power: operator.pow,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
}


def answer(
    ufunc: np.ufunc,
    method: str,
    inputs: Sequence[Any],
    keywords: dict[str, Any],
    out: tuple[Any, ...] | None = None,
) -> Any:
    """What ``ufunc`` gives of `inputs`, of which some are foreign; NotImplemented if they say.

    An object of pandas is in memory and its results are too, so that it is given the values
    of a DArray, provided that these are no more than its own. The same holds for SciPy's
    sparse arrays where they stay sparse, and for products of matrices.

    `inputs` have expressions in the place of DArrays.

    Raises
    ------
    TypeError
        Where a sparse array would have to be made dense, or a DArray has another shape than the
        object of pandas.
    """
    if out is not None:
        if not all(one is None or isinstance(one, np.ndarray) for one in out):
            raise TypeError(
                f"{ufunc.__name__}(..., out=...) writes into a DArray the values of a plain array; "
                "convert the operand that is none, as with value.to_numpy() for pandas"
            )
        keywords = {**keywords, "out": out}
    if any(map(foreign.is_pandas, inputs)):
        for one in inputs:
            if isinstance(one, Expression) and one.shape:
                _check_shape(ufunc, one, inputs)
        return getattr(ufunc, method)(*map(_values, inputs), **keywords)
    for one in inputs:
        if not foreign.is_sparse(one):
            continue
        if method == "__call__" and len(inputs) == 2 and not keywords:
            shapes = [other.shape for other in inputs if isinstance(other, Expression)]
            code = (_SPARSE if any(shapes) else _SCALED).get(ufunc)
            if code is not None:
                return code(*map(_values, inputs))
        foreign.as_array(one)
    return NotImplemented


def _check_shape(ufunc: np.ufunc, expression: Expression, inputs: Sequence[Any]) -> None:
    for one in inputs:
        if not foreign.is_pandas(one) or ufunc is np.matmul:
            continue
        if np.broadcast_shapes(expression.shape, one.shape) != one.shape:
            raise TypeError(
                f"{ufunc.__name__} of a DArray of shape {expression.shape} and a "
                f"{type(one).__name__} of shape {one.shape}: pandas cannot hold the result; use "
                "the values alone, value.to_numpy()"
            )


def _values(value: Any) -> Any:
    return computing.compute([value])[0][()] if isinstance(value, Expression) else value
