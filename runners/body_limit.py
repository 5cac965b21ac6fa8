"""The door of every runner against bodies that would fill its memory: how large they may be is each runner's to say."""

from __future__ import annotations

from deskterior.errors import BodyTooLarge, ClientError
from deskterior.problems import problem_response
from runners.token import ASGIApp, Receive, Scope, Send


class LengthRequired(ClientError):
    status, slug, title = 411, "length-required", "The request must tell its length"


class BodyLimit:
    """ASGI middleware: a body of more than `limit` bytes, or of untold length, is refused unread, on every path."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(dict(scope["headers"])) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        headers, body = problem_response(refused, None)
        headers.append((b"connection", b"close"))  # or the server would go on reading what it throws away
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, headers: dict[bytes, bytes]) -> ClientError | None:
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers:
            return LengthRequired("Send a Content-Length")
        if not length.isdigit() or int(length) > self._limit:
            return BodyTooLarge(f"The body is over {self._limit} bytes")
        return None
