"""Products of arrays summed over shared axes: matrix products in all their forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from darray.blocks import Chunks
from darray.expr import building
from darray.expr.nodes import Expression
from darray.expr.product_cuts import cut_product
from darray.index_maps import IndexMap
from darray.kernels.programs import ErrorState
from darray.kernels.warnings_ledger import captured_errors

__all__ = ["Contract", "call", "contract", "outer_operands", "sampled"]

# Which left operands NumPy conjugates: those that stand for vectors of a scalar product.
_CONJUGATING = ("vecdot", "vecmat")


class Contract(Expression, frozen=True, eq=False):
    """Sums of products: ``result[batch, rows, columns] = sum(left * right)`` over inner axes.

    The axes of `left` are (batch, rows, inner), those of `right` (batch, inner, columns), and
    a batch axis of length 1 goes with any length of the other. For every tile of the result
    the panels are summed in one fixed order, so that the bits depend on the cut alone.

    Attributes
    ----------
    batch : int
        How many axes are batch axes.
    panels : Chunks
        Pieces of the inner axes.
    chains : int
        How many runs of panels are summed for themselves.
    name : str
        The function that warnings are of.
    """

    is_dear: ClassVar[bool] = True
    is_coarse: ClassVar[bool] = True
    goes_straight: ClassVar[bool] = True
    # Each is a pass of its own over all that is pending below it.
    weight: ClassVar[int] = 16

    left: Expression
    right: Expression
    batch: int
    panels: Chunks
    chains: int
    name: str
    errors: ErrorState

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The two arrays."""
        return (self.left, self.right)


def contract(
    left: Expression,
    right: Expression,
    batch: int,
    inner: int,
    dtype: np.dtype[Any],
    name: str,
) -> Expression:
    """Expression of sums of products, of arrays whose axes fit as `Contract` says.

    Half precision is summed in single precision and rounded once.

    Raises
    ------
    NotImplementedError
        For elements that are no numbers.
    """
    if dtype.kind not in "biufc":
        raise NotImplementedError(
            f"darray multiplies arrays of bools, integers, floats and complex numbers; for arrays "
            f"of {dtype} that fit in memory use np.{name} on np.asarray(x)"
        )
    summed = np.dtype(np.float32) if dtype == np.float16 else dtype
    left, right = building.astype(left, summed), building.astype(right, summed)
    cut = cut_product(left.chunks, right.chunks, batch, inner)
    shape = tuple([sum(sizes) for sizes in cut.tiles])
    node = Contract(
        *(shape, dtype, cut.tiles, left, right, batch),
        *(cut.panels, cut.chains, name, captured_errors()),
    )
    return building.recut(node, cut.chunks)


