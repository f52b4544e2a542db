"""No file is over 600 lines and no function over 80."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.view import ROOT

FOLDERS = ("darray", "runtime", "io", "tests", "benchmarks")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
FILE_LINES = 600
FUNCTION_LINES = 80


def long_functions(source: str) -> list[tuple[str, int]]:
    """Return name and length of each function of `source` that is over the limit."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append((node.name, length))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_and_its_functions_are_short(file: Path):
    source = file.read_text()
    assert len(source.splitlines()) <= FILE_LINES
    assert long_functions(source) == []


def test_long_function_is_found_at_any_depth():
    body = "        x = 0\n" * FUNCTION_LINES
    source = f"class A:\n    def f(self):\n{body}\n    async def g(self):\n        pass\n"
    assert long_functions(source) == [("f", FUNCTION_LINES + 1)]


def test_every_folder_is_looked_at():
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(FOLDERS)
