"""Plans that run on devices with memory of their own: each call in the device's own way.

Plans are the same as for the host. What a call needs of other tasks the runtime has brought to the
device when it begins; `device_calls` and `device_picks` say what it does there.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from darray.kernels.device_reductions import reduction_there
from darray.kernels.devices import kind_here
from darray.lowering import device_picks  # noqa: F401 - says what some calls do
from darray.lowering.calls import PartialReduce
from darray.lowering.device_calls import WAYS
from darray.lowering.reducing import ReduceByParts

__all__ = ["OnDevice", "on_device"]


class OnDevice(Struct, frozen=True):
    """A call as it is done on a device."""

    call: Any
    kind: str

    def __call__(self, *values: Any) -> Any:
        """What the call gives, in the device's memory."""
        token = kind_here.set(self.kind)
        try:
            return WAYS[type(self.call)](self.call, values)
        finally:
            kind_here.reset(token)


def on_device(call: Any, kind: str, name: str) -> OnDevice:
    """The same call, of a stage of that name, on a device of a kind.

    Raises
    ------
    NotImplementedError
        Where it is made on the host alone.
    """
    if isinstance(call, ReduceByParts):
        call = call.whole
    if type(call) not in WAYS:
        raise NotImplementedError(
            f"the step {name!r} is not computed on devices of kind {kind!r}; collect the array, "
            "or persist it, and go on outside the block that asks for the device"
        )
    if isinstance(call, PartialReduce):
        for one in call.reducers:
            reduction_there(one.reduction)
    return OnDevice(call, kind)
