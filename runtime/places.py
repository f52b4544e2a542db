"""Places in programs, told as a file and a line."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import CodeType

__all__ = ["calling_place", "place_text"]

# Files below it, and those named here, are not the places of a user's program.
_RUNTIME = str(Path(__file__).parent)
_CONTEXTLIB = contextlib.contextmanager.__code__.co_filename


def place_text(code: CodeType, instruction: int) -> str:
    """File and line of an instruction of `code`, given by its offset in bytes.

    Examples
    --------
    >>> place_text(compile("x = 1", "job.py", "exec"), 0)
    'job.py:1'
    """
    positions = list(code.co_positions())
    line = positions[instruction // 2][0] if instruction >= 0 else None
    return f"{code.co_filename}:{line or code.co_firstlineno}"


def calling_place() -> tuple[CodeType, int]:
    """The instruction of the user's program that led to this call, for `place_text`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_RUNTIME, _CONTEXTLIB)):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti
