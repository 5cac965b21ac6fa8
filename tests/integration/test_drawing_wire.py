"""The drawing wire over real HTTP: both of our sides, other people's clients, servers that are none or mean harm."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image

from deskterior.errors import (
    CustomModelMissing,
    DeskteriorError,
    InternalError,
    Overloaded,
    PhotoUnreadable,
    RunnerFailed,
)
from deskterior.schemas import Concept
from runners import drawing_wire as wire
from runners.drawing import DrawRequest
from runners.drawing_server import drawing_app
from runners.drawing_state import NoAnswerYet, check_usable
from runners.remote_drawing import RemoteDrawing
from runners.token import TokenGuard
from tests.painters import INSTALLED, Painter, jpeg, says, served

WANTED = DrawRequest(jpeg(), "한글 desk, oil paint", Concept.OIL, seed=11)
PARTS: dict[str, Any] = {"photo": ("photo.jpg", jpeg(), "image/jpeg"), "request": (None, '{"prompt": "a desk"}')}


@dataclass
class Pair:
    painter: Painter
    remote: RemoteDrawing
    url: str


@asynccontextmanager
async def pair(token: str = "", shown: str = "") -> AsyncIterator[Pair]:
    painter = Painter()
    async with served(TokenGuard(drawing_app(lambda: painter), token)) as url, remote(url, token=shown) as client:
        yield Pair(painter, client, url)


@asynccontextmanager
async def remote(url: str, **more: Any) -> AsyncIterator[RemoteDrawing]:
    client = RemoteDrawing(url, **{"timeout_s": 20.0, "silence_s": 10.0} | more)
    try:
        yield client
    finally:
        await client.aclose()


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class TestBothSidesOfOurs:
    async def test_the_order_arrives_and_the_picture_comes_back_with_every_step(self) -> None:
        steps: list[tuple[int, int]] = []
        async with pair() as both:
            drawn = await both.remote.draw(WANTED, lambda step, of: steps.append((step, of)))

            assert both.painter.asked == [WANTED]
        assert (drawn.content_type, drawn.seed, drawn.version) == ("image/png", 11, "1")
        assert Image.open(io.BytesIO(drawn.image)).size == (64, 48)
        assert steps == sorted(steps)
        assert all(of == 4 for _, of in steps)

    async def test_a_step_is_told_while_the_picture_is_being_drawn(self) -> None:
        told = asyncio.Event()
        async with pair() as both:
            both.painter.gate = asyncio.Event()
            drawing = asyncio.create_task(both.remote.draw(WANTED, lambda *_: told.set()))
            await asyncio.wait_for(told.wait(), 10)
            assert not drawing.done()
            both.painter.gate.set()
            assert (await drawing).image

    @pytest.mark.parametrize("fail_at", [0, 3], ids=["at once", "after steps"])
    @pytest.mark.parametrize(
        ("error", "kind", "retry_after"),
        [
            (Overloaded("32 wait", retry_after=17), Overloaded, 17),
            (Overloaded("32 wait", retry_after=1e9), Overloaded, 120),
            (CustomModelMissing("look in /home/me"), CustomModelMissing, None),
            (PhotoUnreadable("cut off"), PhotoUnreadable, None),
            (RunnerFailed("out of memory at /opt/x"), RunnerFailed, None),
            (InternalError(), RunnerFailed, None),
            (ZeroDivisionError("a bug"), RunnerFailed, None),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    async def test_an_error_stays_what_it_is_but_for_its_words(
        self, error: Exception, kind: type[DeskteriorError], retry_after: float | None, fail_at: int
    ) -> None:
        async with pair() as both:
            both.painter.errors, both.painter.fail_at = [error], fail_at
            with pytest.raises(kind) as caught:
                await both.remote.draw(WANTED)
            assert caught.value.retry_after == retry_after
            assert "/" not in re.sub("/v1/generate|/info|models/custom/1", "", caught.value.detail)
            assert (await both.remote.draw(WANTED)).image  # and the next one is drawn

    async def test_whoever_hangs_up_is_not_drawn_for(self) -> None:
        async with pair() as both:
            both.painter.gate = asyncio.Event()
            drawing = asyncio.create_task(both.remote.draw(WANTED))
            await until(lambda: both.painter.asked)
            drawing.cancel()
            await until(lambda: both.painter.cancelled)
            assert both.painter.drawn == 0

    async def test_a_drawing_that_tells_nothing_is_known_to_live(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "HEARTBEAT_S", 0.02)
        async with pair() as both, remote(both.url, silence_s=1.0) as client:
            both.painter.steps = 1
            both.painter.gate = asyncio.Event()
            drawing = asyncio.create_task(client.draw(WANTED))
            done, _ = await asyncio.wait({drawing}, timeout=1.5)
            assert not done
            both.painter.gate.set()
            assert (await drawing).image

    async def test_what_is_installed_is_told_and_checked(self) -> None:
        async with pair() as both:
            assert await both.remote.info() == INSTALLED
            assert await both.remote.check() == "ok (cpu (float32), 1)"
            both.painter.installed = INSTALLED.model_copy(update={"versions": []})
            assert await both.remote.check() == "no model installed"
            both.painter.info_error = RunnerFailed("broken")
            with pytest.raises(RunnerFailed):
                await both.remote.check()

    async def test_the_token_is_shown(self) -> None:
        async with pair(token="secret", shown="secret") as both:
            assert (await both.remote.draw(WANTED)).image
        async with pair(token="secret", shown="guess") as both:
            with pytest.raises(RunnerFailed, match="RUNNER_TOKEN"):
                await both.remote.info()
            with pytest.raises(RunnerFailed):  # the door is shut before the photo is through it, so why may be lost
                await both.remote.draw(WANTED)
            assert not both.painter.asked

    async def test_a_photo_and_a_picture_of_megabytes_travel(self) -> None:
        async with pair() as both:
            both.painter.image = b"\x89PNG" + bytes(8_000_000)
            drawn = await both.remote.draw(DrawRequest(jpeg() + bytes(5_000_000), "desk " * 5000))
            assert drawn.image == both.painter.image
            assert len(both.painter.asked[0].photo) > 5_000_000


class TestOtherPeoplesClients:
    async def test_who_wants_no_lines_gets_a_picture(self) -> None:
        async with pair() as both, httpx.AsyncClient(base_url=both.url) as http:
            answer = await http.post("/draw", files=PARTS)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(answer.content)).format == "PNG"
        assert (answer.headers[wire.SEED], answer.headers[wire.VERSION]) == ("7", "1")

    async def test_and_a_refusal_has_a_status(self) -> None:
        async with pair() as both, httpx.AsyncClient(base_url=both.url) as http:
            both.painter.errors = [Overloaded("32 wait", retry_after=17)]
            answer = await http.post("/draw", files=PARTS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "17")
        assert answer.json()["type"] == "/problems/overloaded"

    @pytest.mark.parametrize(
        "sent",
        [
            {"files": {"photo": PARTS["photo"]}},
            {"files": {"request": PARTS["request"]}},
            {"files": PARTS | {"photo": (None, "text")}},
            {"files": PARTS | {"request": (None, "{")}},
            {"files": PARTS | {"request": (None, b"\xff\xfe")}},
            {"files": PARTS | {"request": (None, '{"prompt": ""}')}},
            {"files": PARTS | {"request": (None, '{"prompt": "a", "concept": "CUBISM"}')}},
            {"files": PARTS | {"request": (None, '{"prompt": "a", "seed": -1}')}},
            {"files": PARTS | {"request": (None, '{"prompt": "a", "seed": 1e300}')}},
            {"files": PARTS | {"request": (None, "[" * 100_000)}},
            {"files": PARTS | {"request": (None, json.dumps({"prompt": "a" * 40_000}))}},
            {"files": PARTS | {"more": (None, "x" * 300_000)}},
            {"files": PARTS | {"second": PARTS["photo"], "third": PARTS["photo"]}},
            {"json": {"prompt": "a"}},
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
            {"headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        ],
    )
    async def test_a_request_that_is_none_is_refused_in_the_one_shape(self, sent: dict[str, Any]) -> None:
        async with pair() as both, httpx.AsyncClient(base_url=both.url) as http:
            answer = await http.post("/draw", **sent)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
        assert not both.painter.asked

    @pytest.mark.parametrize(
        ("length", "status"),
        [("Transfer-Encoding: chunked", b"422"), (f"Content-Length: {wire.MAX_BODY + 1}", b"413")],
    )
    async def test_a_body_without_end_or_too_long_is_refused_unread(self, length: str, status: bytes) -> None:
        async with pair() as both:
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(both.url).port)
            kind = "Content-Type: multipart/form-data; boundary=x"
            writer.write(f"POST /draw HTTP/1.1\r\nHost: x\r\n{kind}\r\n{length}\r\n\r\n".encode())
            async with asyncio.timeout(10):
                answer = await reader.read()  # to its end: the server hangs up
            writer.close()
        assert answer.split(b" ")[1] == status
        assert b"application/problem+json" in answer

    async def test_other_paths_and_methods_are_problems(self) -> None:
        async with pair() as both, httpx.AsyncClient(base_url=both.url) as http:
            answers = [await http.get("/draw"), await http.post("/drawing-model"), await http.get("/etc/passwd")]
        assert [answer.status_code for answer in answers] == [405, 405, 404]
        assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


def http_answer(body: bytes, kind: str = wire.NDJSON, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n".encode() + body


PICTURE = base64.b64encode(b"picture").decode()


class TestServersThatAreNoneOrMeanHarm:
    @pytest.mark.parametrize(
        "answer",
        [
            http_answer(b"<html>It works!</html>", "text/html"),
            http_answer(b"<html>Oh no</html>", "text/html", "500 Internal Server Error"),
            http_answer(b"", "text/html", "302 Found", "Location: http://127.0.0.1:1/\r\n"),
            http_answer(b"", "text/html", "308 Permanent Redirect", "Location: /draw\r\n"),
            http_answer(b"no", "text/plain", "401 Unauthorized"),
            http_answer(b"no", "text/plain", "404 Not Found"),
            http_answer(b"", "image/svg+xml"),
            http_answer(b"\x1f\x8b", wire.NDJSON, more="Content-Encoding: gzip\r\n"),
            http_answer(b"\x1f\x8b", "image/png", more="Content-Encoding: gzip\r\n"),
            http_answer(b"cut", "image/png", more="Content-Length: 100\r\n"),
            http_answer(b""),
            http_answer(b"\n"),
            http_answer(b"nonsense\n"),
            http_answer(b"\xff\xfe\x00\n"),
            http_answer(b"[" * 100_000 + b"\n"),
            http_answer(b'{"step": 1, "of": 2}\n'),
            http_answer(b'{"step": -1, "of": 2}\n'),
            http_answer(b'{"step": 1e99, "of": 2}\n'),
            http_answer(b'{"step": "x", "of": 2}\n'),
            http_answer(b'{"picture": "%%%", "content_type": 7}\n'),
            http_answer(f'{{"picture": "{PICTURE}", "content_type": "text/html"}}\n'.encode()),
            http_answer(f'{{"picture": "{PICTURE}"}}\n'.encode()),
            http_answer(b'{"problem": {"type": 1}}\n'),
            http_answer(b'{"problem": {"type": "/problems/x", "status": 500, "detail": "<script>"}}\n'),
            http_answer(b'{"step": 1, "of": 2}\n', more="Content-Length: 1000\r\n"),
            http_answer(b"ZZZ\r\n", more="Transfer-Encoding: chunked\r\n"),
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
            b"HTTP/9.9 OMG\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\x00" * 1000,
            b"",
        ],
    )
    async def test_what_does_not_draw_is_a_runner_that_failed(self, answer: bytes) -> None:
        async with says(answer) as url, remote(url) as client:
            with pytest.raises(RunnerFailed) as caught:
                await client.draw(WANTED, lambda *_: None)
        assert caught.value.detail
        assert "script" not in caught.value.detail

    @pytest.mark.parametrize(
        ("head", "endless"),
        [
            (http_answer(b""), b"x" * 65536),
            (http_answer(b""), b'{"alive": true}\n' * 4096),
            (http_answer(b""), b'{"step": 1, "of": 2}\n' * 4096),
            (http_answer(b"", "image/png"), b"x" * 65536),
            (http_answer(b"", "text/html", "500 Oh No"), b"x" * 65536),
            (http_answer(b"", "text/html"), b"x" * 65536),
        ],
    )
    async def test_nothing_without_end_fills_the_memory(
        self, head: bytes, endless: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire, "MAX_PICTURE", 1_000_000)
        monkeypatch.setattr(wire, "MAX_LINE", 1_400_000)
        async with says(head, endless=endless) as url, remote(url) as client:
            with pytest.raises(RunnerFailed):
                await client.draw(WANTED, lambda *_: None)

    async def test_steps_that_go_backwards_or_beyond_the_end_are_not_told(self) -> None:
        lines = [(2, 4), (1, 4), (2, 4), (3, 2), (0, 0), (4, 4)]
        body = b"".join(wire.step_line(*line) for line in lines)
        body += f'{{"picture": "{PICTURE}", "content_type": "image/png"}}\n'.encode()
        told: list[tuple[int, int]] = []
        async with says(http_answer(body)) as url, remote(url) as client:
            drawn = await client.draw(WANTED, lambda step, of: told.append((step, of)))
        assert drawn.image == b"picture"
        assert told == [(2, 4), (4, 4)]

    async def test_a_last_line_without_its_end_is_a_line_and_pieces_may_come_anyhow(self) -> None:
        body = wire.step_line(1, 2) + wire.HEARTBEAT
        body += f'{{"picture": "{PICTURE}", "content_type": "image/webp", "seed": 3}}'.encode()
        pieces = [bytes([byte]) for byte in http_answer(body)]
        async with says(*pieces) as url, remote(url) as client:
            drawn = await client.draw(WANTED)
        assert (drawn.image, drawn.content_type, drawn.seed) == (b"picture", "image/webp", 3)

    async def test_a_runner_that_falls_silent_is_dead(self) -> None:
        async with says(http_answer(wire.HEARTBEAT), keep_open=True) as url, remote(url, silence_s=0.05) as client:
            with pytest.raises(RunnerFailed, match="said nothing"):
                await client.draw(WANTED)

    async def test_a_runner_that_never_answers_is_waited_for_no_longer_than_the_setting(self) -> None:
        async with says(keep_open=True) as url, remote(url, timeout_s=0.05) as client:
            with pytest.raises(NoAnswerYet, match=r"0\.05 s"):
                await client.draw(WANTED)

    async def test_a_runner_that_is_away_is_waited_for(self) -> None:
        async with says() as url:
            pass
        async with remote(url) as client:
            with pytest.raises(Overloaded) as caught:
                await client.draw(WANTED)
            assert caught.value.retry_after
            with pytest.raises(Overloaded):
                await client.info()

    async def test_busy_and_missing_are_told_apart_whatever_the_body_says(self) -> None:
        missing = b'{"type": "https://example.com/problems/custom-model-missing", "detail": "put it in /secret"}'
        refusals = [
            (b"<html>busy</html>", "Retry-After: 12\r\n", Overloaded, 12),
            (b"", "Retry-After: soon\r\n", Overloaded, 2),
            (b"", "Retry-After: 99999999999999999999\r\n", Overloaded, 120),
            (b"[" * 10_000, "", Overloaded, 2),
            (missing, "", CustomModelMissing, None),
        ]
        for body, more, kind, after in refusals:
            answer = http_answer(body, "application/problem+json", "503 Busy", more)
            async with says(answer) as url, remote(url) as client:
                with pytest.raises(kind) as caught:
                    await client.draw(WANTED)
            assert caught.value.retry_after == after
            assert "secret" not in caught.value.detail

    async def test_a_server_that_only_draws_is_usable_and_unknown(self) -> None:
        async with says(http_answer(b"not here", "text/plain", "404 Not Found")) as url, remote(url) as client:
            told = await client.info()
            check_usable(told)
            assert "unknown" in await client.check()
        async with says(http_answer(b"a picture", "image/jpeg")) as url, remote(url) as client:
            drawn = await client.draw(WANTED)
        assert (drawn.image, drawn.content_type) == (b"a picture", "image/jpeg")

    @pytest.mark.parametrize(
        "answer",
        [
            http_answer(b"<html>", "text/html"),
            http_answer(b"[]", "application/json"),
            http_answer(b'{"versions": 3}', "application/json"),
            http_answer(b"", "text/html", "301 Moved", "Location: /\r\n"),
            http_answer(b"oh", "text/html", "500 Oh No"),
            http_answer(b"x" * 1_000_000, "application/json"),
            b"garbage",
        ],
    )
    async def test_what_tells_nonsense_of_itself_is_a_runner_that_failed(self, answer: bytes) -> None:
        async with says(answer) as url, remote(url) as client:
            with pytest.raises(RunnerFailed):
                await client.info()
