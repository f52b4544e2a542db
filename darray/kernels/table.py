"""The kernel table: which code runs a function on one kind of processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

__all__ = ["DEVICES", "has_kernels", "kernel", "kernel_for", "kernels_of"]

F = TypeVar("F", bound=Callable[..., Any])

# Stands for every kind but "cpu" where it has no kernel of its own.
DEVICES = "*"

_kernels: dict[str, dict[Callable[..., Any], Callable[..., Any]]] = {}


def kernel(function: Callable[..., Any], *, on: str) -> Callable[[F], F]:
    """Register the decorated function as what runs `function` on processors of kind `on`.

    It is given the pieces of one chunk as arrays of that kind, with the parameters of the call,
    and gives an array of that kind of the shape and dtype that NumPy's function gives.

    Parameters
    ----------
    function : callable
        A function of NumPy, such as `numpy.hypot`, or one given to ``map_blocks``; reductions by
        a ufunc call its ``reduce``. For a class whose objects are called, the kernel is given
        the object first.
    on : str
        A kind of processors; on ``"cpu"`` for functions of elements. A kind without a memory of
        its own has NumPy arrays.

    Raises
    ------
    ValueError
        For reductions, scans and products on the CPU, which have ways of their own there.

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
    given: object = on
    if not (isinstance(given, str) and given):
        raise TypeError(f"kernel(on=...) takes the name of a kind of processors, not {on!r}")
    if not callable(function):
        raise TypeError(f"kernel() takes a function that it is a kernel of, not {function!r}")

    is_of_elements = not isinstance(getattr(function, "__self__", None), np.ufunc)
    if isinstance(function, np.ufunc) and function.signature is not None:
        is_of_elements = False
    if on == "cpu" and not is_of_elements:
        raise ValueError(
            f"kernel({function!r}, on='cpu') would never be used: reductions, scans and products "
            "are computed in ways of their own there; kernels on the CPU are for functions of "
            "elements, such as numpy.hypot"
        )

    def register(code: F) -> F:
        _kernels.setdefault(on, {})[function] = code
        return code

    return register


def has_kernels(kind: str) -> bool:
    """Whether any function has a kernel for `kind` itself."""
    return bool(_kernels.get(kind))


def kernels_of(kind: str) -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """What runs functions on `kind` that have a kernel of their own there; it follows changes.

    Examples
    --------
    >>> kernels_of("cpu").get(np.sin) is None
    True
    """
    return _kernels.setdefault(kind, {})


def kernel_for(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """What runs `function` on `kind`: its kernel, or the function as it is.

    NumPy's functions, given arrays of a device, leave the work to the class of these.
    """
    code = _kernels.get(kind, {}).get(function)
    if code is None and kind != "cpu":
        code = _kernels.get(DEVICES, {}).get(function)
    return function if code is None else code
