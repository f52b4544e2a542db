"""Findings as text for a person, and as JSON for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darray.command.findings import FIGURES, Findings
from darray.runtime.consumers.progress import bytes_text

__all__ = ["as_json", "as_text", "number_text", "table"]

# Results along an axis with at most so many elements are part of the JSON in full.
_FULL = 10_000


def as_text(findings: Findings) -> str:
    """Return the figures as lines of text, those along an axis only where they were asked for."""
    chunks = f", in chunks of {findings.chunks}" if findings.chunks else ""
    lines = [
        f"{findings.path}: shape {findings.shape}, {findings.dtype}{chunks}, "
        f"{bytes_text(findings.nbytes)}"
    ]
    rows = [(_label(name), number_text(findings.whole[name][()])) for name in FIGURES]
    lines.append(table(rows))
    if findings.along is not None and findings.asked:
        lines.append("")
        lines.append(f"along axis {findings.axis}: shape {findings.along.shape}")
        lines.append(table([("", "lowest", "median", "highest"), *_spreads(findings.along)]))
    return "\n".join(lines)


def as_json(findings: Findings) -> dict[str, Any]:
    """Return the figures as what the json module can write without its extensions.

    A figure that does not exist is None, and infinities are ``"inf"`` and ``"-inf"``. The results
    along an axis are given in full, as nested lists, where they have at most 10,000 elements.
    """
    result: dict[str, Any] = {
        "path": findings.path,
        "shape": list(findings.shape),
        "dtype": str(findings.dtype),
        "chunks": list(findings.chunks),
        "nbytes": findings.nbytes,
        "seconds": findings.seconds,
        **{name: _plain(findings.whole[name].tolist()) for name in FIGURES},
    }
    if findings.along is not None and findings.asked:
        along: dict[str, Any] = {"axis": findings.axis, "shape": list(findings.along.shape)}
        for name in FIGURES:
            lowest, median, highest = _spread(findings.along[name])
            along[name] = {"lowest": _plain(lowest), "median": _plain(median)}
            along[name]["highest"] = _plain(highest)
            if findings.along.size <= _FULL:
                along[name]["values"] = _plain(findings.along[name].tolist())
        result["along"] = along
    return result


def number_text(value: Any) -> str:
    """Return a figure as text: integers with separators, floats with ten digits at most.

    Examples
    --------
    >>> import numpy as np
    >>> number_text(np.int64(1203048)), number_text(np.float32(0.1)), number_text(1 / 3)
    ('1,203,048', '0.1', '0.3333333333')
    >>> number_text(float("nan")), number_text(None)
    ('none', 'none')
    """
    if value is None or value != value:
        return "none"
    if isinstance(value, bool | np.bool):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, np.float32):
        return str(value)
    if isinstance(value, np.float16):
        return f"{float(value):.5g}"
    return f"{float(value):.10g}"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, others to the right.

    Examples
    --------
    >>> print(table([("min", "-1"), ("std", "0.25")]))
    min    -1
    std  0.25
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _label(name: str) -> str:
    return "NaNs" if name == "nans" else name


def _spreads(along: NDArray[Any]) -> list[tuple[str, ...]]:
    return [(_label(name), *map(number_text, _spread(along[name]))) for name in FIGURES]


def _spread(figures: NDArray[Any]) -> tuple[Any, Any, Any]:
    """Return the lowest, the median and the highest of the figures that exist."""
    present = figures[figures == figures].ravel()
    if present.size == 0:
        return None, None, None
    # The lower one of the two in the middle, so that integers stay integers.
    middle = (present.size - 1) // 2
    median = np.partition(present, middle)[middle]
    return present.min(), median, present.max()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