def sampled(
    function: Callable[..., Any], arguments: Sequence[Any], *rest: Any, **given: Any
) -> np.dtype[Any]:
    """Dtype of what NumPy's `function` gives, asked with small arrays of the same dtypes.

    Their axes are as long, or not, as one another's; where NumPy refuses them it refuses the
    arguments.

    Raises
    ------
    BaseException
        What it raises for the arguments, whose values do not matter.
    """
    lengths: dict[int, int] = {0: 0, 1: 1}
    for argument in arguments:
        for size in np.shape(argument):
            lengths.setdefault(size, len(lengths))
    dtypes = [
        one.dtype if isinstance(one, Expression) else np.asarray(one).dtype for one in arguments
    ]
    shapes = [np.shape(one) for one in arguments]
    small = [
        np.zeros([lengths[size] for size in shape], dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    try:
        with np.errstate(all="ignore"):
            found = function(*small, *rest, **given)
    except (TypeError, ValueError, IndexError):
        # The same with the true lengths, which the message tells of; nothing is computed.
        every = [
            np.broadcast_to(np.zeros((), dtype), shape)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        function(*every, *rest, **given)
        raise
    # Of objects it gives an object.
    return getattr(found, "dtype", np.dtype(object))


def outer_operands(first: Expression, second: Expression) -> tuple[Expression, Expression]:
    """Views of two arrays that broadcast to the axes of the first, then those of the second.

    They are cut so that no chunk of what is made of them is too large.
    """
    chunks = cut_product(first.chunks, second.chunks, 0, 0).chunks
    middle = len(first.shape)
    first, second = building.recut(first, chunks[:middle]), building.recut(second, chunks[middle:])
    behind = range(middle, len(chunks))
    return (
        building.view(first, IndexMap.insert_axes(behind, first.shape)),
        building.view(second, IndexMap.insert_axes(range(middle), second.shape)),
    )


def call(ufunc: np.ufunc, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Expression:
    """Expression of a generalised ufunc of two arrays, such as matmul, without ``out``.

    Raises
    ------
    NotImplementedError
        For ufuncs other than NumPy's four products.
    TypeError, ValueError
        As NumPy raises them.
    """
    if ufunc not in _PRODUCTS:
        raise NotImplementedError(
            f"darray has no {ufunc.__name__} that works chunk by chunk; where the arrays fit in "
            f"memory use it on np.asarray(x)"
        )
    dtype = sampled(ufunc, arguments, **keywords)
    operands = [building.as_argument(one) for one in arguments]
    dimensions, result = _core_dimensions(ufunc, operands)
    axis, given = keywords.get("axis", -1), keywords.get("axes")
    if given is None:
        given = [(axis,) if len(names) == 1 else (-2, -1) for names in dimensions]
    places = [tuple(one) if isinstance(one, tuple) else (one,) for one in given]
    (inner,) = set(dimensions[0]) & set(dimensions[1])
    left = _ordered(operands[0], dimensions[0], places[0], inner, is_last=True)
    right = _ordered(operands[1], dimensions[1], places[1], inner, is_last=False)
    counts = [len(x.shape) - len(names) for x, names in zip((left, right), dimensions, strict=True)]
    batch = max(counts)
    left, right = _with_batch(left, batch - counts[0]), _with_batch(right, batch - counts[1])
    if ufunc.__name__ in _CONJUGATING and left.dtype.kind == "c":
        left = building.elementwise(np.conjugate, [left])[0]
    product = contract(left, right, batch, 1, dtype, ufunc.__name__)
    if keywords.get("keepdims"):
        kept = (axis,) if len(places) < 3 else places[2]
        return building.view(product, IndexMap.insert_axes(kept, product.shape))
    if result and len(places) > 2:
        return _moved(product, places[2])
    return product


def _ordered(
    operand: Expression, names: Sequence[str], places: tuple[int, ...], inner: str, is_last: bool
) -> Expression:
    """View of `operand` with its core dimensions behind, `inner` as their last or their first."""
    core = dict(zip(names, normalize_axis_tuple(places, len(operand.shape)), strict=True))
    others = [axis for name, axis in core.items() if name != inner]
    behind = [*others, core[inner]] if is_last else [core[inner], *others]
    order = [axis for axis in range(len(operand.shape)) if axis not in behind]
    return building.view(operand, IndexMap.transpose([*order, *behind], operand.shape))


def _core_dimensions(
    ufunc: np.ufunc, operands: Sequence[Expression]
) -> tuple[list[list[str]], list[str]]:
    """Names of the core dimensions of both operands and of the result, without those missing."""
    assert ufunc.signature is not None
    sides = ufunc.signature.replace(" ", "").split("->")
    *inputs, output = [
        [name for name in part.strip("()").split(",") if name]
        for part in (*sides[0].split("),("), sides[1])
    ]
    missing = {
        name
        for operand, names in zip(operands, inputs, strict=True)
        for name in names
        if name.endswith("?") and len(operand.shape) < len(names)
    }
    inputs = [[name for name in names if name not in missing] for names in inputs]
    return inputs, [name for name in output if name not in missing]


def _with_batch(operand: Expression, count: int) -> Expression:
    """View of `operand` with `count` more axes of length 1 in front."""
    return building.view(operand, IndexMap.insert_axes(range(count), operand.shape))


def _moved(product: Expression, places: tuple[int, ...]) -> Expression:
    """View of `product` with its last axes at `places`."""
    dimensions = len(product.shape)
    wanted = normalize_axis_tuple(places, dimensions)
    order = list(range(dimensions - len(wanted)))
    last = range(dimensions - len(wanted), dimensions)
    for place, axis in sorted(zip(wanted, last, strict=True)):
        order.insert(place, axis)
    return building.view(product, IndexMap.transpose(order, product.shape))


_PRODUCTS = tuple(
    getattr(np, name) for name in ("matmul", "vecdot", "matvec", "vecmat") if hasattr(np, name)
)
