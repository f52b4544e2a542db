"""What is written is what the formats' own libraries read, whatever the cut."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from darray.blocks import chunk_box, iterate_boxes
from darray.io import File
from darray.io.contiguous import is_scattered, write_contiguous
from darray.io.formats import ArrayWriter, Target, ValueWriter, find_format
from darray.io.npy_writing import npy_header
from darray.io.zarr_writing import fitted_cut, fitting_chunk
from darray.runtime.boxes import index_of
from darray.testing import strategies as arrays
from tests.io.strategies import DTYPES, SHAPES, equal, filled

# Zarr has no byte orders, and no place for what lies between the fields of a dtype.
ZARR_DTYPES = [
    np.dtype(code)
    for code in ("?", "i1", "u2", "<i4", ">i4", "f2", "<f8", ">f8", "c16", "M8[ns]", "m8[s]")
]
UNSTABLE = "ignore:The data type:Warning"


def write(target: Target, array, threads=3):
    """Write all pieces of `target`, the last first, and commit."""
    pieces = [(box, array[index_of(box)]) for _, box in iterate_boxes(target.chunks)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda piece: target.write(*piece), reversed(pieces)))
    target.commit()


@st.composite
def cut_arrays(draw, dtypes):
    shape = draw(SHAPES)
    return filled(shape, draw(st.sampled_from(dtypes))), draw(arrays.chunks_for(shape))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@given(case=cut_arrays(DTYPES))
def test_npy_file_is_that_of_numpy(case, folder):
    array, chunks = case
    path = str(folder / "a.npy")
    write(find_format("npy").create(path, array.shape, array.dtype, chunks), array)
    assert equal(np.load(path), array)
    assert equal(File(path).load(), array)
    np.save(folder / "expected.npy", array)
    header = npy_header(array.shape, array.dtype)
    assert (folder / "expected.npy").read_bytes().startswith(header)
    assert (folder / "a.npy").stat().st_size == (folder / "expected.npy").stat().st_size


@pytest.mark.parametrize("name", ["field", "é", "日"])
@pytest.mark.parametrize("shape", [(), (3,), (12345, 0)])
@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_npy_header_of_every_version(name, shape, tmp_path):
    for fields in (1, 4000):
        dtype = np.dtype([(f"{name}{number}", "<f4") for number in range(fields)])
        np.save(tmp_path / "expected.npy", np.zeros(shape, dtype))
        header = npy_header(shape, dtype)
        assert (tmp_path / "expected.npy").read_bytes()[: len(header)] == header
        assert len(header) % 64 == 0


@pytest.mark.parametrize("compressors", ["auto", None])
@given(case=cut_arrays(ZARR_DTYPES), data=st.data())
def test_zarr_array_is_read_by_the_library(compressors, case, data, folder):
    array, chunks = case
    path = str(folder / "a.zarr")
    chunk_shape = data.draw(
        st.none() | st.tuples(*(st.integers(1, max(1, n + 1)) for n in array.shape))
    )
    target = find_format("zarr").create(
        path, array.shape, array.dtype, chunks, chunk_shape=chunk_shape, compressors=compressors
    )
    write(target, array)
    expected = array.astype(array.dtype.newbyteorder("="))
    stored = zarr.open_array(path, mode="r")
    assert stored.metadata.zarr_format == 3
    assert stored.chunks == (chunk_shape or fitting_chunk(chunks, array.dtype.itemsize))
    assert equal(np.asarray(stored[...]), expected)
    assert equal(File(path).load(), expected)


@pytest.mark.parametrize(
    "codec",
    [
        zarr.codecs.ZstdCodec(level=3, checksum=True),
        zarr.codecs.GzipCodec(level=2),
        zarr.codecs.BloscCodec(),
        zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", clevel=1),
        [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()],
    ],
    ids=["zstd", "gzip", "blosc", "blosc of lz4", "gzip, then zstd"],
)
@pytest.mark.parametrize("dtype", ["f8", "i2", "M8[s]"])
def test_zarr_codecs(codec, dtype, folder):
    array = np.arange(60).astype(dtype).reshape(10, 6)
    target = find_format("zarr").create(
        str(folder / "codec.zarr"), (10, 6), array.dtype, ((4, 4, 2), (6,)), compressors=codec
    )
    write(target, array)
    assert equal(zarr.open_array(folder / "codec.zarr", mode="r")[...], array)
    assert equal(File(folder / "codec.zarr").load(), array)


@pytest.mark.filterwarnings(UNSTABLE)
@pytest.mark.parametrize("code", ["S3", "<U2", ">U2", "V5", [("a", "<i2"), ("b", ">f8")]])
def test_zarr_dtypes_without_a_specification(code, folder):
    array = filled((5,), code) if code != "V5" else np.full(5, b"abcde", "V5")
    target = find_format("zarr").create(str(folder / "a.zarr"), (5,), array.dtype, ((2, 2, 1),))
    write(target, array)
    loaded = File(folder / "a.zarr").load()
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert (loaded == array).all()


@pytest.mark.filterwarnings(UNSTABLE)
@pytest.mark.parametrize(
    "dtype",
    [
        object,
        np.longdouble,
        "S0",
        "U0",
        "M8",
        [("a", "u1", (2,))],
        {"names": ["x", "y"], "formats": ["u1", "f4"], "offsets": [0, 8], "itemsize": 16},
    ],
)
def test_zarr_refuses_what_it_cannot_hold(dtype, tmp_path):
    with pytest.raises(TypeError, match=r"(Zarr array cannot hold|Zarr cannot store) .*dtype"):
        find_format("zarr").create(str(tmp_path / "a.zarr"), (2,), np.dtype(dtype), ((2,),))
    assert list(tmp_path.iterdir()) == []


def test_npy_refuses_objects(tmp_path):
    with pytest.raises(TypeError, match=r"Python objects: write a \.pkl file"):
        find_format("npy").create(str(tmp_path / "a.npy"), (2,), np.dtype(object), ((2,),))
    assert list(tmp_path.iterdir()) == []


def test_signs_of_zeros_are_kept(tmp_path):
    for compressors in ("auto", None, [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()]):
        target = find_format("zarr").create(
            str(tmp_path / "a.zarr"), (3,), np.dtype(float), ((3,),), compressors=compressors
        )
        write(target, np.full(3, -0.0))
        assert np.signbit(File(tmp_path / "a.zarr").load()).all()


@given(shape=arrays.shapes(), data=st.data())
def test_fitted_pieces_share_no_store_chunk(shape, data):
    chunks = data.draw(arrays.chunks_for(shape))
    sizes = tuple(data.draw(st.integers(1, max(1, n + 2))) for n in shape)
    fitted = fitted_cut(chunks, sizes)
    assert tuple(map(sum, fitted)) == shape
    for axis, (pieces, size) in enumerate(zip(fitted, sizes, strict=True)):
        assert all(n > 0 for n in pieces) or pieces == (0,)
        assert all(n % size == 0 for n in pieces[:-1])
        # Memory: a piece is at most one store chunk larger than a chunk was.
        assert max(pieces) < max(chunks[axis]) + size


@given(shape=arrays.shapes(), data=st.data())
def test_fitting_chunk_of_even_pieces_needs_no_other_cut(shape, data):
    sizes = [data.draw(st.integers(1, max(1, n))) for n in shape]
    chunks = tuple(
        (n,) if not n else (size,) * (n // size) + (n % size,) * (n % size > 0)
        for n, size in zip(shape, sizes, strict=True)
    )
    assert fitted_cut(chunks, fitting_chunk(chunks, 8)) == chunks


@pytest.mark.parametrize(
    "chunks", [((10**9, 10**9),), ((100_003,) * 3, (100_003,)), ((7, 7), (10**8,), (3, 3))]
)
def test_large_pieces_make_small_store_chunks(chunks):
    chunk = fitting_chunk(chunks, 8)
    assert 2**20 <= 8 * math.prod(chunk) <= 64 * 2**20
    box = chunk_box(chunks, (0,) * len(chunks))
    assert all(n <= cut.stop for n, cut in zip(chunk, box, strict=True))


@given(shape=arrays.shapes(), data=st.data())
def test_scattered_pieces_written_at_once(shape, data, folder):
    array = filled(shape, "<i4")
    chunks = data.draw(arrays.chunks_for(shape))
    with open(folder / "raw", "w+b") as file:
        file.truncate(3 + array.nbytes)
        # Also where it is not needed: then one piece after another.
        for _, box in iterate_boxes(chunks):
            write_contiguous(file.fileno(), 3, shape, box, array[index_of(box)], True)
        file.seek(3)
        assert file.read() == array.tobytes()


def test_narrow_columns_from_many_threads(tmp_path):
    array = np.arange(300_000, dtype="i2").reshape(100_000, 3)
    chunks = ((30_000, 70_000), (1, 1, 1))
    assert is_scattered(array.shape, 2, chunks)
    target = find_format("npy").create(str(tmp_path / "a.npy"), array.shape, array.dtype, chunks)
    write(target, array, threads=6)
    assert equal(np.load(tmp_path / "a.npy"), array)


def test_order_and_strides_of_what_is_written_do_not_matter(tmp_path):
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))[:, ::-1]
    for name in ("npy", "zarr"):
        path = str(tmp_path / f"a.{name}")
        write(find_format(name).create(path, array.shape, array.dtype, ((1, 1), (3,), (4,))), array)
        assert equal(File(path).load(), array.copy(order="C"))
    constant = np.broadcast_to(np.float32(3), (4, 4))
    path = str(tmp_path / "b.npy")
    write(find_format("npy").create(path, (4, 4), constant.dtype, ((2, 2), (2, 2))), constant)
    assert equal(np.load(path), constant.copy())


def test_formats_say_what_they_write():
    npy, stored, pickled = map(find_format, ("npy", "zarr", "pickle"))
    assert isinstance(npy, ArrayWriter)
    assert isinstance(stored, ArrayWriter)
    assert isinstance(pickled, ValueWriter)
    assert not isinstance(npy, ValueWriter)


def test_pickle_is_loaded_only_when_its_name_or_the_caller_says_so(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "a.data").write_bytes(pickle.dumps({"a": 1}))
    assert File(tmp_path / "a.pkl").load() == {"a": 1}
    assert File(tmp_path / "a.data", format="pickle").load() == {"a": 1}
    with pytest.raises(ValueError, match="cannot tell the format"):
        File(tmp_path / "a.data")
    with pytest.raises(TypeError, match="is a pickle, which has no shape"):
        repr(File(tmp_path / "a.pkl").shape)


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_damaged_pickle_is_named(damage, tmp_path):
    whole = pickle.dumps(list(range(1000)))
    content = {"truncated": whole[:-10], "empty": b"", "foreign": b"no pickle"}[damage]
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pkl' is truncated, or not a pickle"):
        File(tmp_path / "a.pkl").load()


@pytest.mark.parametrize("name", ["npy", "zarr"])
def test_truncated_output_is_detected(name, tmp_path):
    path = tmp_path / f"a.{name}"
    array = np.random.default_rng(0).random(1000)
    target = find_format(name).create(str(path), (1000,), array.dtype, ((500, 500),))
    write(target, array)
    stored = path if name == "npy" else path / "c" / "1"
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"truncated|damaged"):
        File(path).load()
