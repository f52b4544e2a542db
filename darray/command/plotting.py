"""The picture of ``darray describe --plot``: the mean field and a histogram."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from darray.command.findings import Findings
from darray.command.mistakes import Mistake, told_in_one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PlotFile", "bin_count", "draw", "mean_field", "plot_file", "thinned_step"]

_BINS = 128
# An axis has margins and ticks, which matplotlib computes in float64 too.
_FURTHEST = 1e300
# Points along an axis of the picture; a larger field is thinned out to at most so many.
_POINTS = 2000
_SIZE = (11.0, 4.5)
# A field that is longer than this times its width is stretched to fill its frame.
_ELONGATED = 4


class PlotFile(Struct, frozen=True):
    """A file that was found to be writable, and the format that its name asks for."""

    file: BinaryIO
    format: str

    def write(self, contents: bytes) -> None:
        """Replace what the file holds by `contents`."""
        if stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
            self.file.truncate(0)
        self.file.write(contents)
        self.file.flush()


@contextmanager
def plot_file(path: str) -> Iterator[PlotFile]:
    """Open the file `path` for a plot, without changing it yet.

    A file that was not there before is removed when the block ends in an exception.

    Raises
    ------
    Mistake
        Where matplotlib is missing, or the file cannot be written, or no such kind of picture.
    """
    kind = Path(path).suffix.removeprefix(".").lower() or "png"
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise Mistake('--plot needs matplotlib: pip install "darray[plot]"') from error
    kinds = FigureCanvasBase.get_supported_filetypes()
    if kind not in kinds:
        raise Mistake(
            f"cannot plot to {path!r}: there is no kind of picture {kind!r}; "
            f"end the name in one of .{', .'.join(sorted(kinds))}"
        )
    existed = os.path.lexists(path)
    with told_in_one_line(OSError, about="cannot write the plot"):
        file = open(path, "ab")  # noqa: SIM115 - closed below, with what the block raises in mind
    try:
        with file, told_in_one_line(OSError, about="cannot write the plot"):
            yield PlotFile(file, kind)
    except BaseException:
        if not existed:
            os.unlink(path)
        raise


def draw(findings: Findings, kind: str) -> bytes:
    """Return the picture of `findings` as the contents of a file of the given kind.

    To the left is the mean along the axis, a line or an image, or the line of 1-d data; to the
    right the histogram.

    Raises
    ------
    Mistake
        Where the values reach too far for an axis.
    """
    from matplotlib.figure import Figure

    assert findings.bins is not None
    if np.abs(findings.bins.edges).max() > _FURTHEST:
        raise Mistake(f"values beyond {_FURTHEST:g} cannot be drawn: leave --plot out")
    figure = Figure(figsize=_SIZE, layout="constrained")
    *others, right = figure.subplots(1, 2 if findings.shape else 1, squeeze=False)[0]
    contents = BytesIO()
    for left in others:
        if findings.line is None:
            _draw_mean(left, findings)
        else:
            _draw_line(left, findings.line, findings.shape[0])
    _draw_histogram(right, findings)
    figure.suptitle(f"{Path(findings.path).name}  {findings.shape} {findings.dtype}")
    figure.savefig(contents, format=kind)
    return contents.getvalue()


def bin_count(size: int) -> int:
    """Return how many bins at most the histogram of so many values has.

    Examples
    --------
    >>> bin_count(4), bin_count(900), bin_count(10**9)
    (4, 60, 128)
    """
    return min(_BINS, 2 * math.ceil(math.sqrt(size)))


def thinned_step(size: int) -> int:
    """Return the step that leaves no more points along an axis than a picture shows.

    Examples
    --------
    >>> thinned_step(2000), thinned_step(10_001)
    (1, 6)
    """
    return max(1, math.ceil(size / _POINTS))


def mean_field(findings: Findings) -> tuple[NDArray[np.float64], tuple[int, ...], str]:
    """Return the mean along the axis with at most two axes left, which axes, and the title.

    Of more than two axes the last two are kept, and the mean is taken over the others as well,
    every value with the same weight. Where there is no value the mean is NaN.
    """
    assert findings.along is not None
    axes = tuple(axis for axis in range(len(findings.shape)) if axis != findings.axis)
    mean = findings.along["mean"].astype(np.float64)
    title = f"mean along axis {findings.axis}"
    if len(axes) > 2:
        over = tuple(range(len(axes) - 2))
        count = findings.along["count"]
        total = np.where(count > 0, mean, 0.0) * count
        with np.errstate(invalid="ignore"):
            mean = total.sum(axis=over) / count.sum(axis=over)
        title += f", and over {', '.join(map(str, axes[:-2]))}"
        axes = axes[-2:]
    return mean, axes, title


def _draw_mean(plot: Axes, findings: Findings) -> None:
    mean, axes, title = mean_field(findings)
    steps = [thinned_step(length) for length in mean.shape]
    if max(steps) > 1:
        title += f" (1 of {' x '.join(map(str, steps))} points)"
    shown = mean[tuple(slice(None, None, step) for step in steps)]
    plot.set_title(title)
    if mean.ndim == 1:
        plot.plot(np.arange(0, mean.size, steps[0]), shown)
        plot.set_xlabel(f"index along axis {axes[0]}")
        plot.set_ylabel("mean")
        return
    height, width = mean.shape
    elongated = max(height, width) > _ELONGATED * min(height, width)
    # The edges of the picture are those of the outermost elements, whose centres are integers.
    image = plot.imshow(
        np.ma.masked_invalid(shown),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        aspect="auto" if elongated else "equal",
    )
    plot.set_facecolor("lightgrey")
    plot.set_xlabel(f"index along axis {axes[1]}")
    plot.set_ylabel(f"index along axis {axes[0]}")
    plot.figure.colorbar(image, ax=plot)


def _draw_line(plot: Axes, line: NDArray[Any], size: int) -> None:
    step = thinned_step(size)
    plot.set_title("values" if step == 1 else f"1 of {step} values")
    plot.plot(np.arange(0, size, step), line, linewidth=0.8)
    plot.set_xlabel("index")
    plot.set_ylabel("value")


def _draw_histogram(plot: Axes, findings: Findings) -> None:
    assert findings.bins is not None
    whole: Any = findings.whole
    plot.set_title(f"{int(whole['count']):,} values, {int(whole['nans']):,} NaN")
    plot.set_xlabel("value")
    plot.set_ylabel("number of values")
    plot.stairs(findings.bins.counts, findings.bins.edges, fill=True)
    if np.isfinite(whole["mean"]):
        plot.axvline(float(whole["mean"]), color="black", linewidth=1, label="mean")
        plot.legend()
