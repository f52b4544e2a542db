"""Views and writes: what they change, what they refuse, what becomes of earlier values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr

import darray as da
from darray.blocks import iterate_boxes
from darray.expr import building
from darray.expr.assignment import Assign
from darray.index_maps import IndexMap
from darray.lowering.assigning import WrittenPlaces
from darray.runtime.boxes import box_shape
from darray.testing.strategies import basic_indices, chunks_for, shapes
from tests.arrays.agreement import same_arrays

pytestmark = pytest.mark.usefixtures("engine")

RECORDS = np.array([(1, 2.5), (3, 4.5), (5, 6.5)], dtype=[("n", "i4"), ("x", "f8")])


def pair(array, blocks):
    """An array and a DArray of the same values, both to be written to."""
    return array.copy(), da.distribute(array, blocks)


def matrices():
    return pair(np.arange(24.0).reshape(4, 6), da.Blocks(2, 4))


@given(st.data())
def test_what_is_written_of_a_chunk_is_found_axis_by_axis(data):
    shape = data.draw(shapes(3, 9))
    index_map = IndexMap.from_index(data.draw(basic_indices(shape)), shape)
    axes = data.draw(st.permutations(range(len(index_map.shape))))
    index_map = IndexMap.transpose(tuple(axes), index_map.shape).after(index_map)
    before = building.captured(np.zeros(shape), data.draw(chunks_for(shape)))
    values = building.captured(np.zeros(index_map.shape))
    node = Assign(shape, before.dtype, before.chunks, before, index_map, values)
    places = WrittenPlaces(node)
    for index, box in iterate_boxes(node.chunks):
        seen = index_map.output_box(box)
        found = places.at(index)
        assert (found is None) == (seen is None)
        if found is not None:
            written = index_map.source_box(seen)
            inside = np.zeros(box_shape(box), bool)
            inside[found[1]] = True
            everywhere = np.zeros(shape, bool)
            everywhere[written] = True
            assert found[0] == seen
            assert found[2] == box_shape(box)
            np.testing.assert_array_equal(inside, everywhere[box])


WRITES = {
    "whole": "x[...] = 7",
    "row": "x[1] = x[2]",
    "element": "x[1, 2] = 9; x[-1, -1] += 1",
    "backwards": "x[::-2, 1:] = x[::2, 1:]",
    "overlap forwards": "x[1:] = x[:-1]",
    "overlap backwards": "x[:-1] = x[1:]",
    "overlap transposed": "x[:4, :4] += x[:4, :4].T",
    "self swap": "x[0], x[1] = x[1].copy(), x[0].copy()",
    "view of a view": "y = x[1:].T; y[2:4] *= 2; y[::3] = 1",
    "empty": "x[2:2] = 5; x[:, 6:] += 1",
    "leading axes of one": "x[0] = np.ones((1, 1, 6))",
    "new axis": "x[:, None, 2] = [[1], [2], [3], [4]]",
    "a list": "x[0, :3] = [1, 2, 3]",
    "out": "np.multiply(x, 2, out=x); np.add(x[0], 1, out=x[1])",
    "out broadcast": "np.add(1, 2, out=x); np.add(x[0], 0.5, out=x[2:])",
    "out where": "np.sqrt(x, out=x, where=x > 4)",
    "two outs": "np.divmod(x, 5, out=(x, x[::-1]))",
    "out of a reduction": "np.sum(x, axis=0, out=x[0]); np.sum(x[1], out=x[0, ..., 0])",
    "all operators": "x += 1; x -= x[0]; x *= 2; x /= 3; x //= 0.25; x %= 5; x **= 2",
    "fill": "x.fill(2); x.T[1].fill(-1)",
    "a column": "x[:, 3] = x[:, 0] * 10",
    "squeezed": "np.squeeze(x[:, 2:3])[1:] = 0",
    "broadcast row": "x[:] = np.arange(6)",
    "flipped": "np.flip(x)[0] = 100",
    "moved": "np.moveaxis(x, 0, 1)[0] = [1, 2, 3, 4]",
    "viewed": "x.view('i8')[0] = 3",
    "reshaped": "x.reshape(2, 12)[0, ::5] = -1; x.reshape(8, 3)[::2].reshape(2, 2, 3)[1] += 50",
    "raveled": "x.ravel()[3:20:4] *= -1; y = np.ravel(x.T); y[...] = 0",
    "reshaped in Fortran's order": "x.T.reshape((2, 12), order='F')[1] = 7",
    "copied by a reshape": "x[:, 1:].reshape(-1)[...] = 7; x.T.reshape(-1)[0] = 5",
    "flattened": "x.flatten()[0] = 1",
    "reshaped rows": "y = x[1:3].reshape(3, 4).T; y[1] += 100; y.reshape(12)[0] = 1",
    "real": "x.real[0] = 3; x.real = x + 1",
    "copyto": "np.copyto(x, 5); np.copyto(x[1:, ::2], x[:-1, 1::2])",
    "copyto more axes": "np.copyto(x[2], np.ones((1, 1, 6)))",
    "copyto where": "np.copyto(x, x[::-1], where=x > 9); np.copyto(x, 1, where=[1, 0, 0, 1, 0, 0])",
}


@pytest.mark.parametrize("name", WRITES)
def test_as_numpy(name):
    theirs, ours = matrices()
    built_before = ours * 2
    exec(WRITES[name], {"x": theirs, "np": np})
    exec(WRITES[name], {"x": ours, "np": np})
    assert same_arrays(ours.collect(), theirs)
    assert same_arrays(built_before.collect(), matrices()[0] * 2)


def test_complex_parts():
    theirs, ours = pair(np.arange(6) * (1 + 2j), da.Blocks(4))
    for x in (theirs, ours):
        x[1:5].real[::2] = -1
        x.imag[...] *= 3
        x[::-1].imag[0] = 50
        x.real = x.imag
        x.real.T[2] += 4
    assert same_arrays(ours.collect(), theirs)


def test_fields():
    theirs, ours = pair(RECORDS, da.Blocks(2))
    for x in (theirs, ours):
        x["n"][1:] += 10
        x["x"] = x["n"] / 4
        x[0] = (7, 7)
        x[["x"]] = x[["x"]]
    found = ours.collect()
    assert found.dtype == theirs.dtype
    assert found.tolist() == theirs.tolist()
    assert ours[["n"]].collect().tolist() == theirs[["n"]].tolist()


def test_views_follow_their_array_and_copies_do_not():
    x = da.arange(10, blocks=4)
    view, copy, built = x[2:5], x[2:5].copy(), x[2:5] + 0
    x[...] = -1
    assert view.collect().tolist() == [-1, -1, -1]
    assert copy.collect().tolist() == built.collect().tolist() == [2, 3, 4]
    view += 5
    assert x.collect().tolist() == [-1, -1, 4, 4, 4, -1, -1, -1, -1, -1]
    assert copy.collect().tolist() == [2, 3, 4]


def test_operands_are_captured():
    x, ones = da.zeros(3), np.ones(3)
    x += ones
    x[1:] = ones[1:]
    ones[:] = 5
    assert x.collect().tolist() == [1, 1, 1]


def test_scalars_never_change():
    x = da.arange(4, blocks=2)
    first = also = x[1]
    total = same = x.sum()
    first += 10
    total += 1
    x[1] = 7
    assert (int(first), int(also), int(total), int(same)) == (11, 1, 7, 6)
    assert not also.flags.writeable
    with pytest.raises(TypeError, match="item assignment"):
        also[...] = 3
    array = x[1, ...]
    array += 1
    assert x.collect().tolist() == [0, 8, 2, 3]


REFUSED = {
    "shape": ("x[0] = [1, 2]", ValueError, "could not broadcast"),
    "more axes": ("x[0] = np.ones((2, 6))", ValueError, "could not broadcast"),
    "out of bounds": ("x[7] = 0", IndexError, "out of bounds"),
    "casting": ("n += 0.5", TypeError, "same_kind"),
    "text": ("x[0] = 'word'", ValueError, "could not convert"),
    "overflow": ("n[0] = 300", OverflowError, "300"),
    "operand too large": ("x[0] += x", ValueError, "non-broadcastable"),
    "reduction into the wrong shape": ("np.sum(x, axis=0, out=x)", ValueError, "non-broadcastable"),
    "out is a list": ("np.add(x, 1, out=[1])", TypeError, "ArrayType"),
    "second of two outs": ("np.divmod(n, 2, out=(n, x[0, :2]))", ValueError, "non-broadcast"),
    "broadcast": ("np.broadcast_to(x[0], (4, 6))[0] = 1", ValueError, "read-only"),
    "broadcast in place": ("y = np.broadcast_to(x[0], (4, 6)); y += 1", ValueError, "read-only"),
    "imaginary part of reals": ("x.imag[0] = 1", ValueError, "read-only"),
    "no imaginary part": ("x.imag = 1", TypeError, "imaginary"),
    "no such field": ("x['name'] = 1", IndexError, "valid indices"),
    "fill with many": ("x.fill([1, 2])", ValueError, "sequence"),
    "copyto casts": ("np.copyto(n, x[0])", TypeError, "same_kind"),
    "copyto overflows": ("np.copyto(n, 300)", OverflowError, "300"),
    "copyto shape": ("np.copyto(x, [1, 2])", ValueError, "could not broadcast"),
    "copyto mask": ("np.copyto(x, 1, where=[True, False])", ValueError, "could not broadcast"),
    "copyto into a list": ("np.copyto([1], x)", TypeError, "not list"),
    "copyto read-only": ("np.copyto(np.broadcast_to(x[0], (4, 6)), x)", ValueError, "read-only"),
    "view of another size": ("x.view('f4')", NotImplementedError, "map_blocks"),
    "view as a class": ("x.view(type=np.ndarray)", TypeError, "another type"),
    "flags": ("x.setflags(align=True)", ValueError, "write="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_nothing_is_changed(name):
    code, error, words = REFUSED[name]
    theirs, x = matrices()
    n = da.arange(6, dtype="i1", blocks=4)
    with pytest.raises(error, match=words):
        exec(code, {"x": x, "n": n, "np": np})
    assert same_arrays(x.collect(), theirs)
    assert same_arrays(n.collect(), np.arange(6, dtype="i1"))


def test_a_diagonal_follows_its_array_and_cannot_be_written_to():
    theirs, x = matrices()
    diagonal, numpys = np.diagonal(x, 1), np.diagonal(theirs, 1)
    for array in (x, theirs):
        array[1:3] *= -1
    assert same_arrays(diagonal.collect(), np.array(numpys))
    assert diagonal.strides == numpys.strides
    with pytest.raises(ValueError, match="read-only"):
        diagonal[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        diagonal += 1


def test_copyto_an_array_of_numpy():
    theirs, x = matrices()
    array = np.zeros((4, 6))
    np.copyto(array, x, where=x > 10)
    assert same_arrays(array, np.where(theirs > 10, theirs, 0))


def test_flags():
    theirs, x = matrices()
    for view in ("x", "x.T", "x[1:]", "x[:, 1:]", "x[::-1]", "x[2, ...]", "x[:1].T", "x[:0]"):
        ours, numpys = eval(view, {"x": x}), eval(view, {"x": theirs})
        for flag in ("c_contiguous", "f_contiguous", "owndata", "writeable"):
            assert getattr(ours.flags, flag) == getattr(numpys.flags, flag), (view, flag)
            assert ours.flags[flag.upper()] == numpys.flags[flag.upper()]
        assert ours.strides == numpys.strides, view
        assert ours.flags["W"] == numpys.flags["W"]
    with pytest.raises(KeyError, match="Unknown flag"):
        x.flags["Z"]
    assert "WRITEABLE : True" in repr(x.flags)


def test_read_only():
    _, x = matrices()
    early = x[0]
    x.flags.writeable = False
    late = x[1:]
    with pytest.raises(ValueError, match="read-only"):
        x += 1
    with pytest.raises(ValueError, match="read-only"):
        late[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        late.setflags(write=True)
    assert not early.flags.writeable or early.shape == (6,)
    x.setflags(write=True)
    late.setflags(write=True)
    late[0] = 1
    assert x[1].collect().tolist() == [1] * 6


def test_wrapped_memory_is_written_at_once():
    array = np.arange(6.0)
    x = da.wrap(array, da.Blocks(4))
    before = x * 10
    started = (x + 1).persist()
    part = x.blocks[0]
    x[1:5] = x[0:4]
    assert array.tolist() == [0, 0, 1, 2, 3, 5]
    recut = x.rechunk(3)
    view = x[::-1]
    view += 1
    assert recut.collect().tolist() == [0, 0, 1, 2, 3, 5]
    assert array.tolist() == [1, 1, 2, 3, 4, 6]
    assert x.collect().tolist() == array.tolist()
    assert before.collect().tolist() == [0, 10, 20, 30, 40, 50]
    assert started.collect().tolist() == [1, 2, 3, 4, 5, 6]
    assert da.fetch(part).tolist() == [0, 1, 2, 3]
    array.flags.writeable = False
    assert not da.wrap(array, 2).flags.writeable


def test_failed_write_is_told_at_every_read():
    def fail(block):
        raise ZeroDivisionError("no luck")

    x = da.zeros(6, blocks=2)
    x[2:4] = x[2:4].map_blocks(fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="no luck"):
            x.collect()
    assert x[:2].collect().tolist() == [0, 0]


def test_errors_of_floats_are_those_of_the_statement():
    x = da.ones(4, blocks=2)
    with np.errstate(divide="raise"):
        x /= np.array([1, 0, 1, 1])
    with pytest.raises(FloatingPointError, match="divide by zero"):
        x.collect()


def test_only_what_is_read_is_computed(serial):
    calls = []

    def note(block):
        calls.append(block.shape)
        return block

    x = da.zeros(100, blocks=10).map_blocks(note)
    x[33] = 5
    assert float(x[31]) == 0
    assert len(calls) == 1
    assert float(x[77]) == 0
    assert len(calls) == 2


def test_tasks_are_given_the_array_as_it_was():
    x = da.arange(6, blocks=2)

    def total(array):
        return int(array.sum())

    task = da.spawn(total, x)
    nested = da.spawn(lambda nest: total(nest["x"]) + total(nest["part"]), {"x": x, "part": x[:2]})
    x += 100
    assert (task.result(), nested.result(), total(x)) == (15, 16, 615)

    def write(array):
        array[0] = 1

    with pytest.raises(ValueError, match=r"x\.copy\(\)"):
        da.spawn(write, x).result()
    doubled = da.spawn(lambda array: array * 2, x)
    with pytest.raises(ValueError, match="read-only"):
        doubled.result()[0] = 1
    own = da.fetch(doubled, copy=True)
    own[0] = 1
    assert own[:2].collect().tolist() == [1, 202]


def test_views_of_a_persisted_view_read_its_chunks():
    calls = []
    x = da.ones(12, blocks=3).map_blocks(lambda block: calls.append(1) or block * 2)
    y = x[1:11].persist()
    y.wait()
    count = len(calls)
    force_setattr(x.expression, "kept", None)
    z = y[::2]
    assert z.collect().tolist() == [2] * 5
    assert y.reshape(2, 5)[1].collect().tolist() == [2] * 5
    assert len(calls) == count
    y[...] = 3
    assert z.collect().tolist() == [3] * 5


def test_records_are_compared_by_field():
    theirs, ours = pair(RECORDS, da.Blocks(2))
    assert (ours == ours).collect().tolist() == [True] * 3
    assert (ours != ours).collect().tolist() == [False] * 3
    assert (ours == theirs[1]).collect().tolist() == [False, True, False]
    assert (ours == ours[1]).collect().tolist() == [False, True, False]
    assert bool(ours[0] == theirs[0])
    for x in (theirs, ours):
        x[1]["n"] = 44
    assert ours.collect().tolist() == theirs.tolist()


def test_shape_and_dtype_cannot_be_set():
    x = da.zeros((2, 2))
    with pytest.raises(AttributeError):
        x.shape = (4,)
    with pytest.raises(AttributeError):
        x.dtype = "i8"


def test_masks_of_pandas():
    pandas = pytest.importorskip("pandas")
    theirs, ours = matrices()
    rows, columns = pandas.Series([1, 0, 1, 1]) > 0, pandas.Series(range(6)) > 2
    assert same_arrays(ours[rows].collect(), theirs[rows])
    assert same_arrays(ours[:, columns].collect(), theirs[:, columns])
    large = pandas.DataFrame(theirs.copy()) > 7
    for x in (theirs, ours):
        x[rows] = 0
        x[large] = 5
    assert same_arrays(ours.collect(), theirs)


def test_a_file_is_an_array_to_numpy(tmp_path):
    theirs, x = matrices()
    file = da.tofile(x, tmp_path / "x.npy")
    assert same_arrays((x + file).collect(), theirs * 2)
    assert np.sum(file) == theirs.sum()
    x[...] = file
    x += file
    assert same_arrays(x.collect(), theirs * 2)


def test_what_is_missing_is_called_by_its_full_name():
    with pytest.raises(NotImplementedError, match=r"np\.linalg\.norm"):
        np.linalg.norm(da.zeros(3))
