"""Conjugate gradients: linear equations whose matrix is symmetric and positive definite.

A NumPy program. Give `solve` a right-hand side that is a DArray (and a matrix that is one),
and the vectors may be larger than memory.
"""

import numpy as np


def solve(apply, right, tolerance=1e-8, most=1000):
    """Solution of ``apply(x) == right`` and the number of steps that it took.

    `apply` is the product with the matrix: ``lambda x: matrix @ x``, or a function such as
    `laplacian` that needs no matrix.
    """
    x = np.zeros_like(right)
    residual = right - apply(x)
    direction = residual.copy()
    square = np.sum(residual * residual)
    goal = tolerance**2 * np.sum(right * right)
    steps = 0
    while square > goal and steps < most:
        image = apply(direction)
        length = square / np.sum(direction * image)
        x += length * direction
        residual -= length * image
        before, square = square, np.sum(residual * residual)
        direction *= square / before
        direction += residual
        steps += 1
    return x, steps


def laplacian(u):
    """Minus the five-point Laplace operator on a grid with zeros around it."""
    result = 4 * u
    result[1:] -= u[:-1]
    result[:-1] -= u[1:]
    result[:, 1:] -= u[:, :-1]
    result[:, :-1] -= u[:, 1:]
    return result


def dense(n):
    """A matrix that is symmetric and positive definite, and a right-hand side."""
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((n, n))
    return factor @ factor.T / n + np.eye(n), rng.standard_normal(n)


def charge(n):
    """Two opposite charges on a square grid."""
    right = np.zeros((n, n))
    right[n // 4, n // 4] = 1
    right[-n // 4, -n // 4] = -1
    return right


if __name__ == "__main__":
    right = charge(100)
    potential, steps = solve(laplacian, right)
    print(f"potential from {np.min(potential):.4f} to {np.max(potential):.4f}, {steps} steps")
