"""The kernel table: which code runs a function on one kind of processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["kernel", "kernel_for"]

F = TypeVar("F", bound=Callable[..., Any])

_kernels: dict[str, dict[Callable[..., Any], Callable[..., Any]]] = {}


def kernel(function: Callable[..., Any], *, on: str) -> Callable[[F], F]:
    """Register the decorated function as what runs `function` on processors of kind `on`.

    Examples
    --------
    >>> import numpy as np
    >>> @kernel(np.cbrt, on="abacus")
    ... def cube_root(x):
    ...     return round(x ** (1 / 3))
    >>> kernel_for(np.cbrt, "abacus")(27)
    3
    >>> kernel_for(np.sin, "abacus") is np.sin
    True
    """

    def register(code: F) -> F:
        _kernels.setdefault(on, {})[function] = code
        return code

    return register


def kernel_for(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """What runs `function` on `kind`: its kernel, or the function as it is."""
    return _kernels.get(kind, {}).get(function, function)
