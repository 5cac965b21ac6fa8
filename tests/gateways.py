"""Ways in, for tests of what lies behind the gateway."""

from __future__ import annotations

from typing import Any

from deskterior.gateway.caller import EVERYONE, Entry


async def anybody(_: object) -> Entry:
    """All may do all, as in development without keys."""
    return Entry(EVERYONE)


def scope(method: str, path: str, **headers: str) -> dict[str, Any]:
    """A request, as the gateway sees it."""
    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    client = ("127.0.0.1", 50_000)
    return {"type": "http", "method": method, "path": path, "headers": sent, "query_string": b"", "client": client}
