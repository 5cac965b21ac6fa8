"""Downloads from hosts that are slow, rude or hostile. Every server here is real, on loopback, and speaks raw bytes."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from deskterior.download import PhotoDownloader
from deskterior.egress import PhotoHosts, Resolve
from deskterior.errors import PhotoError, PhotoTooLarge, PhotoUnreachable, PhotoUrlForbidden
from tests.photographs import encoded, scene
from tests.websites import Answer, Names, Site, Switchboard, Visit, site

PHOTO = encoded(scene(64, 64))
LIMIT = 100_000
SOON = 0.3
"""Seconds to wait for servers that never finish; those that answer are given PATIENCE."""
PATIENCE = 30.0


@asynccontextmanager
async def downloader(
    *allowed: str,
    timeout_s: float = PATIENCE,
    resolve: Resolve | None = None,
    network: Switchboard | None = None,
    development: bool = True,
) -> AsyncIterator[PhotoDownloader]:
    photos = PhotoDownloader(
        PhotoHosts(allowed, development=development),
        max_bytes=LIMIT,
        timeout_s=timeout_s,
        connections=8,
        resolve=resolve,
        network=network,
    )
    try:
        yield photos
    finally:
        await photos.aclose()


async def fetched(answer: Answer, path: str = "/desk.jpg", timeout_s: float = PATIENCE) -> tuple[bytes, Site]:
    async with site(answer) as web, downloader("127.0.0.1", timeout_s=timeout_s) as photos:
        return await photos.fetch(web.url(path)), web


async def photo(visit: Visit) -> None:
    await visit.answer(PHOTO)


def saying(*parts: bytes, then: str = "close") -> Answer:
    """Say bytes, then close the connection or leave it hanging until the client goes."""

    async def answer(visit: Visit) -> None:
        for part in parts:
            await visit.say(part)
        if then == "hang":
            await visit.gone()
        visit.writer.close()

    return answer


def for_ever(head: bytes, more: bytes) -> Answer:
    async def answer(visit: Visit) -> None:
        await visit.say(head)
        while True:
            await visit.say(more)

    return answer


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


async def test_a_chunked_body_is_put_together() -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (PHOTO[:7], PHOTO[7:]))
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


async def test_a_circle_of_redirects_ends() -> None:
    with pytest.raises(PhotoUnreachable, match="redirected"):
        await fetched(lambda visit: visit.redirect("/desk.jpg"))


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "http://localhost:{port}/",
            "http://127.1:{port}/",
            "http://2130706433:{port}/",
            "//[::ffff:127.0.0.1]:{port}/",
        ),
        *("http://photos.test:{port}/", "http://169.254.169.254/latest/meta-data/", "//user@127.0.0.1:{port}/"),
        *("file:///etc/passwd", "data:image/png;base64,aa", "gopher://127.0.0.1:{port}/", "http://[", "http://\xff/"),
    ],
)
async def test_a_redirect_to_a_forbidden_address_is_forbidden_and_nobody_is_asked(spelling: str) -> None:
    async with site(photo) as inside:
        location = spelling.format(port=inside.port)

        async def answer(visit: Visit) -> None:
            await visit.say(
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n"
            )

        with pytest.raises(PhotoUrlForbidden) as refused:
            await fetched(answer)
        assert "169.254" not in refused.value.detail
        assert inside.connections == 0


async def test_a_redirect_without_a_target_is_unreachable() -> None:
    with pytest.raises(PhotoUnreachable, match="302"):
        await fetched(lambda visit: visit.answer(b"", "302 Found"))


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
    "garbage",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"HTTP/1.1 999999 ?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 6000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: mystery\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    ],
)
async def test_an_answer_that_is_not_http_ends_in_a_photo_error(garbage: bytes) -> None:
    with pytest.raises((PhotoUnreachable, PhotoTooLarge)):
        await fetched(saying(garbage))


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


async def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {LIMIT + 1}\r\n\r\n".encode()
    async with site(saying(head, then="hang")) as web, downloader("127.0.0.1") as photos:
        with pytest.raises(PhotoTooLarge, match=str(LIMIT)):
            await photos.fetch(web.url())
        await web.left.wait()


@pytest.mark.parametrize(
    ("head", "more"),
    [(b"\r\n", bytes(5000)), (b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + bytes(1000) + b"\r\n")],
)
async def test_an_endless_body_is_cut_at_the_limit_and_the_connection_closed(head: bytes, more: bytes) -> None:
    async with site(for_ever(b"HTTP/1.1 200 OK\r\n" + head, more)) as web, downloader("127.0.0.1") as photos:
        with pytest.raises(PhotoTooLarge):
            await photos.fetch(web.url())
        await web.left.wait()


async def test_endless_headers_are_cut() -> None:
    with pytest.raises(PhotoUnreachable):
        await fetched(for_ever(b"HTTP/1.1 200 OK\r\n", b"X-More: of it\r\n" * 100))


# --- too slow: these servers never finish, so no clock of the machine decides


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_a_host_that_stops_in_the_middle_is_given_up(part: bytes) -> None:
    async with site(saying(part, then="hang")) as web, downloader("127.0.0.1", timeout_s=SOON) as photos:
        with pytest.raises(PhotoUnreachable, match="within 0"):
            await photos.fetch(web.url())
        await web.left.wait()


def dripping(head: bytes, drop: bytes) -> Answer:
    async def answer(visit: Visit) -> None:
        await visit.say(head)
        while True:
            await visit.say(drop)
            await asyncio.sleep(SOON / 20)

    return answer


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
async def test_a_slow_drip_does_not_extend_the_deadline(head: bytes, drop: bytes) -> None:
    async with site(dripping(head, drop)) as web, downloader("127.0.0.1", timeout_s=SOON) as photos:
        with pytest.raises(PhotoUnreachable, match="within 0"):
            await photos.fetch(web.url())
        await web.left.wait()


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


async def test_a_name_that_changes_its_answer_after_the_check_gains_nothing() -> None:
    async with site(photo) as web:
        switchboard = Switchboard(web.port)
        names = Names(photos_test=[["8.8.4.4"], ["127.0.0.1"]])
        async with downloader(resolve=names, network=switchboard) as photos:
            assert await photos.fetch("http://photos.test/desk.jpg") == PHOTO
        assert (names.asked, switchboard.dialled) == (["photos.test"], ["8.8.4.4"])


async def test_a_name_that_has_changed_by_the_next_connection_is_judged_again() -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, "200 OK", "Connection: close")

    async with site(answer) as web:
        switchboard = Switchboard(web.port)
        names = Names(photos_test=[["8.8.4.4"], ["169.254.169.254"]])
        async with downloader(resolve=names, network=switchboard) as photos:
            assert await photos.fetch("http://photos.test/desk.jpg") == PHOTO
            with pytest.raises(PhotoUrlForbidden):
                await photos.fetch("http://photos.test/desk.jpg")
        assert switchboard.dialled == ["8.8.4.4"]


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["8.8.4.4", "10.0.0.1"], ["fe80::1%eth0"], ["64:ff9b::a00:1"], ["::ffff:8.8.8.8"]]
)
async def test_nobody_is_dialled_when_one_address_is_forbidden(addresses: list[str]) -> None:
    switchboard = Switchboard(9)
    async with downloader(resolve=Names(photos_test=[addresses]), network=switchboard) as photos:
        with pytest.raises(PhotoUrlForbidden) as refused:
            await photos.fetch("http://photos.test/desk.jpg")
    assert switchboard.dialled == []
    assert all(address not in refused.value.detail for address in addresses)


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
