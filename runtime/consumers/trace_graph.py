"""A trace as a graph of which task needed which, in Graphviz's language DOT."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from darray.runtime.consumers.trace_history import History, Run, processor_text
from darray.runtime.consumers.trace_summary import duration_text

__all__ = ["dot_text", "graph"]

_TEXT = (".dot", ".gv")
_DRAWN = (".svg", ".png", ".pdf")

# What shows that a task failed, was not over at the end, and never began.
_FAILED = 'color="#b3261e", fillcolor="#f9dedc", penwidth=2'
_UNFINISHED = 'style="rounded,filled,dashed"'
_NOT_RUN = 'style="rounded,filled,dashed", fillcolor="#eeeeee", fontcolor="#777777"'


def graph(history: History, path: str | PathLike[str] | None) -> str | Path:
    """The DOT text, or the path that it or its drawing was written to."""
    text = dot_text(history)
    if path is None:
        return text
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _TEXT:
        path.write_text(text, encoding="utf-8")
    elif suffix in _DRAWN:
        path.write_bytes(_drawn(text, suffix[1:]))
    else:
        raise ValueError(f"graph() writes {', '.join((*_TEXT, *_DRAWN))} files, not {str(path)!r}")
    return path


def _drawn(text: str, form: str) -> bytes:
    """What Graphviz makes of `text`."""
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError(
            f"graph() draws .{form} files with Graphviz's program dot, which is not on the PATH: "
            "install Graphviz (https://graphviz.org/download), or write a .dot file"
        )
    made = subprocess.run(
        [program, f"-T{form}"], input=text.encode(), capture_output=True, check=False
    )
    if made.returncode:
        message = made.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"Graphviz's program dot gave up: {message}")
    return made.stdout


def dot_text(history: History) -> str:
    """`history` as a directed graph: tasks, and an edge to each from what it needs."""
    return "\n".join(
        [
            "digraph tasks {",
            '  node [shape=box, style="rounded,filled", fillcolor="#e8f0fe", fontname=Helvetica];',
            *_lines(history),
            "}",
            "",
        ]
    )


def _lines(history: History) -> Iterator[str]:
    known = {run.number for run in history.runs}
    # A task that was neither spawned nor run in the trace is known by its number only.
    unknown: dict[int, None] = {}
    for run in history.runs:
        yield f"  t{run.number} [{_attributes(run, history.span)}];"
        unknown |= {need: None for need in run.needs if need not in known}
    for number in unknown:
        yield f'  t{number} [label="task {number}\\nbefore the trace", {_NOT_RUN}];'
    for run in history.runs:
        for need in run.needs:
            yield f"  t{need} -> t{run.number};"


def _attributes(run: Run, span: int) -> str:
    told = [run.name]
    state = ""
    if run.began is None:
        told.append("did not run")
        state = _NOT_RUN
    elif run.ended is None:
        told.append(f"not over after {duration_text((span - run.began) / 1e9)}")
        state = _UNFINISHED
    else:
        told.append(duration_text((run.ended - run.began) / 1e9))
    if run.failure is not None:
        told.append(f"failed: {run.failure.partition(':')[0]}")
        state = _FAILED
    tip = [f"task {run.number}"]
    if run.processor is not None:
        tip.append(f"on worker {run.processor.worker} {processor_text(run.processor)}")
    if run.spawned_at is not None:
        tip.append(f"spawned at {run.spawned_at}")
    if run.failure is not None:
        tip.append(run.failure)
    attributes = f"label={_quoted(told)}, tooltip={_quoted(tip)}"
    return f"{attributes}, {state}" if state else attributes


def _quoted(lines: list[str]) -> str:
    """A quoted string of DOT that shows `lines`, whatever stands in them."""
    escaped = [
        # Without characters that no file of text has; Graphviz also reads HTML's entities.
        (line if line.isprintable() else "".join(one if one.isprintable() else " " for one in line))
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("&", "&amp;")
        for line in lines
    ]
    return '"' + "\\n".join(escaped) + '"'
