"""Arrays as text, of which no more is computed than is shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.expr import building
from darray.expr.nodes import Expression, Memory, Recut, View
from darray.index_maps import IndexMap
from darray.lowering import computing

__all__ = ["is_finished", "text_of"]


def is_finished(expression: Expression) -> bool:
    """Whether all chunks of `expression` are there, so that showing them costs nothing.

    Examples
    --------
    >>> import darray as da
    >>> is_finished(da.arange(3).expression), is_finished(da.distribute([1])[:0].expression)
    (False, True)
    """
    while isinstance(expression, View | Recut):
        expression = expression.operand
    kept = expression.kept
    return isinstance(expression, Memory) or (
        kept is not None
        and kept.is_usable()
        and all(task.done() for task in computing.chunk_tasks(expression))
    )


def text_of(
    expression: Expression,
    function: Callable[[NDArray[Any]], str],
    threshold: int | None = None,
    edgeitems: int | None = None,
) -> str:
    r"""What `function`, such as `numpy.array_str`, says of the values of `expression`.

    Of an array that NumPy abridges only the elements at the edges are computed; `function` is
    given a smaller array, of which it shows the same elements.

    Parameters
    ----------
    threshold, edgeitems
        In place of those of `numpy.set_printoptions`.

    Examples
    --------
    >>> import darray as da
    >>> text_of(da.arange(10**12).expression, np.array_str)
    '[           0            1            2 ... 999999999997 999999999998\n 999999999999]'
    """
    options = np.get_printoptions()
    most = options["threshold"] if threshold is None else threshold
    edge = options["edgeitems"] if edgeitems is None else edgeitems
    size = math.prod(expression.shape)
    if size <= most:
        with np.printoptions(threshold=size):
            return function(computing.compute([expression])[0])
    shown = _edges(expression, edge)
    with np.printoptions(threshold=0, edgeitems=edge):
        return function(shown)


def _edges(expression: Expression, edge: int) -> NDArray[Any]:
    """An array that is abridged to the same text: one element stands for all left out."""
    shape = expression.shape
    halves = [
        [(slice(edge), slice(edge)), (slice(size - edge, size), slice(edge + 1, None))]
        if size > 2 * edge + 1
        else [(slice(size), slice(size))]
        for size in shape
    ]
    corners = list(itertools.product(*halves))
    views = [
        building.view(expression, IndexMap.from_index(tuple([part for part, _ in corner]), shape))
        for corner in corners
    ]
    values = computing.compute(views)
    shown = np.zeros([min(size, 2 * edge + 1) for size in shape], expression.dtype)
    for corner, value in zip(corners, values, strict=True):
        shown[tuple([place for _, place in corner])] = value
    return shown
