"""`DArray`: a handle on an expression, with NumPy's protocols."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from darray import advanced_indexing, foreign_operands, index_keys
from darray.block_grid import BlocksView
from darray.blocks import Blocks, BlocksLike, Chunks, blocks_of
from darray.cell import Cell, is_fleeting
from darray.conversions import Conversions
from darray.dispatch import FUNCTIONS
from darray.expr import building, scans, ufuncs
from darray.expr.nodes import Expression
from darray.index_maps import NEW, IndexMap, is_basic
from darray.lowering import computing
from darray.lowering.explaining import Explanation, explain
from darray.methods import ArrayMethods
from darray.operators import Operators, plain_arguments
from darray.runtime.engine import current_engine
from darray.view_steps import Selection, Step, extended, read
from darray.views import Views

__all__ = ["DArray"]


class DArray(Views, Conversions, ArrayMethods, Operators):
    """An array of any size, cut into chunks, whose operations run as tasks.

    A handle on a cell, which holds the expression of the whole array, and on a chain of
    view steps from it, composed into one map. Operations build expressions and return at
    once; values are computed by `collect`, ``np.asarray``, ``float`` and the like.

    DArrays are made by `distribute`, `zeros`, `from_zarr` and the other functions of the
    package, not by calling the class.

    Examples
    --------
    >>> import numpy as np
    >>> import darray as da
    >>> x = da.distribute(np.arange(12.0).reshape(3, 4), da.Blocks(2, 2))
    >>> np.sqrt(x[:, ::-1] * x).sum(axis=0).collect().shape
    (4,)
    """

    __slots__ = (
        "_cell",
        "_dtype",
        "_owner",
        "_persisted",
        "_seen_now",
        "_shape",
        "_steps",
        "_writeable",
        "is_scalar",
    )

    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100
    # Above those of pandas, whose objects otherwise take a DArray for a list.
    __pandas_priority__ = 5000

    #: Whether NumPy has a scalar here, which never changes.
    is_scalar: bool

    _shape: tuple[int, ...]
    _dtype: np.dtype[Any]
    _cell: Cell
    _steps: tuple[Step, ...]
    # What this is a view of; None for the array itself.
    _owner: DArray | None
    _writeable: bool
    # A view whose chunks were kept when this view of it was made, and the steps from there.
    _persisted: tuple[DArray, tuple[Step, ...]] | None
    # The cell's expression and the view of it that was made last: the same expression of a
    # view is found again, with what computations have left in it, until the cell changes.
    _seen_now: tuple[Expression, Expression] | None

    def __init__(self) -> None:
        raise TypeError(
            "DArray is not called; make one with da.distribute(array, blocks), da.zeros(shape), "
            "da.from_zarr(path), ..."
        )

    @classmethod
    def of(cls, expression: Expression) -> Self:
        """Handle on the whole of `expression`."""
        handle = cls.__new__(cls)
        handle._cell = Cell(expression)
        handle._steps = ()
        handle._owner = handle._persisted = handle._seen_now = None
        handle._writeable = True
        handle.is_scalar = False
        handle._shape = expression.shape
        handle._dtype = expression.dtype
        return handle

    @classmethod
    def sharing(cls, array: NDArray[Any], chunks: Chunks) -> Self:
        """Handle on a NumPy array whose memory it shares, and writes to when it is assigned to."""
        handle = cls.of(building.shared(array, chunks))
        handle._cell.shared = array
        handle._writeable = array.flags.writeable
        return handle

    @classmethod
    def result_of(cls, expression: Expression) -> Self:
        """Handle on a result, which is a scalar to NumPy where it has no axes."""
        handle = cls.__new__(cls)
        handle._cell = Cell(expression)
        handle._steps = ()
        handle._owner = handle._persisted = handle._seen_now = None
        handle._shape = shape = expression.shape
        handle._dtype = expression.dtype
        handle._writeable = bool(shape)
        handle.is_scalar = not shape
        return handle

    def seen(self, index_map: IndexMap) -> Self:
        """Handle on a view of this array, which follows it when it changes."""
        view = self.through(Selection(index_map), index_map.shape, self.dtype)
        if any(axis.source == NEW and axis.size > 1 for axis in index_map.axes):
            view._writeable = False
        return view

    def through(self, step: Step, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Handle on the view of this array that `step` leads to."""
        handle = type(self).__new__(type(self))
        handle._cell = self._cell
        handle._steps = extended(self._steps, step)
        handle._owner = self if self._owner is None else self._owner
        handle._persisted = None
        if self._steps and self.expression.kept is not None:
            handle._persisted = (self, (step,))
        elif self._persisted is not None:
            handle._persisted = (self._persisted[0], extended(self._persisted[1], step))
        handle._seen_now = None
        handle._writeable = self._writeable
        handle.is_scalar = False
        handle._shape = shape
        handle._dtype = dtype
        return handle

    @property
    def expression(self) -> Expression:
        """What this array is to be computed from, as it stands now."""
        whole = self._cell.expression
        if not self._steps:
            return whole
        if self._seen_now is None or self._seen_now[0] is not whole:
            start, steps = whole, self._steps
            if self._persisted is not None and self._persisted[0].expression.kept is not None:
                start, steps = self._persisted[0].expression, self._persisted[1]
            self._seen_now = (whole, read(start, steps))
        return self._seen_now[1]

    # Changing it

    def replace(self, values: Expression) -> None:
        """Give the elements that this array shows other values, of its shape and dtype.

        Raises
        ------
        ValueError
            When the array is read-only.
        """
        self.check_writeable()
        self._cell.replace(self._steps, values)

    def check_writeable(self) -> None:
        """Raise NumPy's error for a read-only array."""
        if self.is_scalar:
            raise TypeError(f"{self.dtype.type.__name__!r} object does not support item assignment")
        if not self._writeable:
            raise ValueError("assignment destination is read-only: assign to a copy, x.copy()")

    def shows_same(self, other: DArray) -> bool:
        """Whether both are the same view of the same array."""
        return self._cell is other._cell and self._steps == other._steps

    def __setitem__(self, key: Any, value: Any) -> None:
        self.check_writeable()
        key = index_keys.in_arrays(key, DArray)
        if is_basic(key) or self.names_fields(key):
            target = self.selected(key)
            # Python ends `x[key] += 1` with an assignment of what was changed already to itself.
            if not (isinstance(value, DArray) and value.shows_same(target)):
                target.replace(building.fitted(assigned(value, target.dtype), target.shape))
            return
        values = assigned(value, self.dtype)
        self.replace(advanced_indexing.write(self.expression, parts_of(key), values))

    def fill(self, value: Any) -> None:
        """Give every element one value, as NumPy's ``fill``.

        Examples
        --------
        >>> import darray as da
        >>> x = da.zeros(3)
        >>> x.fill(7)
        >>> x.collect()
        array([7., 7., 7.])
        """
        if isinstance(value, DArray) and value.ndim:
            raise ValueError("fill() takes one value, not an array")
        if not isinstance(value, DArray):
            one = np.empty(1, self.dtype)
            one.fill(value)
            value = one[0]
        self[...] = value

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def chunks(self) -> Chunks:
        """Sizes of the chunks along each axis, as dask and xarray have them."""
        return self.expression.chunks

    @property
    def partitioning(self) -> Blocks:
        """How the array is cut."""
        return blocks_of(self.chunks)

    @property
    def blocks(self) -> BlocksView:
        """The chunks: ``x.blocks[i, j]`` is the `Ref` of one, for tasks to read, or to write to."""
        return BlocksView(self)

    @property
    def T(self) -> Self:
        """The array with its axes reversed."""
        return self.seen(building.transposing(None, self.shape))

    def conj(self) -> Any:
        """Complex conjugate; of numbers that are real, the numbers."""
        return self.copy() if self.dtype.kind in "biuf" else np.conjugate(self)

    # Comparing

    def compared_unlike(self, ufunc: np.ufunc, other: Any) -> Any:
        """What ``==`` or ``!=`` gives with values that NumPy has no comparison for.

        NotImplemented where these answer themselves.
        """
        operand = argument_of(other, defers=True)
        if operand is NotImplemented:
            return NotImplemented
        kind = operand.dtype if isinstance(operand, Expression) else np.asarray(operand).dtype
        compare = operator.eq if ufunc is np.equal else operator.ne
        if self.dtype.names is not None and kind.names is not None:
            # Records are compared by NumPy's operators alone.
            return DArray.result_of(building.elementwise(compare, [self.expression, operand])[0])
        _ = compare(np.empty((0,), self.dtype), np.empty((0,), kind))
        shape = np.broadcast_shapes(self.shape, np.shape(operand))
        answer = building.captured(np.array(ufunc is np.not_equal))
        return DArray.of(building.broadcast_to(answer, shape))

    # Computing

    def collect(self) -> NDArray[Any]:
        """Compute the array; a fresh NumPy array.

        Examples
        --------
        >>> import darray as da
        >>> (da.arange(4, blocks=2) * 2).collect()
        array([0, 2, 4, 6])
        """
        keeps = not is_fleeting(self)
        return computing.compute([self.expression], keeps=keeps)[0]

    def explain(self) -> Explanation:
        """What computing the array would do: stages, tasks, bytes; nothing is computed.

        Examples
        --------
        >>> import darray as da
        >>> plan = da.ones(4, blocks=2).sum().explain()
        >>> print([(stage.name, stage.tasks) for stage in plan.stages])
        [('sum', 2), ('sum of chunks', 1), ('collect', 1)]
        """
        return explain(self.expression)

    def persist(self) -> Self:
        """Start to compute the array and keep its chunks; returns the array itself.

        Examples
        --------
        >>> import darray as da
        >>> x = (da.arange(6, blocks=3) ** 2).persist()
        >>> x.wait()
        >>> int(x.sum())
        55
        """
        (computed,) = computing.persist([self.expression])
        if not self._steps and self._cell.shared is None:
            self._cell.expression = computed
        return self

    def wait(self) -> None:
        """Wait until what `persist` started is done.

        Raises
        ------
        BaseException
            What a chunk's computation raised.
        """
        tasks = computing.chunk_tasks(self.expression)
        if tasks:
            current_engine().wait(tasks, None)
            for task in tasks:
                # The values stay where they are: on a device, or on disk.
                if task.exception() is not None:
                    task.result()

    # Looking at it

    def __getitem__(self, key: Any) -> DArray:
        key = index_keys.in_arrays(key, DArray)
        if not (is_basic(key) or self.names_fields(key)):
            return DArray.of(advanced_indexing.read(self.expression, parts_of(key)))
        found: DArray = self.selected(key)
        parts = key if isinstance(key, tuple) else (key,)
        if found.shape or found.dtype.names or any(part is ... for part in parts):
            # One record of a structured array can be written to, as no other scalar can.
            return found
        return DArray.result_of(found.expression)

    def transpose(self, *axes: Any) -> Self:
        """View with the axes in another order."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], SupportsIndex) else axes
        return self.seen(IndexMap.transpose(order if axes else None, self.shape))

    def astype(
        self,
        dtype: DTypeLike,
        order: str = "K",
        casting: str = "unsafe",
        subok: bool = True,
        copy: bool = True,
    ) -> DArray:
        """The array as `dtype`; a new array unless ``copy=False`` and it has that dtype."""
        if order not in ("C", "F", "A", "K"):
            raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return DArray.of(building.astype(self.expression, dtype, casting))

    def copy(self) -> DArray:
        """A new array of the same values, which later changes to this one do not touch."""
        return DArray.of(self.expression)

    def rechunk(self, blocks: BlocksLike) -> DArray:
        """The same array in another cut.

        Examples
        --------
        >>> import darray as da
        >>> da.zeros((4, 4), blocks=da.Blocks(4, 1)).rechunk(da.Blocks(1, 4)).chunks
        ((1, 1, 1, 1), (4,))
        """
        return DArray.of(building.recut(self.expression, blocks))

    def map_blocks(
        self,
        function: Callable[..., Any],
        *others: Any,
        dtype: DTypeLike | None = None,
        chunks: Chunks | None = None,
    ) -> DArray:
        """Array of ``function(block)`` for every block, or ``function(block, *blocks)``.

        Parameters
        ----------
        function : callable
            Gets the blocks, read-only, of this array and of `others` in its cut.
        dtype : dtype
            Of what `function` returns; by default that of this array.
        chunks : Chunks
            Sizes of what it returns, where they differ from this array's.

        Raises
        ------
        TypeError, ValueError
            When collected, if `function` returns another dtype or shape than declared.

        Examples
        --------
        >>> import numpy as np
        >>> import darray as da
        >>> da.arange(4, blocks=2).map_blocks(np.cumsum).collect()
        array([0, 1, 2, 5])
        """
        arrays = [self.expression, *map(as_expression, others)]
        result = self.dtype if dtype is None else np.dtype(dtype)
        return DArray.of(building.map_blocks(function, arrays, result, chunks))

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if not kwargs and method == "__call__" and ufunc.nout == 1 and ufunc.signature is None:
            plain = plain_arguments(inputs)
            if plain is not None:
                return DArray.result_of(building.elementwise(ufunc, plain)[0])
        out = kwargs.pop("out", None)
        arguments = tuple([argument_of(one, defers=True) for one in inputs])
        for one in arguments:
            if one is NotImplemented:
                given = [x.expression if isinstance(x, DArray) else x for x in inputs]
                return foreign_operands.answer(ufunc, method, given, kwargs, out)
        if method == "outer":
            arguments, method = ufuncs.outer_arguments(ufunc, arguments), "__call__"
        if method == "__call__":
            if out is None and kwargs.get("where", True) is not True:
                ufuncs.warn_uninitialized()
            if "where" in kwargs:
                kwargs["where"] = argument_of(kwargs["where"])
            where, casting = kwargs.get("where", True), kwargs.get("casting", "same_kind")
            results = ufuncs.call(ufunc, arguments, kwargs)
            if out is not None:
                return write_results(results, out, where, casting, broadcasts=True)
        elif method == "reduce":
            if "where" in kwargs:
                kwargs["where"] = argument_of(kwargs["where"])
            results = (ufuncs.reduce_call(ufunc, as_expression(inputs[0]), *inputs[1:], **kwargs),)
            if out is not None:
                return write_results(results, out)
        elif method == "accumulate":
            kwargs["out"] = None if out is None else out[0]
            results = (scans.accumulate(ufunc, as_expression(inputs[0]), *inputs[1:], **kwargs),)
            if out is not None:
                return write_results(results, out, casting="unsafe")
        else:
            raise NotImplementedError(
                f"darray has no {ufunc.__name__}.{method} that works chunk by chunk; where the "
                f"arrays fit in memory use it on np.asarray(x)"
            )
        handles = tuple([DArray.result_of(one) for one in results])
        return handles[0] if len(handles) == 1 else handles

    def __array_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        for one in types:
            if one is not DArray and not issubclass(one, (DArray, np.ndarray)):
                return NotImplemented
        code = FUNCTIONS.get(function)
        if code is not None:
            return code(*args, **kwargs)
        module = getattr(function, "__module__", "numpy").removeprefix("numpy").lstrip(".")
        name = ".".join(filter(None, [module, getattr(function, "__name__", repr(function))]))
        raise NotImplementedError(
            f"darray has no np.{name} that works chunk by chunk; where the array fits in memory "
            f"use np.{name}(np.asarray(x), ...)"
        )


def as_expression(value: Any) -> Expression:
    """The expression of a DArray, or one of an array or scalar as it is now.

    Examples
    --------
    >>> as_expression([1, 2]).shape
    (2,)
    """
    argument = argument_of(value)
    if isinstance(argument, Expression):
        return argument
    return building.captured(np.asarray(argument))


def argument_of(value: Any, defers: bool = False) -> Any:
    """`value` as an argument of an elementwise call: an expression or a scalar."""
    return value.expression if isinstance(value, DArray) else building.as_argument(value, defers)


def parts_of(key: Any) -> tuple[Any, ...]:
    """The parts of an index, with the expressions of DArrays among them."""
    parts = key if isinstance(key, tuple) else (key,)
    return tuple([one.expression if isinstance(one, DArray) else one for one in parts])


def assigned(value: Any, dtype: np.dtype[Any]) -> Expression:
    """`value` as elements of `dtype`, converted as assignment converts it.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As NumPy raises them for ``array[...] = value``.
    """
    if isinstance(value, DArray):
        return building.astype(value.expression, dtype)
    if dtype.names is not None and not isinstance(value, np.ndarray):
        converted = np.array(value, dtype)
    else:
        converted = np.empty(np.shape(value), dtype)
        converted[...] = value
    converted.flags.writeable = False
    return building.captured(converted)


def write_results(
    results: tuple[Expression, ...],
    out: tuple[Any, ...],
    where: Any = True,
    casting: str = "same_kind",
    broadcasts: bool = False,
) -> Any:
    """Put results where ``out=`` says; elements that `where` leaves out stay as they are.

    With `broadcasts` a result may be smaller than its place. Nothing is written where
    anything is wrong with one of them.
    """
    fitting: list[Expression] = []
    for result, target in zip(results, out, strict=True):
        if target is None:
            fitting.append(result)
            continue
        if not isinstance(target, np.ndarray | DArray):
            raise TypeError("return arrays must be of ArrayType")
        if isinstance(target, DArray):
            target.check_writeable()
        elif not target.flags.writeable:
            raise ValueError("output array is read-only")
        now = target.expression if isinstance(target, DArray) else building.captured(target)
        result = building.astype(result, target.dtype, casting)
        if where is not True:
            # An out= of another shape than the results takes part in broadcasting, as where= does.
            (result,) = building.elementwise(np.where, [where, result, now])
        if result.shape != target.shape:
            result = _spread(result, target.shape, broadcasts)
        fitting.append(result)
    taken = [i for i, target in enumerate(out) if isinstance(target, np.ndarray)]
    # Not straight into the targets, which the results may be read from.
    values = computing.compute([fitting[i] for i in taken], keeps=False) if taken else []
    for i, array in zip(taken, values, strict=True):
        out[i][...] = array
    written: list[Any] = []
    for result, target in zip(fitting, out, strict=True):
        if isinstance(target, DArray):
            target.replace(result)
        written.append(DArray.result_of(result) if target is None else target)
    return written[0] if len(written) == 1 else tuple(written)


def _spread(result: Expression, shape: tuple[int, ...], broadcasts: bool) -> Expression:
    """`result` in the shape of what it is written to."""
    problem = (
        f"non-broadcastable output operand with shape {shape} doesn't match the broadcast shape "
        f"{result.shape}"
    )
    if not broadcasts:
        raise ValueError(problem)
    try:
        return building.broadcast_to(result, shape)
    except ValueError:
        raise ValueError(problem) from None
