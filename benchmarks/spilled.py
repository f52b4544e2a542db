"""What reading spilled values ahead gains: ``python benchmarks/spilled.py [--folder FOLDER]``.

2 GB of float64 in chunks of 8 MB are persisted within 500 MB, so that most lie on disk, and are
taken out of the system's memory for files before each turn. ``sin(x).sum()`` is then computed with
and without telling the system what is read next and, for comparison, with all of it in the system's
memory for files.
Wall and CPU time, least and median of the turns; every answer is compared. Linux alone.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

import numpy as np

import darray as da
from darray.runtime import spill_files, spiller

CHUNKS, LENGTH, ROUNDS = 250, 1_000_000, 5


def settle_files(forgets: bool) -> None:
    """Have the spill files written, and perhaps taken out of the system's memory."""
    for files in spill_files._files.values():
        for file in list(files._open.values()):
            os.fsync(file.number)
            if forgets:
                os.posix_fadvise(file.number, 0, 0, os.POSIX_FADV_DONTNEED)


def turn(x: da.DArray, ahead: int, forgets: bool) -> tuple[float, float, float]:
    """Seconds of wall and CPU time, and the answer, with `ahead` tasks of a queue looked at."""
    spiller.NEXT = ahead
    settle_files(forgets)
    began, used = time.perf_counter(), time.process_time()
    found = float(np.sin(x).sum())
    return time.perf_counter() - began, time.process_time() - used, found


def main() -> None:
    """Measure in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where values are spilled to (default: darray's)")
    folder = parser.parse_args().folder
    da.configure(threads=2, memory_limit="500MB", spill_folder=folder)
    generator = da.random.default_rng(0)
    x = generator.random((CHUNKS, LENGTH), blocks=da.Blocks(1, LENGTH))
    x.persist()
    x.wait()
    on_disk, _ = spill_files.counts()
    print(f"{on_disk / 1e9:.1f} GB on disk")
    assert on_disk > 1e9, "this is about values on disk"
    ways = {"read ahead": (spiller.NEXT, True), "not": (0, True), "in its memory": (0, False)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers = set()
    for _ in range(ROUNDS):
        for name, (ahead, forgets) in ways.items():
            wall, cpu, found = turn(x, ahead, forgets)
            times[name].append((wall, cpu))
            answers.add(found)
    assert len(answers) == 1, answers
    for name, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        print(
            f"{name:14} wall {min(walls):.2f} / {median(walls):.2f} s, "
            f"CPU {min(cpus):.2f} / {median(cpus):.2f} s"
        )
    ratio = median(wall for wall, _ in times["not"]) / median(w for w, _ in times["read ahead"])
    print(f"reading ahead is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
