"""What a person got wrong, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Mistake", "told_in_one_line"]


class Mistake(Exception):
    """Something that the person who gave the command can put right; the text is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


@contextmanager
def told_in_one_line(*kinds: type[Exception], about: str = "") -> Iterator[None]:
    """Turn exceptions of the given kinds in the block into a Mistake of one line.

    Examples
    --------
    >>> with told_in_one_line(ValueError, about="the size"):
    ...     int("two")
    Traceback (most recent call last):
        ...
    darray.command.mistakes.Mistake: the size: invalid literal for int() with base 10: 'two'
    """
    try:
        yield
    except kinds as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror is not None:
            text = (
                error.strerror
                if error.filename is None
                else f"{error.strerror}: {error.filename!r}"
            )
        raise Mistake(f"{about}: {text}" if about else text or type(error).__name__) from error
