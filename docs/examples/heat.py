"""Heat spreading over a plate whose edges stay as they are: explicit finite differences.

A NumPy program. Give `spread` a DArray, and the plate may be larger than memory.
"""

import numpy as np


def plate(rows, columns):
    """A cold plate with one hot edge."""
    grid = np.zeros((rows, columns))
    grid[0] = 100
    grid[-1, 1:-1] = np.linspace(0, 50, columns - 2)
    return grid


def spread(grid, steps, diffusivity=0.2):
    """Let the heat spread in `grid` for some steps of time; returns `grid`."""
    center = grid[1:-1, 1:-1]
    north, south = grid[:-2, 1:-1], grid[2:, 1:-1]
    west, east = grid[1:-1, :-2], grid[1:-1, 2:]
    for _ in range(steps):
        center += diffusivity * (north + south + west + east - 4 * center)
    return grid


if __name__ == "__main__":
    grid = plate(300, 400)
    spread(grid, 100)
    print(f"mean temperature {np.mean(grid):.4f}")
