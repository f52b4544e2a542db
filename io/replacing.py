"""Files and folders that are written beside their place, and put there whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Replacement", "require_file", "require_local"]

# Names are tried in this order, and what dead processes left under them is cleared.
_SLOTS = 16
# File systems allow names of 255 bytes; a longer temporary name is cut to leave room.
_LONGEST_NAME = 200

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2


class Replacement:
    """What is going to be at `path`: a file or folder under a hidden name in the same folder.

    With `beside` it is in that folder instead, which is above the other and on the same disk.

    ``temporary`` is its path and ``descriptor`` that of the open file or folder. It carries the
    lock of ``flock``, which the system lets go of when the process ends, however it ends: what
    has no lock was left by a process that is dead, and is cleared by the next `Replacement` of
    the same path. Process numbers would not do: they are used again, and mean other processes
    in another container.

    Symbolic links are followed, so that what they lead to is replaced.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        Where nothing can be written beside `path`; the error names `path`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     new = Replacement(f"{folder}/a.txt")
    ...     _ = os.write(new.descriptor, b"new")
    ...     before = os.path.exists(f"{folder}/a.txt")
    ...     new.commit()
    ...     before, os.listdir(folder)
    (False, ['a.txt'])
    """

    __slots__ = (
        "_is_folder",
        "_old",
        "_open",
        "_state",
        "_writers",
        "descriptor",
        "path",
        "temporary",
    )

    def __init__(self, path: str, is_folder: bool = False, beside: str | None = None) -> None:
        self.path = os.path.realpath(path)
        self._is_folder = is_folder
        self._open = True
        self._writers = 0
        self._state = threading.Condition()
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"cannot write {path!r}: there is no folder {folder!r}; make it first"
            )
        hidden = _hidden(self.path, folder if beside is None else os.path.realpath(beside))
        self._old = f"{hidden}.old"
        try:
            _restore(self._old, self.path)
            for slot in range(_SLOTS):
                _clear(_slot(hidden, slot))
            self.temporary, self.descriptor = _claim(hidden, is_folder)
        except OSError as error:
            # The name of a hidden file would say nothing to the caller.
            raise type(error)(error.errno, error.strerror, path) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off `commit` and `abort` while something is written; from any thread.

        Raises
        ------
        RuntimeError
            After either of them.
        """
        with self._state:
            if not self._open:
                raise RuntimeError(f"{self.path!r} was committed or given up, and is written to")
            self._writers += 1
        try:
            yield
        finally:
            with self._state:
                self._writers -= 1
                self._state.notify_all()

    def commit(self, overwrite: bool = True) -> None:
        """Put what was written in its place.

        Before it replaces anything, all of it is on the disk: a failure of the power then leaves
        the one or the other. Where nothing was, the system writes it to the disk in its own time.

        Raises
        ------
        FileExistsError
            Where there is a folder at ``path`` by now, this is one, and `overwrite` is false.
        """
        self._end()
        if self._is_folder:
            self._place_folder(overwrite)
        else:
            if os.path.exists(self.path):
                os.fsync(self.descriptor)
            _keep_mode(self.path, self.descriptor)
            os.replace(self.temporary, self.path)
        self._close()

    def abort(self) -> None:
        """Remove what was written, as far as that can be done; what was there stays.

        Raises nothing, since it answers an error that is to be seen; the next write clears what
        could not be removed.
        """
        self._end()
        with suppress(OSError):
            if _is_same(self.descriptor, self.temporary):
                _remove(self.temporary)
            self._close()

    def _close(self) -> None:
        # Never twice: the number may be that of another file by then.
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _end(self) -> None:
        with self._state:
            self._open = False
            self._state.wait_for(lambda: self._writers == 0)

    def _place_folder(self, overwrite: bool) -> None:
        while True:
            try:
                old = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                old = None
            try:
                if old is None:
                    try:
                        os.rename(self.temporary, self.path)
                        return
                    except OSError as error:
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                            raise
                elif not overwrite:
                    raise FileExistsError(
                        f"{self.path!r} was made while it was being written; "
                        "pass overwrite=True to replace it"
                    )
                else:
                    # Without the lock another writer would take the old folder, once it has a
                    # temporary name, for one that was left, and use its place.
                    _lock(old, wait=True)
                    if _is_same(old, self.path):
                        _flush_tree(self.temporary)
                        _exchange_folders(self.temporary, self.path, self._old)
                        return
            finally:
                if old is not None:
                    os.close(old)


