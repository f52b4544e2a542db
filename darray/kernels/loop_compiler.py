"""Compiled loops: LLVM makes machine code of a loop's source, NumPy a ufunc of that.

LLVM is called through llvmlite, which Numba brings, without Numba in between: to import Numba
and have it infer types takes seven times as long as LLVM does, and holds the interpreter; and its
types are not NumPy's. Machine code is kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from darray.kernels.loop_checking import disagreement
from darray.kernels.loop_source import Loop, loop_data, source
from darray.runtime import settings

__all__ = [
    "cache_folder",
    "compiled",
    "fetched",
    "has_compiler",
    "is_cached",
    "read_kept",
    "streaming",
    "ufunc_of",
    "write_kept",
]

# Changes when other code is made of the same source.
_RECIPE = "1"

_DIGEST = hashlib.sha256().digest_size

# Guards these two and keeps it to one compilation at a time; taken before llvmlite's own lock.
_lock = threading.Lock()
# By source: loops of dtypes of one size and kind may have the same.
_addresses: dict[str, int] = {}
_ufuncs: dict[tuple[str, tuple[np.dtype[Any], ...]], np.ufunc] = {}

# Guards the next one; taken after `_lock`, for one look, since whoever looks waits for no compiler.
_pairing = threading.Lock()
# By ufunc: the one that does the same, past the caches.
_streaming: dict[np.ufunc, np.ufunc] = {}

# Whether this process was forked while another thread compiled: nobody knows how LLVM was left.
_is_lost = False

# What ufuncs point to; never let go, as ufuncs may be held anywhere until the process ends.
_kept: list[Any] = []


def ufunc_of(loop: Loop) -> np.ufunc:
    """The ufunc that does what `loop` says: from memory, from the cache folder, or compiled now.

    Its operands must have the dtypes that the loop has; constants are arrays without axes. Where
    the loop adds, it is a generalised ufunc, of operands with rows of `ROW` elements.

    Raises
    ------
    ImportError
        Without llvmlite.
    RuntimeError
        When LLVM refuses, or what it makes does not do on this machine what NumPy does.

    Examples
    --------
    >>> from darray.kernels.loop_source import Step
    >>> double = np.dtype(float)
    >>> root = Loop((double,), frozenset(), (Step(np.sqrt, (0,), (double,), double),))
    >>> ufunc_of(root)(np.array([4.0, 9.0])) if has_compiler() else np.array([2.0, 3.0])
    array([2., 3.])
    """
    text = source(loop)
    dtypes = (*loop.dtypes, loop.steps[-1].dtype)
    with _lock:
        if (text, dtypes) not in _ufuncs:
            if text not in _addresses:
                if _is_lost:
                    raise RuntimeError("this process was forked while another thread compiled")
                _addresses[text] = _loaded(_machine_code(text))
            ufunc = _ufuncs[text, dtypes] = _checked(_addresses[text], loop)
            if not loop.sums:
                past = _made(_addresses[text], dtypes, None, streams=True)
                with _pairing:
                    _streaming[ufunc] = past
        return _ufuncs[text, dtypes]


def streaming(ufunc: np.ufunc) -> np.ufunc:
    """The ufunc that does what `ufunc` does, one of `ufunc_of`, and writes past the caches.

    Faster by a third where the results are too many to stay in a cache until they are read, slower
    where they are not; itself for one that adds. Never waits for a compiler.

    Examples
    --------
    >>> streaming(np.add)
    <ufunc 'add'>
    """
    with _pairing:
        return _streaming.get(ufunc, ufunc)


def has_compiler() -> bool:
    """Whether llvmlite is there; does not import it."""
    return find_spec("llvmlite") is not None


def is_cached(loop: Loop) -> bool:
    """Whether the machine code of `loop` lies in the cache folder, or the loop is compiled."""
    text = source(loop)
    with _lock:
        if text in _addresses:
            return True
    folder = cache_folder()
    return folder is not None and (folder / _key(text)).exists()


def cache_folder() -> Path | None:
    """The folder where machine code is kept; None where there is to be none."""
    given = settings.current().cache_folder
    if given == "none":
        return None
    if given is not None:
        return Path(given) / "kernels"
    try:
        standard = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    return Path(standard) / "darray" / "kernels"


def _machine_code(text: str) -> bytes:
    folder = cache_folder()
    if folder is None:
        return compiled(text)
    file = folder / _key(text)
    code = read_kept(file)
    if code is None:
        code = compiled(text)
        write_kept(file, code)
    return code


def _key(text: str) -> str:
    """What the file is called that holds the machine code of `text` for this machine."""
    from importlib.metadata import version

    import llvmlite.binding as llvm

    made_by = (
        _RECIPE,
        version("llvmlite"),
        llvm.get_default_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        text,
    )
    return hashlib.sha256("\0".join(made_by).encode()).hexdigest()[:40] + ".o"


def read_kept(file: Path) -> bytes | None:
    """What `write_kept` left in `file`; None where that is not whole, or not this user's own."""
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            # Whoever else can write here could have anything run.
            if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
                return None
            content = opened.read()
    except OSError:
        return None
    digest, kept = content[:_DIGEST], content[_DIGEST:]
    return kept if hashlib.sha256(kept).digest() == digest else None


