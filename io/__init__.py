"""Reading and writing arrays and values: ``File`` and its formats."""

from __future__ import annotations

from darray.io.files import File
from darray.io.formats import Chunked, Format

__all__ = ["Chunked", "File", "Format"]
