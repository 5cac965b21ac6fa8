"""Downloads from hosts that are slow, rude or hostile. Every server here is real, on loopback, and speaks raw bytes."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress

import pytest

from deskterior.errors import PhotoUnreachable
from tests.downloads import LIMIT, PHOTO, SOON, downloader, fetched, photo, saying
from tests.websites import Visit, site

# --- what works


async def test_a_photo_arrives_with_a_plain_request() -> None:
    data, web = await fetched(photo)
    assert data == PHOTO
    headers = web.visits[0].headers
    assert headers["host"] == f"127.0.0.1:{web.port}"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == "Deskterior"
    assert not {"cookie", "authorization", "referer"} & headers.keys()


async def test_the_content_type_that_the_host_tells_does_not_matter() -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, "200 OK", "Content-Type: text/html")

    assert (await fetched(answer))[0] == PHOTO


async def test_a_signed_address_is_asked_as_it_was_signed() -> None:
    path = "/%7Edesk/a%2Fb.jpg?X-Amz-Signature=0aF%2f%2B=&X-Amz-Date=2026+1&empty=&b[]='x'"
    _, web = await fetched(photo, path + "#desk")
    assert web.visits[0].target == path


async def test_a_name_outside_ascii_is_asked_for_in_utf_8() -> None:
    _, web = await fetched(photo, "/책상 1.jpg")
    assert web.visits[0].target == "/%EC%B1%85%EC%83%81%201.jpg"


async def test_a_body_without_length_ends_with_the_connection() -> None:
    assert (await fetched(saying(b"HTTP/1.1 200 OK\r\n\r\n", PHOTO)))[0] == PHOTO


@pytest.mark.parametrize("size", [1, 7, 5000])
async def test_a_chunked_body_is_put_together(size: int) -> None:
    parts = [PHOTO[at : at + size] for at in range(0, len(PHOTO), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    data, _ = await fetched(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n"))
    assert data == PHOTO


async def test_a_photo_at_the_limit_arrives() -> None:
    assert len((await fetched(saying(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT))))[0]) == LIMIT


async def test_a_connection_is_used_again_and_cookies_are_not_kept() -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, "200 OK", "Set-Cookie: you=known; Path=/")

    async with site(answer) as web, downloader("127.0.0.1") as photos:
        for _ in range(3):
            assert await photos.fetch(web.url()) == PHOTO
        assert web.connections == 1
        assert all("cookie" not in visit.headers for visit in web.visits)


async def test_a_kept_connection_that_the_host_closes_is_no_failure() -> None:
    async def answer(visit: Visit) -> None:
        if len(web.visits) == 2:
            visit.writer.close()  # asked on the kept connection, and gone
        else:
            await visit.answer(PHOTO)

    async with site(answer) as web, downloader("127.0.0.1") as photos:
        assert await photos.fetch(web.url()) == PHOTO
        assert await photos.fetch(web.url()) == PHOTO
        assert web.connections == 2


async def test_kept_connections_that_the_host_has_closed_are_not_used_again() -> None:
    all_here, close = asyncio.Event(), asyncio.Event()

    async def answer(visit: Visit) -> None:
        if len(web.visits) == 3:
            all_here.set()
        await all_here.wait()
        await visit.answer(PHOTO)
        if web.connections <= 3:
            await close.wait()
            visit.writer.close()

    async with site(answer) as web, downloader("127.0.0.1") as photos:
        await asyncio.gather(*(photos.fetch(web.url()) for _ in range(3)))
        close.set()
        for visit in web.visits:
            await visit.writer.wait_closed()
        assert await photos.fetch(web.url()) == PHOTO
        assert (web.connections, len(web.visits)) == (4, 4)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await fetched(photo))[0] == PHOTO


# --- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Again", "308 For Good"])
async def test_a_redirect_is_followed(status: str) -> None:
    async def answer(visit: Visit) -> None:
        if visit.target == "/desk.jpg":
            await visit.redirect("/real/책상.jpg?a=b#c", status)
        else:
            await visit.answer(PHOTO)

    data, web = await fetched(answer)
    assert data == PHOTO
    assert web.visits[1].target == "/real/%EC%B1%85%EC%83%81.jpg?a=b"


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
async def test_five_redirects_are_followed_and_not_six(hops: int, arrives: bool) -> None:
    async def answer(visit: Visit) -> None:
        number = int(visit.target[1:])
        await (visit.redirect(f"/{number + 1}") if number < hops else visit.answer(PHOTO))

    if arrives:
        assert (await fetched(answer, "/0"))[0] == PHOTO
    else:
        with pytest.raises(PhotoUnreachable, match="more than 5"):
            await fetched(answer, "/0")


async def test_the_body_of_a_redirect_is_not_waited_for() -> None:
    async def answer(visit: Visit) -> None:
        if visit.target == "/real":
            await visit.answer(PHOTO)
        else:
            await visit.say(b"HTTP/1.1 302 Found\r\nLocation: /real\r\n\r\nendless")
            await visit.gone()
            visit.writer.close()

    assert (await fetched(answer))[0] == PHOTO


# --- answers that are no photo


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 429, 500, 502, 503])
async def test_another_status_is_named(status: int) -> None:
    with pytest.raises(PhotoUnreachable, match=str(status)):
        await fetched(saying(f"HTTP/1.1 {status} Sorry\r\nContent-Length: 0\r\n\r\n".encode()))


@pytest.mark.parametrize(
    "head", [b"Content-Length: 5000\r\n\r\nonly this", b"Transfer-Encoding: chunked\r\n\r\n1388\r\nonly this"]
)
async def test_a_body_cut_off_is_unreachable_and_not_half_a_photo(head: bytes) -> None:
    with pytest.raises(PhotoUnreachable, match="cut"):
        await fetched(saying(b"HTTP/1.1 200 OK\r\n" + head))


async def test_a_length_told_too_short_ends_the_body() -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, length=10)
        visit.writer.close()

    assert (await fetched(answer))[0] == PHOTO[:10]


async def test_a_packed_body_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(10 * LIMIT))

    async def answer(visit: Visit) -> None:
        await visit.answer(bomb, "200 OK", "Content-Encoding: gzip", "Content-Type: image/jpeg")

    assert (await fetched(answer))[0] == bomb


# --- too much


# --- too slow: these servers never finish, so no clock of the machine decides


async def test_slow_redirects_share_one_deadline() -> None:
    async def answer(visit: Visit) -> None:
        await asyncio.sleep(SOON / 2)
        await visit.redirect(f"/{len(web.visits)}")

    async with site(answer) as web, downloader("127.0.0.1", timeout_s=SOON) as photos:
        with pytest.raises(PhotoUnreachable, match="within 0"):
            await photos.fetch(web.url())


async def test_a_name_server_that_never_answers_is_given_up() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with downloader(timeout_s=SOON, resolve=resolve) as photos:
        with pytest.raises(PhotoUnreachable, match="within 0"):
            await photos.fetch("http://photos.test/desk.jpg")


async def test_a_caller_who_gives_up_closes_the_connection() -> None:
    hanging = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", then="hang")
    async with site(hanging) as web, downloader("127.0.0.1") as photos:
        task = asyncio.create_task(photos.fetch(web.url()))
        await web.asked.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await web.left.wait()
