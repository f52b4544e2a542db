"""What the lines of programs are drawn from: names, keys, operands, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from darray.testing.strategies import basic_indices, blocks_for
from darray.testing.strategies import shapes as any_shapes
from tests.arrays.mutation.worlds import Program

__all__ = ["Scribe", "casts_well", "fits", "is_exact", "lines"]

DTYPES = ("int64", "float64", "bool", "int8", "uint8", "int32", "float32", "complex128")
SHAPES = ((3,), (2, 3), (4,), (3, 3), (3, 1), (1, 4), (6,), (2, 3, 2), (4, 6), ())
RECIPES = ("{}", "{} % 3", "{} * 3 % 7", "{} % 2", "{} - 2", "{} * 5 % 11 - 4")
STRANGE = ("300", "2.5", "1j", "nan", "inf", "True", "np.int64(7)", "np.float32(2)")
MOST_ARRAYS = 8
MOST_ELEMENTS = 200


class Scribe:
    """Draws the parts of one line, knowing the program so far.

    Most of what it draws fits together; some does not, as NumPy's errors are wanted, too.
    """

    def __init__(self, draw: DrawFn, program: Program) -> None:
        self.draw = draw
        self.program = program
        self.values = program.numpy.names

    # Drawing

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of the choices; failing programs shrink to the first."""
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, or `low` where there is none."""
        return self.draw(st.integers(low, max(low, high)))

    def coin(self) -> bool:
        """True every second time."""
        return self.draw(st.booleans())

    def rarely(self) -> bool:
        """True once in ten times."""
        return self.number(0, 9) == 9

    # Names

    def names(self, letter: str = "x") -> list[str]:
        """Names in use, the youngest first."""
        found = [name for name in self.values if name[0] == letter]
        return sorted(found, key=lambda name: int(name[1:]), reverse=True)

    def arrays(self) -> list[str]:
        """Names of arrays; there may be scalars as well, which never change."""
        return [name for name in self.names() if isinstance(self.values[name], np.ndarray)]

    def x(self, suits: Callable[[Any], Any] | None = None) -> str:
        """The name of an array; of one that suits, if there is one."""
        names = self.arrays()
        suitable = [name for name in names if suits is None or suits(self.values[name])]
        return str(self.pick(suitable or names))

    def spare(self) -> list[str]:
        """Names that can be given up: all but those of the last array."""
        arrays = self.arrays()
        return [name for name in self.names() if len(arrays) > 1 or name not in arrays]

    def new(self, letter: str = "x") -> str:
        """A name for an array: one not used so far, or when there are many, one in use."""
        if letter == "n" and len(self.names("n")) > 1:
            return str(self.pick(self.names("n")))
        if letter == "x" and len(self.names()) >= MOST_ARRAYS:
            return str(self.pick(self.spare()))
        numbers = [int(name[1:]) for name in self._ever() if name[0] == letter]
        return f"{letter}{max(numbers, default=-1) + 1}"

    def _ever(self) -> list[str]:
        """The names assigned to in the program so far."""
        starts = [line.split(" = ")[0] for line in self.program.lines]
        return [start for start in starts if start[0] in "xn" and start[1:].isdigit()]

    def value(self, text: str) -> Any:
        """What an expression gives with NumPy; None where it raises."""
        try:
            return self.program.numpy.value(text)
        except Exception:
            return None

    # Shapes and literals

    def shape(self) -> tuple[int, ...]:
        """A shape, often one that there is already."""
        known = [self.values[name].shape for name in self.names()]
        if known and self.coin():
            return tuple(self.pick(known))
        if self.rarely():
            return self.draw(any_shapes(3, 4))
        return tuple(self.pick(SHAPES))

    def dtype(self) -> str:
        """The name of a dtype."""
        return str(self.pick(DTYPES))

    def blocks(self, shape: tuple[int, ...]) -> str:
        """Blocks that fit a shape."""
        return f"da.{self.draw(blocks_for(shape))!r}"

    def literal(self, shape: tuple[int, ...], dtype: str | None = None) -> str:
        """A NumPy array, written out or computed from what `arange` gives."""
        dtype = self.dtype() if dtype is None else dtype
        size = math.prod(shape)
        recipe = self.pick((*RECIPES[: 4 if dtype[0] in "bu" else None], "listed"))
        if recipe == "listed" and len(shape) == 1 and 0 < size <= 4:
            low = 0 if dtype[0] in "bu" else -3
            values = self.draw(st.lists(st.integers(low, 5), min_size=size, max_size=size))
            return f"np.array({values}, {dtype!r})"
        if not shape:
            return f"np.array({self.number(0, 3)}, {dtype!r})"
        recipe = RECIPES[0] if recipe == "listed" else recipe
        text = f"np.arange({size})" + (f".reshape{shape}" if len(shape) != 1 else "")
        text = recipe.format(text)
        if dtype == "int64":
            return text if recipe == "{}" else f"({text})"
        return f"{text}.astype({dtype!r})" if recipe == "{}" else f"({text}).astype({dtype!r})"

    def scalar(self, dtype: np.dtype[Any] | None = None) -> str:
        """A number, most often one that arrays of `dtype` can be computed with."""
        kind = "f" if dtype is None else dtype.kind
        choices = {
            "b": ("True", "False"),
            "i": ("1", "2", "-1", "3", "0", "np.int8(2)", "True"),
            "u": ("1", "2", "3", "0", "np.uint8(2)", "True"),
            "f": ("2.0", "0.5", "-1.0", "1", "0.0", "np.float32(2)", "300", "inf"),
            "c": ("1j", "2", "(1-2j)", "-1.0", "0"),
        }
        return str(self.pick(choices[kind]))

    # Parts of arrays

    @cached_property
    def parts(self) -> list[tuple[str, Any]]:
        """Simple views of all arrays, with their values."""
        found: list[tuple[str, Any]] = []
        for letter in "xn":
            for name in self.names(letter):
                value = self.values[name]
                texts = [name]
                if value.ndim:
                    texts += [f"{name}[::-1]", f"{name}[:1]", f"{name}[1:]", f"{name}[:-1]"]
                    texts += [f"{name}[-1]", f"{name}[..., None]"]
                if value.ndim > 1:
                    texts += [f"{name}.T", f"{name}[:, 0]"]
                for text in texts:
                    part = self.value(text)
                    if part is not None:
                        found.append((text, part))
        return found

    def part(self, suits: Callable[[Any], Any], letters: str = "xn") -> str | None:
        """A view of an array that suits; None if there is none."""
        suitable = [text for text, value in self.parts if text[0] in letters and suits(value)]
        return str(self.pick(suitable)) if suitable else None

    def operand(self, other: Any, suits: Callable[[Any], Any] = lambda value: True) -> str:
        """What can be computed with an array: an array that broadcasts with it, or a number."""
        what = self.pick(("scalar", "part", "part", "part", "literal"))
        if what == "part":
            text = self.part(lambda value: _broadcast(value, other) and suits(value))
            if text is not None:
                return text
        if what == "literal":
            shape = other.shape[self.number(0, other.ndim) :]
            text = self.literal(shape)
            if suits(self.value(text)):
                return text
        return self.scalar(other.dtype)

    def source(self, target: Any, suits: Callable[[Any], Any] = lambda value: True) -> str:
        """What can be assigned to an array: what is broadcast to its shape, or a number."""

        def casts(value: Any) -> bool:
            return casts_well(value, target.dtype) and bool(suits(value))

        if self.rarely():
            # Of another shape, or another kind of number than is meant, but not both: which error
            # comes first is no matter.
            whole = [name for name in self.names() if casts(self.values[name])]
            return str(self.pick((*whole, *STRANGE)))
        return self.operand(target, lambda value: fits(value, target) and casts(value))

    # Keys

    def basic_key(self, shape: tuple[int, ...]) -> str:
        """A key of integers, slices, None and an Ellipsis."""
        if self.rarely():
            return str(self.pick(("7", "-9", "..., 0, ..., 0", "1.5", ", ".join("0" * 5))))
        return key_text(self.draw(basic_indices(shape, newaxis=len(shape) < 3)))

    def mask(self, shape: tuple[int, ...], apart: Any = None) -> str:
        """A mask of a shape: a comparison of an array, an array of bools, or one written out.

        Parameters
        ----------
        apart
            An array that the mask shares no memory with.
        """
        if self.rarely():
            return self.literal(self.shape(), "bool")
        fitting = [(text, value) for text, value in self.parts if np.shape(value) == shape]
        texts = [f"{text} % 2 == 0" for text, value in fitting if value.dtype.kind in "iuf"]
        texts += [f"{text} > 1" for text, value in fitting if value.dtype.kind in "biuf"]
        texts += [
            text
            for text, value in fitting
            if value.dtype == bool and (apart is None or not np.may_share_memory(value, apart))
        ]
        if texts and self.coin():
            return str(self.pick(texts))
        return self.literal(shape, "bool")

    def integers(self, length: int, shape: tuple[int, ...], apart: Any = None) -> str:
        """Indices along an axis of `length`, in an array of `shape` or one that there is."""
        if self.rarely():
            text = self.part(
                lambda value: (
                    value.dtype.kind in "iu"
                    and value.ndim
                    and value.ndim < 3
                    and (apart is None or not np.may_share_memory(value, apart))
                )
            )
            if text is not None:
                return f"{text} % {max(1, length)}" if self.coin() else text
        bound = length if self.rarely() else max(0, length - 1)
        size = math.prod(shape)
        drawn = self.draw(st.lists(st.integers(-length, bound), min_size=size, max_size=size))
        if len(shape) == 1 and drawn and self.coin():
            return str(drawn)
        text = f"np.array({drawn}, 'int64')"
        return text if len(shape) == 1 else f"{text}.reshape({shape})"

    def advanced_key(self, shape: tuple[int, ...], apart: Any = None) -> str:
        """A key with a mask or arrays of integers in it, alone or among basic indices."""
        what = self.pick(("mask", "integers", "mixed", "mixed"))
        if what == "mask" or not shape:
            return self.mask(shape, apart)
        picked: tuple[int, ...] = self.pick(((2,), (3,), (1,), (2, 1), (0,), (2, 2)))
        if what == "integers":
            return self.integers(shape[0], picked, apart)
        parts = []
        advanced = False
        for axis, length in enumerate(shape):
            kind = self.pick(("integers", "slice", "mask", "integer", "none", "end"))
            if kind == "end" and advanced:
                break
            if kind == "none" and len(shape) < 3:
                parts.append("None")
            if kind == "integers" or (not advanced and axis == len(shape) - 1):
                dropped = self.number(0, 1) if len(picked) > 1 else 0
                parts.append(self.integers(length, picked[dropped:], apart))
                advanced = True
            elif kind == "mask":
                parts.append(self.mask((length,), apart))
                advanced = True
            elif kind == "integer" and length:
                parts.append(str(self.number(-length, length - 1)))
            else:
                parts.append(self.pick((":", "::-1", "1:", "...") if "..." not in parts else ":"))
        return ", ".join(parts)

    def key(self, shape: tuple[int, ...], apart: Any = None) -> str:
        """A key of any kind."""
        if self.pick(("basic", "basic", "advanced")) == "basic":
            return self.basic_key(shape)
        return self.advanced_key(shape, apart)

    def target(self) -> str:
        """Where to write: an array, or part of one."""
        name = self.x()
        array = self.values[name]
        if self.coin():
            return name
        return f"{name}[{self.key(array.shape, array)}]"


def lines(kind: Callable[[Scribe], str]) -> SearchStrategy[str]:
    """Draw lines of a kind for the machine that asks: one whose ``program`` is a `Program`."""

    @st.composite
    def line(draw: DrawFn) -> str:
        return kind(Scribe(draw, draw(st.runner()).program))

    return line()


def key_text(key: Any) -> str:
    """A basic key as it is written between brackets.

    Examples
    --------
    >>> key_text((slice(None, 3), None, ..., slice(None, None, -1), 2))
    ':3, None, ..., ::-1, 2'
    """
    if not isinstance(key, tuple):
        return _part_text(key)
    if len(key) == 1:
        return f"{_part_text(key[0])},"
    return ", ".join(map(_part_text, key)) or "()"


def _part_text(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if one is None else str(one) for one in (part.start, part.stop, part.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return "..." if part is ... else repr(part)


def _broadcast(one: Any, other: Any) -> bool:
    """Whether two arrays broadcast, to something small."""
    size = 1
    first, second = np.shape(one)[::-1], np.shape(other)[::-1]
    for place in range(max(len(first), len(second))):
        a = first[place] if place < len(first) else 1
        b = second[place] if place < len(second) else 1
        if a != b and 1 not in (a, b):
            return False
        size *= b if a == 1 else a
    return size <= MOST_ELEMENTS


def fits(value: Any, target: Any) -> bool:
    """Whether the shape of `value` can be broadcast to that of `target`.

    Examples
    --------
    >>> fits(np.ones((1, 3)), np.ones((2, 3))), fits(np.ones((2, 3)), np.ones((1, 3)))
    (True, False)
    """
    shape, wanted = np.shape(value), np.shape(target)
    return len(shape) <= len(wanted) and all(
        one in (1, length) for one, length in zip(shape[::-1], wanted[::-1], strict=False)
    )


def is_exact(array: Any) -> bool:
    """Whether sums and products of a few elements are the same in every order.

    Examples
    --------
    >>> is_exact(np.array([1.0, 2.0])), is_exact(np.array([0.5])), is_exact(np.array([1e300]))
    (True, False, False)
    """
    array = np.asarray(array)
    if array.dtype.kind not in "fc":
        return True
    if not np.all(np.isfinite(array)) or np.abs(array).sum() >= 2**20:
        return False
    return bool(np.all(array.real == np.rint(array.real)) and np.all(array.imag % 1 == 0))


def casts_well(array: Any, dtype: Any) -> bool:
    """Whether C says what a cast gives: from floats to integers it does only in range.

    Examples
    --------
    >>> casts_well(np.array([1.5]), np.int8), casts_well(np.array([300.0]), np.int8)
    (True, False)
    """
    array, dtype = np.asarray(array), np.dtype(dtype)
    if array.dtype.kind not in "fc" or dtype.kind not in "iu":
        return True
    if not np.all(np.isfinite(array)):
        return False
    limits = np.iinfo(dtype)
    whole = np.trunc(array.real)
    return bool(np.all((whole >= limits.min) & (whole <= limits.max // 2)))
