"""Steps of factorisations on tiles: what they compute, and what they refuse to touch."""

from __future__ import annotations

import numpy as np
import pytest

from darray.kernels.tiles import factor, solve, subtract_product, subtract_square

rng = np.random.default_rng(0)


def test_steps_give_what_numpy_gives():
    whole = rng.random((9, 9))
    a, b, c = whole[:5, :3], whole[5:, :3], rng.random((5, 4))
    expected = c - a @ b.T
    subtract_product(a, b, c)
    np.testing.assert_allclose(c, expected, rtol=1e-14)
    square = rng.random((5, 5))
    expected = np.tril(square - a @ a.T) + np.triu(square, 1)
    subtract_square(a, square)
    np.testing.assert_allclose(square, expected, rtol=1e-13, atol=1e-15)
    positive = a @ a.T + 5 * np.eye(5)
    lower = positive.copy()
    factor(lower)
    np.testing.assert_allclose(np.tril(lower) @ np.tril(lower).T, positive)
    x = rng.random((2, 5))
    solved = x.copy()
    solve(lower, solved)
    np.testing.assert_allclose(solved @ np.tril(lower).T, x)


def test_a_matrix_that_is_not_positive_definite():
    with pytest.raises(np.linalg.LinAlgError, match="minor of order 2"):
        factor(np.array([[1.0, 0.0], [2.0, 1.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: factor(m[:2]), "of shape"),
        (lambda m: subtract_square(m[:2, :2], m[:2, :2][::-1]), "by rows"),
        (lambda m: subtract_product(m[:2, :1], m[:2, :1], m[:1, :2]), "of shape"),
        (lambda m: solve(m[:2, :2], m[:, :3]), "of shape"),
        (lambda m: factor(m.astype("f4")), "float64"),
        (lambda m: factor(np.broadcast_to(m[:1], (4, 4))), "by rows"),
    ],
    ids=["oblong", "reversed", "small", "narrow", "single", "broadcast"],
)
def test_tiles_that_do_not_fit_are_refused_untouched(call, message):
    m = rng.random((4, 4))
    before = m.copy()
    with pytest.raises(ValueError, match=message):
        call(m)
    np.testing.assert_array_equal(m, before)


def test_a_read_only_tile_is_not_written():
    m = np.eye(3) * 4
    m.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        factor(m)
    assert m[0, 0] == 4
