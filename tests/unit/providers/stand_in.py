"""A stand-in for an outside service: a real server on loopback that answers, drips, cuts or hangs as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    hang: bool = False
    """Send nothing, keep the connection."""
    drip: bool = False
    """Send the body a byte at a time, for ever."""


def reply(value: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"content-type": "application/json", **named})


Handler = Callable[[Heard], Reply]


@dataclass
class StandIn:
    """Answers with `handler`; `script` makes one that gives its replies in turn, the last for good."""

    handler: Handler
    url: str = ""
    heard: list[Heard] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and await self._answer(head, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = request.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        heard = Heard(method, parts.path, parse_qs(parts.query), headers, body)
        self.heard.append(heard)
        answer = self.handler(heard)
        if answer.hang:
            await reader.read()
            return False
        lengths = {} if answer.drip else {"content-length": str(len(answer.body))}
        named = "".join(f"{name}: {value}\r\n" for name, value in {**answer.headers, **lengths}.items())
        phrase = HTTPStatus(answer.status).phrase
        writer.write(f"HTTP/1.1 {answer.status} {phrase}\r\n{named}\r\n".encode("latin-1"))
        if answer.drip:
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
            return False
        writer.write(answer.body[: answer.cut_after])
        await writer.drain()
        return answer.cut_after is None


def script(*replies: Reply) -> Handler:
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@asynccontextmanager
async def standing_in(handler: Handler) -> AsyncIterator[StandIn]:
    stand_in = StandIn(handler)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(stand_in.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stand_in
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def closed_port() -> str:
    """An address on loopback where nobody listens."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"


class Clock:
    """Time that passes only by sleeping on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
