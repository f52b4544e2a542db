"""A process that imports a library and evaluates once: ``CONTENDER CHUNK_BYTES ELEMENTS``.

It prints the seconds of that as JSON. This module imports next to nothing, so that imports are
counted, NumPy's too. Only what makes the inputs, and hands them to the library, is not timed.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class Clock:
    """Adds up the wall and CPU time of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self.wall -= time.perf_counter()
        self.cpu -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


def hypotenuse(x: Any, y: Any) -> Any:
    import numpy as np

    return np.sqrt(x * x + y * y)


def first(contender: str, chunk_bytes: int, elements: int) -> dict[str, float]:
    """Import, evaluate once, check the answer; the seconds that took."""
    clock = Clock()
    with clock:
        import numpy as np
    x, y = np.random.default_rng(0).random((2, elements))
    if contender == "darray":
        with clock:
            import darray as da
        held: list[Any] = [da.distribute(one).persist() for one in (x, y)]
        for one in held:
            one.wait()
        with clock:
            found = hypotenuse(*held).collect()
    elif contender == "dask":
        with clock:
            import dask.array
        chunks = max(1, chunk_bytes // 8)
        held = [dask.array.from_array(one, chunks=chunks) for one in (x, y)]
        with clock:
            found = hypotenuse(*held).compute(scheduler="threads")
    else:
        with clock:
            found = hypotenuse(x, y)

    from benchmarks.compare.turns import Contender, check

    check(Contender(contender, lambda: found), hypotenuse(x, y))
    return {"wall": clock.wall, "cpu": clock.cpu}


if __name__ == "__main__":
    print(json.dumps(first(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