def require_file(path: str) -> None:
    """Check that `path` is a place on a local disk where a file can be put.

    Raises
    ------
    NotImplementedError
        For a URL.
    FileExistsError
        Where there is something that is not a file, and would be lost.

    Examples
    --------
    >>> require_file("new.npy")
    """
    require_local(path)
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "not a file"
        raise FileExistsError(f"{path!r} is {kind}, which a file does not replace: remove it first")


def require_local(path: str) -> None:
    """Check that `path` is no URL.

    Raises
    ------
    NotImplementedError
        For a URL.

    Examples
    --------
    >>> require_local("new.zarr")
    """
    if "://" in path:
        raise NotImplementedError(
            f"only files on a local disk can be written, not {path!r}: write one, then copy it"
        )


def _exchange_folders(new: str, path: str, old: str) -> None:
    """Put the folder `new` at `path`, and remove what was there, at `old` for a while."""
    if _exchange(new, path):
        # The old one goes only once the names are on the disk too.
        _flush(os.path.dirname(path))
        shutil.rmtree(new, ignore_errors=True)
        return
    # Where the system cannot exchange names there is a moment without either; a process that
    # dies in it leaves the old folder under a name from which the next write restores it.
    _remove(old)
    os.rename(path, old)
    os.rename(new, path)
    _flush(os.path.dirname(path))
    shutil.rmtree(old, ignore_errors=True)


def _restore(old: str, path: str) -> None:
    """Put back the folder that was at `path` before a process died between two renames."""
    if os.path.lexists(old) and not os.path.lexists(path):
        with suppress(FileNotFoundError):
            os.rename(old, path)


def _exchange(a: str, b: str) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(a), os.fsencode(b)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif sys.platform == "darwin":
        failed = library.renamex_np(*names, _RENAME_SWAP)
    else:
        return False
    if failed:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
            return False
        raise OSError(number, os.strerror(number), b)
    return True


def _hidden(path: str, beside: str) -> str:
    """Return what the names in the folder `beside` begin with that stand for `path`."""
    name = os.path.relpath(path, beside)
    if os.sep in name:
        name = name.replace("%", "%25").replace(os.sep, "%2F")
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST_NAME:
        from hashlib import sha256

        name = os.fsdecode(encoded[: _LONGEST_NAME - 20]) + sha256(encoded).hexdigest()[:20]
    return os.path.join(beside, f".{name}")


def _slot(hidden: str, slot: int) -> str:
    return f"{hidden}.{slot}.partial"


def _claim(hidden: str, is_folder: bool) -> tuple[str, int]:
    """Make a new file or folder, whose name begins with `hidden`, and lock it."""
    for slot in itertools.count():
        temporary = _slot(hidden, slot)
        try:
            if is_folder:
                os.mkdir(temporary)
            else:
                os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            access = os.O_RDONLY if is_folder else os.O_RDWR
            descriptor = os.open(temporary, access | os.O_NOFOLLOW)
        except FileExistsError:
            continue
        except FileNotFoundError:
            # It was cleared by another writer before it could be locked.
            continue
        # A file system without locks gives none, and nobody clears what cannot be locked.
        if _lock(descriptor) is not False and _is_same(descriptor, temporary):
            return temporary, descriptor
        os.close(descriptor)
    raise AssertionError("unreachable: there are always more names")


def _clear(temporary: str) -> None:
    """Remove `temporary` if it was left by a dead process of this user."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        is_own = os.fstat(descriptor).st_uid == os.geteuid()
        if is_own and _lock(descriptor) and _is_same(descriptor, temporary):
            _remove(temporary)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool = False) -> bool | None:
    """Lock an open file or folder; False where another holds it, None where nobody can."""
    # Imported here: there is none on Windows, where the package is to be importable.
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same(descriptor: int, path: str) -> bool:
    """Whether the open file or folder is the one at `path` still."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _keep_mode(path: str, descriptor: int) -> None:
    """Give the new file the permissions of the one that it replaces."""
    with suppress(FileNotFoundError):
        os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))


def _flush_tree(folder: str) -> None:
    # All are flushed at the end: the first flush writes most of what the others would wait for.
    for parent, _, names in os.walk(folder):
        for name in names:
            _flush(os.path.join(parent, name))
        _flush(parent)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
