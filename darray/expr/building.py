"""Building expressions: shape, dtype, cut and every error that does not depend on values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index as as_integer
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.typing import DTypeLike, NDArray

from darray.blocks import (
    TARGET,
    BlocksLike,
    Chunks,
    Shape,
    common_cut,
    cut,
)
from darray.expr import foreign
from darray.expr.nodes import (
    KINDS,
    Concatenate,
    Elementwise,
    Expression,
    MapBlocks,
    Memory,
    Recut,
    Reduce,
    View,
)
from darray.index_maps import IndexMap
from darray.kernels.cpu import cast
from darray.kernels.extrema import ArgExtremum
from darray.kernels.moments import Mean, Variance
from darray.kernels.reductions import Reduction, check_operand
from darray.kernels.warnings_ledger import captured_errors
from darray.runtime.devices.host_buffers import is_own

__all__ = [
    "as_argument",
    "astype",
    "broadcast_to",
    "captured",
    "concatenate",
    "dropping",
    "elementwise",
    "fitted",
    "map_blocks",
    "plain_call",
    "recut",
    "reduce",
    "reduce_plainly",
    "shared",
    "view",
]


def captured(array: NDArray[Any], chunks: Chunks | None = None) -> Memory:
    """Expression of an array by value: a copy, or the array itself if it cannot change."""
    if not _is_constant(array):
        array = array.copy(order="C")
        array.flags.writeable = False
    if chunks is None:
        chunks = _one_chunk(array.shape)
    return Memory(array.shape, array.dtype, chunks, array)


@lru_cache(maxsize=256)
def _one_chunk(shape: Shape) -> Chunks:
    """The cut into one chunk, shared by arrays of one shape, so that it is known at once."""
    return tuple([(size,) for size in shape])


def _is_constant(array: NDArray[Any]) -> bool:
    """Whether nobody can write to the memory of `array`: read-only down to its owner."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        if is_own(owner):
            return True
        owner = owner.base
    return isinstance(owner, bytes)


# What an elementwise call is given as it is.
_AS_THEY_ARE = (Expression, bool, int, float, complex, np.generic)


def as_argument(value: Any, defers: bool = False) -> Any:
    """`value` as an argument of an elementwise call: an expression, or a scalar as it is.

    With `defers`, NotImplemented for what answers such calls itself: arrays of other libraries,
    and subclasses of NumPy's array with ufuncs of their own. Otherwise these are read as NumPy
    reads them.

    Raises
    ------
    TypeError, NotImplementedError
        For what cannot be read as an array; see `darray.expr.foreign.as_array`.
    """
    if isinstance(value, _AS_THEY_ARE):
        return value
    if defers and foreign.is_foreign(value):
        return NotImplemented
    if defers and isinstance(value, np.matrix):
        raise TypeError(
            "the operators of np.matrix are not those of arrays; give its values, "
            "np.asarray(matrix), and write @ for the product of matrices"
        )
    array = foreign.as_array(value)
    return captured(array) if array.ndim else array[()]


