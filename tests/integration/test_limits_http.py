"""What never becomes a request: heads without end, drips, silence, and what is no HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from deskterior.gateway.limits_http import BoundedConnection


class Impatient(BoundedConnection):
    head_max_bytes = 8192
    head_within_s = 0.3


class Patient(BoundedConnection):
    head_max_bytes = 8192
    head_within_s = 600.0


class Unread(Patient):
    read_within_s = 0.3


WHOLE = 30_000_000


class App:
    """Answers at once, at length or without end, or reads the body first and tells of it, or waits until told so."""

    def __init__(self) -> None:
        self.read: list[tuple[bytes, list[bytes]]] = []
        self.go_on = asyncio.Event()
        self.entered = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/read":
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message.get("more_body", False)
            self.read.append((body, [name for name, _ in scope["headers"]]))
        if scope["path"] == "/wait":
            self.entered.set()
            await self.go_on.wait()
        if scope["path"] == "/endless":
            await self.endless(receive, send)
            return
        body = {"/whole": bytes(WHOLE), "/some": bytes(50_000)}.get(scope["path"], b"ok")
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    async def endless(self, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            await asyncio.sleep(0)
        self.left.set()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App) -> None:
        self.reader, self.writer, self.app = reader, writer, app

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any] | str]:
        """Status and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.partition(":")[2]) for line in head.split("\r\n") if "content-length" in line)
        body = (await self.reader.readexactly(length)).decode()
        return int(head.split()[1]), json.loads(body) if "problem+json" in head else body

    async def problem(self) -> tuple[int, str]:
        status, body = await self.answer()
        assert isinstance(body, dict)
        assert body["status"] == status
        assert body["detail"]
        assert body["request_id"]
        return status, body["type"].removeprefix("/problems/")

    async def ended(self) -> bytes:
        """What else came before the end."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""


@asynccontextmanager
async def connected(protocol: type[BoundedConnection], keep_alive_s: int = 60) -> AsyncIterator[Client]:
    app = App()
    config = uvicorn.Config(
        app, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=keep_alive_s, proxy_headers=False
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listening]))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield Client(reader, writer, app)
    finally:
        app.go_on.set()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        server.should_exit = True
        await serving
        listening.close()


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "slug"),
    [
        (GET + b"a: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers-too-large"),
        (GET + b"".join(b"a%d: 1\r\n" % number for number in range(101)) + b"\r\n", 431, "headers-too-large"),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "uri-too-long"),
        (b"GET /?" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "uri-too-long"),
        (b"hello\r\n\r\n", 400, "not-http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not-http"),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "not-http"),
        (b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n", 400, "not-http"),
        (b"GET /\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/0.9\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 400, "not-http"),
        (b"GET / HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 400, "not-http"),
    ],
)
async def test_what_is_too_large_or_no_http_is_told_so_in_the_one_shape(sent: bytes, status: int, slug: str) -> None:
    async with connected(Patient) as client:
        await client.send(sent)
        assert await client.problem() == (status, slug)
        assert await client.ended() == b""


async def test_headers_without_end_are_not_kept() -> None:
    async with connected(Patient) as client:
        await client.send(GET + b"a: ")
        for _ in range(600):
            await client.send(b"x" * 100_000)  # 60 MB, read and thrown away, or not even read
        status, slug = await client.problem()
        assert (status, slug) == (431, "headers-too-large")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
async def test_a_connection_that_says_nothing_ends(sent: bytes) -> None:
    async with connected(Impatient) as client:
        await client.send(sent)
        assert await client.ended() == b""


async def test_a_head_that_drips_ends() -> None:
    async with connected(Impatient) as client:

        async def drip() -> None:
            await client.send(GET)
            while True:
                await client.send(b"a: 1\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await client.problem() == (408, "request-timeout")
        dripping.cancel()


async def test_what_drips_after_the_answer_ends_too() -> None:
    async with connected(Impatient) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert await client.answer() == (200, "ok")

        async def drip() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await client.ended() == b""
        dripping.cancel()


async def test_stray_line_ends_do_not_keep_an_idle_connection() -> None:
    async with connected(Impatient) as client:
        await client.send(GET + b"\r\n")
        assert await client.answer() == (200, "ok")
        await client.send(b"\r\n")
        assert await client.ended() == b""


async def test_time_counts_for_heads_alone() -> None:
    """A body, and an answer, may take longer: others see to them."""
    async with connected(Impatient) as client:
        await client.send(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d"):
            await asyncio.sleep(Impatient.head_within_s / 2)
            await client.send(byte)
        assert await client.answer() == (200, "ok")


async def test_an_answer_that_nobody_reads_ends() -> None:
    async with connected(Unread) as client, asyncio.timeout(30):
        await client.send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.app.left.wait()  # and nothing is read meanwhile


async def test_whoever_reads_on_has_as_much_time_again() -> None:
    class Watched(Patient):
        def pause_writing(self) -> None:
            super().pause_writing()
            timers.put_nowait(self._unread)

    timers: asyncio.Queue[asyncio.TimerHandle | None] = asyncio.Queue()
    async with connected(Watched) as client, asyncio.timeout(60):
        await client.send(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        timer = await timers.get()
        assert timer is not None
        assert not timer.cancelled()
        await client.reader.readexactly(20_000_000)  # more than lies in all buffers on the way
        assert timer.cancelled()


async def test_whoever_reads_slowly_is_waited_for() -> None:
    """Nothing says so but what is left: of an answer that is written as a whole, there is no room until its end."""

    class Watched(Patient):
        def pause_writing(self) -> None:
            super().pause_writing()
            paused.put_nowait(self)

    paused: asyncio.Queue[Watched] = asyncio.Queue()
    async with connected(Watched) as client, asyncio.timeout(60):
        await client.send(b"GET /whole HTTP/1.1\r\nhost: x\r\n\r\n")
        connection = await paused.get()
        for _ in range(2):
            timer = connection._unread
            await client.reader.readexactly(WHOLE // 3)  # more than lies in all buffers on the way
            connection._judge_reader()
            assert not connection.transport.is_closing()
            assert connection._unread is not timer
            assert timer
            timer.cancel()
        while not connection.transport.is_closing():  # and now nothing is read, once the buffers are full
            connection._judge_reader()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("version", "keep_alive_s"), [(b"1.0", 60), (b"1.1", 0)])
async def test_the_few_bytes_of_an_answer_that_nobody_takes_hold_no_connection(
    version: bytes, keep_alive_s: int
) -> None:
    class Watched(Unread):
        head_within_s = 0.3

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            left.append(self.transport.get_write_buffer_size())
            super().connection_lost(exc)
            lost.set()

    left: list[int] = []
    lost = asyncio.Event()
    app = App()
    config = uvicorn.Config(app, http=Watched, lifespan="off", log_config=None, timeout_keep_alive=keep_alive_s)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        serving = asyncio.create_task(server.serve([listening]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, b"GET /some HTTP/%b\r\nhost: x\r\n\r\n" % version)
        async with asyncio.timeout(60):
            await lost.wait()
        server.should_exit = True
        await serving
    assert left == [0]


async def test_a_connection_is_kept_between_requests() -> None:
    async with connected(Impatient) as client:
        for _ in range(3):
            await client.send(GET + b"\r\n")
            assert await client.answer() == (200, "ok")
            await asyncio.sleep(Impatient.head_within_s * 1.5)


async def test_requests_one_behind_the_other_are_answered_in_turn() -> None:
    async with connected(Patient) as client:
        await client.send((GET + b"\r\n") * 5)
        assert [await client.answer() for _ in range(5)] == [(200, "ok")] * 5


async def test_nothing_is_said_in_the_midst_of_another_answer() -> None:
    async with connected(Patient) as client:
        await client.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.app.entered.wait()
        await client.send(GET + b"a: " + b"x" * 400_000)
        assert await client.ended() == b""


async def test_a_full_head_just_within_the_limit_passes() -> None:
    async with connected(Patient) as client:
        await client.send(GET + b"a: " + b"x" * 8000 + b"\r\n\r\n")
        assert await client.answer() == (200, "ok")


JDK = (
    b"POST /read HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 4\r\nHost: x\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java\r\n\r\n"
)
"""What the JDK's HttpClient sends with every request in the clear, unless it is told to speak HTTP/1.1."""


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
async def test_another_protocol_is_declined_and_the_request_read_whole(pieces: int) -> None:
    async with connected(Patient) as client:
        sent = (JDK + b"desk") * 3
        size = -(-len(sent) // pieces)
        for at in range(0, len(sent), size):
            await client.send(sent[at : at + size])
            await asyncio.sleep(0)
        assert [await client.answer() for _ in range(3)] == [(200, "ok")] * 3
        bodies, names = zip(*client.app.read, strict=True)
        assert bodies == (b"desk",) * 3
        assert all(b"upgrade" not in each and b"http2-settings" in each for each in names)


async def test_a_chunked_body_behind_an_offer_is_read_too() -> None:
    async with connected(Patient) as client:
        await client.send(JDK.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"4\r\ndesk\r\n0\r\n\r\n")
        assert await client.answer() == (200, "ok")
        assert client.app.read[0][0] == b"desk"


@pytest.mark.parametrize(("said", "instead"), [(b"Upgrade,", b"close, Upgrade,"), (b"HTTP/1.1", b"HTTP/1.0")])
async def test_an_offer_on_a_connection_that_is_to_end_is_declined_too(said: bytes, instead: bytes) -> None:
    async with connected(Patient) as client, asyncio.timeout(60):
        await client.send(JDK.replace(said, instead) + b"desk")
        assert await client.answer() == (200, "ok")
        assert await client.ended() == b""
        assert client.app.read[0][0] == b"desk"


async def test_a_connect_is_a_method_like_others() -> None:
    async with connected(Patient) as client:
        await client.send(b"CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await client.answer() == (200, "ok")


async def test_a_trailer_is_no_header() -> None:
    """A proxy has judged the headers, and written its own; it may let trailers pass unread."""
    async with connected(Patient) as client:
        head = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head + b"4\r\ndesk\r\n0\r\nX-API-Key: k\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n" + GET + b"\r\n")
        assert [await client.answer() for _ in range(2)] == [(200, "ok")] * 2
        assert client.app.read == [(b"desk", [b"host", b"transfer-encoding"])]


async def test_trailers_have_an_end() -> None:
    async with connected(Patient) as client:
        await client.send(b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        await client.send(b"a: 1\r\n" * 100_000)
        assert await client.problem() == (431, "headers-too-large")
