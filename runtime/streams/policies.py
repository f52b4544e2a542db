"""What an edge does with a value for which its buffer has no room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

__all__ = ["POLICIES", "Policy", "policy_named"]


class Policy(Struct, frozen=True):
    """What becomes of values for which there is no room.

    Attributes
    ----------
    name : str
        As ``when_full=`` says it.
    drops : bool
        Whether values are dropped; otherwise the producer is held back.
    drop : callable
        Takes one value out of the items, of which there are too many, and returns it. The last
        of them is the new one.
    keeps : int or None
        How many values the buffer holds at most; by default what ``buffer=`` says.
    """

    name: str
    drops: bool
    drop: Callable[[deque[Any]], Any]
    keeps: int | None = None


def _refused(items: deque[Any]) -> Any:
    raise AssertionError("a producer that is held back puts nothing for which there is no room")


# By name. A further policy is a further entry.
POLICIES = {
    one.name: one
    for one in (
        Policy("block", drops=False, drop=_refused),
        Policy("drop oldest", drops=True, drop=lambda items: items.popleft()),
        Policy("drop newest", drops=True, drop=lambda items: items.pop()),
        Policy("latest", drops=True, drop=lambda items: items.popleft(), keeps=1),
    )
}


def policy_named(name: Any) -> Policy:
    """The policy of that name.

    Raises
    ------
    ValueError
        For another name.
    """
    policy = POLICIES.get(name) if isinstance(name, str) else None
    if policy is None:
        raise ValueError(f"when_full= is one of {', '.join(map(repr, POLICIES))}, not {name!r}")
    return policy
