"""OpenAI's routes under `/openai/v1`, its headers, and its error shape for whatever goes wrong."""

from __future__ import annotations

import secrets
import time

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.exchange import Delivery, Outcome, Reply, exchange, json_reply
from sandbox.faults import Fault
from sandbox.openai.chat import chat_completions
from sandbox.openai.errors import ApiError, model_not_found, refusal
from sandbox.openai.images import edits, generations
from sandbox.openai.models import CHAT_MODELS, IMAGE_MODELS, listing
from sandbox.openai.reading import check_key
from sandbox.state import Sandbox


def openai_app(sandbox: Sandbox) -> Starlette:
    app = Starlette(
        routes=[
            Route("/chat/completions", chat_completions, methods=["POST"]),
            Route("/images/generations", generations, methods=["POST"]),
            Route("/images/edits", edits, methods=["POST"]),
            Route("/models", _models, methods=["GET"]),
            Route("/models/{model}", _model, methods=["GET"]),
        ],
        middleware=[Middleware(_Headers)],
        exception_handlers={ApiError: _refused, HTTPException: _no_route},
    )
    app.state.sandbox = sandbox
    return app


async def picture_file(request: Request) -> Response:
    """A picture that an answer gave by its address."""
    sandbox: Sandbox = request.app.state.sandbox
    name = request.path_params["name"]

    async def work(fault: Fault | None) -> Outcome:
        kind, data = sandbox.files.get(name, ("", b""))
        if not kind:
            return Outcome(Reply(404, b"<Error><Code>BlobNotFound</Code></Error>", "application/xml"))
        if fault is not None and fault.kind in {"bad-image", "empty"}:
            data = data[: len(data) // 3] if fault.kind == "bad-image" else b""
        return Outcome(Reply(200, data, kind))

    return await exchange(
        request, sandbox, where="openai.files", text=name, latency=0, work=work, refuse=refusal, paid=None
    )


async def _models(request: Request) -> Response:
    return await _listed(request, {"object": "list", "data": [listing(m) for m in sorted(CHAT_MODELS | IMAGE_MODELS)]})


async def _model(request: Request) -> Response:
    name = request.path_params["model"]
    check_key(request, request.app.state.sandbox.options.openai_key)
    if name not in CHAT_MODELS | IMAGE_MODELS:
        raise model_not_found(name)
    return await _listed(request, listing(name))


async def _listed(request: Request, value: object) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    check_key(request, sandbox.options.openai_key)

    async def work(fault: Fault | None) -> Outcome:
        empty = fault is not None and fault.kind == "empty"
        return Outcome(json_reply({"object": "list", "data": []} if empty else value))

    return await exchange(request, sandbox, where="openai.models", text="", latency=0, work=work, refuse=refusal)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  (Starlette's signature is wider than what it calls with)
    return Delivery(error.reply())


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path.removeprefix("/openai")
    message = (
        f"Not allowed to {request.method} on {path}." if status == 405 else f"Invalid URL ({request.method} {path})"
    )
    return Delivery(ApiError(message, status=status).reply())


class _Headers:
    """The headers of every answer: request id, time taken and rate limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                ours = {
                    b"x-request-id": f"req_{secrets.token_hex(16)}",
                    b"openai-processing-ms": str(round((time.monotonic() - began) * 1000)),
                    b"openai-version": "2020-10-01",
                    b"x-ratelimit-limit-requests": "10000",
                    b"x-ratelimit-remaining-requests": "9999",
                    b"x-ratelimit-reset-requests": "6ms",
                    b"x-ratelimit-limit-tokens": "2000000",
                    b"x-ratelimit-remaining-tokens": "1999000",
                    b"x-ratelimit-reset-tokens": "30ms",
                }
                message["headers"] = [
                    *message["headers"],
                    *((name, value.encode()) for name, value in ours.items() if name not in there),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
