"""Functions of elements that are no ufuncs."""

from __future__ import annotations

from typing import Any

import numpy as np

from darray.dispatch import implements
from darray.expr import building
from darray.expr.nodes import Expression
from darray.functions.indexing import nonzero
from darray.handle import DArray, argument_of, as_expression, write_results
from darray.operators import plain_arguments

__all__ = [
    "around",
    "astype",
    "can_cast",
    "clip",
    "imag",
    "iscomplexobj",
    "isrealobj",
    "real",
    "result_type",
    "where",
]


@implements(np.where)
def where(condition: Any, *choices: Any) -> Any:
    """Elements of `x` where `condition` is true, of `y` elsewhere, as `numpy.where`.

    With a condition alone, the places where it is true, as `numpy.nonzero`.

    Examples
    --------
    >>> import darray as da
    >>> x = da.arange(4, blocks=2)
    >>> np.where(x > 1, x, -1).collect()
    array([-1, -1,  2,  3])
    """
    if not choices:
        return nonzero(condition)
    if len(choices) != 2:
        raise ValueError("either both or neither of x and y should be given")
    plain = plain_arguments((condition, *choices))
    if plain is not None:
        node = building.plain_call(np.where, plain)
        if node is not None:
            return DArray.of(node)
    arguments = [argument_of(one) for one in (condition, *choices)]
    if not any([isinstance(one, Expression) for one in arguments]):
        arguments[0] = building.captured(np.asarray(arguments[0]))
    return DArray.of(building.elementwise(np.where, arguments)[0])


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> DArray:
    """The array as `dtype`, as `numpy.astype`."""
    if device not in (None, "cpu"):
        raise ValueError(f'Device not understood. Only "cpu" is allowed, but received: {device}')
    array: DArray = x.astype(dtype, copy=copy)
    return array


@implements(np.real)
def real(val: Any) -> Any:
    """View of the real parts, as `numpy.real`."""
    return val.real if isinstance(val, DArray) else DArray.of(as_expression(val)).real


@implements(np.imag)
def imag(val: Any) -> Any:
    """View of the imaginary parts, as `numpy.imag`."""
    return val.imag if isinstance(val, DArray) else DArray.of(as_expression(val)).imag


@implements(np.round, np.around)
def around(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """Rounded to a number of decimals, as `numpy.round`."""
    results = building.elementwise(np.round, [as_expression(a)], {"decimals": decimals})
    return DArray.result_of(results[0]) if out is None else write_results(results, (out,))


@implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, **kwargs: Any) -> Any:
    """Limited to an interval, as `numpy.clip`."""
    low = kwargs.pop("min", a_min)
    high = kwargs.pop("max", a_max)
    out, where = kwargs.pop("out", None), kwargs.pop("where", True)
    bounds = [argument_of(None if one is np._NoValue else one) for one in (low, high)]
    mask = argument_of(where)
    arguments = [as_expression(a), *bounds]
    results = building.elementwise(np.clip, arguments, kwargs, mask)
    if out is not None:
        casting = kwargs.get("casting", "same_kind")
        return write_results(results, (out,), mask, casting, broadcasts=True)
    return DArray.result_of(results[0])


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that NumPy's promotion gives, as `numpy.result_type`."""
    found: np.dtype[Any] = np.result_type(
        *[one.dtype if isinstance(one, DArray) else one for one in arrays_and_dtypes]
    )
    return found


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Whether NumPy casts from one dtype to another, as `numpy.can_cast`."""
    # NumPy takes an array for what is cast and refuses one for what it is cast to.
    source = from_.dtype if isinstance(from_, DArray) else from_
    target = np.empty((0,), to.dtype) if isinstance(to, DArray) else to
    return bool(np.can_cast(source, target, casting))


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return bool(as_expression(x).dtype.kind == "c")


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)
