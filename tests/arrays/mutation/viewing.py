"""Lines that make views: arrays that share their elements with others."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from tests.arrays.mutation.drawing import Scribe


def slicing(s: Scribe) -> str:
    """Slice an array."""
    name = s.x(lambda array: array.ndim)
    key = s.basic_key(s.values[name].shape)
    if isinstance(s.value(f"{name}[{key}]"), np.generic):
        # All integers: with an Ellipsis it is a view in NumPy, too.
        key = f"{key.rstrip(',')}, ..."
    return f"{s.new()} = {name}[{key}]"


def taking(s: Scribe) -> str:
    """Take one element, which is a number and no view."""
    name = s.x(lambda array: array.ndim and array.size)
    shape = s.values[name].shape
    key = ", ".join(str(s.number(-size, max(0, size - 1))) for size in shape)
    return f"{s.new()} = {name}[{key or '()'}]"


def turning(s: Scribe) -> str:
    """Put the axes of an array into another order."""
    name = s.x(lambda array: array.ndim > 1)
    dimensions = s.values[name].ndim
    order = tuple(s.draw(st.permutations(range(dimensions))))
    most = dimensions if s.rarely() else dimensions - 1
    axes = [s.number(-dimensions, most) for _ in range(2)]
    text = s.pick(
        (
            "{0}.T",
            "{0}.transpose({1})",
            "{0}.swapaxes({2}, {3})",
            "np.transpose({0}, {1})",
            "np.moveaxis({0}, {2}, {3})",
            "np.swapaxes({0}, {2}, {3})",
            "np.flip({0}, {2})",
        )
    )
    return f"{s.new()} = {text.format(name, order, *axes)}"


def splitting(s: Scribe) -> str:
    """Split an array, or take one of its rows."""
    name = s.x(lambda array: array.ndim)
    array = s.values[name]
    axis = s.number(0, array.ndim - 1)
    texts = [f"np.array_split({name}, {s.pick((2, 3))}, axis={axis})[{s.pick((0, -1))}]"]
    if array.ndim > 1:
        texts += [f"np.rot90({name})", f"np.fliplr({name})"]
        if len(array):
            texts.append(f"list({name})[{s.number(-len(array), len(array) - 1)}]")
    return f"{s.new()} = {s.pick(texts)}"


def stretching(s: Scribe) -> str:
    """Add axes of length 1 or leave them out, or broadcast, which is not to be written to."""
    name = s.x(lambda array: array.ndim < 4)
    shape = s.values[name].shape
    axis = s.number(-len(shape) - 1, len(shape))
    short = [place for place, size in enumerate(shape) if size == 1]
    texts = ["np.expand_dims({0}, {1})", "{0}[None]", "np.broadcast_to({0}, {3})"]
    if short:
        # Of an array without such an axis NumPy's squeeze() gives the very same object.
        texts += ["{0}.squeeze()"] * 2
    if short or s.rarely():
        texts.append("np.squeeze({0}, axis={2})")
    along = s.pick(short) if short else axis
    return f"{s.new()} = {s.pick(texts).format(name, axis, along, (2, *shape))}"


def reshaping(s: Scribe) -> str:
    """Give an array another shape, which is a view where the elements allow it."""
    name = s.x()
    methods = ("{0}.reshape({1})", "{0}.ravel()", "{0}.reshape(-1)", "{0}.flatten()")
    text = s.pick((*methods, "np.reshape({0}, {1})", "np.ravel({0})"))
    return f"{s.new()} = {text.format(name, _other_shape(s, s.values[name].shape))}"


def _other_shape(s: Scribe, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of as many elements: axes joined, cut, or all in one."""
    size = math.prod(shape)
    found = [(size,), (-1, *shape[1:]) if 0 not in shape else shape, (1, *shape), (*shape, 1)]
    for axis in range(len(shape) - 1):
        found.append((*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))
    for axis, length in enumerate(shape):
        found += [
            (*shape[:axis], length // part, part, *shape[axis + 1 :])
            for part in (2, 3)
            if length % part == 0
        ]
    if s.rarely():
        found = [(size + 1,), (-1, -1), (-1, 0)]
    return s.pick(found)[:4] if size == 0 else s.pick(found)  # type: ignore[no-any-return]


def halving(s: Scribe) -> str:
    """See the real or the imaginary part, or a diagonal, which is not to be written to."""
    name = s.x(lambda array: array.dtype.kind == "c" or array.ndim > 1)
    array = s.values[name]
    what = s.pick(("{0}.real", "{0}.imag", "np.imag({0})", "np.real({0})"))
    if array.ndim > 1 and (array.dtype.kind != "c" or s.rarely()):
        what = s.pick(("{0}.diagonal()", "np.diagonal({0}, {1})", "{0}.diagonal({1}, 1, 0)"))
    return f"{s.new()} = {what.format(name, s.pick((1, 0, -1, 7)))}"


def dropping(s: Scribe) -> str:
    """Forget a name; what it stood for lives on in views and in what was computed from it."""
    spare = s.spare()
    return f"del {s.pick(spare)}" if spare else f"{s.new()} = {s.x()}[...]"
