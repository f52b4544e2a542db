"""The few ways in which arrays are made and combined, as data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
from msgspec import Struct, field
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from darray.blocks import Chunks, Shape
from darray.index_maps import IndexMap
from darray.io.formats import Chunked
from darray.kernels.programs import ErrorState
from darray.kernels.reductions import Reduction
from darray.runtime.boxes import Box, box_shape

__all__ = [
    "KINDS",
    "Computed",
    "Concatenate",
    "Elementwise",
    "Expression",
    "Filled",
    "Generated",
    "MapBlocks",
    "Memory",
    "Recut",
    "Reduce",
    "Stored",
    "View",
]

_serial = itertools.count()

# The classes of expressions: whether an operand is one is asked of each, and ``isinstance`` takes
# four times as long to say no.
KINDS: set[Any] = set()


class _State(Struct, frozen=True, eq=False, kw_only=True):
    """What every expression has besides what it says of its array; it is never given."""

    serial: int = field(default_factory=_serial.__next__)
    kept: Any = None
    depth: int = 0


class Expression(_State, frozen=True, eq=False):
    """An array as it is to be computed: shape, dtype, cut, and what it is made of.

    Expressions never change and are compared by identity, so that any number of handles
    share them. The one exception is ``kept``: the chunks, once a computation has left them
    with the expression; lowering alone sets it, as a whole.

    Attributes
    ----------
    chunks : Chunks
        The cut in which the expression is computed.
    serial : int
        A number that grows with every expression built.
    depth : int
        How many steps lie between the expression and what is there already, or is a source.
    is_dear : bool
        Whether chunks are kept once they are computed, if they are small enough.
    is_coarse : bool
        Whether it is computed in chunks that may be larger than those of the array that is
        made of it, but are not large.
    goes_straight : bool
        Whether its chunks can be computed in their places in an array.
    weight : int
        What a step adds to the depth.
    """

    is_dear: ClassVar[bool] = False
    is_coarse: ClassVar[bool] = False
    goes_straight: ClassVar[bool] = False
    weight: ClassVar[int] = 1

    shape: Shape
    dtype: np.dtype[Any]
    chunks: Chunks

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Remember the class."""
        super().__init_subclass__(**keywords)
        KINDS.add(cls)

    def __post_init__(self) -> None:
        """Find the depth."""
        depth = -self.weight
        for operand in self.operands:
            found = 0 if operand.kept is not None else operand.depth
            if found > depth:
                depth = found
        force_setattr(self, "depth", depth + self.weight)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The expressions that this one is computed from."""
        return ()


class Memory(Expression, frozen=True, eq=False):
    """An array in memory, captured by value or read-only, so that it stays as it is.

    Where ``is_shared`` the memory is a caller's.
    """

    array: NDArray[Any]
    is_shared: bool = False


class Stored(Expression, frozen=True, eq=False):
    """An array in a file or store, read box by box; perhaps on another machine."""

    source: Chunked
    is_remote: bool = False


class Generated(Expression, frozen=True, eq=False):
    """An array whose elements follow from their place: ``function(box)`` gives a box of it.

    The boxes asked for have step 1.
    """

    function: Callable[[Box], NDArray[Any]]


class Filled(Struct, frozen=True):
    """What gives boxes of one value, of an array that has it everywhere."""

    value: Any
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """A box of the value, which takes the memory of one element."""
        value = np.asarray(self.value, self.dtype)
        return np.broadcast_to(value, box_shape(box))


# An operand of an elementwise call: an expression, or a scalar that is given as it is.
ElementOperand: TypeAlias = Expression | Any


class Elementwise(Expression, frozen=True, eq=False):
    """A function of elements: ``function(*arguments, **parameters)``, broadcast.

    Attributes
    ----------
    arguments : tuple
        Expressions and scalars.
    where : Expression or None
        Elements for which a ufunc is computed.
    output : int or None
        Which result is meant of a function that returns several.
    errors : ErrorState
        NumPy's error state where the expression was built.
    """

    function: Callable[..., Any]
    arguments: tuple[ElementOperand, ...]
    parameters: tuple[tuple[str, Any], ...]
    where: Expression | None
    output: int | None
    errors: ErrorState

    def __post_init__(self) -> None:
        """Find the depth, as that of any expression, at a third of the cost."""
        most = -1
        for one in self.arguments:
            if one.__class__ in KINDS:
                if one.kept is None and one.depth > most:
                    most = one.depth
                elif most < 0:
                    most = 0
        where = self.where
        if where is not None:
            most = max(most, 0 if where.kept is not None else where.depth)
        force_setattr(self, "depth", most + 1)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The expressions among the arguments, and the mask."""
        found = tuple([one for one in self.arguments if one.__class__ in KINDS])
        return found if self.where is None else (*found, self.where)


class View(Expression, frozen=True, eq=False):
    """The elements of an array that basic indices, transposes and broadcasts select."""

    operand: Expression
    index_map: IndexMap

    def __post_init__(self) -> None:
        """Find the depth, as that of any expression."""
        operand = self.operand
        force_setattr(self, "depth", 1 if operand.kept is not None else operand.depth + 1)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is looked at."""
        return (self.operand,)


class Recut(Expression, frozen=True, eq=False):
    """The same array in another cut."""

    operand: Expression

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is cut anew."""
        return (self.operand,)


class Computed(Expression, frozen=True, eq=False):
    """The same array, for which a computation was started: its chunks are in ``kept``.

    ``operand`` is what they are computed from. It is let go, and None from then on, when all
    of them are there; until then they can be computed anew if the computation is cancelled.
    Lowering alone does so.
    """

    operand: Expression | None

    @property
    def operands(self) -> tuple[Expression, ...]:
        """What the array is computed from, until that is done."""
        return () if self.operand is None else (self.operand,)


class Concatenate(Expression, frozen=True, eq=False):
    """Arrays one after another along an axis; all have the dtype of the result."""

    parts: tuple[Expression, ...]
    axis: int

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The arrays."""
        return self.parts


class Reduce(Expression, frozen=True, eq=False):
    """A reduction over some axes, which stay in the result with length 1."""

    is_dear: ClassVar[bool] = True
    # Each is a pass of its own over all that is pending below it.
    weight: ClassVar[int] = 16

    operand: Expression
    reduction: Reduction
    axes: tuple[int, ...]
    where: Expression | None
    errors: ErrorState

    def __post_init__(self) -> None:
        """Find the depth, as that of any expression."""
        if self.where is None:
            below = 0 if self.operand.kept is not None else self.operand.depth
            force_setattr(self, "depth", below + self.weight)
        else:
            Expression.__post_init__(self)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The array that is reduced, and the mask."""
        return (self.operand,) if self.where is None else (self.operand, self.where)


class MapBlocks(Expression, frozen=True, eq=False):
    """A function of whole chunks: ``function(*blocks)``, once for each place in the grid."""

    is_dear: ClassVar[bool] = True

    function: Callable[..., Any]
    arrays: tuple[Expression, ...]

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The arrays, all in one cut."""
        return self.arrays