def write_kept(file: Path, content: bytes) -> None:
    """Leave `content` in `file`, whole or not at all; a cache that cannot be written is none."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(hashlib.sha256(content).digest() + content)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError:
        return


def _target(llvm: Any) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


def compiled(text: str) -> bytes:
    """Machine code of `text`, optimised for this machine."""
    import llvmlite.binding as llvm

    target = _target(llvm)
    module = llvm.parse_assembly(text)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = True
    tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(target, tuning)
    builder.getModulePassManager().run(module, builder)
    code: bytes = target.emit_object(module)
    return code


def _loaded(code: bytes) -> int:
    """The address of the loop in `code`, which is brought into memory for good."""
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address: int = engine.get_function_address("fused")
    if not address:
        raise RuntimeError("the machine code of a compiled loop has no function fused")
    # Threads may be in the loop until the process ends, so the code must outlast every object.
    engine.detach()
    return address


def fetched(code: bytes, loop: Loop) -> np.ufunc:
    """The ufunc of machine code of `loop` that nobody else uses, as `ufunc_of` gives it."""
    return _checked(_loaded(code), loop)


def _checked(address: int, loop: Loop) -> np.ufunc:
    """The ufunc of the machine code at `address`, which does what NumPy does on this machine."""
    made = _made(address, (*loop.dtypes, loop.steps[-1].dtype), _signature(loop))
    otherwise = disagreement(loop, made)
    if otherwise is not None:
        raise RuntimeError(f"on this machine {otherwise} when compiled than by NumPy")
    return made


def _signature(loop: Loop) -> bytes | None:
    """Which operands of a loop have rows, as NumPy writes it; None where there are no rows."""
    if not loop.sums:
        return None
    operands = ["()" if k in loop.constants else "(k)" for k in range(len(loop.dtypes))]
    return f"{','.join(operands)}->()".encode()


def _ufunc_maker() -> Callable[..., np.ufunc]:
    """PyUFunc_FromFuncAndDataAndSignature, from NumPy's table for compiled extensions."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = import_module("numpy._core._multiarray_umath")._UFUNC_API
    table = ctypes.cast(pointer_of(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    address = table[31]
    assert address is not None
    pointers, numbers, texts = [ctypes.c_void_p] * 3, [ctypes.c_int] * 4, [ctypes.c_void_p] * 2
    maker: Callable[..., np.ufunc] = ctypes.PYFUNCTYPE(
        ctypes.py_object, *pointers, *numbers, *texts, ctypes.c_int, ctypes.c_void_p
    )(address)
    return maker


def _made(
    address: int,
    dtypes: tuple[np.dtype[Any], ...],
    signature: bytes | None = None,
    streams: bool = False,
) -> np.ufunc:
    """The ufunc whose one loop is at `address`, for operands and a result of `dtypes`."""
    given = loop_data(streams)
    masks = ctypes.create_string_buffer(given, len(given))
    loops = (ctypes.c_void_p * 1)(address)
    data = (ctypes.c_void_p * 1)(ctypes.addressof(masks))
    types = (ctypes.c_byte * len(dtypes))(*[dtype.num for dtype in dtypes])
    name = ctypes.create_string_buffer(b"fused")
    document = ctypes.create_string_buffer(b"Several operations in one loop.")
    core = None if signature is None else ctypes.create_string_buffer(signature)
    _kept.append((masks, loops, data, types, name, document, core))
    places = [ctypes.addressof(one) for one in (loops, data, types)]
    no_identity = -1
    texts = [ctypes.addressof(one) for one in (name, document)]
    last = None if core is None else ctypes.addressof(core)
    return _ufunc_maker()(*places, 1, len(dtypes) - 1, 1, no_identity, *texts, 0, last)


def _after_fork() -> None:
    """Take the locks from a thread that this process, the child of a fork, does not have."""
    global _is_lost, _lock, _pairing
    _is_lost = _is_lost or _lock.locked()
    _lock, _pairing = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
