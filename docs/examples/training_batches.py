"""Batches for training, read from a stored array and prepared while the model learns.

The model is the smallest there is, logistic regression in NumPy. What matters is the pipeline: it
reads and prepares the next batches, several at once, and never more than the model is about to use.
"""

import sys
import tempfile

import numpy as np

import darray as da

FEATURES = 20


def store(path, rows):
    """Write points of two kinds, and their kind in the last column, to a Zarr array."""
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=rows)
    points = rng.standard_normal((rows, FEATURES)) + np.outer(kind, np.linspace(0, 1, FEATURES))
    da.to_zarr(da.asarray(np.column_stack([points, kind])), path)


def order(rows, size, epochs):
    """Which rows each batch has: all of them, in another order every epoch."""
    rng = np.random.default_rng(1)
    for _ in range(epochs):
        starts = rng.permutation(rows // size) * size
        for start in starts:
            yield slice(int(start), int(start) + size)


def prepare(path, rows):
    """Read a batch and prepare it: points in the range of 1, with a column of ones; and kinds."""
    batch = da.from_zarr(path)[rows].collect()
    points, kinds = batch[:, :FEATURES], batch[:, FEATURES]
    return np.column_stack([points / 4, np.ones(len(points))]), kinds


def train(path, rows, size=500, epochs=4, rate=1.0):
    """Weights learned from the array, and the share of the last 20 batches that they got right."""
    with da.spawn_streaming(buffer=4) as stream:
        which = da.spawn(order, rows, size, epochs)
        batches = stream.output(stream.map(prepare, path, which, parallel=3))
    weights, right = np.zeros(FEATURES + 1), []
    for points, kinds in batches:
        guess = 1 / (1 + np.exp(-points @ weights))
        right.append(np.mean((guess > 0.5) == kinds))
        weights -= rate * points.T @ (guess - kinds) / len(kinds)
    stream.wait()
    return weights, float(np.mean(right[-20:]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
        store(f"{folder}/points.zarr", rows)
        weights, right = train(f"{folder}/points.zarr", rows)
        print(f"{100 * right:.0f} % right")
