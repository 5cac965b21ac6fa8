"""One attempt to deliver a callback, against a backend on loopback that answers whatever a test says, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook

from deskterior.callback_messages import Failure, desk_found, generate_ended
from deskterior.callbacks import CallbackSender, Delivered, Outcome, TryAgain
from deskterior.config import Settings, SettingsError
from deskterior.errors import InternalError
from deskterior.schemas import Problem, Product, ProductDetail, PromptResponse, TaskStatus

PHOTO = "https://example.com/책상.jpg"
DESK = desk_found(TaskStatus(initial_image_url=PHOTO, classify=True))
FAILURE = Failure(PHOTO, Problem.model_validate(InternalError().problem()))
BARE = PromptResponse(initial_image_url=PHOTO, processed_image_url="https://example.com/1.png", products=[])
MOUSE = ProductDetail(
    title="마우스", price="1", mall="m", link="https://m.example/1", image="i", main_category="", sub_category=""
)
FULL = BARE.model_copy(update={"products": [Product(keyword="마우스", details=[MOUSE])]})


class Backend:
    """Reads one request of each connection, sends `answer`, and hangs up unless `hang`."""

    def __init__(self, answer: bytes, *, hang: bool = False) -> None:
        self.answer = answer
        self.hang = hang
        self.head = b""
        self.body = b""
        self.requests = 0
        self.done: list[asyncio.Event] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.done.append(finished := asyncio.Event())
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            finished.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in self.head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.body = await reader.readexactly(int(length.split(b":")[1]))
        self.requests += 1
        with suppress(ConnectionError):
            writer.write(self.answer)
            await writer.drain()
            if self.hang:
                await reader.read()

    def header(self, name: str) -> str:
        lines = [line.partition(b": ") for line in self.head.split(b"\r\n")]
        return next(value.decode() for key, _, value in lines if key.lower() == name.encode())


@asynccontextmanager
async def listening(backend: Backend) -> AsyncIterator[str]:
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
        for finished in backend.done:
            await finished.wait()


def settings(url: str, **changes: object) -> Settings:
    return Settings.model_validate({"callback_url": url, "callback_timeout_s": 5.0, **changes})


async def deliver(backend: Backend, body: bytes = DESK, **changes: object) -> Outcome:
    async with listening(backend) as url:
        sender = CallbackSender(settings(url, **changes))
        try:
            return await sender.attempt("msg_1", body)
        finally:
            await sender.aclose()


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Odd"])
async def test_any_2xx_is_delivered(status: str) -> None:
    assert await deliver(Backend(answer(status))) == Delivered()


async def test_the_backend_gets_the_exact_bytes_signed_as_json() -> None:
    backend = Backend(answer("200 OK"))
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    await deliver(backend, callback_secret=secret)
    assert backend.body == DESK
    assert backend.head.startswith(b"POST /callback HTTP/1.1\r\n")
    assert backend.header("content-type") == "application/json"
    assert backend.header("webhook-id") == "msg_1"
    signed = {name: backend.header(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    assert Webhook(secret).verify(backend.body, signed) == {"initial_image_url": PHOTO, "classify": True}


async def test_no_cookie_ties_one_message_to_another() -> None:
    backend = Backend(answer("200 OK", b"", "Set-Cookie: JSESSIONID=1; Path=/", "Connection: close"))
    async with listening(backend) as url:
        sender = CallbackSender(settings(url))
        for message_id in ("msg_1", "msg_2"):
            assert await sender.attempt(message_id, DESK) == Delivered()
        await sender.aclose()
    assert backend.requests == 2
    assert b"cookie" not in backend.head.lower()


async def test_without_a_secret_nothing_pretends_to_be_signed() -> None:
    backend = Backend(answer("200 OK"))
    await deliver(backend)
    assert b"webhook-" not in backend.head.lower()


@pytest.mark.parametrize("status", ["400 No", "401 No", "404 No", "409 No", "410 Gone", "429 Slow", "500 No", "503 No"])
async def test_any_other_status_is_tried_again_and_named(status: str) -> None:
    outcome = await deliver(Backend(answer(status, b"secret trace of the backend")))
    assert isinstance(outcome, TryAgain)
    assert status[:3] in outcome.reason
    assert "secret" not in outcome.reason


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    elsewhere = Backend(answer("200 OK"))
    async with listening(elsewhere) as url:
        outcome = await deliver(Backend(answer(status, b"", f"Location: {url}")))
    assert isinstance(outcome, TryAgain)
    assert "CALLBACK_URL" in outcome.reason
    assert elsewhere.requests == 0


def coded(code: object) -> bytes:
    return answer("404 Not Found", json.dumps({"status": 404, "code": code, "message": "없음"}).encode())


@pytest.mark.parametrize("body", [generate_ended(FAILURE, "flat"), generate_ended(BARE, "flat")])
async def test_a_flat_message_without_products_is_delivered_when_the_backend_only_misses_products(body: bytes) -> None:
    assert await deliver(Backend(coded("PRODUCT_NOT_FOUND")), body, callback_format="flat") == Delivered()


@pytest.mark.parametrize(
    ("body", "form", "reply"),
    [
        (generate_ended(FAILURE, "flat"), "flat", coded("AIIMAGE_NOT_FOUND")),
        (generate_ended(FAILURE, "flat"), "flat", coded("AI_PRODUCT_NOT_FOUND")),
        (generate_ended(FAILURE, "flat"), "flat", coded(404)),
        (generate_ended(FAILURE, "flat"), "flat", answer("404 Not Found", b'"PRODUCT_NOT_FOUND"')),
        (generate_ended(FAILURE, "flat"), "flat", answer("404 Not Found", b"\xff\xfe<html>")),
        (generate_ended(FAILURE, "flat"), "flat", answer("404 Not Found", b"[" * 60_000)),
        (generate_ended(FAILURE, "flat"), "flat", answer("500 No", b'{"code": "PRODUCT_NOT_FOUND"}')),
        (generate_ended(FULL, "flat"), "flat", coded("AIIMAGE_NOT_FOUND")),
        (generate_ended(FULL, "flat"), "flat", coded("PRODUCT_NOT_FOUND")),
        (DESK, "flat", coded("PRODUCT_NOT_FOUND")),
        (generate_ended(FAILURE, "nested"), "nested", coded("PRODUCT_NOT_FOUND")),
    ],
)
async def test_every_other_404_is_tried_again(body: bytes, form: str, reply: bytes) -> None:
    assert isinstance(await deliver(Backend(reply), body, callback_format=form), TryAgain)


@pytest.mark.parametrize(
    ("value", "after"),
    [("7", 7.0), ("0", 0.0), ("999999", 3600.0), ("-5", None), ("soon", None), ("", None), ("9" * 40, 3600.0)],
)
async def test_the_backends_wish_for_a_pause_is_honoured_within_an_hour(value: str, after: float | None) -> None:
    outcome = await deliver(Backend(answer("503 Busy", b"", f"Retry-After: {value}")))
    assert isinstance(outcome, TryAgain)
    assert outcome.after == after


@pytest.mark.parametrize(("away", "least", "most"), [(60, 1, 60), (-60, 0, 0), (10**7, 3600, 3600)])
async def test_a_pause_may_be_given_as_a_date(away: int, least: float, most: float) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=away), usegmt=True)
    outcome = await deliver(Backend(answer("429 Slow", b"", f"Retry-After: {until}")))
    assert isinstance(outcome, TryAgain)
    assert outcome.after is not None
    assert least <= outcome.after <= most


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 500",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\ncut",
        b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_broken_answer_is_tried_again(reply: bytes) -> None:
    outcome = await deliver(Backend(reply), callback_format="flat")
    assert isinstance(outcome, TryAgain)
    assert "backend" in outcome.reason


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200", b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n{"])
async def test_a_backend_that_does_not_finish_its_answer_in_time_is_tried_again(reply: bytes) -> None:
    outcome = await deliver(Backend(reply, hang=True), callback_timeout_s=0.2, callback_format="flat")
    assert outcome == TryAgain("the backend did not answer within 0.2 s")


@pytest.mark.parametrize("hang", [True, False])
async def test_a_2xx_whose_body_never_comes_is_delivered(hang: bool) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    assert await deliver(Backend(reply, hang=hang), callback_timeout_s=0.5) == Delivered()


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    backend = Backend(answer("404 No", b" " * 5_000_000 + b'{"code": "PRODUCT_NOT_FOUND"}'))
    outcome = await deliver(backend, generate_ended(FAILURE, "flat"), callback_format="flat")
    assert outcome == TryAgain("the backend answered 404")


async def test_a_backend_that_is_away_is_tried_again() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        sender = CallbackSender(settings(f"http://127.0.0.1:{nobody.getsockname()[1]}/"))
        assert await sender.attempt("msg_1", DESK) == TryAgain("the backend could not be reached")
        await sender.aclose()


async def test_an_unusable_secret_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="CALLBACK_SECRET"):
        CallbackSender(settings("http://127.0.0.1:1", callback_secret="whsec_?"))


async def test_nobody_to_tell_is_known_beforehand() -> None:
    sender = CallbackSender(Settings())
    assert not sender.enabled
    await sender.aclose()
