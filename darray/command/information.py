"""``darray info``: what is installed and what this process may use."""

from __future__ import annotations

import argparse
import json
import platform
import re
from importlib import metadata
from typing import Any

from darray.command.mistakes import told_in_one_line
from darray.runtime import limits, settings
from darray.runtime.consumers.progress import bytes_text

__all__ = ["add_command", "optional_libraries", "version"]

_REQUIREMENT = re.compile(r"""([\w.-]+).*;\s*extra\s*==\s*["']([\w-]+)["']""")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``info`` to the program."""
    parser = commands.add_parser(
        "info",
        help="print version, processors, memory limit and optional libraries",
        description="Print what is installed and what darray may use here.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def version() -> str:
    """Return the version of darray that is installed.

    Examples
    --------
    >>> version()[0].isdigit()
    True
    """
    return metadata.version("darray")


def optional_libraries() -> dict[str, tuple[str, str | None]]:
    """Return for each library of darray's extras its extra, and its version if it is installed.

    Examples
    --------
    >>> optional_libraries()["zarr"][0]
    'zarr'
    """
    found: dict[str, tuple[str, str | None]] = {}
    for requirement in metadata.requires("darray") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or match[1] == "darray":
            continue
        try:
            installed = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            found[match[1]] = (match[2], None)
        else:
            found[match[1]] = (match[2], installed)
    return found


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    with told_in_one_line(ValueError, TypeError):
        current = settings.current()
    facts: dict[str, Any] = {
        "version": version(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "processors": limits.processor_count(),
        "threads": current.threads or limits.processor_count(),
        "engine": current.engine,
        "memory": limits.available_memory(),
        "memory_limit": limits.memory_limit(current),
    }
    libraries = optional_libraries()
    if arguments.json:
        facts["libraries"] = {
            name: {"extra": extra, "version": installed}
            for name, (extra, installed) in libraries.items()
        }
        print(json.dumps(facts))
        return 0
    print(f"darray {facts['version']}, Python {facts['python']}, NumPy {facts['numpy']}")
    print(f"processors    {facts['processors']}, used by {facts['threads']} threads")
    print(f"engine        {facts['engine']}")
    print(f"memory limit  {bytes_text(facts['memory_limit'])} of {bytes_text(facts['memory'])}")
    print("optional libraries")
    width = max(map(len, libraries), default=0)
    for name, (extra, installed) in libraries.items():
        missing = f'not installed: pip install "darray[{extra}]"'
        print(f"  {name:{width}}  {installed or missing}")
    return 0
