"""Where the cuts of an array are: block sizes, the chunks they give, and the boxes of chunks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, product
from operator import index as as_integer
from typing import Any, SupportsIndex, TypeAlias

from msgspec import Struct

from darray.runtime.boxes import Box

__all__ = [
    "TARGET",
    "AutoBlocks",
    "Blocks",
    "BlocksLike",
    "Chunks",
    "Shape",
    "blocks_of",
    "boundaries",
    "chunk_box",
    "chunk_count",
    "common_cut",
    "cut",
    "cut_between",
    "grid_shape",
    "iterate_boxes",
    "largest",
    "overlapping",
    "same_cut",
]

Shape: TypeAlias = tuple[int, ...]

# The sizes of the pieces along each axis, ((4, 4, 2), (5,)).  An axis of length 0 has the one
# piece (0,), every other axis only pieces of at least one element, and a 0-d array has ().
Chunks: TypeAlias = tuple[tuple[int, ...], ...]

# Bytes that "auto" chunks hold at most.  A constant, and not a setting, so that the same program
# is cut the same way everywhere and its sums have the same bits.
TARGET = 4 * 1024 * 1024

# The boundaries of the axes asked for last, by the identity of the tuple of sizes, which its entry
# keeps alive.  A key that hashes the sizes would make a walk along the chunks of a long axis take
# the square of their number.  Threads may lose an entry to each other, and find it anew.
_KEPT: dict[int, _Axis] = {}
_KEPT_AXES = 32

# Boxes of one axis whose pieces are remembered: all chunks in one row of the grid share them.
_KEPT_BOXES = 4096

_ACCEPTED = "give a size of at least 1, -1 for the whole axis, or a tuple of sizes of pieces"


class Blocks:
    """How to cut an array: for each axis a block size, -1, or a tuple of sizes.

    A block size cuts the axis into equal pieces, of which the last holds the rest; -1 leaves the
    axis whole; a tuple gives the size of every piece and must add up to the axis's length.
    ``Blocks()`` is for 0-d arrays.

    Raises
    ------
    TypeError
        For a size that is not an integer.
    ValueError
        For a size that is 0 or less and not -1.

    Examples
    --------
    >>> cut(Blocks(4, (3, 5)), (10, 8), itemsize=8)
    ((4, 4, 2), (3, 5))
    """

    __slots__ = ("_sizes",)

    def __init__(self, *sizes: int | Sequence[int]) -> None:
        self._sizes = tuple(_checked_size(size, axis) for axis, size in enumerate(sizes))

    @property
    def sizes(self) -> tuple[int | tuple[int, ...], ...]:
        """The size given for each axis."""
        return self._sizes

    def __eq__(self, other: object) -> bool:
        return self._sizes == other._sizes if isinstance(other, Blocks) else NotImplemented

    def __hash__(self) -> int:
        return hash((Blocks, self._sizes))

    def __repr__(self) -> str:
        """Return the call that makes these blocks."""
        return f"Blocks({', '.join(map(repr, self.sizes))})"


class AutoBlocks(Struct, frozen=True):
    """Cut an array into runs of rows of at most `nbytes` bytes; ``"auto"`` is ``AutoBlocks()``.

    Trailing axes stay whole while a piece of them fits, the first axis that does not is cut into
    blocks of nearly equal size, and the axes before it into single rows.  So each chunk is one
    contiguous run of a C-ordered array, and the cut depends on shape, item size and `nbytes` alone.

    Examples
    --------
    >>> cut(AutoBlocks(nbytes=800), (10, 50), itemsize=8)
    ((2, 2, 2, 2, 2), (50,))
    """

    nbytes: int = TARGET

    def __post_init__(self) -> None:
        """Refuse a target that no chunk could meet."""
        if isinstance(self.nbytes, bool) or not isinstance(self.nbytes, int):
            raise TypeError(f"AutoBlocks(nbytes={self.nbytes!r}): give a whole number of bytes")
        if self.nbytes < 1:
            raise ValueError(f"AutoBlocks(nbytes={self.nbytes!r}): give at least one byte")


BlocksLike: TypeAlias = Blocks | AutoBlocks | str | int | Sequence[int | Sequence[int]]


def cut(blocks: BlocksLike, shape: Shape, itemsize: int) -> Chunks:
    """Apply `blocks` to an array of `shape` with items of `itemsize` bytes.

    `blocks` is a `Blocks`, an `AutoBlocks`, ``"auto"``, one integer for every axis, or a tuple of
    what `Blocks` takes, which chunks are too.

    Raises
    ------
    ValueError
        When there are more or fewer sizes than axes, or sizes do not add up to their axis.
    TypeError
        For anything else that does not say how to cut.

    Examples
    --------
    >>> cut(Blocks(4, -1), (10, 5), itemsize=8)
    ((4, 4, 2), (5,))
    >>> cut("auto", (0, 5), itemsize=8)
    ((0,), (5,))
    """
    if isinstance(blocks, str):
        if blocks != "auto":
            raise ValueError(f"blocks={blocks!r}: the only word for blocks is 'auto'")
        blocks = AutoBlocks()
    if isinstance(blocks, AutoBlocks):
        return _cut_in_rows(blocks.nbytes, shape, itemsize)
    if not isinstance(blocks, Blocks):
        blocks = _as_blocks(blocks, len(shape))
    if len(blocks.sizes) != len(shape):
        raise ValueError(
            f"{blocks!r} is for {len(blocks.sizes)}-d arrays, one of shape {shape!r} is "
            f"{len(shape)}-d: give one size for each axis, -1 for an axis left whole"
        )
    return tuple(
        _cut_axis(size, length, axis)
        for axis, (size, length) in enumerate(zip(blocks.sizes, shape, strict=True))
    )


def grid_shape(chunks: Chunks) -> Shape:
    """Return the number of pieces along each axis.

    Examples
    --------
    >>> grid_shape(((4, 4, 2), (5,)))
    (3, 1)
    """
    return tuple(map(len, chunks))


def chunk_count(chunks: Chunks) -> int:
    """Return the number of chunks; a 0-d array has one.

    Examples
    --------
    >>> chunk_count(((4, 4, 2), (2, 3)))
    6
    """
    return math.prod(map(len, chunks))


def boundaries(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return where the pieces of one axis begin, and after them where the last ends.

    Examples
    --------
    >>> boundaries((4, 4, 2))
    (0, 4, 8, 10)
    """
    return _axis(sizes).edges


