"""A backend's callback endpoint: checks signature and shape, keeps what came in, and answers as the Java one does."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.callback_shapes import Shape, WrongShape, shape_of
from sandbox.exchange import Outcome, Reply, exchange, json_reply, waiting_headers
from sandbox.faults import Fault
from sandbox.state import Received, Sandbox

_SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SECRET_HEADERS = {"authorization", "cookie"}
_MAX_BODY = 4 * 1024 * 1024


class Backend:
    """The routes under `/backend`. A callback is accepted, and counts as a duplicate next time, when answered 2xx."""

    def __init__(self, sandbox: Sandbox) -> None:
        secret = sandbox.options.callback_secret
        self._sandbox = sandbox
        self._webhook = Webhook(secret) if secret else None
        self._accepted: dict[str, None] = {}
        self._count = 0
        self.routes = [Route("/callback", self._receive, methods=["POST"])]

    async def _receive(self, request: Request) -> Response:
        raw = await _body(request)
        text = raw.decode("utf-8", "replace")
        return await exchange(
            request,
            self._sandbox,
            where="backend",
            text=text,
            latency=self._sandbox.options.latency.backend,
            work=lambda fault: self._judge(request, raw, fault),
            refuse=lambda fault: self._refuse(request, raw, fault),
        )

    async def _judge(self, request: Request, raw: bytes, fault: Fault | None) -> Outcome:
        return Outcome(self._answer(request, raw, None if fault is None or fault.kind != "empty" else Reply(200, b"")))

    def _refuse(self, request: Request, raw: bytes, fault: Fault) -> Reply:
        status = (fault.status or 500) if fault.kind == "status" else (fault.status or 429)
        headers = {name: value for name, value in waiting_headers(fault).items() if name == "retry-after"}
        told = {"code": fault.code or f"STATUS_{status}", "message": fault.message or "fault on demand"}
        return self._answer(request, raw, json_reply(told, status, headers))

    def _answer(self, request: Request, raw: bytes, forced: Reply | None) -> Reply:
        """Judge the callback, keep it, and answer; `forced` is what a fault answers to a sound one."""
        shape: Shape | None = None
        signature = self._signature(request, raw)
        body: object = None
        try:
            body = json.loads(raw)
            shape = self._shape(request, body)
            reply = self._accept(body, shape)
        except WrongShape as wrong:
            reply = json_reply({"code": "INVALID_BODY", "message": "The body is wrong", "errors": wrong.errors}, 400)
        except (ValueError, RecursionError):
            reply = json_reply({"code": "INVALID_BODY", "message": "The body is no JSON", "errors": []}, 400)
        if signature in ("unsigned", "invalid"):
            reply = json_reply({"code": "INVALID_SIGNATURE", "message": f"The callback is {signature}"}, 401)
        elif shape is not None and forced is not None:
            reply = forced
        self._keep(request, raw, body, shape, signature, reply.status)
        return reply

    def _shape(self, request: Request, body: object) -> Shape:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise WrongShape(["Content-Type is not application/json"])
        return shape_of(body, self._sandbox.options.callback_format)

    def _accept(self, body: object, shape: Shape) -> Reply:
        failed = isinstance(body, dict) and shape == "flat" and body["processed_image_url"] is None
        if failed and self._sandbox.options.callback_format == "flat":
            return json_reply({"code": "PRODUCT_NOT_FOUND", "message": "There are no products"}, 404)
        return json_reply({"code": "OK"})

    def _signature(self, request: Request, raw: bytes) -> str:
        headers = {name: request.headers[name] for name in _SIGNED if name in request.headers}
        if self._webhook is None:
            return "unchecked"
        if not headers:
            return "unsigned"
        try:
            self._webhook.verify(raw, headers)
        except WebhookVerificationError:
            return "invalid"
        except ValueError:  # a signed body that is no JSON
            return "verified"
        return "verified"

    def _keep(
        self, request: Request, raw: bytes, body: object, shape: Shape | None, signature: str, status: int
    ) -> None:
        self._count += 1
        webhook_id = request.headers.get("webhook-id")
        duplicate = webhook_id in self._accepted
        if webhook_id and 200 <= status < 300:
            self._accepted[webhook_id] = None
        headers = {name: value for name, value in request.headers.items() if name not in _SECRET_HEADERS}
        received = Received(
            self._count,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            headers,
            body,
            raw.decode("utf-8", "replace"),
            shape,
            signature,  # type: ignore[arg-type]  # one of the four that `_signature` gives
            duplicate,
            status,
        )
        self._sandbox.callbacks.append(received)


async def _body(request: Request) -> bytes:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY:
            break  # what follows is cut off, and so is no JSON
    return raw
