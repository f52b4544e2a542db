"""Views of refs: what they are of a value, in plain tasks and in regions."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import darray.runtime as da


def matrix():
    return np.arange(20).reshape(4, 5)


KEYS = [
    1,
    -1,
    np.int64(2),
    slice(1, 4),
    (slice(1, 4), slice(None, None, 2)),
    (slice(None, None, -1), 3),
    (..., 0),
    (None, slice(2, None), None),
    (2, 3),
    (),
    ...,
]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_view_is_what_indexing_gives(key):
    view = da.Ref(da.spawn(matrix))[key]
    for found in (da.fetch(view), da.spawn(lambda x: x, view).result(), da.fetch([view])[0]):
        np.testing.assert_array_equal(found, matrix()[key])
        assert type(found) is type(matrix()[key])


@pytest.mark.usefixtures("engine")
def test_views_of_views_are_read_only_and_copied_when_asked_to():
    view = da.Ref(da.spawn(matrix))[1:, ::2][:, 1]
    assert isinstance(view, da.RefView)
    assert da.fetch(view).tolist() == [7, 12, 17]
    assert not da.fetch(view).flags.writeable
    assert da.fetch(view, copy=True).flags.writeable
    failed = da.spawn(np.ndarray.fill, view, 1)
    with pytest.raises(ValueError, match="read-only"):
        failed.result()
    assert "[1:, ::2][:, 1]" in repr(view).replace("0:", ":").replace("None", "")


@pytest.mark.usefixtures("engine")
def test_a_view_of_a_list_is_a_part_of_it():
    numbers = da.Ref(da.spawn(list, range(5)))
    assert da.fetch(numbers[1:3]) == [1, 2]
    assert da.spawn(sum, numbers[::2]).result() == 6
    with pytest.raises(TypeError, match="indices"):
        da.fetch(numbers[1, 2])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("key", [[0, 1], np.array([0, 1]), True, "a", 1.5, (0, [1]), slice("a")])
def test_other_indices_are_refused(key):
    ref = da.Ref(da.spawn(matrix))
    with pytest.raises(TypeError, match=r"slices, integers.*da\.spawn\(operator\.getitem"):
        ref[key]


@pytest.mark.usefixtures("engine")
def test_what_a_view_is_not():
    ref = da.Ref(da.spawn(matrix))
    with pytest.raises(IndexError, match="ellipsis"):
        ref[..., 0, ...]
    with pytest.raises(TypeError):
        list(ref)
    with pytest.raises(TypeError):
        3 in ref  # noqa: B015 - what it does is what is tested
    with pytest.raises(IndexError, match="out of bounds"):
        da.fetch(ref[9])
    with pytest.raises(IndexError, match="too many indices"):
        da.spawn(np.sum, ref[0, 0, 0]).result()
    ref.task.wait()
    with da.spawn_datadeps(), pytest.raises(IndexError, match="out of bounds"):
        da.spawn(np.sum, da.In(ref[9]))


ROWS = {
    "halves": (lambda x: da.InOut(x[:2]), lambda x: da.InOut(x[2:]), False),
    "rows": (lambda x: da.InOut(x[:2]), lambda x: da.In(x[1:3]), True),
    "readers": (lambda x: x[:2], lambda x: x[1:3], False),
    "a view and the whole": (lambda x: da.Out(x[0]), lambda x: x, True),
    "interleaved": (lambda x: da.Out(x[::2]), lambda x: da.InOut(x[1::2]), False),
    "a view of a view": (lambda x: da.Out(x[::2][1]), lambda x: x[2, 3], True),
    "elements": (lambda x: da.Out(x[1, 2]), lambda x: x[1, 3], False),
    "in a list": (lambda x: da.Out(x[1, 2]), lambda x: [x[:, :2], x[1]], True),
    "apart in a list": (lambda x: da.Out(x[1, 2]), lambda x: [x[:, :2]], False),
    "triangles": (
        lambda x: da.Deps(x[:2, :2], da.InOut(np.triu)),
        lambda x: da.InOut(x[1:, :1]),
        False,
    ),
}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ROWS)
def test_views_of_a_known_value_are_ordered_where_they_overlap(name):
    first, second, waits = ROWS[name]
    made = da.spawn(np.zeros, (4, 4))
    made.wait()
    ref = da.Ref(made)
    gate = threading.Event()
    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        one, other = [da.spawn(lambda *_: None, held, access(ref)) for access in (first, second)]
        needs = set(other._needs)
        gate.set()
    assert (one in needs) == waits


@pytest.mark.usefixtures("threads")
def test_views_of_a_value_not_known_yet_are_ordered_as_all_of_it():
    gate = threading.Event()
    a = np.zeros(4)

    def give(array, _):
        return array

    with da.spawn_datadeps():
        held = da.spawn(gate.wait, 60)
        made = da.spawn(give, da.InOut(a), held)
        view = da.Ref(made)[1:3]
        first = da.spawn(np.ndarray.fill, da.Out(view), 1)
        other = da.spawn(np.ndarray.fill, da.Out(a[3:]), 2)
        needs = [set(first._needs), set(other._needs)]
        gate.set()
    assert made in needs[0]
    assert first in needs[1]
    assert a.tolist() == [0, 1, 1, 2]


@pytest.mark.usefixtures("engine")
def test_views_are_written_to_in_a_region():
    ref = da.Ref(da.spawn(matrix))
    with da.spawn_datadeps():
        da.spawn(np.ndarray.fill, da.Out(ref[1, 1:3]), 0)
        da.spawn(np.ndarray.fill, da.Out(ref[0, 0]), 9)
        total = da.spawn(np.sum, ref[:2, :3])
        double = da.spawn(np.multiply, ref[:, None, 4][2:], 2, da.InOut(ref[2:, :1]))
    expected = matrix()
    expected[1, 1:3] = 0
    expected[0, 0] = 9
    assert total.result() == expected[:2, :3].sum()
    expected[2:, :1] = expected[:, None, 4][2:] * 2
    assert double.result().tolist() == expected[2:, :1].tolist()
    assert da.fetch(ref).tolist() == expected.tolist()


@pytest.mark.usefixtures("engine")
def test_a_part_of_a_list_is_not_written_to():
    ref = da.Ref(da.spawn(list, range(5)))
    with pytest.raises(TypeError, match="give the task the whole ref"), da.spawn_datadeps():
        da.spawn(list.append, da.InOut(ref[1:3]), 1)
    assert da.fetch(ref) == [0, 1, 2, 3, 4]
