"""What browsers are told, around everything else: which sites' pages may call (CORS), and what no page may do with us.

It lies outside Front, so that a browser can read Front's refusals too. A route that knows better sets a header itself:
what is set is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from deskterior import telemetry
from deskterior.errors import Forbidden
from deskterior.problems import problem_response

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
SENT = (
    "Authorization",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-API-Key",
    "X-Request-ID",
    "traceparent",
    "tracestate",
)
"""Headers that a page may send, besides those that any may."""
SHOWN = (
    "ETag",
    "Location",
    "Preference-Applied",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Desk-Score",
    "X-Makeover-Refused",
    "X-Request-ID",
    "X-Task-ID",
)
"""Headers of an answer that a page may read, besides those that any may."""

DATA_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PICTURE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address of a page may hold a link's signature
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HSTS = "max-age=31536000"


class Browsers:
    """ASGI middleware.

    Args:
        cors_origins: sites whose pages may call, as a browser spells them; `*` is any, none is no CORS at all.
        https: clients reach the service by TLS alone, and browsers shall remember that.
    """

    def __init__(self, app: ASGIApp, cors_origins: Collection[str] = (), https: bool = False) -> None:
        self._app = CrossOrigin(app, cors_origins) if cors_origins else app
        self._everywhere = EVERYWHERE | ({"Strict-Transport-Security": HSTS} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        picture = "/files/" in scope["path"]  # also behind a prefix

        async def with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                for name, value in (self._everywhere | _of(headers, picture)).items():
                    headers.setdefault(name, value)
                del headers["server"]
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, with_headers)


def _of(headers: MutableHeaders, picture: bool) -> dict[str, str]:
    """What depends on the answer."""
    page = headers.get("content-type", "").startswith("text/html")
    return {
        "Content-Security-Policy": PAGE_POLICY if page else PICTURE_POLICY if picture else DATA_POLICY,
        # Pictures are there to be shown in the pages of others; whoever has the link may.
        "Cross-Origin-Resource-Policy": "cross-origin" if picture else "same-origin",
        # What the pages are made of is asked for again by its ETag; the rest is somebody's data.
        "Cache-Control": "no-cache" if "etag" in headers else "no-store",
    }


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS, with our request ids, and refusals in the one shape of errors."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(app, origins, METHODS, SENT, expose_headers=SHOWN)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        request_id = telemetry.request_id(request_headers.get("x-request-id"))
        if response.status_code >= 400:
            wrong = bytes(response.body).decode().removeprefix("Disallowed CORS ")
            headers, body = problem_response(
                Forbidden(f"CORS_ORIGINS and the API do not allow a page this {wrong.replace(', ', ' and ')}"),
                request_id,
            )
            vary = response.headers["vary"]
            response = Response(body, Forbidden.status, {name.decode(): value.decode() for name, value in headers})
            response.headers["Vary"] = vary
        response.headers["X-Request-ID"] = request_id
        return response
