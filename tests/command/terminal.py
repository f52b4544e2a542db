"""Programs run in a terminal of their own, or with their output piped."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

__all__ = ["DARRAY", "plain_environment", "run_in_terminal", "run_piped", "visible"]

DARRAY = (sys.executable, "-W", "error", "-m", "darray")

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what changes how darray or rich behave."""
    names = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "PYTHONWARNINGS", "TTY_COMPATIBLE")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in names and not name.startswith("DARRAY_")
    }
    return {**kept, "TERM": "xterm-256color", **changes}


def run_piped(
    command: Sequence[str], folder: Path, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder` with its output piped."""
    return subprocess.run(
        command,
        cwd=folder,
        env=plain_environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def run_in_terminal(command: Sequence[str], folder: Path, **changes: str) -> tuple[int, str, str]:
    """Run `command` with standard error on a terminal; return status, output, what was drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=plain_environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:
        pass  # Linux's way to say that nobody has the terminal open any more
    finally:
        os.close(ours)
    output, _ = process.communicate(timeout=100)
    return process.returncode, output, drawn.decode()


def visible(drawn: str) -> list[str]:
    """Return what was drawn, one item each time the line was begun anew, without control codes."""
    lines = re.split(r"[\r\n]+", _CONTROL.sub("", drawn))
    return [line.strip() for line in lines if line.strip()]
