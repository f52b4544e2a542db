"""k-means: points grouped around centers, by Lloyd's algorithm.

A NumPy program. Give `group` points that are a DArray, and there may be more than fit in memory.
"""

import numpy as np


def group(points, centers, rounds):
    """Centers after some rounds, and the number of each point's center."""
    centers = centers.copy()
    for _ in range(rounds):
        nearest = np.argmin(squared_distances(points, centers), axis=1)
        for k in range(len(centers)):
            centers[k] = points[nearest == k].mean(axis=0)
    return centers, nearest


def squared_distances(points, centers):
    """Squared distance of each point from each center."""
    return ((points[:, np.newaxis, :] - centers) ** 2).sum(axis=2)


def blobs(count, groups, features=4):
    """Points around some places, and as many of the points to begin with as there are places."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-10, 10, (groups, features))
    points = places[rng.integers(groups, size=count)] + rng.standard_normal((count, features))
    return points, points[:groups].copy()


if __name__ == "__main__":
    points, first = blobs(20_000, 8)
    centers, nearest = group(points, first, 10)
    print(f"mean squared distance {np.mean((points - centers[nearest]) ** 2):.4f}")
    print("points of each center:", [int(np.sum(nearest == k)) for k in range(len(centers))])