def cut_between(sizes: tuple[int, ...], start: int, step: int, size: int) -> tuple[int, ...]:
    """Return the pieces of every `step`-th element from `start`, `size` in all, of an axis.

    They end where pieces of the axis do.

    Examples
    --------
    >>> cut_between((4, 4, 2), 1, 1, 6), cut_between((4, 4, 2), 9, -2, 5)
    ((3, 3), (1, 2, 2))
    """
    if size == 0:
        return (0,)
    edges = _axis(sizes).edges
    if step == 1 and size == edges[-1]:
        return sizes
    low, high = sorted((start, start + step * (size - 1)))
    inside = edges[bisect_right(edges, low) : bisect_right(edges, high)]
    # The first position at or behind each boundary, or in front of it.
    cuts = [-((start - e) // step) if step > 0 else (start - e) // -step + 1 for e in inside]
    return tuple([b - a for a, b in pairwise(sorted({0, *cuts, size}))])


def chunk_box(chunks: Chunks, index: tuple[int, ...]) -> Box:
    """Return the box that the chunk at `index` of the grid takes in the array.

    Raises
    ------
    IndexError
        When the grid has no such index; negative ones do not count from the end.

    Examples
    --------
    >>> chunk_box(((4, 4, 2), (5,)), (2, 0))
    (slice(8, 10, 1), slice(0, 5, 1))
    """
    if len(index) == len(chunks):
        box = []
        # Of one length, which has been looked at: to do so again takes as long as the rest.
        for i, sizes in zip(index, chunks):  # noqa: B905
            axis = _KEPT.get(id(sizes))
            if axis is None or axis.sizes is not sizes:
                axis = _axis(sizes)
            slices = axis.known_slices or axis.slices
            if not 0 <= i < len(slices):
                break
            box.append(slices[i])
        else:
            return tuple(box)
    raise IndexError(
        f"no chunk {index!r} in a grid of {grid_shape(chunks)!r} chunks: "
        "give one index, from 0, for each axis"
    )


def iterate_boxes(chunks: Chunks) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Yield the index and the box of every chunk, in C order.

    Examples
    --------
    >>> for index, box in iterate_boxes(((4, 2), (5,))):
    ...     print(index, box)
    (0, 0) (slice(0, 4, 1), slice(0, 5, 1))
    (1, 0) (slice(4, 6, 1), slice(0, 5, 1))
    """
    return zip(product(*map(range, map(len, chunks))), product(*map(_slices, chunks)), strict=True)


def overlapping(chunks: Chunks, box: Box) -> list[tuple[tuple[int, ...], Box, Box]]:
    """List the chunks that have elements of `box`, in C order.

    Each comes as its index, the box within the chunk that is wanted (with the step of `box`), and
    the box within the requested one that it fills (with step 1).  An empty box has none.

    Raises
    ------
    IndexError
        When `box` reaches out of the array or has another number of axes.

    Examples
    --------
    >>> overlapping(((4, 4, 2),), (slice(3, 10, 3),))
    [((0,), (slice(3, 4, 3),), (slice(0, 1, 1),)), ((1,), (slice(2, 4, 3),), (slice(1, 2, 1),)), \
((2,), (slice(1, 2, 3),), (slice(2, 3, 1),))]
    """
    if len(box) != len(chunks):
        raise IndexError(f"{box!r} has {len(box)} axes, the chunks have {len(chunks)}")
    index, source, place = [], [], []
    for sizes, wanted in zip(chunks, box, strict=True):
        axis = _KEPT.get(id(sizes))
        if axis is None or axis.sizes is not sizes:
            axis = _axis(sizes)
        touched = axis.touched.get((wanted.start, wanted.stop, wanted.step))
        if touched is None:
            touched = _remembered(axis, wanted)
        if len(touched[0]) != 1:
            break
        index.append(touched[0][0])
        source.append(touched[1][0])
        place.append(touched[2][0])
    else:
        # Within one chunk, as most boxes are.
        return [(tuple(index), tuple(source), tuple(place))]
    found = list(map(_overlapping_pieces, chunks, box))
    indices = product(*[axis[0] for axis in found])
    sources = product(*[axis[1] for axis in found])
    destinations = product(*[axis[2] for axis in found])
    return list(zip(indices, sources, destinations, strict=True))


def blocks_of(chunks: Chunks) -> Blocks:
    """Return the blocks that cut an array into `chunks`, with one size an axis where possible.

    Examples
    --------
    >>> blocks_of(((4, 4, 2), (3, 5)))
    Blocks(4, (3, 5))
    """
    return Blocks(*map(_block_size, chunks))


def same_cut(*cuts: Chunks) -> bool:
    """Tell whether all of `cuts` are the same pieces of the same shape.

    Examples
    --------
    >>> same_cut(((4, 4),), ((4, 4),)), same_cut(((4, 4),), ((8,),))
    (True, False)
    """
    return all(chunks == cuts[0] for chunks in cuts[1:])


def largest(chunks: Chunks) -> Shape:
    """Return the shape of the largest chunk.

    Examples
    --------
    >>> largest(((4, 4, 2), (3, 5)))
    (4, 5)
    """
    return tuple(map(max, chunks))


def common_cut(operands: Sequence[tuple[Chunks, Shape]]) -> Chunks:
    """Return the cut in which arrays of the given (chunks, shape) are combined elementwise.

    The shape is NumPy's broadcast of all shapes.  Along each axis the pieces are those of the
    operand with the most of them among those that have the axis at full length, the first of
    equals.

    Raises
    ------
    ValueError
        When the shapes do not broadcast.

    Examples
    --------
    >>> common_cut([(((4, 2), (5,)), (6, 5)), (((1,), (2, 3)), (1, 5)), (((5,),), (5,))])
    ((4, 2), (2, 3))
    """
    if operands and same_cut(*(chunks for chunks, _ in operands)):
        return operands[0][0]
    # Counted from the right, as broadcasting does.
    result: list[tuple[int, ...]] = []
    for axis in range(1, max((len(shape) for _, shape in operands), default=0) + 1):
        candidates = [
            (shape[-axis], chunks[-axis]) for chunks, shape in operands if len(shape) >= axis
        ]
        lengths = {length for length, _ in candidates} - {1}
        if len(lengths) > 1:
            shapes = " ".join(repr(shape).replace(" ", "") for _, shape in operands)
            raise ValueError(f"operands could not be broadcast together with shapes {shapes}")
        full = lengths.pop() if lengths else 1
        result.append(max((sizes for length, sizes in candidates if length == full), key=len))
    return tuple(reversed(result))


def _checked_size(size: int | Sequence[int], axis: int) -> int | tuple[int, ...]:
    """Return `size`, as plain integers, or raise what is wrong with it."""
    if not isinstance(size, (tuple, list)):
        number = _checked_integer(size, size, axis)
        if number < 1 and number != -1:
            raise ValueError(f"block size {size!r} of axis {axis}: {_ACCEPTED}")
        return number
    sizes = tuple(_checked_integer(piece, size, axis) for piece in size)
    if sizes != (0,) and min(sizes, default=0) < 1:
        raise ValueError(
            f"block sizes {size!r} of axis {axis}: every piece must have at least one element, "
            "and an axis of length 0 the one piece (0,)"
        )
    return sizes


def _checked_integer(number: Any, size: object, axis: int) -> int:
    """Return `number`, which is all or part of the size given for `axis`, as an integer."""
    if not isinstance(number, bool):  # an integer to Python, and never meant as a size
        try:
            return as_integer(number)
        except TypeError as error:
            raise TypeError(_no_size(size, axis)) from error
    raise TypeError(_no_size(size, axis))


def _no_size(size: object, axis: int) -> str:
    return f"block size {size!r} of axis {axis} is not an integer: {_ACCEPTED}"


def _as_blocks(blocks: object, dimensions: int) -> Blocks:
    """Return the `Blocks` that a plain integer or tuple stands for."""
    if isinstance(blocks, (tuple, list)):
        return Blocks(*blocks)
    if isinstance(blocks, SupportsIndex) and not isinstance(blocks, bool):
        return Blocks(*(as_integer(blocks),) * dimensions)
    raise TypeError(
        f"blocks={blocks!r} does not say how to cut an array: give Blocks(...), AutoBlocks(), "
        "'auto', an integer, or a tuple with a size for each axis"
    )


def _cut_axis(size: int | tuple[int, ...], length: int, axis: int) -> tuple[int, ...]:
    """Return the pieces of one axis."""
    if isinstance(size, tuple):
        if sum(size) != length:
            raise ValueError(
                f"block sizes {size!r} of axis {axis} add up to {sum(size)}, "
                f"the axis has length {length}: give sizes that add up to it, or one block size"
            )
        return size
    if size == -1 or size >= length:
        return (length,)
    full, rest = divmod(length, size)
    return (size,) * full + (rest,) * (rest > 0)


def _cut_in_rows(nbytes: int, shape: Shape, itemsize: int) -> Chunks:
    """Cut `shape` into contiguous runs of at most `nbytes` bytes, at least one item each."""
    room = nbytes // max(itemsize, 1)
    if math.prod(shape) <= room:  # also whatever has no elements at all
        return tuple((length,) for length in shape)
    chunks: list[tuple[int, ...]] = []
    for axis in reversed(range(len(shape))):
        size = _even_size(shape[axis], max(1, min(room, shape[axis])))
        chunks.append(_cut_axis(size, shape[axis], axis))
        # Once an axis is cut the axes before it go in single rows: chunks stay contiguous.
        room = room // shape[axis] if size == shape[axis] else 1
    return tuple(reversed(chunks))


def _even_size(length: int, most: int) -> int:
    """Return a block size of at most `most` that leaves no tiny piece at the end of an axis.

    The last piece holds half a block or more, if some size above half of the largest one gives
    that; otherwise the size is the one among them whose last piece is relatively largest.
    """
    largest_size = math.ceil(length / math.ceil(length / most))
    best, best_share = largest_size, 0.0
    for size in range(largest_size, largest_size // 2, -1):
        share = ((length - 1) % size + 1) / size
        if share >= 0.5:
            return size
        if share > best_share:
            best, best_share = size, share
    return best


# The pieces of one axis that a slice of it touches: index, source and destination of each.
_Touched: TypeAlias = tuple[list[int], list[slice], list[slice]]


class _Axis:
    """What is known of the pieces of one axis; nothing in it changes but what is remembered."""

    __slots__ = ("edges", "known_slices", "sizes", "touched")

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.edges = tuple(accumulate(sizes, initial=0))
        self.known_slices: tuple[slice, ...] | None = None
        # By start, stop and step.
        self.touched: dict[tuple[int, int, int], _Touched] = {}

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slice of each piece."""
        if self.known_slices is None:
            self.known_slices = tuple([slice(a, b, 1) for a, b in pairwise(self.edges)])
        return self.known_slices


def _axis(sizes: tuple[int, ...]) -> _Axis:
    kept = _KEPT.get(id(sizes))
    if kept is not None and kept.sizes is sizes:
        return kept
    if len(_KEPT) >= _KEPT_AXES:
        _KEPT.clear()
    axis = _KEPT[id(sizes)] = _Axis(sizes)
    return axis


def _slices(sizes: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slice of each piece of one axis."""
    return _axis(sizes).slices


def _overlapping_pieces(sizes: tuple[int, ...], wanted: slice) -> _Touched:
    """Find the pieces of one axis that `wanted` touches."""
    axis = _axis(sizes)
    touched = axis.touched.get((wanted.start, wanted.stop, wanted.step))
    return _remembered(axis, wanted) if touched is None else touched


def _remembered(axis: _Axis, wanted: slice) -> _Touched:
    touched = _find_touched(axis.edges, wanted)
    if len(axis.touched) >= _KEPT_BOXES:
        axis.touched.clear()
    axis.touched[wanted.start, wanted.stop, wanted.step] = touched
    return touched


def _find_touched(edges: tuple[int, ...], wanted: slice) -> _Touched:
    position, stop, step = wanted.start, wanted.stop, wanted.step
    if position < 0 or stop > edges[-1]:
        raise IndexError(f"{wanted!r} reaches out of an axis of length {edges[-1]}")
    pieces: list[int] = []
    sources: list[slice] = []
    destinations: list[slice] = []
    filled = 0
    while position < stop:
        piece = bisect_right(edges, position) - 1
        start = edges[piece]
        end = min(edges[piece + 1], stop)
        count = (end - position - 1) // step + 1
        pieces.append(piece)
        sources.append(slice(position - start, end - start, step))
        destinations.append(slice(filled, filled + count, 1))
        filled += count
        position += count * step
    return pieces, sources, destinations


def _block_size(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    """Return the size that cuts an axis into `sizes`, or `sizes` where no single one does."""
    first = sizes[0]
    if first == 0:
        return -1
    regular = sizes[-1] <= first and sizes[:-1].count(first) == len(sizes) - 1
    return first if regular else sizes
