"""Steps of factorisations on tiles of float64, by the BLAS and LAPACK that SciPy brings.

Each is one call that lets the interpreter go, which SciPy's own wrappers do not. Tiles are square
or the rest of one, lie in memory by rows, perhaps with gaps between them, and are changed in place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.kernels.blas import foreign_routine

__all__ = ["factor", "solve", "subtract_product", "subtract_square"]

Tile = NDArray[np.float64]

_ONE, _MINUS_ONE = ctypes.c_double(1), ctypes.c_double(-1)


@lru_cache(maxsize=8)
def _routine(library: str, name: str, count: int) -> Callable[..., None]:
    try:
        from scipy.linalg import cython_blas, cython_lapack
    except ImportError as error:
        raise ImportError(
            'factorising tiles needs SciPy; install it with pip install "darray[linalg]"'
        ) from error
    module = cython_blas if library == "blas" else cython_lapack
    found = foreign_routine(module.__pyx_capi__[name], b"void (char *, ", count)
    if found is None:
        raise ImportError(f"this SciPy declares {name} in a way that is not known here")
    return found


def _layout(tile: Tile, shape: tuple[int, int], writes: bool = False) -> tuple[Any, Any]:
    """Where a tile of that shape lies, and how far its rows are apart, in elements."""
    if tile.dtype != np.float64 or tile.shape != shape:
        raise ValueError(
            f"a tile of float64 of shape {shape} is asked for here; this has dtype {tile.dtype} "
            f"and shape {tile.shape}"
        )
    rows, columns = shape
    by_row, by_column = tile.strides
    step = by_row // 8 if rows > 1 else max(1, columns)
    if (columns > 1 and by_column != 8) or by_row % 8 or step < columns or not tile.flags.aligned:
        raise ValueError(f"a tile lies in memory by rows; this one has strides {tile.strides}")
    if writes and not tile.flags.writeable:
        raise ValueError("a tile that is changed must be writable; this one is read-only")
    return ctypes.c_void_p(tile.__array_interface__["data"][0]), ctypes.c_int(step)


def _call(library: str, name: str, *arguments: Any) -> None:
    addresses = [
        one if isinstance(one, bytes | ctypes.c_void_p) else ctypes.addressof(one)
        for one in arguments
    ]
    _routine(library, name, len(arguments))(*addresses)


def factor(a: Tile) -> None:
    """Replace the lower triangle of `a`, symmetric, by its Cholesky factor (LAPACK's potrf).

    What lies above the diagonal is neither read nor written.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the matrix is not positive definite.

    Examples
    --------
    >>> a = np.array([[4.0, 0.0], [2.0, 10.0]])
    >>> factor(a)
    >>> a
    array([[2., 0.],
           [1., 3.]])
    """
    place, step = _layout(a, (len(a), len(a)), True)
    ended = ctypes.c_int(0)
    # LAPACK counts by columns: its upper triangle is the lower one here.
    _call("lapack", "dpotrf", b"U", ctypes.c_int(len(a)), place, step, ended)
    if ended.value:
        raise np.linalg.LinAlgError(
            f"the matrix is not positive definite: its leading minor of order {ended.value}, "
            "counted within this tile, is not"
        )


def solve(factor: Tile, b: Tile) -> None:
    """Replace `b` by the x with ``x @ factor.T == b``, for a lower triangle (BLAS's trsm).

    Examples
    --------
    >>> b = np.array([[2.0, 7.0]])
    >>> solve(np.array([[2.0, 0.0], [1.0, 3.0]]), b)
    >>> b
    array([[1., 2.]])
    """
    side = len(factor)
    place, step = _layout(factor, (side, side))
    b_place, b_step = _layout(b, (len(b), side), True)
    rows, columns = map(ctypes.c_int, b.shape)
    sizes = (columns, rows)
    _call("blas", "dtrsm", b"L", b"U", b"T", b"N", *sizes, _ONE, place, step, b_place, b_step)


def subtract_square(a: Tile, c: Tile) -> None:
    """Subtract ``a @ a.T`` from the lower triangle of `c` (BLAS's syrk).

    Examples
    --------
    >>> c = np.full((2, 2), 9.0)
    >>> subtract_square(np.array([[1.0], [2.0]]), c)
    >>> c
    array([[8., 9.],
           [7., 5.]])
    """
    side = len(a)
    place, step = _layout(a, (side, a.shape[1]))
    c_place, c_step = _layout(c, (side, side), True)
    rows, depth = map(ctypes.c_int, a.shape)
    scales = (_MINUS_ONE, place, step, _ONE, c_place, c_step)
    _call("blas", "dsyrk", b"U", b"T", rows, depth, *scales)


def subtract_product(a: Tile, b: Tile, c: Tile) -> None:
    """Subtract ``a @ b.T`` from `c` (BLAS's gemm).

    Examples
    --------
    >>> c = np.full((1, 2), 9.0)
    >>> subtract_product(np.array([[2.0]]), np.array([[3.0], [4.0]]), c)
    >>> c
    array([[3., 1.]])
    """
    a_place, a_step = _layout(a, (len(a), a.shape[1]))
    b_place, b_step = _layout(b, (len(b), a.shape[1]))
    c_place, c_step = _layout(c, (len(a), len(b)), True)
    rows, depth = map(ctypes.c_int, a.shape)
    columns = ctypes.c_int(len(b))
    operands = (_MINUS_ONE, b_place, b_step, a_place, a_step, _ONE, c_place, c_step)
    _call("blas", "dgemm", b"T", b"N", columns, rows, depth, *operands)
