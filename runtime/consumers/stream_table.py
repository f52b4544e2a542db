"""A live table of a streaming region on a terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from darray.runtime.streams.regions import StreamRegion

__all__ = ["stream_table"]

# Seconds between two looks at the counts.
_INTERVAL = 0.2


@contextmanager
def stream_table(region: StreamRegion) -> Iterator[None]:
    """Show on standard error how values flow in a streaming region, while the block runs.

    On a terminal, and with rich installed, a table that changes; otherwise the table of the end.
    A thread of its own draws.

    Parameters
    ----------
    region : StreamRegion
        What ``with da.spawn_streaming() as s:`` gives.

    Examples
    --------
    >>> import darray as da
    >>> with da.spawn_streaming() as s:
    ...     _ = da.spawn(lambda x: x, da.spawn(iter(range(5))))
    >>> with da.stream_table(s):
    ...     s.wait()
    True
    """
    if not isinstance(region, StreamRegion):
        raise TypeError(f"stream_table() takes what da.spawn_streaming() gives, not {region!r}")
    live = _live(sys.stderr)
    stop = threading.Event()

    def show() -> None:
        from rich.text import Text

        # Names may look like rich's own markup.
        live.update(Text(str(region.statistics()), no_wrap=True), refresh=True)

    def draw() -> None:
        while not stop.wait(_INTERVAL):
            show()

    if live is None:
        try:
            yield
        finally:
            print(region.statistics(), file=sys.stderr)
        return
    drawing = threading.Thread(target=draw, name="darray-stream-table", daemon=True)
    with live:
        drawing.start()
        try:
            yield
        finally:
            stop.set()
            drawing.join()
            show()


def _live(file: TextIO) -> Any:
    """What draws on a terminal; None where `file` is none, or rich is not installed."""
    if not file.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    return Live("", console=Console(file=file), auto_refresh=False)
