"""Arrays written in cuts across those of their source: read once, within the memory limit."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import zarr

import darray as da
from darray.io.zarr_format import ZarrArray
from tests.view import ROOT

CASES = {
    "to columns": ((6, 40), (60, 5)),
    "to rows": ((60, 4), (7, 40)),
    "to tiles": ((60, 1), (20, 20)),
    "to one chunk": ((1, 40), (60, 40)),
}


@pytest.fixture
def reads(monkeypatch):
    """Count how often each box is read."""
    found = Counter()
    read = ZarrArray.read

    def counting(self, box):
        found[str(box)] += 1
        return read(self, box)

    monkeypatch.setattr(ZarrArray, "read", counting)
    return found


@pytest.mark.parametrize("codec", ["auto", None])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("asked", ["in the store", "of the array"])
def test_source_is_read_once(name, codec, asked, reads, tmp_path):
    source, wanted = CASES[name]
    array = np.arange(2400.0).reshape(60, 40)
    stored = zarr.create_array(tmp_path / "a.zarr", shape=(60, 40), chunks=source, dtype="f8")
    stored[...] = array
    if asked == "in the store":
        x = da.from_zarr(tmp_path / "a.zarr")
    else:
        x = da.from_zarr(tmp_path / "a.zarr", blocks=wanted)
    da.to_zarr(x * 2 + 1, tmp_path / "b.zarr", chunks=wanted, compressors=codec)
    result = zarr.open_array(tmp_path / "b.zarr", mode="r")
    assert result.chunks == wanted
    np.testing.assert_array_equal(result[...], array * 2 + 1)
    assert sum(reads.values()) <= stored.nchunks
    assert set(reads.values()) == {1}


@pytest.mark.parametrize("codec", ["auto", None])
def test_failing_piece_leaves_nothing(codec, tmp_path):
    def fail(block):
        if block[0, 0] == 30:
            raise ValueError("the block of 30")
        return block

    rows = da.from_function(lambda i, j: i + 0.0 * j, (60, 40), blocks=(3, 40))
    with pytest.raises(ValueError, match="the block of 30"):
        da.to_zarr(rows.map_blocks(fail), tmp_path / "b.zarr", chunks=(60, 2), compressors=codec)
    assert list(tmp_path.iterdir()) == []


WITHIN = """
import sys
import numpy as np
import darray as da

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

folder, codec = sys.argv[1], None if sys.argv[2] == "plain" else "auto"
da.configure(memory_limit="200MB", threads=2)
rows = da.from_function(lambda i, j: (i % 50) + 0.0 * j, (20_000, 1500), blocks=(500, 1500))
da.to_zarr(rows, f"{folder}/a.zarr", compressors=codec)
da.to_zarr(da.from_zarr(f"{folder}/a.zarr"), f"{folder}/b.zarr", chunks=(20_000, 40),
           compressors=codec)
print(peak())
columns = da.from_zarr(f"{folder}/b.zarr")
assert (columns[:, 1234].collect() == np.arange(20_000) % 50).all()
"""


@pytest.mark.parametrize("codec", ["plain", "compressed"])
def test_peak_is_within_the_limit(codec, tmp_path):
    """The array, of 240 MB, would not fit."""
    answer = subprocess.run(
        [sys.executable, "-c", WITHIN, str(tmp_path), codec],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) <= 1.1 * 200e6
