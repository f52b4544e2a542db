"""Programs written for NumPy, in docs/examples, do the same when their arrays are DArrays."""

from __future__ import annotations

import contextlib
import io
import runpy

import numpy as np
import pytest

import darray as da
from tests.arrays.agreement import same_arrays
from tests.view import ROOT

pytestmark = pytest.mark.usefixtures("engine")

EXAMPLES = ROOT / "docs" / "examples"

# The line that makes the arrays of each program, and the line that makes them DArrays.
CHANGED = {
    "black_scholes": (
        "spot, strike, years = market(200_000)",
        "spot, strike, years = map(da.distribute, market(200_000))",
    ),
    "conjugate_gradients": ("right = charge(100)", "right = da.distribute(charge(100))"),
    "heat": ("grid = plate(300, 400)", "grid = da.distribute(plate(300, 400))"),
    "kmeans": (
        "points, first = blobs(20_000, 8)",
        "points, first = map(da.distribute, blobs(20_000, 8))",
    ),
    "life": ("board = soup(300, 400)", "board = da.distribute(soup(300, 400))"),
}


def program(name):
    """The functions of a program."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def printed(source):
    """What a program prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source, "program", "exec"), {"__name__": "__main__", "da": da})
    return output.getvalue()


def test_every_example_is_tested():
    programs = [
        file.stem for file in EXAMPLES.glob("*.py") if "import darray" not in file.read_text()
    ]
    assert set(programs) == set(CHANGED)


@pytest.mark.parametrize("name", CHANGED)
def test_one_line_is_changed(name):
    source = (EXAMPLES / f"{name}.py").read_text()
    line, changed = CHANGED[name]
    assert source.count(f"    {line}\n") == 1
    assert "import darray" not in source
    theirs = printed(source)
    assert theirs
    assert printed(source.replace(line, changed)) == theirs
    page = (ROOT / "docs" / "how-to" / "numpy-programs.md").read_text()
    assert f"`{line}`" in page
    assert f"`{changed}`" in page


@pytest.mark.parametrize("size", [1000, 333, 4000])
def test_black_scholes(size):
    prices, market = map(program("black_scholes").get, ("prices", "market"))
    options = market(4000)
    ours = da.compute(*prices(*[da.distribute(one, size) for one in options]))
    for mine, theirs in zip(ours, prices(*options), strict=True):
        assert same_arrays(mine, theirs)


def test_black_scholes_with_a_ufunc_of_scipy():
    special = pytest.importorskip("scipy.special")
    names = program("black_scholes")
    approximate = names["prices"](*names["market"](4000))
    names["prices"].__globals__["normal_cdf"] = special.ndtr
    options = names["market"](4000)
    exact = names["prices"](*options)
    ours = da.compute(*names["prices"](*[da.distribute(one, 700) for one in options]))
    for mine, theirs, nearly in zip(ours, exact, approximate, strict=True):
        assert same_arrays(mine, theirs)
        # The formula's share is within 7.5e-8, and it is multiplied by prices up to 100.
        np.testing.assert_allclose(mine, nearly, atol=1.3e-5)


# Of a 37 x 29 grid: rows, columns, both, thin, uneven, whole.
CUTS = [(9, -1), (-1, 10), (16, 16), (1, -1), ((1, 30, 6), (2, 27)), (-1, -1)]


@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_heat(blocks):
    spread, plate = map(program("heat").get, ("spread", "plate"))
    grid = da.distribute(plate(37, 29), blocks)
    # The chain of all steps is deep enough to be started by itself several times.
    assert spread(grid, 60) is grid
    assert same_arrays(grid.collect(), spread(plate(37, 29), 60))


@pytest.mark.parametrize("blocks", CUTS, ids=repr)
def test_life(blocks):
    play, soup = map(program("life").get, ("play", "soup"))
    board = da.distribute(soup(37, 29), blocks)
    assert play(board, 20) is board
    assert same_arrays(board.collect(), play(soup(37, 29), 20))


@pytest.mark.parametrize("blocks", [(6, -1), (10, 7), (-1, -1)], ids=repr)
def test_conjugate_gradients_without_a_matrix(blocks):
    solve, laplacian, charge = map(
        program("conjugate_gradients").get, ("solve", "laplacian", "charge")
    )
    right = charge(24)
    theirs, their_steps = solve(laplacian, right)
    ours, steps = solve(laplacian, da.distribute(right, blocks))
    assert steps == their_steps
    found = ours.collect()
    if blocks == (-1, -1):
        assert same_arrays(found, theirs)
    # Sums in another order differ by roundings, which the steps multiply; both solve the same.
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    assert np.linalg.norm(laplacian(found) - right) <= 2e-8 * np.linalg.norm(right)


@pytest.mark.parametrize("blocks", [50, 64, (30, 200), 200])
def test_conjugate_gradients_with_a_matrix(blocks):
    solve, dense = map(program("conjugate_gradients").get, ("solve", "dense"))
    matrix, right = dense(200)
    theirs, their_steps = solve(lambda x: matrix @ x, right)
    cut = da.distribute(matrix, blocks)
    ours, steps = solve(lambda x: cut @ x, da.distribute(right, cut.partitioning.sizes[:1]))
    assert steps == their_steps
    np.testing.assert_allclose(ours.collect(), theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [500, 299, 2000])
def test_kmeans(size):
    group, blobs = map(program("kmeans").get, ("group", "blobs"))
    points, first = blobs(2000, 5)
    theirs, their_nearest = group(points, first, 6)
    for centers in (first, da.distribute(first, 2)):
        ours, nearest = group(da.distribute(points, (size, -1)), centers, 6)
        assert isinstance(ours, type(centers))
        assert same_arrays(nearest.collect(), their_nearest)
        # Means of some hundred numbers below 16, each within a few roundings.
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=16 * 10 * 2**-52)
