"""Writes a chart of a trace in the form that a path's suffix names."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from darray.runtime.consumers.trace_chart import chart
from darray.runtime.consumers.trace_history import History
from darray.runtime.consumers.trace_page import Page, page

__all__ = ["gantt"]


def gantt(history: History, path: str | PathLike[str] | None) -> Page | Path:
    """The page, or the path that a page, drawing or picture was written to."""
    drawn = chart(history)
    if path is None:
        return page(drawn)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".html", ".htm"):
        path.write_text(page(drawn), encoding="utf-8")
    elif suffix == ".svg":
        from darray.runtime.consumers.trace_svg import svg

        path.write_text(svg(drawn), encoding="utf-8")
    elif suffix == ".png":
        from darray.runtime.consumers.trace_png import write_png

        write_png(drawn, path)
    else:
        raise ValueError(f"gantt() writes .html, .svg and .png files, not {str(path)!r}")
    return path
