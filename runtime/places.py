"""Places in programs, told as a file and a line."""

from __future__ import annotations

from types import CodeType

__all__ = ["place_text"]


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
