"""Who a request comes from, as everything behind the gateway knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from fastapi import Request

Scope = Literal["classify", "generate", "tasks:read", "tasks:write", "metrics", "admin"]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


@dataclass(frozen=True)
class KeyLimits:
    """What one caller may use. None: whatever the service allows to anybody."""

    requests_per_minute: int | None = None
    usd_per_day: float | None = None
    tasks_waiting: int | None = None


@dataclass(frozen=True)
class Caller:
    """`name` is the API key's, or one of the gateway's own making for somebody with a token; tasks belong to it.

    It is empty for somebody who showed nothing, where nothing needs to be shown.
    """

    name: str
    scopes: frozenset[Scope] = frozenset()
    limits: KeyLimits = field(default_factory=KeyLimits)

    @property
    def sees(self) -> str | None:
        """Whose tasks this caller may see and change; None is everybody's."""
        return None if "admin" in self.scopes else self.name


STRANGER = Caller("")
"""Somebody on a path that is open to all."""
EVERYONE = Caller("", SCOPES)
"""Everybody, where the service has no keys: all may do all, and see all."""


@dataclass(frozen=True)
class Entry:
    """What the gateway says of a request that it lets in. `headers` are added to the answer, whatever it is."""

    caller: Caller
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def caller_of(request: Request) -> Caller:
    """Who asks. A request that did not come through the gateway has no caller, and fails here rather than be let in."""
    found: Caller = request.state.caller
    return found


async def caller(request: Request) -> Caller:
    """`caller_of` as a FastAPI dependency; asynchronous, because others each take a trip to a thread."""
    return caller_of(request)
