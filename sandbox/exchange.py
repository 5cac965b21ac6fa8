"""One exchange with a client: latency, the fault that hits it, the ledger, and how the answer leaves the house.

The services give the work and the shape of their errors; nothing here knows OpenAI from Naver.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandbox.faults import REFUSALS, Fault, Where
from sandbox.ledger import Entry, Ledger, What
from sandbox.state import Sandbox

HANG_UP = "sandbox.hang_up"
"""ASGI extension of our own server (`serving`): closes the connection, at once or when what is written has left."""
_DRIPS = 20


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the work came to, and what it costs."""

    reply: Reply
    usd: float = 0.0
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Paid:
    """Makes a call one for the ledger. `digest` is of the prompt and the pictures."""

    what: What
    model: str
    digest: str


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value, ensure_ascii=False).encode(), headers=headers or {})


def gateway_page(fault: Fault) -> Reply:
    """What a proxy in front of a service says when the service does not: a page, not JSON."""
    page = (
        b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
    )
    return Reply(fault.status or 502, page, "text/html")


def waiting_headers(fault: Fault) -> dict[str, str]:
    """`Retry-After` in whole seconds, as the standard has it, and OpenAI's own in milliseconds."""
    seconds = fault.retry_after if fault.retry_after is not None else (1.0 if fault.kind == "rate-limit" else None)
    if seconds is None:
        return {}
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(round(seconds * 1000))}


async def exchange(
    request: Request,
    sandbox: Sandbox,
    *,
    where: Where,
    text: str,
    latency: float,
    work: Callable[[Fault | None], Awaitable[Outcome]],
    refuse: Callable[[Fault], Reply],
    paid: Paid | None = None,
) -> Response:
    """Answer one sound request. `match` looks in `text`; `refuse` puts a fault in the service's shape."""
    fault = sandbox.faults.take(where, text)
    if fault is not None and fault.kind in REFUSALS:
        return Delivery(gateway_page(fault) if fault.kind == "html" else refuse(fault))
    entry = _enter(request, sandbox.ledger, paid, fault) if paid else None
    if fault is not None and fault.kind == "delay":
        latency += fault.pause()
    client = Client(request.receive)
    try:
        outcome, _ = await asyncio.gather(work(fault), asyncio.sleep(latency))
    except BaseException:
        client.forget()
        raise
    reply = outcome.reply
    if entry is not None:
        sandbox.ledger.bill(entry.n, outcome.usd, outcome.usage)
    if fault is not None and fault.kind == "malformed-json":
        reply = replace(reply, body=reply.body[: max(1, len(reply.body) // 2)])

    def over(answered: bool) -> None:
        if entry is not None:
            sandbox.ledger.end(entry.n, answered=answered, client_gone=client.gone)

    return Delivery(reply, fault=fault, client=client, over=over)


def _enter(request: Request, ledger: Ledger, paid: Paid, fault: Fault | None) -> Entry:
    headers = request.headers
    return ledger.start(
        paid.what,
        paid.model,
        paid.digest,
        fault=fault.kind if fault else None,
        task_id=headers.get("x-task-id"),
        client_request_id=headers.get("x-client-request-id"),
        idempotency_key=headers.get("idempotency-key"),
    )


class Client:
    """Notices that the client hung up, from the moment its request was read."""

    def __init__(self, receive: Receive) -> None:
        self._left = False
        self._hung_up = False
        self._watch = asyncio.create_task(self._listen(receive))

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True

    @property
    def gone(self) -> bool:
        """By its own will: not because the sandbox hung up on it."""
        return self._left and not self._hung_up

    async def leaves(self, within: float | None) -> bool:
        """Wait for the client to hang up; False when it is still there `within` seconds later."""
        done, _ = await asyncio.wait({self._watch}, timeout=within)
        return bool(done)

    async def hang_up(self, scope: Scope, *, at_once: bool) -> None:
        """Close the connection, at once or when what is written has left; on another server than ours, do nothing."""
        close = scope.get("extensions", {}).get(HANG_UP)
        if close is not None:
            self._hung_up = not self._left
            close(at_once)
            await self.leaves(5)

    def forget(self) -> None:
        self._watch.cancel()


class Delivery(Response):
    """Sends a reply whole, in drips, in part or not at all, and tells `over` whether all of it was sent."""

    def __init__(
        self,
        reply: Reply,
        *,
        fault: Fault | None = None,
        client: Client | None = None,
        over: Callable[[bool], None] = lambda _: None,
    ) -> None:
        super().__init__(reply.body, reply.status, dict(reply.headers), reply.media_type)
        self._kind = fault.kind if fault else None
        self._fault = fault
        self._client = client
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            if not await self._send(scope, send):
                self._over(False)
        finally:
            if self._client is not None:
                self._client.forget()

    async def _send(self, scope: Scope, send: Send) -> bool:
        """Whether it came to its last byte."""
        client = self._client
        if client is not None and self._fault is not None:
            if self._kind == "hang":
                if await client.leaves(self._fault.seconds):
                    return False
            elif self._kind == "reset":
                await client.hang_up(scope, at_once=True)
                return False
        body = bytes(self.body)
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if client is not None and self._kind == "cut":
            await send(start)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            # Without our own server this return is what closes the connection: the server sees half an answer.
            await client.hang_up(scope, at_once=False)
            return False
        await send(start)
        if client is not None and self._fault is not None and self._kind == "slow-drip":
            step = max(1, len(body) // _DRIPS)
            while len(body) > step and not client.gone:
                await send({"type": "http.response.body", "body": body[:step], "more_body": True})
                body = body[step:]
                await client.leaves(self._fault.pause() / _DRIPS)
        elif client is not None and len(body) > 1:
            await send({"type": "http.response.body", "body": body[:-1], "more_body": True})
            body = body[-1:]
            await asyncio.sleep(0)
        # Before the last byte: after it, a server says that the client is gone in any case, and whoever has read the
        # whole answer finds it in the ledger.
        self._over(client is None or not client.gone)
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return True
