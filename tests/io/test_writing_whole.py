"""A file or store appears whole or not at all, whatever happens while it is written."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from darray.io import File, replacing
from darray.io.files import dump
from darray.io.formats import find_format
from darray.io.replacing import Replacement
from tests.io.strategies import equal
from tests.view import ROOT

OLD, NEW = np.arange(40.0), np.arange(40.0) * 3 + 1
CHUNKS = ((10,) * 4,)

# Writes NEW to a path and kills itself, as `kill -9` would, in the middle of a call.
KILLED = """
import os, shutil, signal, sys
import numpy as np
from darray.io import replacing
from darray.io.formats import find_format

path, name, point, count = sys.argv[1:]
new = np.arange(40.0) * 3 + 1

def die(): os.kill(os.getpid(), signal.SIGKILL)

def dying_at(function, count, before):
    calls = []
    def call(*args, **kwargs):
        calls.append(args)
        if before and len(calls) == count: die()
        result = function(*args, **kwargs)
        if not before and len(calls) == count: die()
        return result
    return call

if point == "no exchange":
    replacing._exchange = lambda a, b: False
    os.rename = dying_at(os.rename, int(count), before=False)
target = find_format(name).create(path, (40,), new.dtype, ((10,) * 4,))
if point == "fsync": os.fsync = dying_at(os.fsync, int(count), before=True)
if point == "replace":
    os.replace = dying_at(os.replace, 1, count == "before")
    os.rename = dying_at(os.rename, 1, count == "before")
    replacing._exchange = dying_at(replacing._exchange, 1, count == "before")
if point == "remove": shutil.rmtree = dying_at(shutil.rmtree, 1, before=True)
for number in range(4):
    if point == "write" and number == int(count): die()
    target.write((slice(10 * number, 10 * number + 10, 1),), new[10 * number : 10 * number + 10])
target.commit()
if point == "end": die()
"""


def killed(path, name, point, count):
    """Run the program above; return whether it was killed."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), name, point, str(count)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended


def write(path, array=NEW, **options):
    name = "zarr" if str(path).endswith(".zarr") else "npy"
    target = find_format(name).create(str(path), array.shape, array.dtype, CHUNKS, **options)
    for number in range(4):
        box = slice(10 * number, 10 * number + 10, 1)
        target.write((box,), array[box])
    target.commit()


def names(folder):
    return sorted(one.name for one in folder.iterdir())


POINTS = [
    ("write", 0, OLD),
    ("write", 1, OLD),
    ("write", 3, OLD),
    ("fsync", 1, OLD),
    ("replace", "before", OLD),
    ("replace", "after", NEW),
    ("end", "", NEW),
]


@pytest.mark.parametrize("is_there", [True, False], ids=["replacing", "new"])
@pytest.mark.parametrize(
    ("name", "point", "count", "content"),
    [(name, *point) for name in ("npy", "zarr") for point in POINTS]
    + [("zarr", "fsync", 3, OLD), ("zarr", "remove", "", NEW)],
)
def test_killed_process_leaves_the_old_or_the_new(name, point, count, content, is_there, tmp_path):
    if point in ("remove", "fsync") and not is_there:
        # Nothing is removed, and nothing waited for, where nothing was: the process lives on.
        point, content = "end", NEW
    path = tmp_path / f"a.{name}"
    if is_there:
        write(path, OLD)
    killed(path, name, point, count)
    if not is_there and content is OLD:
        assert not path.exists()
    else:
        assert equal(File(path).load(), content)
    write(path, OLD + 1)
    assert names(tmp_path) == [path.name]
    assert equal(File(path).load(), OLD + 1)


