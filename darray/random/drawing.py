"""From the arguments of a method of `Generator` to an array of draws, or a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index as as_integer
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from darray.blocks import BlocksLike, Shape, cut
from darray.expr import building
from darray.expr.nodes import Expression, Generated
from darray.handle import DArray
from darray.kernels.devices import DeviceArray, to_device
from darray.kernels.table import DEVICES, kernel
from darray.random.draws import BlockDraws, Draws, Parameter, Place
from darray.random.streams import Stream, TiledStreams
from darray.random.tiles import whole_tiles
from darray.runtime.boxes import Box, whole

__all__ = ["Drawing", "Drawn", "Real", "Size", "as_shape", "generated", "kept", "refuse_out"]

# The shape of what is drawn; None for a single draw.
Size: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | None

# A parameter: a number, or an array of any kind that broadcasts against the size.
Real: TypeAlias = Any

# A DArray; a number where neither a size nor an array is given.
Drawn: TypeAlias = Any


def as_shape(size: Any) -> Shape:
    """The shape that `size` means, as NumPy reads it.

    Raises
    ------
    TypeError
        When it is no integer and no sequence of integers.
    ValueError
        When a length is negative.

    Examples
    --------
    >>> as_shape(3), as_shape([2, 3])
    ((3,), (2, 3))
    """
    if isinstance(size, SupportsIndex) and not isinstance(size, bool | np.ndarray):
        shape: Shape = (as_integer(size),)
    elif isinstance(size, Sequence | np.ndarray) and not isinstance(size, str):
        shape = tuple([as_integer(length) for length in size])
    else:
        raise TypeError(f"expected a sequence of integers or a single integer, got {size!r}")
    if any(length < 0 for length in shape):
        raise ValueError("negative dimensions are not allowed")
    return shape


def refuse_out(name: str, out: Any) -> None:
    """Refuse ``out=``, which arrays that are computed later cannot be written to."""
    if out is not None:
        raise NotImplementedError(
            f"{name}() makes a new array and does not take out=; assign what it returns, "
            f"x[...] = rng.{name}(...), or give a NumPy array to a generator of NumPy"
        )


def generated(
    function: Callable[[Box], NDArray[Any]],
    shape: Shape,
    dtype: np.dtype[Any],
    blocks: BlocksLike,
) -> DArray:
    """Array whose boxes `function` makes."""
    return DArray.of(Generated(shape, dtype, cut(blocks, shape, dtype.itemsize), function))


def kept(
    function: Callable[[Box], NDArray[Any]],
    shape: Shape,
    dtype: np.dtype[Any],
    blocks: BlocksLike,
) -> DArray:
    """Array that one task makes as a whole, once, cut into `blocks`."""
    chunks = tuple([(length,) for length in shape])
    source = Generated(shape, dtype, chunks, _Nothing(dtype))
    node = building.map_blocks(_Whole(function), [source], dtype, None)
    return DArray.of(building.recut(node, cut(blocks, shape, dtype.itemsize)))


class _Nothing:
    """Boxes that hold nothing of interest, in the memory of one element."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __call__(self, box: Box) -> NDArray[Any]:
        """A box."""
        return np.broadcast_to(np.zeros((), self.dtype), [one.stop - one.start for one in box])


class _Whole:
    """A function of boxes as one of the block that is the whole array."""

    def __init__(self, function: Callable[[Box], NDArray[Any]]) -> None:
        self.function = function

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        """The array."""
        return self.function(whole(block.shape))


@kernel(_Whole, on=DEVICES)
def _whole_for_device(made: _Whole, block: DeviceArray) -> DeviceArray:
    return to_device(made.function(whole(block.shape)))


@lru_cache(maxsize=1)
def _asked() -> np.random.Generator:
    """The generator of NumPy that is asked what it makes of parameters."""
    return np.random.Generator(np.random.SFC64(0))


