"""A chart of a trace as a PNG picture, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darray.runtime.consumers.trace_chart import Chart, ticks

__all__ = ["write_png"]

_GAP = 0.25
# Names in the legend; the others are counted.
_NAMES = 24
_RED = "#d11a2a"
# Whether it is a move or a wait, the part of the lane that it takes, and its colour.
_MARKS = ((False, (0.3, 0.4), "#ffffff99"), (True, (0.78, 0.14), "#1b2a41"))
# The share of the whole from which on a bar can be seen with a white edge.
_WIDE = 1 / 300


def write_png(chart: Chart, path: Path) -> None:
    """Draw `chart` and write it to `path`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "gantt() draws .png files with matplotlib, which is not installed: "
            "pip install 'darray[plot]', or write an .html or .svg file, which need nothing"
        ) from error
    tops = [0.0]
    for row in chart.rows:
        tops.append(tops[-1] + row.lanes + _GAP)
    figure = Figure(figsize=(12, min(2.2 + 0.3 * tops[-1], 40)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(chart.heading.replace("$", r"\$"), loc="left", fontsize=10)
    for row, top in zip(chart.rows, tops, strict=False):
        axes.axhspan(top, top + row.lanes, color="#f3f4f6", zorder=0)
    _draw_bars(chart, tops, axes)
    axes.set_xlim(0, chart.span)
    axes.set_ylim(max(tops[-1], 1.0), -_GAP)
    axes.set_yticks(
        [top + row.lanes / 2 for row, top in zip(chart.rows, tops, strict=False)],
        [row.label for row in chart.rows],
    )
    marked = ticks(chart.span, 10)
    axes.set_xticks([tick.time for tick in marked], [tick.text for tick in marked])
    axes.grid(axis="x", color="#d5d8dd", zorder=1)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(left=False)
    _draw_legend(chart, figure)
    figure.savefig(path, dpi=150)


def _draw_bars(chart: Chart, tops: list[float], axes: Any) -> None:
    # One collection a kind of bar, for a drawing of ten thousand to take no longer than need be.
    groups: dict[tuple[int, bool, bool, bool], list[tuple[float, float, float]]] = {}
    for bar in chart.bars:
        is_wide = bar.ended - bar.began > chart.span * _WIDE
        kind = (bar.name, bar.run.failure is not None, bar.run.ended is None, is_wide)
        y = tops[bar.row] + bar.lane
        groups.setdefault(kind, []).append((bar.began, bar.ended - bar.began, y))
    for (name, failed, unfinished, is_wide), bars in sorted(groups.items()):
        _draw(
            axes,
            bars,
            (0.08, 0.84),
            facecolor=chart.colours[name],
            edgecolor=_RED if failed else "white" if is_wide else chart.colours[name],
            linewidth=1.5 if failed else 0.3,
            alpha=0.55 if unfinished else 1,
            zorder=4 if failed else 3,
        )
    for is_move, place, colour in _MARKS:
        marks = [
            (float(mark.began), float(mark.ended - mark.began), tops[mark.row] + mark.lane)
            for mark in chart.marks
            if mark.is_move is is_move
        ]
        _draw(axes, marks, place, facecolor=colour, linewidth=0, zorder=5)


def _draw(
    axes: Any, bars: list[tuple[float, float, float]], place: tuple[float, float], **look: Any
) -> None:
    """Draw rectangles, given by left, width and lane, over a part of the lane."""
    from matplotlib.collections import PolyCollection

    shift, height = place
    corners = [
        [
            (left, y + shift),
            (left + width, y + shift),
            (left + width, y + shift + height),
            (left, y + shift + height),
        ]
        for left, width, y in bars
    ]
    axes.add_collection(PolyCollection(corners, **look))


def _draw_legend(chart: Chart, figure: Any) -> None:
    from matplotlib.patches import Patch

    entries = [
        # matplotlib takes text in dollars as a formula, and a leading underscore as a wish.
        Patch(facecolor=colour, label=f"\u200b{name} ({count:,})".replace("$", r"\$"))
        for name, count, colour in zip(chart.names, chart.counts, chart.colours, strict=True)
    ][:_NAMES]
    if len(chart.names) > _NAMES:
        entries.append(Patch(facecolor="none", label=f"and {len(chart.names) - _NAMES:,} more"))
    if any(bar.run.failure is not None for bar in chart.bars):
        entries.append(Patch(facecolor="none", edgecolor=_RED, label="failed"))
    if any(bar.run.ended is None for bar in chart.bars):
        entries.append(Patch(facecolor="#777777", alpha=0.55, label="not over"))
    if any(mark.is_move for mark in chart.marks):
        entries.append(Patch(facecolor="#1b2a41", label="moving values"))
    if not all(mark.is_move for mark in chart.marks):
        entries.append(
            Patch(facecolor="none", edgecolor="#d5d8dd", label="waiting for tasks (pale)")
        )
    if entries:
        figure.legend(handles=entries, loc="outside lower left", ncols=4, fontsize=9, frameon=False)