@pytest.mark.parametrize("count", [1, 2])
def test_killed_where_names_cannot_be_exchanged(count, tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    write(path, OLD)
    killed(path, "zarr", "no exchange", count)
    assert path.exists() == (count == 2)
    monkeypatch.setattr(replacing, "_exchange", lambda a, b: False)
    # The folder that the dead process had moved away is back before anything is decided.
    replacement = Replacement(str(path), is_folder=True)
    assert equal(File(path).load(), OLD if count == 1 else NEW)
    replacement.abort()
    write(path, OLD + 1)
    assert equal(File(path).load(), OLD + 1)
    assert names(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("name", ["a.npy", "a.zarr"])
def test_what_a_living_writer_has_is_not_cleared(name, tmp_path):
    path = tmp_path / name
    kind = path.suffix[1:]
    first = find_format(kind).create(str(path), (40,), OLD.dtype, CHUNKS)
    first.write((slice(0, 10, 1),), OLD[:10])
    write(path, NEW)
    for start in (10, 20, 30):
        first.write((slice(start, start + 10, 1),), OLD[start : start + 10])
    assert equal(File(path).load(), NEW)
    first.commit()
    assert equal(File(path).load(), OLD)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.npy", "a.zarr"])
def test_many_writers_of_one_path_leave_one_of_them_whole(name, tmp_path):
    path = tmp_path / name
    start = threading.Barrier(5)
    failures = []

    def one(number):
        start.wait()
        try:
            for turn in range(3):
                write(path, NEW + 10 * number + turn)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=one, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert any(equal(File(path).load(), NEW + 10 * number + 2) for number in range(5))
    assert names(tmp_path) == [name]


def test_store_made_meanwhile_is_kept_without_overwrite(tmp_path):
    path = tmp_path / "a.zarr"
    target = find_format("zarr").create(str(path), (40,), NEW.dtype, CHUNKS, overwrite=False)
    write(path, OLD)
    with pytest.raises(FileExistsError, match="made while it was being written"):
        target.commit()
    target.abort()
    assert equal(File(path).load(), OLD)
    assert names(tmp_path) == ["a.zarr"]


def test_only_zarr_arrays_are_replaced(tmp_path):
    (tmp_path / "foreign.zarr").mkdir()
    (tmp_path / "foreign.zarr" / "thesis.txt").write_text("years of work")
    zarr.create_group(tmp_path / "group.zarr").create_array("inner", shape=(2,), dtype="i4")
    zarr.create_group(tmp_path / "group2.zarr", zarr_format=2)
    (tmp_path / "file.zarr").write_text("a file")
    (tmp_path / "json.zarr").mkdir()
    (tmp_path / "json.zarr" / "zarr.json").write_text("not JSON")
    before = sorted(map(str, tmp_path.rglob("*")))
    for name in ("foreign", "group", "group2", "file", "json"):
        with pytest.raises(FileExistsError, match="which is not replaced"):
            write(tmp_path / f"{name}.zarr", NEW)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_array_in_a_group_leaves_its_neighbours(tmp_path):
    group = zarr.create_group(tmp_path / "store")
    group.create_array("kept", shape=(2,), dtype="i4")[...] = 7
    path = str(tmp_path / "store" / "new")
    target = find_format("zarr").create(path, (2,), np.dtype("f8"), ((2,),))
    target.write((slice(0, 2, 1),), np.array([1.0, 2.0]))
    assert sorted(zarr.open_group(tmp_path / "store", mode="r").array_keys()) == ["kept"]
    target.commit()
    opened = zarr.open_group(tmp_path / "store", mode="r")
    assert sorted(opened.array_keys()) == ["kept", "new"]
    assert opened["kept"][...].tolist() == [7, 7]
    assert opened["new"][...].tolist() == [1.0, 2.0]


def test_leftovers_of_an_array_in_a_group_are_cleared(tmp_path):
    zarr.create_group(tmp_path / "store").create_group("inner")
    path = tmp_path / "store" / "inner" / "a.zarr"
    killed(path, "zarr", "write", 2)
    assert len(names(tmp_path)) == 2
    assert not path.exists()
    write(path)
    assert names(tmp_path) == ["store"]
    assert equal(File(path).load(), NEW)


def test_version_2_array_is_replaced(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(3,), dtype="i4", zarr_format=2)
    write(tmp_path / "a.zarr", NEW)
    assert not (tmp_path / "a.zarr" / ".zarray").exists()
    assert equal(File(tmp_path / "a.zarr").load(), NEW)


def test_npy_file_replaces_files_only(tmp_path):
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(FileExistsError, match="is a folder, which a file does not replace"):
        write(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "b.npy")
    with pytest.raises(FileExistsError, match="is not a file, which a file does not replace"):
        write(tmp_path / "b.npy")


def test_permissions_and_links_stay(tmp_path):
    write(tmp_path / "a.npy", OLD)
    (tmp_path / "a.npy").chmod(0o640)
    (tmp_path / "link.npy").symlink_to("a.npy")
    write(tmp_path / "link.npy", NEW)
    assert (tmp_path / "link.npy").is_symlink()
    assert equal(np.load(tmp_path / "a.npy"), NEW)
    assert (tmp_path / "a.npy").stat().st_mode & 0o777 == 0o640


def test_new_files_have_the_permissions_of_others(tmp_path):
    np.save(tmp_path / "expected.npy", NEW)
    write(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").stat().st_mode == (tmp_path / "expected.npy").stat().st_mode


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_long_names(suffix, tmp_path):
    path = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    write(path, OLD)
    write(path, NEW)
    assert equal(File(path).load(), NEW)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_missing_folder_and_urls(suffix, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere'; make it first"):
        write(tmp_path / "nowhere" / f"a{suffix}")
    with pytest.raises(NotImplementedError, match="only files on a local disk can be written"):
        write(f"s3://bucket/a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_zip_files_are_not_written(tmp_path):
    with pytest.raises(NotImplementedError, match="not into the zip file"):
        find_format("zarr").create(str(tmp_path / "a.zarr.zip"), (4,), OLD.dtype, ((4,),))


# As an ordinary user: nothing is forbidden to root. All is imported before that one takes over.
READ_ONLY = """
import json, os, sys
import numpy as np
from darray.io.formats import find_format
closed, open_ = sys.argv[1:]
def create(name, folder):
    return find_format(name).create(f"{folder}/a.{name}", (4,), np.dtype(float), ((4,),))
for name in ("npy", "zarr"):
    create(name, open_).abort()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = []
for name in ("npy", "zarr"):
    try:
        create(name, closed)
    except OSError as error:
        found.append([type(error).__name__, error.filename, os.listdir(closed)])
print(json.dumps(found))
"""


def test_read_only_folder_is_named():
    # Not below tmp_path, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "b.npy", OLD)
        (folder / "open").mkdir()
        folder.chmod(0o555)
        answer = subprocess.run(
            [sys.executable, "-c", READ_ONLY, name, name + "/open"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert names(folder) == ["b.npy", "open"]
        folder.chmod(0o755)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert [(kind, path, sorted(left)) for kind, path, left in found] == [
        ("PermissionError", f"{name}/a.{suffix}", ["b.npy", "open"]) for suffix in ("npy", "zarr")
    ]


# The limit on the size of a file stands for a full disk: writes fail in the same places.
LIMITED = """
import os, resource, sys
import numpy as np
import darray as da
kind, folder = sys.argv[1:]
da.configure(threads=2)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
x = da.from_function(lambda i: i * 0.5, 400_000, blocks=100_000)
write = {
    "npy": lambda: da.tofile(x, f"{folder}/a.npy"),
    "zarr": lambda: da.to_zarr(x, f"{folder}/a.zarr", compressors=None, overwrite=True),
    "pkl": lambda: da.tofile(x, f"{folder}/a.pkl"),
}[kind]
try:
    write()
except OSError as error:
    print(error.errno, sorted(os.listdir(folder)))
"""


@pytest.mark.parametrize("kind", ["npy", "zarr", "pkl"])
@pytest.mark.parametrize("is_there", [True, False], ids=["replacing", "new"])
def test_no_room_leaves_nothing_behind(kind, is_there, tmp_path):
    path = tmp_path / f"a.{kind}"
    if is_there and kind == "pkl":
        dump(1, str(path), find_format("pickle").dump)
    elif is_there:
        write(path, OLD)
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    there = [path.name] if is_there else []
    assert answer.stdout.split(" ", 1)[1:] == [f"{there}\n"], answer.stderr
    if is_there:
        assert np.array_equal(File(path).load(), 1 if kind == "pkl" else OLD)


def test_serializer_that_fails_leaves_what_was_there(tmp_path):
    path = str(tmp_path / "a.txt")

    def fail(value, file):
        file.write(b"half")
        raise ZeroDivisionError("on the way")

    with pytest.raises(ZeroDivisionError, match="on the way"):
        dump(1, path, fail)
    assert names(tmp_path) == []
    dump(1, path, lambda value, file: file.write(b"whole"))
    with pytest.raises(ZeroDivisionError, match="on the way"):
        dump(1, path, fail)
    assert (tmp_path / "a.txt").read_bytes() == b"whole"
    assert names(tmp_path) == ["a.txt"]


def test_giving_up_waits_for_what_is_being_written(tmp_path):
    replacement = Replacement(str(tmp_path / "a"), is_folder=True)
    entered, leave, given_up = threading.Event(), threading.Event(), threading.Event()

    def writer():
        with replacement.writing():
            entered.set()
            leave.wait()
            with open(os.path.join(replacement.temporary, "late"), "w") as file:
                file.write("late")

    def give_up():
        replacement.abort()
        given_up.set()

    threads = [threading.Thread(target=writer), threading.Thread(target=give_up)]
    threads[0].start()
    entered.wait()
    threads[1].start()
    assert not given_up.is_set()
    leave.set()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError, match="committed or given up"), replacement.writing():
        pass
