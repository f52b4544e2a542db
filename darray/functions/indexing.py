"""Functions that read elements by positions and masks, or find positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import NDArray

from darray import advanced_indexing, flat_indexing
from darray.dispatch import implements
from darray.expr import building
from darray.expr.nodes import Expression
from darray.handle import DArray, argument_of, as_expression, write_results
from darray.view_steps import Diagonal

__all__ = [
    "argwhere",
    "choose",
    "compress",
    "diag",
    "diagonal",
    "extract",
    "flatnonzero",
    "ix_",
    "nonzero",
    "select",
    "take",
    "take_along_axis",
    "trace",
]


def positions_of(indices: Any) -> NDArray[Any]:
    """Indices as a NumPy array, by value; a DArray of them is computed."""
    if isinstance(indices, DArray):
        return advanced_indexing.held(indices.expression)
    return building.captured(np.asarray(indices)).array


def taken_positions(indices: Any) -> NDArray[Any]:
    """Positions as `numpy.take` and `numpy.put` take them: numbers of Python are cut off."""
    if isinstance(indices, DArray | np.ndarray):
        return positions_of(indices)
    return np.array(indices, np.intp)


def given_to(result: Expression, out: Any) -> Any:
    """A result, or `out` with the result in it."""
    return DArray.result_of(result) if out is None else write_results((result,), (out,))


def taken(operand: Expression, positions: NDArray[Any], axis: int, mode: str) -> Expression:
    """Expression of `operand` at `positions` along one axis."""
    if not all(operand.shape[:axis]):
        # NumPy does not look at positions then.
        shape = operand.shape[:axis] + positions.shape + operand.shape[axis + 1 :]
        return building.captured(np.empty(shape, operand.dtype))
    exact = flat_indexing.positions_in(positions, operand.shape[axis], mode)
    place = exact if exact.ndim else int(exact)
    return advanced_indexing.read(operand, (*(slice(None),) * axis, place))


@implements(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """Elements at positions along an axis, or in C order, as `numpy.take`.

    Examples
    --------
    >>> import darray as da
    >>> np.take(da.arange(10, blocks=5) ** 2, [3, -1]).collect()
    array([ 9, 81])
    """
    operand = as_expression(a)
    positions = taken_positions(indices)
    flat_indexing.check_positions(positions.dtype, mode)
    if axis is not None:
        operand = flat_indexing.with_axes(operand)
        number = normalize_axis_index(axis, len(operand.shape))
        return given_to(taken(operand, positions, number, mode), out)
    exact = flat_indexing.positions_in(positions, math.prod(operand.shape), mode)
    return given_to(flat_indexing.at_flat(operand, exact), out)


def along_axis(shape: tuple[int, ...], positions: NDArray[Any], axis: int) -> tuple[Any, ...]:
    """The key of elements at `positions` along an axis, each in its own line.

    Raises
    ------
    IndexError, ValueError
        As `numpy.take_along_axis` raises them.
    """
    if not np.issubdtype(positions.dtype, np.integer):
        raise IndexError("`indices` must be an integer array")
    if len(shape) != positions.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    key: list[Any] = []
    for place, size in enumerate(shape):
        own = [1] * len(shape)
        own[place] = -1
        key.append(positions if place == axis else np.arange(size).reshape(own))
    return tuple(key)


def check_flat(positions: NDArray[Any]) -> None:
    """Refuse what `numpy.take_along_axis` refuses as positions in C order."""
    if positions.ndim != 1:
        raise ValueError("when axis=None, `indices` must have a single dimension.")
    if not np.issubdtype(positions.dtype, np.integer):
        raise IndexError("`indices` must be an integer array")


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> DArray:
    """Elements at positions along an axis, each in its own line, as `numpy.take_along_axis`.

    Examples
    --------
    >>> import darray as da
    >>> np.take_along_axis(da.eye(2), np.array([[1], [1]]), axis=1).collect()
    array([[0.],
           [1.]])
    """
    operand = as_expression(arr)
    positions = positions_of(indices)
    if axis is None:
        check_flat(positions)
        return DArray.of(flat_indexing.at_flat(operand, positions))
    number = normalize_axis_index(axis, len(operand.shape))
    key = along_axis(operand.shape, positions, number)
    return DArray.of(advanced_indexing.read(operand, key))


@implements(np.nonzero)
def nonzero(a: Any) -> tuple[DArray, ...]:
    """The places along each axis of the elements that are not zero, as `numpy.nonzero`.

    The elements are counted now.

    Examples
    --------
    >>> import darray as da
    >>> (places,) = np.nonzero(da.arange(6, blocks=2) % 3)
    >>> places.collect()
    array([1, 2, 4, 5])
    """
    operand = as_expression(a)
    if not operand.shape:
        raise ValueError(
            "Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() "
            "instead."
        )
    return tuple([DArray.of(one) for one in flat_indexing.nonzero(operand)])


@implements(np.flatnonzero)
def flatnonzero(a: Any) -> DArray:
    """The places in C order of the elements that are not zero, as `numpy.flatnonzero`.

    Examples
    --------
    >>> import darray as da
    >>> np.flatnonzero(da.eye(3)).collect()
    array([0, 4, 8])
    """
    operand = flat_indexing.with_axes(as_expression(a))
    places = nonzero(DArray.of(operand))
    stride = 1
    result: Any = 0
    for place, size in zip(reversed(places), reversed(operand.shape), strict=True):
        result = place * stride + result
        stride *= size
    return result  # type: ignore[no-any-return]


@implements(np.argwhere)
def argwhere(a: Any) -> DArray:
    """The places of the elements that are not zero, a row each, as `numpy.argwhere`.

    Examples
    --------
    >>> import darray as da
    >>> np.argwhere(da.eye(2)).collect()
    array([[0, 0],
           [1, 1]])
    """
    operand = as_expression(a)
    places = nonzero(DArray.of(flat_indexing.with_axes(operand)))
    rows: Any = np.stack(places, axis=1)
    return rows if operand.shape else rows[:, :0]  # type: ignore[no-any-return]


@implements(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """Slices along an axis where a condition is true, as `numpy.compress`.

    Examples
    --------
    >>> import darray as da
    >>> np.compress([False, True], da.eye(2, blocks=1), axis=0).collect()
    array([[0., 1.]])
    """
    mask, operand = as_expression(condition), as_expression(a)
    if len(mask.shape) != 1:
        raise ValueError("condition must be a 1-d array")
    mask = flat_indexing.truth(mask)
    if axis is None:
        if len(operand.shape) == 1:
            axis = 0
        else:
            found = np.flatnonzero(advanced_indexing.held(mask))
            return given_to(flat_indexing.at_flat(operand, found), out)
    operand = flat_indexing.with_axes(operand)
    number = normalize_axis_index(axis, len(operand.shape))
    (length,) = mask.shape
    lead = (slice(None),) * number
    if length > operand.shape[number]:
        found = np.flatnonzero(advanced_indexing.held(mask))
        return given_to(taken(operand, found, number, "raise"), out)
    if length < operand.shape[number]:
        operand = DArray.of(operand)[(*lead, slice(length))].expression
    return given_to(advanced_indexing.read(operand, (*lead, mask)), out)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> DArray:
    """Elements, in C order, where a condition is true, as `numpy.extract`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.arange(5, blocks=2)
    >>> np.extract(x > 2, x).collect()
    array([3, 4])
    """
    mask, operand = (flat_indexing.with_axes(as_expression(one)) for one in (condition, arr))
    mask = flat_indexing.truth(mask)
    if mask.shape == operand.shape:
        return DArray.of(advanced_indexing.read(operand, (mask,)))
    found = np.flatnonzero(advanced_indexing.held(mask))
    return DArray.of(flat_indexing.at_flat(operand, found))


def _chosen(indices: NDArray[Any], *choices: Any, mode: str) -> NDArray[Any]:
    return np.choose(indices, choices, mode=mode)  # type: ignore[call-overload, no-any-return]


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """Elements of the arrays that an array of numbers names, as `numpy.choose`.

    With ``mode="raise"`` the numbers are computed now, to see whether they are valid.

    Examples
    --------
    >>> import darray as da
    >>> np.choose(da.arange(4, blocks=2) % 2, [10, 20]).collect()
    array([10, 20, 10, 20])
    """
    numbers = as_expression(a)
    arrays = [argument_of(one) for one in _rows(choices)]
    (result,) = building.elementwise(_chosen, [numbers, *arrays], {"mode": mode})
    if mode == "raise" and all(numbers.shape):
        kept = DArray.of(advanced_indexing.keep(numbers))
        if int(np.min(kept)) < 0 or int(np.max(kept)) >= len(arrays):
            raise ValueError("invalid entry in choice array")
    return given_to(result, out)


def _rows(choices: Any) -> list[Any]:
    """The arrays of a sequence, or along the first axis of an array."""
    return list(choices)


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> DArray:
    """Elements of the first array whose condition is true, as `numpy.select`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.arange(4, blocks=2)
    >>> np.select([x < 1, x < 3], [-1, x * 10], default=99).collect()
    array([-1, 10, 20, 99])
    """
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    conditions = [as_expression(one) for one in condlist]
    for number, condition in enumerate(conditions):
        if condition.dtype != bool:
            raise TypeError(f"invalid entry {number} in condlist: should be boolean ndarray")
    choices = [argument_of(one) for one in (*choicelist, default)]
    kinds = [one.dtype if isinstance(one, Expression) else one for one in choices]
    dtype = np.result_type(*kinds)
    result = choices.pop()
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        exact = [
            building.astype(one, dtype)
            if isinstance(one, Expression)
            else building.captured(np.asarray(one, dtype))
            for one in (choice, result)
        ]
        (result,) = building.elementwise(np.where, [condition, *exact])
    return DArray.of(result)


@implements(np.ix_)
def ix_(*args: Any) -> tuple[NDArray[Any], ...]:
    """NumPy arrays of positions that pick the product of sequences, as `numpy.ix_`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.eye(4, blocks=2)
    >>> x[np.ix_(da.arange(2), [1, 3])].collect()
    array([[0., 0.],
           [1., 0.]])
    """
    return np.ix_(*[positions_of(one) if isinstance(one, DArray) else one for one in args])


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> DArray:
    """View of a diagonal, along the last axis, to be looked at only, as `numpy.diagonal`.

    Examples
    --------
    >>> import darray as da
    >>> np.diagonal(da.eye(3, blocks=2)).collect()
    array([1., 1., 1.])
    """
    array = a if isinstance(a, DArray) else DArray.of(as_expression(a))
    step = Diagonal(offset, axis1, axis2)
    view = array.through(step, step.of(array.layout()).shape, array.dtype)
    view.setflags(write=False)
    return view


@implements(np.diag)
def diag(v: Any, k: int = 0) -> DArray:
    """A diagonal of a matrix, or a matrix with a diagonal, as `numpy.diag`.

    Examples
    --------
    >>> import darray as da
    >>> np.diag(da.arange(2), k=1).collect()
    array([[0, 0, 0],
           [0, 0, 1],
           [0, 0, 0]])
    """
    operand = as_expression(v)
    if len(operand.shape) == 1:
        return DArray.of(flat_indexing.diagonal_matrix(operand, k))
    if len(operand.shape) != 2:
        raise ValueError("Input must be 1- or 2-d.")
    return diagonal(v, k)


@implements(np.trace)
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """The sum along a diagonal, as `numpy.trace`.

    Examples
    --------
    >>> import darray as da
    >>> float(np.trace(da.eye(3, blocks=2)))
    3.0
    """
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype, out=out)
