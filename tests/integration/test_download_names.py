"""Downloads by names and addresses that change, lie or lead inside, over TLS too; and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from deskterior.errors import PhotoError, PhotoUnreachable, PhotoUrlForbidden
from tests.downloads import LIMIT, PATIENCE, PHOTO, SOON, downloader, fetched, photo, saying
from tests.websites import Answer, Names, Switchboard, Visit, certificate, site

# --- names and addresses


async def test_a_host_that_takes_no_connection_is_unreachable() -> None:
    async with site(photo) as web:
        url = web.url()
    async with downloader("127.0.0.1") as photos:
        with pytest.raises(PhotoUnreachable, match="connection"):
            await photos.fetch(url)


@pytest.mark.parametrize("answers", [{}, {"photos_test": [[]]}])
async def test_a_name_without_address_is_unreachable(answers: dict[str, list[list[str]]]) -> None:
    async with downloader(resolve=Names(**answers)) as photos:
        with pytest.raises(PhotoUnreachable, match="no address"):
            await photos.fetch("http://photos.test/desk.jpg")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "a" * 70 + ".test", "xn--", "xn--a", "-"])
async def test_the_systems_own_look_up_ends_in_a_photo_error_too(host: str) -> None:
    async with downloader() as photos:
        with pytest.raises((PhotoUnreachable, PhotoUrlForbidden)):
            await photos.fetch(f"http://{host}/desk.jpg")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]"]
)
async def test_no_spelling_of_this_machine_is_fetched_unless_named(host: str) -> None:
    async with downloader() as photos:
        with pytest.raises(PhotoUrlForbidden):
            await photos.fetch(f"http://{host}:8080/desk.jpg")


async def test_a_public_name_is_dialled_at_its_judged_address_under_its_own_name() -> None:
    async with site(photo) as web:
        switchboard = Switchboard(web.port)
        names = Names(photos_test=[["8.8.4.4"]])
        async with downloader(resolve=names, network=switchboard) as photos:
            assert await photos.fetch("http://Photos.Test./desk.jpg") == PHOTO
        assert switchboard.dialled == ["8.8.4.4"]
        assert web.visits[0].headers["host"] == "photos.test"


async def test_a_named_host_on_a_private_address_is_fetched_in_development_alone() -> None:
    async with site(photo) as web:
        names = Names(photos_test=[["127.0.0.1"]])
        async with downloader("photos.test", resolve=names) as photos:
            assert await photos.fetch(web.url(host="photos.test")) == PHOTO
        async with downloader("photos.test", resolve=names, development=False) as photos:
            with pytest.raises(PhotoUrlForbidden):
                await photos.fetch(web.url(host="photos.test"))
        assert web.connections == 1


async def test_a_dead_address_of_a_name_is_passed_over_for_the_next() -> None:
    async with site(photo) as web:
        names = Names(photos_test=[["127.0.0.2", "127.0.0.1"]])
        async with downloader("photos.test", resolve=names) as photos:
            assert await photos.fetch(web.url(host="photos.test")) == PHOTO


# --- TLS


async def test_a_photo_comes_over_tls_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    server, trust = certificate("photos.test", tmp_path)
    body = PHOTO + bytes(LIMIT - len(PHOTO))

    async def answer(visit: Visit) -> None:
        await visit.answer(body)

    async with site(answer, server) as web:
        names = Names(photos_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
        async with downloader("photos.test", "other.test", resolve=names, trust=trust) as photos:
            for _ in range(3):
                assert await photos.fetch(f"https://photos.test:{web.port}/desk.jpg") == body
            assert web.connections == 1
            with pytest.raises(PhotoUnreachable, match="connection"):
                await photos.fetch(f"https://other.test:{web.port}/desk.jpg")
        async with downloader("photos.test", resolve=names) as photos:
            with pytest.raises(PhotoUnreachable, match="connection"):
                await photos.fetch(f"https://photos.test:{web.port}/desk.jpg")


async def test_the_authorities_are_read_once_and_not_for_each_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = certificate("photos.test", tmp_path)
    names = Names(photos_test=[["127.0.0.1"]])
    async with site(photo, server) as web, downloader("photos.test", resolve=names) as photos:
        read: list[object] = []
        monkeypatch.setattr(ssl, "create_default_context", lambda *of, **more: read.append((of, more)))
        for _ in range(2):
            with pytest.raises(PhotoUnreachable, match="connection"):  # the certificate is nobody's
                await photos.fetch(f"https://photos.test:{web.port}/desk.jpg")
        assert read == []


@pytest.mark.parametrize(("greeting", "told"), [(b"", "within 0"), (b"SSH-2.0-OpenSSH_9.6\r\n", "connection")])
async def test_what_is_not_tls_is_given_up(greeting: bytes, told: str) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
        left.set()
        writer.close()

    timeout_s = PATIENCE if greeting else SOON
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with downloader("127.0.0.1", timeout_s=timeout_s) as photos:
            with pytest.raises(PhotoUnreachable, match=told):
                await photos.fetch(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/desk.jpg")
        await left.wait()


async def test_a_body_cut_off_over_tls_is_unreachable(tmp_path: Path) -> None:
    server, trust = certificate("photos.test", tmp_path)

    async def answer(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nonly this")
        visit.writer.transport.abort()

    names = Names(photos_test=[["127.0.0.1"]])
    async with site(answer, server) as web, downloader("photos.test", resolve=names, trust=trust) as photos:
        with pytest.raises(PhotoUnreachable, match="cut"):
            await photos.fetch(f"https://photos.test:{web.port}/desk.jpg")


# --- what is told


async def test_no_detail_and_no_log_line_holds_a_signature_or_what_the_host_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[Answer] = [
        photo,
        lambda visit: visit.answer(b"inner words", "500 Inner"),
        lambda visit: visit.redirect("http://10.0.0.1/inner"),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ninner"),
        saying(b"inner"),
    ]
    for answer in answers:
        told = ""
        try:
            await fetched(answer, "/desk.jpg?X-Amz-Signature=s1gned")
        except PhotoError as error:
            told = error.detail
        assert "inner" not in told.lower()
        assert "10.0.0.1" not in told
        assert "127.0.0.1" not in told
    assert "s1gned" not in caplog.text
