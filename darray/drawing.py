"""Arrays as HTML: what they are, and a drawing of how they are cut."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import accumulate

from msgspec import Struct

from darray.blocks import Chunks, chunk_count, grid_shape, largest
from darray.expr.nodes import (
    Elementwise,
    Expression,
    MapBlocks,
    Memory,
    Reduce,
    Stored,
    View,
)
from darray.lowering.computing import chunk_tasks
from darray.lowering.explaining import pending_tasks
from darray.runtime.consumers.progress import bytes_text

__all__ = ["html", "svg"]

# Pixels of the longest side of a drawing and the least of any; lengths between are to scale.
LONGEST = 130.0
SHORTEST = 13.0

# How far to the right and up the third axis leads for each pixel of it.
SLANT = 0.5

# Cuts are drawn at least so many pixels apart on average; of more, evenly chosen ones.
CLOSEST = 4.0

# Drawings of three axes each that are put side by side.
MOST_PANELS = 3

_MARGIN = 16.0
_LETTER = 6.5

# A shape in the plane: where the origin and the ends of the two sides lie.
Point = tuple[float, float]


class _Face(Struct, frozen=True):
    """A parallelogram with a grid of cuts: from `corner` along `across` and `down`.

    ``columns`` and ``rows`` are the cuts, as shares of these sides; ``shade`` is how dark the
    face is.
    """

    corner: Point
    across: Point
    down: Point
    columns: Sequence[float]
    rows: Sequence[float]
    shade: float

    def at(self, u: float, v: float) -> Point:
        """The point that lies at shares `u` and `v` of the sides."""
        x, y = self.corner
        return x + u * self.across[0] + v * self.down[0], y + u * self.across[1] + v * self.down[1]

    def outline(self) -> str:
        """The path around the face."""
        return _line([self.at(0, 0), self.at(1, 0), self.at(1, 1), self.at(0, 1)]) + "Z"

    def cuts(self) -> str:
        """The paths of the cuts."""
        columns = [_line([self.at(u, 0), self.at(u, 1)]) for u in self.columns]
        rows = [_line([self.at(0, v), self.at(1, v)]) for v in self.rows]
        return "".join([*columns, *rows])


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _line(points: Sequence[Point]) -> str:
    return "M" + "L".join([f"{_number(x)} {_number(y)}" for x, y in points])


def _scaled(lengths: Sequence[int]) -> list[float]:
    """Pixels for sides of these lengths."""
    longest = max(1, *lengths)
    return [max(SHORTEST, LONGEST * length / longest) for length in lengths]


def _cuts(sizes: Sequence[int], pixels: float) -> list[float]:
    """Where an axis is cut, as shares of it; of very many cuts evenly chosen ones."""
    *inner, length = accumulate(sizes)
    most = max(1, int(pixels / CLOSEST) - 1)
    if len(inner) > most:
        stride = len(inner) / most
        inner = [inner[int((i + 0.5) * stride)] for i in range(most)]
    return [end / length for end in inner]


def svg(chunks: Chunks) -> str:
    """A drawing of a cut: three axes at a time, the last ones on the right.

    It has no colours but a translucent blue and that of the text around it, so that it shows
    on light and dark ground alike.

    Examples
    --------
    >>> svg(((2, 2), (3,))).startswith("<svg")
    True
    """
    axes = list(range(len(chunks)))
    groups = [axes[max(0, stop - 3) : stop] for stop in range(len(axes), 0, -3)][:MOST_PANELS]
    panels: list[str] = []
    left, height = 3.0, 0.0
    for group in reversed(groups or [[]]):
        parts, size = _panel(tuple([chunks[axis] for axis in group]))
        note = ""
        if len(groups) > 1:
            note = f"axes {group[0]}-{group[-1]}" if len(group) > 1 else f"axis {group[0]}"
        parts += _text(note, (0.0, -5.0))
        panels.append(f'<g transform="translate({_number(left)} {_number(_MARGIN)})">{parts}</g>')
        left += max(size[0], len(note) * _LETTER) + _MARGIN
        height = max(height, size[1])
    count = chunk_count(chunks)
    title = f"{count:,} chunk{'' if count == 1 else 's'}; of many cuts some are drawn"
    width, height = left, height + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="overflow:visible"><title>{title}</title>{"".join(panels)}</svg>'
    )


def _panel(chunks: Chunks) -> tuple[str, Point]:
    """The drawing of up to three axes, and its width and height."""
    lengths = [sum(sizes) for sizes in chunks]
    if not chunks:
        square = _Face((0, 0), (SHORTEST, 0), (0, SHORTEST), [], [], 0.3)
        return _drawn([square]), (SHORTEST, SHORTEST)
    if len(chunks) == 1:
        bar = _Face((0, 0), (LONGEST, 0), (0, 2 * SHORTEST), _cuts(chunks[0], LONGEST), [], 0.3)
        return _labelled([bar], ["", *lengths], (LONGEST, 2 * SHORTEST), (0, 0))
    *depths, height, width = _scaled(lengths)
    rows, columns = _cuts(chunks[-2], height), _cuts(chunks[-1], width)
    up = sum(depths) * SLANT
    faces = [_Face((0, up), (width, 0), (0, height), columns, rows, 0.3)]
    if depths:
        deep = _cuts(chunks[0], up)
        faces.append(_Face((0, up), (width, 0), (up, -up), columns, deep, 0.15))
        faces.append(_Face((width, up), (up, -up), (0, height), deep, rows, 0.45))
    return _labelled(faces, lengths, (width, height), (up, up))


def _labelled(
    faces: Sequence[_Face], lengths: Sequence[int | str], front: Point, depth: Point
) -> tuple[str, Point]:
    """The drawing of faces with the lengths of the axes beside them, and its width and height.

    `front` is how wide and high the front face is, `depth` how far to the right and up the
    first of three axes leads.
    """
    (width, height), (right, up) = front, depth
    *deep, high, wide = [one if isinstance(one, str) else f"{one:,}" for one in lengths]
    labels = [
        _text(wide, (width / 2, up + height + 13), "middle"),
        _text(high, (width + right + 5, height / 2 + 4)),
        *[_text(one, (width + right / 2 + 7, height + up / 2 + 12)) for one in deep],
    ]
    beside = max([len(high), *[len(one) - right / 2 / _LETTER for one in deep]])
    size = (width + right + 5 + _LETTER * beside, up + height + _MARGIN)
    return _drawn(faces) + "".join(labels), size


def _drawn(faces: Sequence[_Face]) -> str:
    fills = [
        f'<path d="{face.outline()}" fill="#4f86c6" fill-opacity="{face.shade}"/>' for face in faces
    ]
    outlines = "".join([face.outline() for face in faces])
    cuts = "".join([face.cuts() for face in faces])
    lines = [f'<path d="{outlines}" fill="none" stroke="currentColor" stroke-width="1.3"/>']
    if cuts:
        lines.append(
            f'<path d="{cuts}" fill="none" stroke="currentColor" stroke-width="0.6" '
            'stroke-opacity="0.7"/>'
        )
    return "".join([*fills, *lines])


def _text(text: str, place: Point, anchor: str = "start") -> str:
    if not text:
        return ""
    return (
        f'<text x="{_number(place[0])}" y="{_number(place[1])}" font-size="11" '
        f'font-family="sans-serif" fill="currentColor" text-anchor="{anchor}">{escape(text)}</text>'
    )


# What an array is


def html(expression: Expression) -> str:
    """A table of what an array is and how it comes about, beside a drawing of its cut.

    Nothing is computed, and nothing loaded from elsewhere.

    Examples
    --------
    >>> import darray as da
    >>> "(300, 200)" in html(da.zeros((300, 200), blocks=50).expression)
    True
    """
    rows = "".join([_row(label, text) for label, text in _facts(expression)])
    plain = "border:none;background:transparent;color:inherit;vertical-align:middle"
    return (
        f'<table style="{plain}"><tr style="{plain}">'
        f'<td style="{plain}"><table style="{plain}">{rows}</table></td>'
        f'<td style="{plain}">{svg(expression.chunks)}</td></tr></table>'
    )


def _row(label: str, text: str) -> str:
    plain = "border:none;background:transparent;color:inherit;text-align:left;padding:2px 8px"
    return (
        f'<tr style="background:transparent"><th style="{plain}">{escape(label)}</th>'
        f'<td style="{plain}">{escape(text)}</td></tr>'
    )


def _facts(node: Expression) -> Iterator[tuple[str, str]]:
    itemsize = node.dtype.itemsize
    biggest = largest(node.chunks)
    count = chunk_count(node.chunks)
    grid = " x ".join([f"{number:,}" for number in grid_shape(node.chunks)])
    yield "Shape", f"{node.shape}"
    yield "Type", _shortened(str(node.dtype))
    yield "Size", bytes_text(math.prod(node.shape) * itemsize)
    yield "Chunks", f"{count:,}" + (f" ({grid})" if len(node.shape) > 1 else "")
    yield "Chunk", f"{biggest}, {bytes_text(math.prod(biggest) * itemsize)}"
    yield "Made by", _shortened(_origin(node))
    yield "State", _state(node)


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _origin(node: Expression) -> str:
    """What kind of expression it is, in words."""
    if isinstance(node, View):
        return f"a view of {_origin(node.operand)}"
    if isinstance(node, Elementwise):
        return f"{_name(node.function)} of elements"
    if isinstance(node, Reduce):
        return f"{node.reduction.name} over axes {', '.join(map(str, node.axes))}"
    if isinstance(node, Stored):
        return f"a stored array: {node.source}"
    if isinstance(node, Memory):
        return "values in memory"
    if isinstance(node, MapBlocks):
        return f"{_name(node.function)} of blocks"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__)
    return words.lower()


def _name(function: Callable[..., object]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _state(node: Expression) -> str:
    """Whether the values are there, and how many tasks would make them."""
    if isinstance(node, Memory):
        return "in memory"
    if node.kept is not None and node.kept.is_usable():
        waiting = [task for task in chunk_tasks(node) if not task.done()]
        return f"{len(waiting):,} chunks are being computed" if waiting else "computed"
    tasks = pending_tasks(node)
    if tasks is None:
        return "not computed; x.explain() counts the tasks"
    if not tasks:
        return "not computed; a moment's work"
    return f"not computed; {tasks:,} tasks"