@lru_cache(maxsize=256)
def _sample(dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array without elements, to ask NumPy what a function makes of a dtype."""
    return np.empty((0,), dtype)


@lru_cache(maxsize=1024)
def _result_dtypes(
    function: Callable[..., Any], kinds: tuple[np.dtype[Any] | type, ...], outputs: int
) -> tuple[np.dtype[Any], ...]:
    """The dtypes of the results of a function of arrays, whose dtypes are given, and of numbers.

    Raises what NumPy does where it has none.
    """
    samples = [_sample(one) if isinstance(one, np.dtype) else one(1) for one in kinds]
    return _sampled_dtypes(function, samples, {}, outputs)


def _sampled_dtypes(
    function: Callable[..., Any], samples: list[Any], parameters: dict[str, Any], outputs: int
) -> tuple[np.dtype[Any], ...]:
    with np.errstate(all="ignore"):
        sampled = function(*samples, **parameters)
    return tuple([one.dtype for one in (sampled if outputs > 1 else (sampled,))])


# NumPy's numbers, which have dtypes of their own.
_SCALARS = (np.number, np.bool)

# Python's numbers, which take the dtype of the arrays beside them, whatever their values.
_NUMBERS = frozenset({bool, float, complex})

# Up to here Python's integers fit every integer dtype; NumPy refuses those that do not.
_IN_ALL_INTEGERS = 127


def _kind(argument: Any) -> np.dtype[Any] | type | None:
    """What of a scalar the dtypes of a ufunc's results depend on; None for not only that."""
    kind = type(argument)
    if kind is int:
        return int if 0 <= argument <= _IN_ALL_INTEGERS else None
    if isinstance(argument, _SCALARS):
        dtype: np.dtype[Any] = argument.dtype
        return dtype
    return None


def plain_call(function: Callable[..., Any], arguments: Sequence[Any]) -> Elementwise | None:
    """What `elementwise` gives for a ufunc of arrays of one cut and numbers, and nothing else.

    None for others, and where there is no array. Small arrays feel how long it takes.
    """
    if function.__class__ is not np.ufunc and function is not np.where:
        return None
    first: Any = None
    kinds: list[np.dtype[Any] | type] = []
    for one in arguments:
        kind = one.__class__
        if kind in KINDS:
            if first is None or not first.chunks:
                # What has no axes is broadcast to any cut.
                first = one
            elif one.chunks is not first.chunks and one.chunks not in ((), first.chunks):
                return None
            kinds.append(one.dtype)
        elif kind in _NUMBERS:
            kinds.append(kind)
        else:
            found = _kind(one)
            if found is None:
                return None
            kinds.append(found)
    if first is None:
        return None
    (dtype,) = _result_dtypes(function, tuple(kinds), 1)
    return Elementwise(
        first.shape,
        dtype,
        first.chunks,
        function,
        tuple(arguments),
        (),
        None,
        None,
        captured_errors(),
    )


def elementwise(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    parameters: dict[str, Any] | None = None,
    where: Any = None,
    outputs: int = 1,
) -> tuple[Elementwise, ...]:
    """Expressions of the results of a function of elements.

    NumPy itself is asked, with arrays of no elements, for the dtypes and for what is wrong
    with the arguments.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As NumPy raises them for the same call.
    """
    if not parameters and outputs == 1 and (where is None or where is True):
        plain = plain_call(function, arguments)
        if plain is not None:
            return (plain,)
    parameters = parameters or {}
    operands = [one for one in arguments if isinstance(one, Expression)]
    errors = captured_errors()
    if len(operands) == len(arguments) and not parameters and isinstance(function, np.ufunc):
        dtypes = _result_dtypes(function, tuple([one.dtype for one in operands]), outputs)
    else:
        samples = [_sample(one.dtype) if isinstance(one, Expression) else one for one in arguments]
        dtypes = _sampled_dtypes(function, samples, parameters, outputs)
    mask = None if where is None or where is True else as_argument(where)
    if mask is not None:
        mask = mask if isinstance(mask, Expression) else captured(np.asarray(mask))
        if mask.dtype != bool:
            raise TypeError(
                f"Cannot cast array data from {mask.dtype!r} to dtype('bool') for where="
            )
        operands.append(mask)
    first = operands[0].chunks
    chunks = first
    for operand in operands[1:]:
        if operand.chunks is not first:
            chunks = common_cut([(one.chunks, one.shape) for one in operands])
            break
    shape = operands[0].shape if chunks is first else tuple([sum(sizes) for sizes in chunks])
    built = []
    for output, dtype in enumerate(dtypes):
        given = parameters if mask is None else {**parameters, "result_dtypes": dtypes}
        built.append(
            Elementwise(
                shape,
                dtype,
                chunks,
                function,
                tuple(arguments),
                tuple(given.items()),
                mask,
                output if outputs > 1 else None,
                errors,
            )
        )
    return tuple(built)


def astype(operand: Expression, dtype: DTypeLike, casting: str = "unsafe") -> Expression:
    """Expression of `operand` as `dtype`; `operand` itself if it has it."""
    wanted = np.dtype(dtype)
    if wanted == operand.dtype:
        return operand
    return elementwise(cast, [operand], {"dtype": wanted, "casting": casting})[0]


def view(operand: Expression, index_map: IndexMap) -> Expression:
    """Expression of the elements of `operand` that `index_map` selects."""
    if index_map.is_identity:
        return operand
    if isinstance(operand, View) and operand.kept is None:
        return view(operand.operand, index_map.after(operand.index_map))
    known = math.prod([axis.size for axis in index_map.axes if axis.source >= 0])
    limit = max(1, TARGET // max(1, operand.dtype.itemsize * min(known, TARGET)))
    chunks = index_map.cut(operand.chunks, limit)
    return View(index_map.shape, operand.dtype, chunks, operand, index_map)


def broadcast_to(operand: Expression, shape: Shape) -> Expression:
    """Expression of `operand` broadcast to `shape`."""
    if operand.shape == shape:
        return operand
    return view(operand, IndexMap.broadcast(operand.shape, shape))


def fitted(operand: Expression, shape: Shape) -> Expression:
    """Expression of `operand` broadcast to `shape` as what is assigned to an array of it is.

    Raises
    ------
    ValueError
        When it does not fit; first axes of length 1 that are too many are left out.
    """
    added = len(operand.shape) - len(shape)
    try:
        if added > 0:
            operand = view(operand, IndexMap.drop_axes(tuple(range(added)), operand.shape))
        return broadcast_to(operand, shape)
    except ValueError:
        raise ValueError(
            f"could not broadcast input array from shape {operand.shape} into shape {shape}"
        ) from None


def shared(array: NDArray[Any], chunks: Chunks) -> Memory:
    """Expression of an array whose memory its owner may change, as `DArray` allows it."""
    view_of_it = array.view(np.ndarray)
    view_of_it.flags.writeable = False
    return Memory(array.shape, array.dtype, chunks, view_of_it, True)


def recut(operand: Expression, blocks: BlocksLike) -> Expression:
    """Expression of `operand` in the cut that `blocks` make."""
    chunks = cut(blocks, operand.shape, operand.dtype.itemsize)
    if chunks == operand.chunks:
        return operand
    if isinstance(operand, Recut) and operand.kept is None:
        return recut(operand.operand, blocks)
    if isinstance(operand, Memory) and not operand.is_shared:
        return Memory(operand.shape, operand.dtype, chunks, operand.array)
    return Recut(operand.shape, operand.dtype, chunks, operand)


def normal_axes(axis: Any, dimensions: int) -> tuple[int, ...]:
    """The axes that NumPy's ``axis=`` means, sorted; all of them for None.

    Raises
    ------
    AxisError, ValueError, TypeError
        As NumPy raises them.
    """
    if axis is None:
        return tuple(range(dimensions))
    if isinstance(axis, tuple):
        return tuple(sorted(normalize_axis_tuple(axis, dimensions)))
    return (normalize_axis_index(axis, dimensions),)


def _reduced_axes(
    reduction: Reduction, axis: Any, dtype: np.dtype[Any], dimensions: int
) -> tuple[int, ...]:
    """The axes that a reduction goes over; an array without axes may be given one."""
    if axis is None and dimensions:
        return tuple(range(dimensions))
    if axis is not None and (not isinstance(axis, tuple) or isinstance(reduction, ArgExtremum)):
        axis = as_integer(axis)
    skips_nan = reduction.name.startswith("nan") and dtype.kind in "fc"
    averages = isinstance(reduction, Mean | Variance) and not skips_nan
    if not dimensions and axis in (0, -1) and not averages:
        return ()
    return normal_axes(axis, dimensions)


class _Form(NamedTuple):
    """What of a reduction does not depend on its operand's values; the reduced axes kept."""

    axes: tuple[int, ...]
    dtype: np.dtype[Any]
    shape: Shape
    chunks: Chunks


def _form(
    reduction: Reduction, dtype: np.dtype[Any], chunks: Chunks, axis: Any, is_masked: bool
) -> _Form:
    """Raise what is wrong with a reduction, or find its form."""
    whole = tuple([sum(sizes) for sizes in chunks])
    axes = _reduced_axes(reduction, axis, dtype, len(whole))
    result = check_operand(reduction, dtype, whole, axes, is_masked)
    shape = tuple([1 if i in axes else size for i, size in enumerate(whole)])
    cut = tuple([(1,) if i in axes else sizes for i, sizes in enumerate(chunks)])
    return _Form(axes, result, shape, cut)


# The same map objects for all arrays of one shape.
dropping = lru_cache(maxsize=256)(IndexMap.drop_axes)
transposing = lru_cache(maxsize=256)(IndexMap.transpose)


def reduce(
    operand: Expression,
    reduction: Reduction,
    axis: Any,
    keepdims: bool,
    where: Any = None,
) -> Expression:
    """Expression of `operand` reduced over the axes that `axis` means.

    Raises
    ------
    AxisError, TypeError, ValueError
        As NumPy raises them, also for a reduction of no elements that needs some.
    """
    mask = None
    if where is not None and where is not True:
        # Before the mask is looked at, as NumPy does.
        _reduced_axes(reduction, axis, operand.dtype, len(operand.shape))
        mask = as_argument(where)
        mask = mask if isinstance(mask, Expression) else captured(np.asarray(mask, bool))
        mask = broadcast_to(mask, operand.shape)
    form = _form(reduction, operand.dtype, operand.chunks, axis, mask is not None)
    axes, dtype, shape, chunks = form
    node = Reduce(shape, dtype, chunks, operand, reduction, axes, mask, captured_errors())
    if keepdims or not axes:
        return node
    seen, cut, index_map = _dropped(form)
    return View(seen, dtype, cut, node, index_map)


def reduce_plainly(operand: Expression, reduction: Any, axis: int | None) -> Expression:
    """What `reduce` gives without ``keepdims`` and ``where``, of a reduction without parameters.

    Small arrays feel how long it takes: the same is asked of many, and found once.
    """
    if max(map(len, operand.chunks), default=0) > _FEW_CHUNKS:
        return reduce(operand, reduction, axis, False)
    form, seen, cut, index_map = _known_form(reduction, operand.dtype, operand.chunks, axis)
    axes, dtype, shape, chunks = form
    node = Reduce(shape, dtype, chunks, operand, reduction, axes, None, captured_errors())
    return View(seen, dtype, cut, node, index_map) if axes else node


def _dropped(form: _Form) -> tuple[Shape, Chunks, IndexMap]:
    """The shape and the cut of a result without the reduced axes, and what leads there."""
    chunks = tuple([sizes for axis, sizes in enumerate(form.chunks) if axis not in form.axes])
    index_map = dropping(form.axes, form.shape)
    return index_map.shape, chunks, index_map


# Finding a form again takes a look at every chunk's size.
_FEW_CHUNKS = 64


@lru_cache(maxsize=1024)
def _known_form(
    reduction: Reduction, dtype: np.dtype[Any], chunks: Chunks, axis: int | None
) -> tuple[_Form, Shape, Chunks, IndexMap]:
    form = _form(reduction, dtype, chunks, axis, False)
    return form, *_dropped(form)


def concatenate(
    parts: Sequence[Expression], axis: int, dtype: np.dtype[Any], casting: str = "same_kind"
) -> Expression:
    """Expression of `parts`, whose shapes agree but along `axis`, one after another."""
    parts = [astype(part, dtype, casting) for part in parts]
    others: list[tuple[Chunks, Shape]] = []
    for part in parts:
        chunks = (*part.chunks[:axis], (1,), *part.chunks[axis + 1 :])
        others.append((chunks, tuple([sum(sizes) for sizes in chunks])))
    shared = common_cut(others)
    along = tuple([size for part in parts for size in part.chunks[axis] if size]) or (0,)
    chunks = (*shared[:axis], along, *shared[axis + 1 :])
    shape = tuple([sum(sizes) for sizes in chunks])
    return Concatenate(shape, dtype, chunks, tuple(parts), axis)


def map_blocks(
    function: Callable[..., Any],
    arrays: Sequence[Expression],
    dtype: np.dtype[Any],
    chunks: Chunks | None,
) -> MapBlocks:
    """Expression of ``function(*blocks)`` for each place in the grid of `arrays`.

    Raises
    ------
    ValueError
        When `arrays` have not all one shape, or `chunks` have another grid.
    """
    first = arrays[0]
    for other in arrays[1:]:
        if other.shape != first.shape:
            raise ValueError(
                f"map_blocks needs arrays of one shape, but there are {first.shape!r} and "
                f"{other.shape!r}; broadcast them first, with np.broadcast_arrays"
            )
    cut_alike = [recut(other, first.chunks) for other in arrays]
    if chunks is None:
        chunks = first.chunks
    elif [len(sizes) for sizes in chunks] != [len(sizes) for sizes in first.chunks]:
        raise ValueError(
            f"map_blocks(chunks={chunks!r}) has another number of blocks than the array, whose "
            f"chunks are {first.chunks!r}; give one size for each block"
        )
    shape = tuple([sum(sizes) for sizes in chunks])
    return MapBlocks(shape, dtype, chunks, function, tuple(cut_alike))
