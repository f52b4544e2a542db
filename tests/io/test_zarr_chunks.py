"""Chunk files read directly give what the Zarr library gives."""

import itertools
import json
import warnings

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
import zarr.codecs.numcodecs
from hypothesis import given, settings
from hypothesis import strategies as st

from darray.io.zarr_chunks import _zstd_length
from darray.io.zarr_format import FORMAT
from darray.runtime.boxes import box_shape, whole
from tests.io.strategies import SHAPES, boxes, equal, filled

CODECS = {
    2: {
        "plain": None,
        "zstd": numcodecs.Zstd(3),
        "zstd with checksum": numcodecs.Zstd(1, checksum=True),
        "blosc": numcodecs.Blosc("lz4", 5, 1),
        "blosc bitshuffle": numcodecs.Blosc("zstd", 1, 2),
        "lz4": numcodecs.LZ4(),
        "gzip": numcodecs.GZip(1),
        "zlib": numcodecs.Zlib(1),
    },
    3: {
        "plain": None,
        "zstd": zarr.codecs.ZstdCodec(level=1),
        "zstd with checksum": zarr.codecs.ZstdCodec(level=1, checksum=True),
        "blosc": zarr.codecs.BloscCodec(cname="lz4"),
        "gzip": zarr.codecs.GzipCodec(level=1),
    },
}
NUMCODECS_IN_3 = ["LZ4", "Zlib", "Zstd", "GZip", "Blosc"]
DTYPES = ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "m8[s]", "S3", "U2"]
FILLS = {"f": [0, 1.5, np.nan, -np.inf], "i": [0, -7], "b": [False, True], "c": [0, 2 - 1j]}


def create(path, version, **options):
    # Dtypes and codecs beside version 3 of the specification are warned of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.create_array(path, zarr_format=version, overwrite=True, **options)


def open_directly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = FORMAT.open(str(path))
    assert array._files is not None
    return array


def library_read(path, box):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.open_array(str(path), mode="r")
        value = array.get_basic_selection(box)
    # The library gives scalars of 0-d arrays, of which strings are as long as they are.
    return np.asarray(value, array.dtype, order="C").reshape(box_shape(box))


@st.composite
def stores(draw, path, version, codec):
    """Write an array of which some chunks may be missing; draw its shape."""
    shape = draw(SHAPES)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    chunks = tuple(draw(st.integers(1, 6)) for _ in shape)
    separator = draw(st.sampled_from("./"))
    options = {
        "chunk_key_encoding": {
            "name": "v2" if version == 2 else draw(st.sampled_from(["default", "v2"])),
            "configuration": {"separator": separator},
        },
        "order": draw(st.sampled_from("CF")) if version == 2 else "C",
        "fill_value": draw(st.sampled_from(FILLS.get(dtype.kind, [None]))),
    }
    if version == 3:
        del options["order"]
    array = create(
        path, version, shape=shape, chunks=chunks, dtype=dtype, compressors=codec, **options
    )
    box = draw(boxes(shape))
    if draw(st.booleans()):
        box = whole(shape)
    values = filled(box_shape(box), dtype)
    if values.size:
        array.set_basic_selection(box, values)
    return shape


@pytest.mark.parametrize(
    ("version", "codec"), [(version, codec) for version in (2, 3) for codec in CODECS[version]]
)
def test_same_as_the_library(tmp_path, version, codec):
    folders = itertools.count()

    # Every example writes a store and opens it twice.
    @settings(max_examples=40)
    @given(st.data())
    def check(data):
        path = tmp_path / str(next(folders))
        shape = data.draw(stores(path, version, CODECS[version][codec]))
        array = open_directly(path)
        for box in (data.draw(boxes(shape)), whole(shape)):
            read = array.read(box)
            assert equal(read, library_read(path, box))
            assert read.flags.c_contiguous
            assert read.flags.writeable
            out = np.empty(box_shape(box), array.dtype, order="F")
            array.read_into(box, out)
            assert equal(out, read)

    check()


@pytest.mark.parametrize("name", NUMCODECS_IN_3)
def test_codecs_of_numcodecs_in_version_3(tmp_path, name):
    values = np.arange(35.0).reshape(5, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codec = getattr(zarr.codecs.numcodecs, name)()
    stored = create(tmp_path / "a", 3, shape=(5, 7), chunks=(2, 3), dtype="f8", compressors=codec)
    stored[:] = values
    array = open_directly(tmp_path / "a")
    assert array._files.codec == name.lower()
    assert equal(array.read(whole((5, 7))), values)


@pytest.mark.parametrize("dtype", ["i4", "f8", "?", "c16", "S3", "U2", "M8[s]", "m8[ns]"])
def test_null_fill_value_of_version_2(tmp_path, dtype):
    create(tmp_path / "a", 2, shape=(5,), chunks=(2,), dtype=dtype, fill_value=None)
    document = json.loads((tmp_path / "a" / ".zarray").read_text())
    document["fill_value"] = None
    (tmp_path / "a" / ".zarray").write_text(json.dumps(document))
    array = FORMAT.open(str(tmp_path / "a"))
    assert equal(array.read(whole((5,))), library_read(tmp_path / "a", whole((5,))))


LIBRARY_ONLY = {
    "shards": (3, {"shards": (4, 6)}),
    "transposed chunks": (3, {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]}),
    "checksum": (3, {"compressors": [zarr.codecs.Crc32cCodec()]}),
    "two compressors": (3, {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()]}),
    "big-endian chunks": (3, {"serializer": zarr.codecs.BytesCodec(endian="big")}),
    "big-endian dtype": (2, {"dtype": ">f8"}),
    "delta filter": (2, {"filters": [numcodecs.Delta("<f8")]}),
    "rare compressor": (2, {"compressors": numcodecs.BZ2(1)}),
    "fields": (2, {"dtype": [("a", "<i2"), ("b", "<f8")]}),
}