class Drawing:
    """What the methods of a `Generator` draw with.

    Parameters
    ----------
    bit_generator : TiledStreams
        Where the random bits come from.
    """

    def __init__(self, bit_generator: TiledStreams) -> None:
        self._bit_generator = bit_generator

    @property
    def bit_generator(self) -> TiledStreams:
        """The seed and the number of draws so far.

        Examples
        --------
        >>> import darray as da
        >>> da.random.default_rng(5).bit_generator.seed_seq.entropy
        5
        """
        return self._bit_generator

    def _stream(self) -> np.random.Generator:
        """NumPy's generator at the begin of the next draw, for what is drawn at once."""
        return Stream(self._bit_generator.next_key()).at(0)

    def _draw(
        self, method: str, size: Size, blocks: BlocksLike, /, *values: Any, **options: Any
    ) -> Drawn:
        """Draw from a distribution of numbers; `values` may be arrays, DArrays too."""
        if size is None and not any(isinstance(one, DArray) or np.ndim(one) for one in values):
            return getattr(self._stream(), method)(*values, **options)
        return self._draw_array(method, size, blocks, [(one, 0) for one in values], options)

    def _draw_array(
        self,
        method: str,
        size: Size,
        blocks: BlocksLike,
        values: Sequence[tuple[Any, int]],
        options: dict[str, Any],
    ) -> DArray:
        """Draw an array; each value comes with how many of its axes belong to a single draw."""
        parameters = tuple([_parameter(*one) for one in values])
        broadcast = np.broadcast_shapes(*map(_outer_shape, parameters))
        shape = broadcast if size is None else as_shape(size)
        if np.broadcast_shapes(broadcast, shape) != shape:
            raise ValueError(
                f"{method}: size {shape!r} is not compatible with the parameters, which "
                f"broadcast to the shape {broadcast!r}"
            )
        sample = _sample(method, parameters, options, len(broadcast), math.prod(shape) == 0)
        single = sample.shape[len(broadcast) + 1 :]
        key = self._bit_generator.next_key()
        draws = Draws(key, method, parameters, tuple(options.items()), shape, single, sample.dtype)
        return self._array(draws, blocks)

    def _array(self, draws: Draws, blocks: BlocksLike) -> DArray:
        """The array of `draws`."""
        shape = draws.size + draws.single
        chunks = cut(blocks, shape, draws.dtype.itemsize)
        given = [
            number
            for number, parameter in enumerate(draws.parameters)
            if isinstance(parameter.value, Expression)
        ]
        if not given:
            return DArray.of(Generated(shape, draws.dtype, chunks, draws))
        # Where a draw ends in its stream depends on its parameters, so that a task needs those
        # of all the draws before it in the tile: blocks of whole tiles, cut again afterwards.
        tiles = whole_tiles(draws.size, draws.tile)
        tiles += tuple([(length,) for length in draws.single])
        arrays: list[Expression] = [
            Generated(shape, np.dtype(np.int64), tiles, Place(axis))
            for axis in range(len(draws.size))
        ]
        parameters = list(draws.parameters)
        for number in given:
            one = parameters[number]
            arrays.append(building.recut(building.broadcast_to(one.value, shape), tiles))
            parameters[number] = Parameter(None, one.inner)
        held = replace(draws, parameters=tuple(parameters))
        blockwise = BlockDraws(held, tuple(given))
        return DArray.of(
            building.recut(building.map_blocks(blockwise, arrays, draws.dtype, None), chunks)
        )


def _parameter(value: Any, inner: int) -> Parameter:
    """A parameter by value; a DArray stands for its expression."""
    if isinstance(value, DArray):
        if inner:
            raise NotImplementedError(
                "a parameter that is an array for each draw has to be in memory; collect it "
                "first: np.asarray(x)"
            )
        return Parameter(value.expression)
    if not np.ndim(value) and not inner:
        return Parameter(value)
    return Parameter(building.captured(np.asarray(value)).array, inner)


def _outer_shape(parameter: Parameter) -> Shape:
    """Shape of a parameter without the axes that belong to a single draw."""
    shape: Shape = np.shape(parameter.value)
    return shape[: len(shape) - parameter.inner]


def _sample(
    method: str,
    parameters: Sequence[Parameter],
    options: dict[str, Any],
    dimensions: int,
    is_empty: bool,
) -> NDArray[Any]:
    """What NumPy makes of the parameters for no draws at all; it raises for bad ones.

    The values of DArrays are not known yet, so that arrays without elements stand for them.
    """
    lead = 0
    if method == "integers" and not is_empty:
        # The one method that looks at its parameters only where something is to be drawn.
        lead = 1
    values = []
    for parameter in parameters:
        value = parameter.value
        if isinstance(value, Expression):
            lead = 0
            value = np.empty((0,) + (1,) * (dimensions + parameter.inner), value.dtype)
        values.append(value)
    known = [_outer_shape(one) for one in parameters if not isinstance(one.value, Expression)]
    broadcast = np.broadcast_shapes((1,) * dimensions, *known)
    sample = getattr(_asked(), method)(*values, size=(lead, *broadcast), **options)
    return np.asarray(sample)
