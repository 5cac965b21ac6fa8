"""The outermost layer of the HTTP surface, before any route: what must hold for every path.

Spellings of a path, request ids, limits of size and time, early refusal under overload, and one shape for every error,
also those of BentoML's own paths. Who may come in is the gateway's business, what a path does the routers'.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog

from deskterior import telemetry
from deskterior.errors import (
    AnswerTimeout,
    BodyTooLarge,
    DeskteriorError,
    InternalError,
    Invalid,
    NotFound,
    Overloaded,
    RequestCutOff,
    RequestTimeout,
)
from deskterior.gateway.access import route_of
from deskterior.gateway.caller import Entry
from deskterior.gateway.limits_json import check_json
from deskterior.problems import of_status, problem_response
from deskterior.telemetry import metrics, traces
from deskterior.telemetry.requests import counted, traced

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Enter = Callable[[Scope], Awaitable[Entry]]

log = structlog.get_logger(__name__)

PREFIX = "/app/routers"
ALIASES = {"/v1/generated": "/v1/generate"}
BENTOML_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/schema.json"})
HEALTH_PATHS = frozenset({"/health", "/healthcheck", "/health/machine"})
ALWAYS_ANSWERED = BENTOML_PATHS | HEALTH_PATHS
BODY_TIMEOUT_S = 30.0
"""A body of at most `body_max_bytes` that takes longer is a slow drip."""
LOGGED_PATH = 200
"""Characters of a path that are logged: it may have tens of thousands."""


class Front:
    """ASGI middleware around BentoML's application that sends all but BentoML's own paths to `api`.

    Args:
        enter: asked before a body is read; raises where the caller may not come in (`Gateway.enter`).
        body_max_bytes: of a request, uploads excepted.
        max_concurrency: requests of each kind (see `_kind`) answered at once.
        answer_within_s: time for an answer to begin, if it is limited. BentoML's own limit must be longer: it answers
            in a shape of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        api: ASGIApp,
        enter: Enter,
        body_max_bytes: int,
        max_concurrency: int,
        answer_within_s: float | None = None,
    ) -> None:
        self._bentoml = app
        self._api = api
        self._enter = enter
        self._body_max_bytes = body_max_bytes
        self._max_concurrency = max_concurrency
        self._answer_within_s = answer_within_s
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._bentoml(scope, receive, send)
            return
        scope = _respelled(scope)
        answer = _Answer(scope, send)
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=answer.request_id), answer.measured():
            try:
                async with asyncio.timeout(self._answer_within_s) as answer.deadline:
                    await self._answer(scope, receive, answer)
            except TimeoutError as error:
                await answer.problem(AnswerTimeout() if answer.deadline.expired() else _crash(scope, error))
            except DeskteriorError as error:
                await answer.problem(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a problem
                await answer.problem(_crash(scope, error))
            finally:
                if scope["path"] not in ALWAYS_ANSWERED:
                    log.info(
                        "request",
                        method=scope["method"],
                        path=scope["path"][:LOGGED_PATH],
                        status=answer.status,
                        ms=round((time.perf_counter() - started) * 1000, 1),
                    )

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        path = scope["path"]
        kind = _kind(path)
        with self._place(kind):  # the gateway may have to ask a database, and a crowd of waiting ones is overload too
            entry = await self._enter(scope)
        answer.headers.extend(entry.headers)
        if path in BENTOML_PATHS:
            await self._bentoml(scope, receive, answer.send)
            return
        if kind != "transfer":  # an upload streams its body, with a limit of its own
            receive = await self._read_body(scope, receive)  # whoever drips one takes nobody's place
        scope["state"] = {**scope.get("state", {}), "request_id": answer.request_id, "caller": entry.caller}
        with self._place(kind):
            await self._api(scope, receive, answer.send)

    @contextmanager
    def _place(self, kind: str) -> Iterator[None]:
        """One of the places of a kind. Raises Overloaded when all are taken."""
        if kind != "health" and self._in_flight[kind] >= self._max_concurrency:
            raise Overloaded("The service answers as many requests as it can; try again shortly", retry_after=1)
        self._in_flight[kind] += 1
        metrics.IN_FLIGHT.labels(kind).inc()
        try:
            yield
        finally:
            self._in_flight[kind] -= 1
            metrics.IN_FLIGHT.labels(kind).dec()

    async def _read_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body, at most `body_max_bytes`, and return a `receive` that gives it again."""
        too_large = f"The body is over {self._body_max_bytes} bytes"
        if (encoding := _header(scope, b"content-encoding") or "identity").lower() != "identity":
            wrong = {"field": "content-encoding", "message": "must be left out: the body is read as it is"}
            raise Invalid(f"A body packed by {encoding[:20]} is not read; send it as it is", errors=[wrong])
        length = _header(scope, b"content-length")
        if length and length.isdigit() and int(length) > self._body_max_bytes:
            raise BodyTooLarge(too_large)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestCutOff
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._body_max_bytes:
                        raise BodyTooLarge(too_large)
        except TimeoutError:
            raise RequestTimeout(f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
        if "json" in (_header(scope, b"content-type") or "").lower():
            check_json(bytes(body))
        first: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return first.pop() if first else await receive()

        return again


class _Answer:
    """The way back: adds `headers`, the request id among them, and turns an error of any other shape into a problem."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.status = 0
        self.deadline = asyncio.timeout(None)
        self.request_id = telemetry.request_id(_header(scope, b"x-request-id"))
        self.headers = [(b"x-request-id", self.request_id.encode())]
        self._send = send
        self._head = scope["method"] == "HEAD"
        self._told = False  # a problem
        self._health = scope["path"] in HEALTH_PATHS  # its 503 says which check failed, in a shape of its own
        self._scope = scope

    def measured(self) -> ExitStack:
        """Figures and a span, by the route's template: a path may be anything. Who looks after us is not traced."""
        path, method = self._scope["path"], self._scope["method"]
        measuring, route = ExitStack(), route_of(path)
        measuring.enter_context(counted(route, method, lambda: self.status))
        if path not in ALWAYS_ANSWERED:
            traceparent = _header(self._scope, traces.TRACEPARENT.encode())
            measuring.enter_context(traced(route, method, lambda: self.status, self.request_id, traceparent))
        return measuring

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", [])).get(b"content-type", b"")
            if message["status"] >= 400 and not kind.startswith(b"application/problem+json") and not self._health:
                allow = [(name, value) for name, value in message.get("headers", []) if name == b"allow"]
                await self.problem(of_status(message["status"]), allow)
                return
            self.deadline.reschedule(None)  # it begins, and may go on: a stream of events, a picture
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self.headers]
        elif self._told:
            return
        await self._send(message)

    async def problem(self, error: DeskteriorError, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with `error`. An answer that is under way is cut off instead, so that nobody takes it for whole."""
        if self._told:
            return  # the framework answers 500 to a crash, and raises it then
        if self.status:
            raise ConnectionAbortedError("the answer had begun when the request failed")
        head, body = problem_response(error, self.request_id)
        self.status, self._told = error.status, True
        metrics.PROBLEMS.labels(error.slug).inc()
        fields = [*head, *headers, *self.headers]
        await self._send({"type": "http.response.start", "status": self.status, "headers": fields})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """There are none here; the answer has the one shape where the server can give it."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    request_id = telemetry.request_id(_header(scope, b"x-request-id"))
    headers, body = problem_response(NotFound("There are no WebSockets here; see /docs"), request_id)
    headers.append((b"x-request-id", request_id.encode()))
    await send({"type": "websocket.http.response.start", "status": NotFound.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _kind(path: str) -> str:
    """Whose place a request takes. Those that others may hold up for minutes never keep out the quick ones.

    `wait` is for outside services, `tasks` for the job store, `watch` for what becomes of a task, `transfer` at the
    client's own pace, `health` is always answered.
    """
    if path in ALWAYS_ANSWERED:
        return "health"
    if path.startswith("/files/"):
        return "transfer"
    if path.endswith("/events"):
        return "watch"
    if path.startswith("/tasks"):
        return "tasks"
    return "wait" if path.startswith(("/v1/", "/v2/")) else "quick"


def _crash(scope: Scope, error: Exception) -> InternalError:
    log.error("request.crashed", method=scope["method"], path=scope["path"][:LOGGED_PATH], exc_info=error)
    return InternalError()


def _respelled(scope: Scope) -> Scope:
    """A copy of the scope with the path in the spelling that the routes know."""
    path = respelled(scope["path"])
    return {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}


def respelled(path: str) -> str:
    """A path in the spelling that the routes know."""
    if path.startswith(PREFIX + "/"):
        path = path.removeprefix(PREFIX)
    return ALIASES.get(path, path)


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None
