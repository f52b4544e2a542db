"""Arrays as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.handle import as_expression
from darray.printing import text_of

__all__ = ["array2string", "array_repr", "array_str"]


@implements(np.array2string)
def array2string(
    a: Any, *args: Any, threshold: int | None = None, edgeitems: int | None = None, **kwargs: Any
) -> str:
    """The values as text, as `numpy.array2string`; only those that are shown are computed.

    Examples
    --------
    >>> import darray as da
    >>> np.array2string(da.arange(4, blocks=2), separator=", ")
    '[0, 1, 2, 3]'
    """

    def text(values: Any) -> str:
        return np.array2string(values, *args, **kwargs)

    return text_of(as_expression(a), text, threshold, edgeitems)


@implements(np.array_str)
def array_str(
    a: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The values as text, as `numpy.array_str`; only those that are shown are computed."""
    options = (max_line_width, precision, suppress_small)
    return text_of(as_expression(a), lambda values: np.array_str(values, *options))


@implements(np.array_repr)
def array_repr(
    arr: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The values as text with their dtype, as `numpy.array_repr` writes them of a plain array."""
    options = (max_line_width, precision, suppress_small)
    shape = as_expression(arr).shape

    def text(values: Any) -> str:
        written = np.array_repr(values, *options)
        if values.shape == shape:
            return written
        return _with_shape(written, values.shape, shape, max_line_width)

    return text_of(as_expression(arr), text)


def _with_shape(text: str, shown: Any, shape: tuple[int, ...], width: int | None) -> str:
    """`text` with the shape of the whole array in place of what is `shown` of it."""
    head, mark, tail = text.rpartition(f"shape={shown}")
    if not mark:
        # Before version 2.2 NumPy does not tell the shape.
        return text
    head, extras = head.rstrip(), f"shape={shape}{tail}"
    last_line = len(head) - (head.rfind("\n") + 1)
    limit = np.get_printoptions()["linewidth"] if width is None else width
    spacer = " " if last_line + len(extras) + 1 <= limit else "\n" + " " * len("array(")
    return head + spacer + extras
