"""Making arrays of other objects' values: lists, arrays of other libraries, DLPack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from darray.blocks import BlocksLike
from darray.dispatch import implements
from darray.expr.foreign import as_array
from darray.functions import creation
from darray.handle import DArray

__all__ = [
    "array",
    "asanyarray",
    "asarray",
    "ascontiguousarray",
    "copy",
    "from_dlpack",
]


@implements(np.asarray)
def asarray(
    a: Any,
    dtype: DTypeLike | None = None,
    order: str | None = None,
    *,
    device: str | None = None,
    copy: bool | None = None,
    blocks: BlocksLike | None = None,
) -> DArray:
    """`a` as a DArray: itself if it is one, else captured by value; see `distribute`.

    Parameters
    ----------
    dtype
        Of the result.
    order
        Accepted as NumPy has it; chunks always have C order.
    device
        ``"cpu"``.
    copy
        Whether the result is an array of its own; False refuses to copy.
    blocks
        How the result is cut; a DArray keeps its cut by default.

    Raises
    ------
    ValueError
        With ``copy=False``, where values have to be copied or computed.

    Examples
    --------
    >>> import darray as da
    >>> da.asarray([1, 2, 3], dtype=float, blocks=2).chunks
    ((2, 1),)
    """
    _check_memory(order, device)
    if not isinstance(a, DArray):
        if copy is False:
            raise ValueError(
                "da.asarray(a, copy=False): a DArray captures values; da.wrap(a) shares the memory "
                "of a NumPy array"
            )
        values = as_array(a) if dtype is None else np.asarray(as_array(a), dtype)
        return creation.distribute(values, "auto" if blocks is None else blocks)
    if copy is False and not (dtype is None or np.dtype(dtype) == a.dtype):
        raise ValueError(f"da.asarray(x, copy=False) cannot make {a.dtype} into {np.dtype(dtype)}")
    result = a.astype(a.dtype if dtype is None else dtype, copy=bool(copy))
    return result if blocks is None else result.rechunk(blocks)


def _check_memory(order: str | None, device: str | None) -> None:
    if order not in (None, "C", "F", "A", "K"):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    if device not in (None, "cpu"):
        raise ValueError(f'Device not understood. Only "cpu" is allowed, but received: {device}')


@implements(np.asanyarray)
def asanyarray(a: Any, dtype: DTypeLike | None = None, *args: Any, **kwargs: Any) -> DArray:
    """`a` as a DArray; see `asarray`."""
    return asarray(a, dtype, *args, **kwargs)


@implements(np.ascontiguousarray)
def ascontiguousarray(a: Any, dtype: DTypeLike | None = None) -> DArray:
    """`a` as a DArray of one axis at least; see `asarray`."""
    return array(a, dtype, copy=None, ndmin=1)


@implements(np.array)
def array(
    a: Any,
    /,
    dtype: DTypeLike | None = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,
    ndmin: int = 0,
    blocks: BlocksLike | None = None,
    **numpy_options: Any,
) -> DArray:
    """A new DArray of the values of `a`, as `numpy.array`.

    Examples
    --------
    >>> import darray as da
    >>> da.array([[1, 2], [3, 4]], blocks=1).sum().item()
    10
    """
    if numpy_options:
        a = np.array(a, dtype, **numpy_options)
    result = asarray(a, dtype, order, copy=copy, blocks=blocks)
    missing = ndmin - result.ndim
    return np.expand_dims(result, tuple(range(missing))) if missing > 0 else result  # type: ignore[return-value]


@implements(np.copy)
def copy(a: Any, order: str | None = "K", subok: bool = False) -> DArray:
    """A new DArray of the same values."""
    return asarray(a, order=order, copy=True)


def from_dlpack(
    x: Any,
    /,
    *,
    device: Any = None,
    copy: bool | None = None,
    blocks: BlocksLike = "auto",
) -> DArray:
    """Array of the values of any object with ``__dlpack__``, captured by value.

    Values on a device are brought to the host by the library that holds them.

    Raises
    ------
    BufferError
        With ``copy=False``, since values are captured, and for what DLPack cannot express.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> da.from_dlpack(np.arange(3), blocks=2).collect()
    array([0, 1, 2])
    """
    _check_memory(None, device)
    if copy is False:
        raise BufferError(
            "da.from_dlpack(x, copy=False): a DArray captures values; da.wrap(np.from_dlpack(x)) "
            "shares the memory of x"
        )
    if isinstance(x, DArray):
        return asarray(x, copy=True, blocks=blocks)
    is_on_host = x.__dlpack_device__()[0] == np.empty((0,)).__dlpack_device__()[0]
    values = np.from_dlpack(x) if is_on_host else np.from_dlpack(x, device="cpu")
    return creation.distribute(values, blocks)


# What NumPy's functions make with ``like=`` a DArray; the functions of these names in the package
# take blocks= besides.


def _filled(function: Callable[..., Any], make: Callable[..., DArray]) -> None:
    """Let ``function(shape, like=x)`` be what `make` makes."""

    @implements(function)
    def like(
        shape: Any,
        dtype: DTypeLike | None = None,
        order: str = "C",
        *,
        device: str | None = None,
    ) -> DArray:
        _check_memory(order, device)
        return make(shape, float if dtype is None else dtype)


_filled(np.zeros, creation.zeros)
_filled(np.ones, creation.ones)
_filled(np.empty, creation.empty)


@implements(np.full)
def _full(
    shape: Any,
    fill_value: Any,
    dtype: DTypeLike | None = None,
    order: str = "C",
    *,
    device: str | None = None,
) -> DArray:
    _check_memory(order, device)
    return creation.full(shape, fill_value, dtype)


@implements(np.eye)
def _eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: DTypeLike = float,
    order: str = "C",
    *,
    device: str | None = None,
) -> DArray:
    _check_memory(order, device)
    return creation.eye(N, M, k, dtype)


@implements(np.arange)
def _arange(*args: Any, device: str | None = None, **kwargs: Any) -> DArray:
    _check_memory(None, device)
    return creation.arange(*args, **kwargs)
