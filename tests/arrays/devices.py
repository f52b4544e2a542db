"""What tests of arrays on a device with memory of its own share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import darray as da
from darray.testing import device_programs
from darray.testing.separate_memory import KIND, separate_memory

__all__ = ["moves", "on_devices", "there"]


def there():
    """A block whose tasks run on devices."""
    return da.options(scope=da.scope(kind=KIND))


@contextmanager
def on_devices(count: int = 1) -> Iterator[None]:
    """A block in which there are devices, and tasks run on them."""
    with separate_memory(count), there():
        yield


def moves():
    """The moves between the host and these devices in a block."""
    return device_programs.Moves(KIND)
