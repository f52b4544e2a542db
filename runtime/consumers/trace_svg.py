"""A chart of a trace as an SVG drawing, which needs no library."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from darray.runtime.consumers.trace_chart import Chart, Mark, ticks, tip
from darray.runtime.consumers.trace_summary import duration_text

__all__ = ["svg"]

_WIDTH, _LABELS, _RIGHT, _TOP = 1200, 110, 40, 44
_LANE, _GAP, _LINE = 22, 6, 20
# About how wide a letter is.
_LETTER = 7.0
# Names in the legend; the others are counted.
_NAMES = 24

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #222; }
  .ground { fill: #fff; } .row { fill: #f3f4f6; } .grid { stroke: #d5d8dd; }
  .failed { stroke: #d11a2a; stroke-width: 2; } .unfinished { opacity: 0.55; }
  .move { fill: #1b2a41; } .wait { fill: #fff; opacity: 0.6; pointer-events: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e6e6; } .ground { fill: #16181d; } .row { fill: #21242b; }
    .grid { stroke: #3a3f4a; } .failed { stroke: #ff5c6c; } .move { fill: #f2f4f8; }
    .wait { fill: #16181d; }
  }
"""


def svg(chart: Chart) -> str:
    """Draw `chart`."""
    tops = row_tops(chart, _LANE, _GAP, _TOP)
    bottom = tops[-1]
    legend = list(_legend(chart, bottom + 34))
    height = bottom + 34 + _LINE * (1 + legend[-1][0] if legend else 0) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        f'<text x="{_LABELS}" y="24">{_text(chart.heading)}</text>',
        *_rows(chart, tops),
        *_axis(chart, bottom),
        *_bars(chart, tops),
        *(text for _, text in legend),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def row_tops(chart: Chart, lane: int, gap: int, top: int) -> list[int]:
    """Where each row begins, and where the last ends, from the top on."""
    tops = [top]
    for row in chart.rows:
        tops.append(tops[-1] + row.lanes * lane + gap)
    return tops


def _text(text: str) -> str:
    """`text` without what XML cannot hold."""
    if text.isprintable():
        return escape(text)
    return escape("".join(one if one.isprintable() else " " for one in text))


def _x(chart: Chart, time: float) -> float:
    return _LABELS + (_WIDTH - _LABELS - _RIGHT) * time / chart.span


def _place(chart: Chart, began: int, ended: int) -> str:
    left = _x(chart, began)
    width = _x(chart, ended) - left
    # A gap between neighbours, where there is room for one.
    return f'x="{left:.2f}" width="{width - 0.7 if width > 4 else max(width, 0.5):.2f}"'


def _rows(chart: Chart, tops: list[int]) -> Iterator[str]:
    width = _WIDTH - _LABELS - _RIGHT
    for row, top in zip(chart.rows, tops, strict=False):
        height = row.lanes * _LANE
        yield f'<rect class="row" x="{_LABELS}" y="{top}" width="{width}" height="{height}"/>'
        middle = top + height / 2 + 4
        yield f'<text x="{_LABELS - 8}" y="{middle}" text-anchor="end">{_text(row.label)}</text>'


def _axis(chart: Chart, bottom: int) -> Iterator[str]:
    for tick in ticks(chart.span, 10):
        x = f"{_x(chart, tick.time):.1f}"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{tick.text}</text>'


def _bars(chart: Chart, tops: list[int]) -> Iterator[str]:
    for bar in chart.bars:
        y = tops[bar.row] + bar.lane * _LANE + 2
        kind = "bar"
        if bar.run.failure is not None:
            kind += " failed"
        if bar.run.ended is None:
            kind += " unfinished"
        title = "&#10;".join(map(_text, tip(bar)))
        yield (
            f'<rect class="{kind}" {_place(chart, bar.began, bar.ended)} y="{y}" '
            f'height="{_LANE - 4}" fill="{chart.colours[bar.name]}"><title>{title}</title></rect>'
        )
    for mark in chart.marks:
        yield _mark(chart, mark, tops)


def _mark(chart: Chart, mark: Mark, tops: list[int]) -> str:
    y = tops[mark.row] + mark.lane * _LANE
    place = _place(chart, mark.began, mark.ended)
    if not mark.is_move:
        return f'<rect class="wait" {place} y="{y + 6}" height="{_LANE - 12}"/>'
    title = _text(f"{mark.text}, {duration_text((mark.ended - mark.began) / 1e9)}")
    return (
        f'<rect class="move" {place} y="{y + _LANE - 7}" height="4"><title>{title}</title></rect>'
    )


def _legend(chart: Chart, top: int) -> Iterator[tuple[int, str]]:
    """The lines' numbers and the entries of the legend."""
    entries = [
        (f"{name} ({count:,})", f'fill="{colour}"')
        for name, count, colour in zip(chart.names, chart.counts, chart.colours, strict=True)
    ][:_NAMES]
    if len(chart.names) > _NAMES:
        entries.append((f"and {len(chart.names) - _NAMES:,} more", 'fill="none"'))
    if any(bar.run.failure is not None for bar in chart.bars):
        entries.append(("failed", 'class="failed" fill="none"'))
    if any(bar.run.ended is None for bar in chart.bars):
        entries.append(("not over", 'class="unfinished" fill="#777"'))
    if any(mark.is_move for mark in chart.marks):
        entries.append(("moving values", 'class="move"'))
    if not all(mark.is_move for mark in chart.marks):
        entries.append(("waiting for tasks (pale)", 'class="grid" fill="none"'))
    line, x = 0, float(_LABELS)
    for text, look in entries:
        text = text if len(text) < 80 else f"{text[:78]}…"
        width = 26 + _LETTER * len(text)
        if x + width > _WIDTH - _RIGHT and x > _LABELS:
            line, x = line + 1, float(_LABELS)
        y = top + line * _LINE
        yield (
            line,
            (
                f'<rect {look} x="{x:.0f}" y="{y}" width="12" height="12"/>'
                f'<text x="{x + 17:.0f}" y="{y + 10}">{_text(text)}</text>'
            ),
        )
        x += width
