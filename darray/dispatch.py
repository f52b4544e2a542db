"""The dispatch table: what stands for each NumPy function when it is given a DArray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["FUNCTIONS", "implements"]

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}


def implements(*functions: Callable[..., Any]) -> Callable[[F], F]:
    """Register the decorated function as what NumPy's `functions` do with DArrays.

    Examples
    --------
    >>> from darray.dispatch import FUNCTIONS
    >>> import darray, numpy
    >>> numpy.sum in FUNCTIONS
    True
    """

    def register(code: F) -> F:
        for function in functions:
            FUNCTIONS[function] = code
        return code

    return register
