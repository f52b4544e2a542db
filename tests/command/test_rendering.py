"""Findings as text and as JSON."""

from __future__ import annotations

import json

import numpy as np

from darray.command.findings import FIGURES
from darray.command.rendering import as_json, as_text
from tests.command.expected import findings_of, summary_of

MAP = np.array([[1.0, 2.0, np.nan], [3.0, 5.0, 6.5]], np.float32)
FIGURES_OF_MAP = """\
folder/a.npy: shape (2, 3), float32, in chunks of (2, 3), 24 B
count    5
NaNs     1
min    1.0
max    6.5
mean   3.5
std      2"""
ALONG_AXIS = """\


along axis 0: shape (3,)
       lowest  median  highest
count       1       2        2
NaNs        0       0        1
min       1.0     2.0      6.5
max       3.0     5.0      6.5
mean        2     3.5      6.5
std         0       1      1.5"""


def test_text():
    assert as_text(findings_of(MAP)) == FIGURES_OF_MAP
    assert as_text(findings_of(MAP, 0)) == FIGURES_OF_MAP + ALONG_AXIS
    assert as_text(findings_of(MAP, 0, asked=False)) == FIGURES_OF_MAP


def test_text_where_there_are_no_values():
    whole = summary_of(np.zeros(1))
    for name in ("min", "max", "mean", "std"):
        whole[name] = np.nan
    assert as_text(findings_of(np.zeros(1), whole=whole)).splitlines()[3:] == [
        f"{name:5}  none" for name in ("min", "max", "mean", "std")
    ]


def test_integers_are_written_in_full():
    lines = as_text(findings_of(np.array([2**62, -3]))).splitlines()
    assert [line.split() for line in lines[3:5]] == [["min", "-3"], ["max", f"{2**62:,}"]]
    assert len(lines[3]) == len(lines[4])


def test_json():
    found = as_json(findings_of(MAP, 1))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["shape"], found["dtype"], found["nbytes"]) == ([2, 3], "float32", 24)
    assert [found[name] for name in FIGURES] == [5, 1, 1.0, 6.5, 3.5, 2.0]
    assert (found["along"]["axis"], found["along"]["shape"]) == (1, [2])
    assert found["along"]["nans"] == {"lowest": 0, "median": 0, "highest": 1, "values": [1, 0]}
    assert found["along"]["mean"]["values"] == [1.5, 14.5 / 3]
    assert "along" not in as_json(findings_of(MAP, 1, asked=False))


def test_json_has_no_numbers_that_json_lacks():
    whole = summary_of(np.array([1.0]))
    whole["min"], whole["max"], whole["mean"] = -np.inf, np.inf, np.nan
    found = as_json(findings_of(np.array([1.0]), whole=whole))
    assert [found[name] for name in ("min", "max", "mean")] == ["-inf", "inf", None]
    json.dumps(found, allow_nan=False)


def test_json_leaves_out_large_results():
    found = as_json(findings_of(np.zeros((2, 10_001)), 0))["along"]
    assert found["count"] == {"lowest": 2, "median": 2, "highest": 2}
    assert found["shape"] == [10_001]
    assert len(as_json(findings_of(np.zeros((2, 10_000)), 0))["along"]["std"]["values"]) == 10_000
