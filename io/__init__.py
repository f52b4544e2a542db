"""Reading and writing arrays and values: ``File`` and its formats."""

from __future__ import annotations

from darray.io.files import File
from darray.io.formats import ArrayWriter, Chunked, Format, Target, ValueWriter

__all__ = ["ArrayWriter", "Chunked", "File", "Format", "Target", "ValueWriter"]
