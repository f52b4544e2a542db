"""The pages under docs/ can be found from the index, and their links lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.view import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def local_links(text: str) -> list[str]:
    """Return the targets of the links of `text` that are files, without their anchors."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    return [target for target in targets if "://" not in target]


def test_index_lists_every_page():
    listed = {(DOCS / target).resolve() for target in local_links((DOCS / "index.md").read_text())}
    fragments = DOCS / "changes"
    pages = {page for page in DOCS.rglob("*.md") if fragments not in page.parents}
    assert pages - {DOCS / "index.md"} - listed == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    missing = [
        target for target in local_links(page.read_text()) if not (page.parent / target).exists()
    ]
    assert missing == []
