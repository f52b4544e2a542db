"""Every ``python`` block of README.md and the pages under docs/ runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.view import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[str]:
    """Return the ``python`` blocks of `text`, each on the line numbers it has in the page."""
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match[1]
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


def run_page(page: Path) -> None:
    """Run the blocks of `page` in order in one namespace; tracebacks name the page's lines."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page.read_text())],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_examples_of_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page)


def test_readme_shows_arrays_and_tasks():
    arrays, tasks = blocks((ROOT / "README.md").read_text())
    assert "import numpy as np" in arrays
    assert "da.spawn" in tasks


def test_failing_example_names_its_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\n```\n\n```sh\nfalse\n```\n\n```python\nx / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno == 12 - 1
    assert caught.traceback[-1].path == page
