"""What a user configures: threads, engine, memory limit, spill folder."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Settings", "current", "environment", "parse_bytes", "update"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_bytes(text: int | str) -> int:
    """Number of bytes that `text`, such as ``"1.5GB"`` or ``"200 MiB"``, stands for.

    Examples
    --------
    >>> parse_bytes("1GB"), parse_bytes("1.5 KiB"), parse_bytes(4096)
    (1000000000, 1536, 4096)
    """
    if isinstance(text, bool):
        raise TypeError(f"a size in bytes is a number or text such as '1GB', not {text!r}")
    if isinstance(text, int):
        number, unit = float(text), ""
    else:
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][0-9]+)?)\s*([A-Za-z]*)\s*", text)
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError(
                f"cannot read {text!r} as a size in bytes; write a number with an optional unit "
                "out of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, such as '1GB'"
            )
        number, unit = float(match[1]), match[2].lower()
    size = int(number * _UNITS[unit])
    if size <= 0:
        raise ValueError(f"a size in bytes must be positive, not {text!r}")
    return size


class Settings(Struct, frozen=True):
    """One configuration; `None` means that the default is worked out from the machine.

    ``watchdog`` is in seconds; None for none. ``jit`` lets programs be compiled; ``cache_folder``
    is where what was compiled is kept, ``"none"`` for nowhere.
    """

    engine: str = "threads"
    threads: int | None = None
    workers: int | None = None
    memory_limit: int | None = None
    spill_folder: str | None = None
    watchdog: float | None = 60.0
    jit: bool = True
    cache_folder: str | None = None


def checked(changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` with every value checked and brought to its type."""
    known = set(Settings.__struct_fields__)
    for name in changes:
        if name not in known:
            raise TypeError(
                f"configure() has no setting {name!r}; the settings are {', '.join(sorted(known))}"
            )
    result = dict(changes)
    if result.get("memory_limit") is not None:
        result["memory_limit"] = parse_bytes(result["memory_limit"])
    for name in ("threads", "workers"):
        if result.get(name) is not None:
            count = int(result[name])
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {result[name]!r}")
            result[name] = count
    if "jit" in result:
        result["jit"] = _choice("jit", result["jit"])
    for name in ("spill_folder", "cache_folder"):
        if result.get(name) is not None:
            result[name] = _path(name, result[name])
    if result.get("spill_folder") is not None:
        _check_folder("spill_folder", result["spill_folder"])
    if "watchdog" in result:
        result["watchdog"] = _seconds(result["watchdog"])
    return result


def _path(name: str, value: Any) -> str:
    """The path of a folder that `value` stands for."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise TypeError(f"{name} is the path of a folder, such as '/scratch', not {value!r}")
    return path


def _check_folder(name: str, path: str) -> None:
    """Refuse a folder that nothing could be written to; one that is missing is made when needed."""
    place = os.path.abspath(os.path.expanduser(path))
    while not os.path.lexists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise NotADirectoryError(
            f"{name}={path!r} is no folder, and none can be made of that name, since {place!r} is "
            "something else; name another one"
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{name}={path!r}: this process may not write to {place!r}; name another folder"
        )


_CHOICES = {
    True: (True, "1", "true", "yes", "on"),
    False: (False, "0", "false", "no", "off"),
}


def _choice(name: str, value: Any) -> bool:
    """The yes or no that `value` stands for."""
    found = value.lower() if isinstance(value, str) else value
    for answer, meanings in _CHOICES.items():
        if found in meanings:
            return answer
    raise ValueError(f"{name} is True or False, or text such as 'yes' or 'off', not {value!r}")


def _seconds(value: Any) -> float | None:
    """The seconds after which the watchdog warns, that `value` stands for; None for never."""
    try:
        seconds = 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not seconds >= 0:
        raise ValueError(
            f"watchdog is a number of seconds, 0 or None for no warnings, not {value!r}"
        )
    return seconds or None


def environment() -> Settings:
    """The settings that the variables ``DARRAY_ENGINE``, ``DARRAY_THREADS``, … ask for."""
    found = {
        name: os.environ[f"DARRAY_{name.upper()}"]
        for name in Settings.__struct_fields__
        if os.environ.get(f"DARRAY_{name.upper()}")
    }
    return Settings(**checked(found))


_current: Settings | None = None


def current() -> Settings:
    """The settings in force, read from the environment when first asked for."""
    global _current
    if _current is None:
        _current = environment()
    return _current


def update(**changes: Any) -> Settings:
    """Change some settings and return those now in force."""
    global _current
    _current = replace(current(), **checked(changes))
    return _current
