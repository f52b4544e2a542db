"""What tests of arrays on a device with memory of its own share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import darray as da
from darray.runtime.events import ValueMoved
from darray.testing.separate_memory import KIND, separate_memory

__all__ = ["Moves", "on_devices", "there"]


def there():
    """A block whose tasks run on devices."""
    return da.options(scope=da.scope(kind=KIND))


@contextmanager
def on_devices(count: int = 1) -> Iterator[None]:
    """A block in which there are devices, and tasks run on them."""
    with separate_memory(count), there():
        yield


class Moves:
    """The moves of values between the host's memory and the devices' in a block.

    Attributes
    ----------
    home, out : list of int
        Bytes of each value that came to the host, and of each that went to a device.
    """

    def __init__(self) -> None:
        self.home: list[int] = []
        self.out: list[int] = []
        self._subscription = da.subscribe(self._note)

    def _note(self, event: object) -> None:
        if not isinstance(event, ValueMoved):
            return
        leaves, arrives = [one.startswith(KIND) for one in (event.source, event.destination)]
        if leaves and not arrives:
            self.home.append(event.nbytes)
        elif arrives and not leaves:
            self.out.append(event.nbytes)

    def __enter__(self) -> Moves:
        self._subscription.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._subscription.__exit__(*exception)
