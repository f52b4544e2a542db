"""The program ``darray``: its arguments, exit statuses and how it ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from darray.command import demonstration, description, information
from darray.command.mistakes import Mistake

__all__ = ["arguments_parser", "main"]

_EPILOG = """
exit status: 0 when it worked, 1 when something is wrong with what was given or a check failed
(one line on standard error says what), 2 when the command cannot be understood, 130 after Ctrl-C
"""


def main(command_line: Sequence[str] | None = None) -> int:
    """Run the program on `command_line`, by default the process's own; return the exit status.

    Examples
    --------
    >>> main(["describe", "no_such_file.npy"])  # says so on standard error
    1
    """
    arguments = arguments_parser().parse_args(command_line)
    # Temporary files are removed on the way out, also when another program ends this one.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except Mistake as mistake:
        if arguments.traceback:
            raise
        return _last_word(str(mistake), 1)
    except KeyboardInterrupt:
        return _last_word("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has enough of it.
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        # The commands tell of their own files, so this is standard output: a full disk, say.
        if arguments.traceback:
            raise
        _drop_output()
        return _last_word(f"cannot write the output: {error.strerror or error}", 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser of the program's arguments; ``arguments.run(arguments)`` does the work.

    Examples
    --------
    >>> arguments_parser().parse_args(["describe", "t.npy", "--axis", "0"]).axis
    0
    """
    parser = argparse.ArgumentParser(
        prog="darray", description="NumPy arrays larger than memory.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"darray {information.version()}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error arose, not only its line"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (description, demonstration, information):
        module.add_command(commands)
    return parser


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _drop_output() -> None:
    """Let what is still buffered for standard output go nowhere, without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _last_word(text: str, status: int) -> int:
    print(f"darray: {text}", file=sys.stderr)
    return status
