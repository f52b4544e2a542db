"""The picture: what is drawn, that it is one, and that its file is looked at first."""

from __future__ import annotations

import os
from io import BytesIO

import numpy as np
import pytest

from darray.command.mistakes import Mistake
from darray.command.plotting import draw, mean_field, plot_file, thinned_step
from tests.command.expected import findings_of

rng = np.random.default_rng(0)
SHAPES = [(), (300,), (30, 40), (5, 30, 40), (3, 4, 5, 6), (2, 5000, 3)]


def pixels(picture: bytes) -> np.ndarray:
    from matplotlib.image import imread

    assert picture.startswith(b"\x89PNG\r\n")
    image: np.ndarray = imread(BytesIO(picture), format="png")
    return image


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_picture_of_every_number_of_axes(shape):
    array = np.asarray(rng.normal(size=shape))
    image = pixels(draw(findings_of(array, 0 if len(shape) > 1 else None), "png"))
    assert image.shape[0] > 400
    assert image.shape[1] > 1000
    # Something is drawn in both halves.
    assert image[:, :500].std() > 0.01
    assert image[:, 600:].std() > 0.01


def test_picture_shows_the_field():
    array = np.zeros((4, 50, 50))
    array[:, :25] = 1
    image = pixels(draw(findings_of(array, 0), "png"))
    column = image[:, 250, :3]
    high = np.abs(column - (0.993, 0.906, 0.144)).max(axis=1) < 0.02  # the colour map's ends
    low = np.abs(column - (0.267, 0.005, 0.329)).max(axis=1) < 0.02
    # Row 0 is on top.
    assert high.sum() > 100
    assert low.sum() > 100
    assert np.flatnonzero(high).max() < np.flatnonzero(low).min()


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_more_than_two_axes_are_averaged(axis):
    array = rng.normal(size=(3, 4, 5, 6))
    array[np.indices(array.shape).sum(axis=0) % 3 == 1] = np.nan  # no line is without values
    mean, axes, title = mean_field(findings_of(array, axis))
    left = [a for a in range(4) if a != axis]
    assert axes == tuple(left[1:])
    assert title == f"mean along axis {axis}, and over {left[0]}"
    np.testing.assert_allclose(mean, np.nanmean(array, axis=(axis, left[0])), rtol=1e-12)


def test_place_without_values_stays_empty():
    array = rng.normal(size=(3, 4, 5, 6))
    whole = findings_of(array, 0)
    assert whole.along is not None
    along = whole.along.copy()
    along["count"][:, 2, 3] = 0
    along["mean"][:, 2, 3] = np.nan
    findings = findings_of(array, 0, along=along)
    mean, _, _ = mean_field(findings)
    assert list(zip(*np.nonzero(np.isnan(mean)), strict=True)) == [(2, 3)]
    pixels(draw(findings, "png"))


def test_step_of_large_fields():
    assert [thinned_step(size) for size in (0, 1, 2000, 2001, 10**9)] == [1, 1, 1, 2, 500_000]


def test_file_is_written_at_the_end_only(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"the old picture")
    with plot_file(str(path)) as plot:
        assert (plot.format, path.read_bytes()) == ("png", b"the old picture")
        plot.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("existed", [False, True])
def test_failure_leaves_what_there_was(tmp_path, existed):
    path = tmp_path / "a.png"
    if existed:
        path.write_bytes(b"old")

    def fail() -> None:
        with plot_file(str(path)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.exists() == existed
    assert not existed or path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/folder/a.png", "cannot write the plot: No such file or directory: .*a.png'"),
        ("folder", "cannot write the plot: Is a directory: 'folder'"),
        (
            "a.jpeg2000",
            "cannot plot to 'a.jpeg2000': there is no kind of picture 'jpeg2000'; .*png",
        ),
    ],
)
def test_file_that_cannot_be_written(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Mistake, match=message):
        plot_file(name).__enter__()
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["pdf", "svg", "PNG", ""])
def test_suffix_says_the_kind(tmp_path, kind):
    path = tmp_path / f"a.{kind}".rstrip(".")
    with plot_file(str(path)) as plot:
        plot.write(draw(findings_of(np.arange(9.0)), plot.format))
    start = {"pdf": b"%PDF", "svg": b"<?xml"}.get(kind, b"\x89PNG")
    assert path.read_bytes().startswith(start)
