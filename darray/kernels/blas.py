"""Products of matrices added into a third, by the gemm of the BLAS that SciPy brings."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_product", "clear_errors", "foreign_routine", "has_gemm", "raised_errors"]

# How cython_blas declares its gemm: with 32-bit integers, which is what is passed here.
_DECLARED = b"void (char *, char *, int *, int *, int *,"

_LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}

# The bits of C's <fenv.h> for numpy.geterr's divide, over, under and invalid.
_FLAGS = {
    "x86_64": (4, 8, 16, 1),
    "AMD64": (4, 8, 16, 1),
    "aarch64": (2, 4, 8, 1),
    "arm64": (2, 4, 8, 1),
}

_LARGEST_INT = 2**31 - 1

_Routine: TypeAlias = tuple[Callable[..., None], Any, Any]


@lru_cache(maxsize=8)
def _routine(letter: str) -> _Routine | None:
    """The gemm for the dtype that `letter` names, with its 1 and 0; None without SciPy.

    The routine is called through a pointer: SciPy's wrappers in Python hold the interpreter
    while they compute, a foreign function lets it go.
    """
    try:
        from scipy.linalg import cython_blas
    except ImportError:
        return None
    found = foreign_routine(cython_blas.__pyx_capi__[f"{_LETTERS[letter]}gemm"], _DECLARED, 13)
    if found is None or _environment() is None:
        return None
    part = ctypes.c_float if letter in "fF" else ctypes.c_double
    number = part * 2 if letter in "FD" else part * 1
    return found, number(1), number(0)


def foreign_routine(capsule: Any, declared: bytes, count: int) -> Callable[..., None] | None:
    """The routine that a capsule holds, taking `count` addresses; called without the interpreter.

    None where its declaration does not begin with `declared`.
    """
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype = ctypes.c_void_p
    pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = name_of(capsule)
    if name is None or not name.startswith(declared):
        return None
    routine: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)(
        pointer_of(capsule, name)
    )
    return routine


@lru_cache(maxsize=1)
def _environment() -> tuple[Any, Any, tuple[int, int, int, int]] | None:
    """C's feclearexcept and fetestexcept with the bits of each error; None where unknown."""
    flags = _FLAGS.get(platform.machine())
    try:
        library = ctypes.PyDLL("ucrtbase" if platform.system() == "Windows" else None)
        clear, test = library.feclearexcept, library.fetestexcept
    except (OSError, AttributeError):
        return None
    if platform.system() == "Windows":
        flags = (8, 4, 2, 16)
    return None if flags is None else (clear, test, flags)


def has_gemm(dtype: np.dtype[Any]) -> bool:
    """Whether `add_product` can be called for arrays of `dtype`; loads SciPy where it helps.

    Examples
    --------
    >>> has_gemm(np.dtype(int))
    False
    """
    return dtype.char in _LETTERS and dtype.isnative and _routine(dtype.char) is not None


def clear_errors() -> None:
    """Forget the floating-point errors of the calling thread; only where `has_gemm`."""
    environment = _environment()
    assert environment is not None
    clear, _, flags = environment
    clear(sum(flags))


def raised_errors() -> tuple[str, ...]:
    """Floating-point errors of the calling thread since `clear_errors`, as numpy.geterr's keys.

    Examples
    --------
    >>> huge = np.full((1, 1), 1e200)
    >>> if has_gemm(huge.dtype):
    ...     clear_errors()
    ...     add_product(np.zeros((1, 1)), huge, huge, False)
    ...     assert raised_errors() == ("over",)
    """
    environment = _environment()
    assert environment is not None
    _, test, flags = environment
    raised = test(sum(flags))
    if not raised:
        return ()
    kinds = ("divide", "over", "under", "invalid")
    return tuple([kind for kind, flag in zip(kinds, flags, strict=True) if raised & flag])


def add_product(c: NDArray[Any], a: NDArray[Any], b: NDArray[Any], adds: bool) -> None:
    """Do ``c += a @ b``, or without `adds` ``c[...] = a @ b``, with the interpreter let go.

    The arrays are matrices of one dtype for which `has_gemm` holds, without empty axes; `c`
    lies in memory by rows and shares none with the others. These may lie by rows or by columns,
    with gaps between them; what lies otherwise is copied first.

    Examples
    --------
    >>> a, b, c = np.ones((2, 4))[:, ::2], np.ones((3, 2)).T, np.ones((2, 3))
    >>> if has_gemm(c.dtype):
    ...     add_product(c, a, b, True)
    ... else:
    ...     c += a @ b
    >>> c
    array([[3., 3., 3.],
           [3., 3., 3.]])
    """
    found = _routine(c.dtype.char)
    assert found is not None
    gemm, one, zero = found
    a, a_flag, a_step = _laid_out(a)
    b, b_flag, b_step = _laid_out(b)
    (m, k), n = a.shape, b.shape[1]
    c_step = c.strides[0] // c.itemsize if m > 1 else n
    sizes = [ctypes.c_int(size) for size in (n, m, k, b_step, a_step, c_step)]
    n_at, m_at, k_at, b_at, a_at, c_at = map(ctypes.addressof, sizes)
    scale, before = ctypes.addressof(one), ctypes.addressof(one if adds else zero)
    # BLAS counts by columns, where rows are what columns are here: c.T = b.T @ a.T.
    gemm(
        *(b_flag, a_flag, n_at, m_at, k_at, scale),
        *(_address(b), b_at, _address(a), a_at, before, _address(c), c_at),
    )


def _laid_out(matrix: NDArray[Any]) -> tuple[NDArray[Any], bytes, int]:
    """The matrix or a copy of it, whether its rows (N) or columns (T) run, and how far apart."""
    rows, columns = matrix.shape
    item = matrix.itemsize
    by_row, by_column = matrix.strides
    if matrix.flags.aligned:
        if by_column == item or columns == 1:
            step = by_row // item if rows > 1 else columns
            if columns <= step <= _LARGEST_INT and (rows == 1 or by_row % item == 0):
                return matrix, b"N", step
        if by_row == item or rows == 1:
            step = by_column // item if columns > 1 else rows
            if rows <= step <= _LARGEST_INT and (columns == 1 or by_column % item == 0):
                return matrix, b"T", step
    return np.array(matrix, order="C"), b"N", columns


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
