"""The picture of an array in a notebook: well-formed, small, true to the cut, self-contained."""

import re
from itertools import accumulate
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darray as da
from darray.drawing import svg
from darray.testing.strategies import chunks_for, shapes

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text):
    """Return the tree of some HTML, which is XML too."""
    return ElementTree.fromstring(text)


def numbers(path):
    return [float(one) for one in re.findall(r"-?[0-9.]+", path)]


def cuts(text):
    """Return the lines that are drawn inside, as start and end points."""
    lines = [
        path.get("d")
        for path in parsed(text).iter(f"{SVG}path")
        if path.get("stroke-width") == "0.6"
    ]
    return [numbers(line) for path in lines for line in path.split("M")[1:]]


@given(chunks=shapes(max_dims=9, max_side=9).flatmap(chunks_for))
def test_any_cut_is_drawn_within_the_frame(chunks):
    tree = parsed(svg(chunks))
    width, height = float(tree.get("width")), float(tree.get("height"))
    assert len(svg(chunks)) < 20_000
    for group in tree.iter(f"{SVG}g"):
        left, top = numbers(group.get("transform"))
        for path in group.iter(f"{SVG}path"):
            assert set(re.findall("[a-zA-Z]", path.get("d"))) <= set("MLZ")
            places = numbers(path.get("d"))
            assert all(0 <= left + x <= width for x in places[::2])
            assert all(0 <= top + y <= height for y in places[1::2])
        for text in group.iter(f"{SVG}text"):
            assert 0 <= left + float(text.get("x")) <= width
            assert 0 <= top + float(text.get("y")) <= height


@pytest.mark.parametrize(
    "chunks", [((10, 30),), ((10, 30), (5, 5, 30)), ((4, 2), (3, 3), (2, 2, 2))]
)
def test_cuts_lie_where_they_are(chunks):
    found = cuts(svg(chunks))
    counts = [len(sizes) - 1 for sizes in chunks]
    faces = {1: 1, 2: 1, 3: 2}[len(chunks)]
    assert len(found) == faces * sum(counts)
    outline = numbers(next(parsed(svg(chunks)).iter(f"{SVG}path")).get("d"))
    left, right = min(outline[::2]), max(outline[::2])
    across = sorted({line[0] for line in found if line[0] == line[2] and line[0] < right})
    ends = [left + (right - left) * end / sum(chunks[-1]) for end in accumulate(chunks[-1][:-1])]
    assert across == pytest.approx(ends, abs=0.06)


@given(st.integers(1, 5), st.sampled_from([1000, 5000]))
def test_thousands_of_chunks_stay_small(dimensions, count):
    text = svg(((3,) * count,) * dimensions)
    assert len(text) < 20_000
    assert len(cuts(text)) <= 300


@pytest.mark.usefixtures("threads")
def test_what_an_array_is():
    x = da.zeros((300, 200), blocks=(100, 50))
    rows = {
        row.find("th").text: row.find("td").text
        for row in parsed((x * 2 + 1)._repr_html_()).iter("tr")
        if row.find("th") is not None
    }
    assert rows == {
        "Shape": "(300, 200)",
        "Type": "float64",
        "Size": "480 kB",
        "Chunks": "12 (3 x 4)",
        "Chunk": "(100, 50), 40 kB",
        "Made by": "add of elements",
        "State": "not computed; 12 tasks",
    }


@pytest.mark.usefixtures("threads")
def test_where_it_comes_from_and_whether_it_is_there(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 4)))
    stored = da.from_npy(tmp_path / "a.npy", blocks=2)
    kept = (stored + 1).persist()
    kept.wait()
    failed = da.ones(4, blocks=2).map_blocks(lambda block: 1 / 0).persist()
    with pytest.raises(ZeroDivisionError):
        failed.wait()
    huge = da.zeros((10**6, 10**6), blocks=100)
    texts = {
        "a stored array": stored,
        "sum over axes 0": stored.sum(axis=0),
        "a view of a stored array": stored[1:],
        "sort of blocks": stored.map_blocks(np.sort),
        "values in memory": da.distribute(np.ones(3)),
        "in memory": da.distribute(np.ones(3)),
        ">computed</td>": kept,
        "not computed; 4 tasks": failed,
        "generated": da.arange(3),
        "not computed; x.explain() counts the tasks": huge + huge,
    }
    for text, array in texts.items():
        assert text in array._repr_html_(), text


@pytest.mark.usefixtures("threads")
def test_nothing_is_computed_or_fetched():
    html = da.ones(100, blocks=10).map_blocks(lambda block: 1 / 0)._repr_html_()
    assert not re.findall(r"(?:src|href|url|@import|<script)", html)
    assert set(re.findall(r"https?://[^\"]+", html)) == {"http://www.w3.org/2000/svg"}


def test_names_are_escaped():
    dtype = np.dtype([("<b>&", "i4")])
    html = da.zeros(4, dtype)._repr_html_()
    parsed(html)
    assert "<b>" not in html


def test_colours_are_those_of_the_page():
    html = da.zeros((4, 4, 4), blocks=2)._repr_html_()
    assert set(re.findall(r'stroke="([^"]+)"', html)) == {"currentColor"}
    assert {one for one in re.findall(r"<text[^>]*fill=\"([^\"]+)\"", html)} == {"currentColor"}
    assert "color:inherit" in html
    assert all(float(one) < 0.6 for one in re.findall(r'fill-opacity="([^"]+)"', html))
