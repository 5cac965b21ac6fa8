"""The shared secret of the wire between the API and its runners: what a client shows, and the door that demands it.

Whoever reaches a runner's port could otherwise have it work for free, also another user of the same machine.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from deskterior.config import Settings, SettingsError
from deskterior.errors import Unauthenticated
from deskterior.problems import problem_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SETTING = "RUNNER_TOKEN"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz"})
"""Who starts a runner asks whether it is ready; they tell nothing else."""


def new_token() -> str:
    """A secret for the life of one service."""
    return secrets.token_urlsafe(32)


def token_headers(token: str) -> dict[str, str]:
    """What a client of a runner sends with every request; nothing where there is no token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def demanded_token(settings: Settings) -> str:
    """The token that a runner with these settings demands; empty for an open door.

    Raises:
        SettingsError: production, and there is none.
    """
    token = settings.runner_token.get_secret_value()
    if not token and settings.env == "production":
        raise SettingsError(f"{SETTING} is missing: with ENV=production a runner answers nobody without it")
    return token


class TokenGuard:
    """ASGI middleware: what does not carry `token` is answered 401, its body unread. An empty token lets all pass."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._wanted or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers, body = problem_response(Unauthenticated(f"Send the runner's {SETTING} as a bearer token"), None)
            headers += [(b"www-authenticate", b"Bearer"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": Unauthenticated.status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        else:
            await send({"type": "websocket.close"})

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] in OPEN_PATHS:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # One header, so that no proxy before us and we read different ones.
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