@pytest.mark.parametrize("case", LIBRARY_ONLY)
def test_what_is_rare_is_left_to_the_library(tmp_path, case):
    version, options = LIBRARY_ONLY[case]
    options = {"dtype": "f8", **options}
    stored = create(tmp_path / "a", version, shape=(5, 7), chunks=(2, 3), **options)
    values = filled((5, 7), stored.dtype)
    stored[:] = values
    array = FORMAT.open(str(tmp_path / "a"))
    assert array._files is None
    for box in (whole((5, 7)), (slice(1, 5, 2), slice(0, 7, 3)), (slice(2, 2, 1), slice(0, 1, 1))):
        read = array.read(box)
        assert equal(read, values[box])
        assert read.flags.c_contiguous
        assert read.flags.writeable
        out = np.empty(box_shape(box), array.dtype, order="F")
        array.read_into(box, out)
        assert equal(out, values[box])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("codec", ["plain", "zstd", "blosc", "gzip"])
@pytest.mark.parametrize("damage", ["half", "empty", "foreign", "more", "shorter chunk"])
def test_damaged_chunk_raises_and_is_named(tmp_path, version, codec, damage):
    compressor = CODECS[version][codec]
    values = np.random.default_rng(0).random(100)
    for name, count in (("a", 100), ("shorter", 50)):
        create(
            tmp_path / name, version, shape=(count,), chunks=(count,), dtype="f8",
            compressors=compressor,
        )[:] = values[:count]  # fmt: skip
    key = "0" if version == 2 else "c/0"
    chunk = tmp_path / "a" / key
    content = chunk.read_bytes()
    chunk.write_bytes(
        {
            "half": content[: len(content) // 2],
            "empty": b"",
            "foreign": b"not a chunk at all, but text",
            "more": content + bytes(8),
            "shorter chunk": (tmp_path / "shorter" / key).read_bytes(),
        }[damage]
    )
    array = open_directly(tmp_path / "a")
    if damage == "more" and codec in ("blosc", "gzip"):
        # Both ignore zero bytes behind what they wrote; the library reads it as well.
        assert equal(array.read(whole((100,))), library_read(tmp_path / "a", whole((100,))))
        return
    with pytest.raises(ValueError, match="it is damaged, write it again") as caught:
        array.read(whole((100,)))
    assert repr(str(chunk)) in str(caught.value)


def test_chunk_that_claims_gigabytes_allocates_nothing(tmp_path):
    create(tmp_path / "a", 2, shape=(9,), chunks=(9,), dtype="u1", compressors=numcodecs.LZ4())
    (tmp_path / "a" / "0").write_bytes(b"\xff\xff\xff\x7f" + bytes(20))
    with pytest.raises(ValueError, match="holds 2147483647 bytes, and 9 are wanted"):
        open_directly(tmp_path / "a").read(whole((9,)))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 1_000_000])
def test_length_in_zstandard_header(size):
    assert _zstd_length(numcodecs.Zstd(1).encode(bytes(size))) == size


def test_zstandard_frames_without_length_and_several_frames(tmp_path):
    values = np.arange(64, dtype="u1")
    create(tmp_path / "a", 2, shape=(64,), chunks=(64,), dtype="u1", compressors=numcodecs.Zstd(1))
    # A frame without content size: a window descriptor and one raw block, the last.
    block = (64 << 3 | 1).to_bytes(3, "little")
    frame = b"\x28\xb5\x2f\xfd" + b"\x00\x00" + block + values.tobytes()
    assert _zstd_length(frame) is None
    (tmp_path / "a" / "0").write_bytes(frame)
    assert equal(open_directly(tmp_path / "a").read(whole((64,))), values)


def test_uncompressed_part_of_a_chunk_is_read_without_the_rest(tmp_path):
    stored = create(tmp_path / "a", 3, shape=(1000, 1000), chunks=(1000, 1000), dtype="f8",
                    compressors=None)  # fmt: skip
    values = np.arange(1e6).reshape(1000, 1000)
    stored[:] = values
    array = open_directly(tmp_path / "a")
    box = (slice(10, 12, 1), slice(3, 500, 7))
    assert equal(array.read(box), values[box])
