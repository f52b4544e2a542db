"""A sensor's readings: windows over them, what stands out in each, and a picture of both."""

import math
import sys

import numpy as np

import darray as da


def readings(count, seed=0):
    """A slow wave with noise, and now and then a spike."""
    rng = np.random.default_rng(seed)
    for step in range(count):
        spike = 4.0 if rng.random() < 0.002 else 0.0
        yield math.sin(step / 200) + 0.2 * rng.standard_normal() + spike


def describe(window):
    """Mean and spread of a window, and its last value's distance from the mean in spreads."""
    values = np.array(window)
    mean, spread = values[:-1].mean(), values[:-1].std()
    return float(mean), float(spread), float((values[-1] - mean) / spread)


def watch(count, size=50, limit=6.0):
    """The readings, their moving means, and the steps at which one stood out."""
    seen, means, alarms = [], [], []

    def keep(description):
        mean, _, distance = description
        means.append(mean)
        if abs(distance) > limit:
            alarms.append(size - 2 + len(means))

    with da.spawn_streaming() as stream:
        values = da.spawn(readings, count)
        windows = da.window(values, size, step=1)
        da.spawn(keep, da.spawn(describe, windows))
        da.spawn(seen.append, values)
    stream.wait()
    return np.array(seen), np.array(means), alarms


def plot(path, seen, means, alarms, size=50):
    """Draw the readings, their moving mean, and where one stood out."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(9, 3), layout="constrained")).subplots()
    axes.plot(seen, color="0.75", linewidth=0.8, label="readings")
    axes.plot(np.arange(len(means)) + size - 1, means, label=f"mean of {size}")
    axes.plot(alarms, seen[alarms], "v", label="stands out")
    axes.set_xlabel("step")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    seen, means, alarms = watch(5_000)
    print(len(seen), "readings,", len(means), "windows,", len(alarms), "stand out")
    if len(sys.argv) > 1:
        plot(sys.argv[1], seen, means, alarms)
