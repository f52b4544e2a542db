"""Run a tool on the package in its installed shape: ``python tests/view.py mypy -p darray``.

In the checkout ``darray.runtime`` and ``darray.io`` lie beside ``darray/``, which no static tool
can know.  ``build/view`` is the installed shape, made of links after the map in pyproject.toml.
The command runs inside it, away from ``io/``, which would hide the standard library's ``io``
from mypy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VIEW = ROOT / "build" / "view"


def links(view: Path) -> dict[Path, Path]:
    """Return every link that belongs in `view` with the file of the checkout it leads to."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {}
    for package, folder in config["tool"]["setuptools"]["package-dir"].items():
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                place = view.joinpath(*package.split("."), *file.relative_to(ROOT / folder).parts)
                found[place] = file
    return found


def lay_out(view: Path = VIEW) -> None:
    """Bring `view` up to date: real folders, every file a link, nothing from earlier.

    What is right already is left alone, so that a tool still running in the view is not
    disturbed by a second one that starts.
    """
    wanted = links(view)
    folders = {parent for place in wanted for parent in place.parents}
    present = sorted(view.rglob("*")) if view.is_dir() else []
    for place in present:
        if place.is_dir() and not place.is_symlink():
            if place not in folders and place.name != "__pycache__":
                shutil.rmtree(place, ignore_errors=True)
        elif place.parent.name != "__pycache__" and place not in wanted:
            place.unlink(missing_ok=True)
    for place, file in wanted.items():
        if place.is_symlink() and place.readlink() == file:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(file)


def main(command: list[str]) -> int:
    """Lay out the view and run `command` in it; return its exit status."""
    lay_out()
    if not command:
        return 0
    return subprocess.call(command, cwd=VIEW, env={**os.environ, "PYTHONPATH": str(VIEW)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
