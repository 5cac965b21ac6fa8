"""Uploads and signed links over real HTTP, with a folder as the store, as clients and as attackers use them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from deskterior.config import Settings
from deskterior.errors import DeskteriorError
from deskterior.front import Front
from deskterior.problems import problem_response
from deskterior.routers import files, uploads
from deskterior.storage import Links, LocalStorage, build
from deskterior.storage.keys import new_key
from tests.gateways import anybody

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000


class Served:
    """The routes on loopback, and the store behind them."""

    def __init__(self, store: LocalStorage, address: str, client: httpx.AsyncClient) -> None:
        self.store = store
        self.address = address
        self.client = client

    def stored(self) -> list[Path]:
        return [path for path in self.store._folder.rglob("*") if path.is_file() and path.name != ".link-secret"]

    async def link(self, key: str, ttl: float = 60) -> str:
        """A download link made outside of any request, which does not know this server's port."""
        return self.address + (await self.store.url(key, ttl)).removeprefix("http://127.0.0.1:8080")

    async def presigned(self, data: bytes = PNG, content_type: str = "image/png") -> dict[str, Any]:
        answer = await self.client.post("/uploads", json={"content_type": content_type, "size": len(data)})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, DeskteriorError)
    headers, body = problem_response(error, None)
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings.model_validate({"storage_dir": tmp_path / "store", "photo_max_bytes": 2_000_000})
    store = build(settings)
    assert isinstance(store, LocalStorage)
    api = FastAPI()
    api.include_router(uploads.router)
    api.include_router(files.router)
    api.add_exception_handler(DeskteriorError, problem)
    api.state.services = SimpleNamespace(settings=settings, storage=store)
    app = Front(api, api, anybody, body_max_bytes=1024, max_concurrency=50)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            await until(lambda: server.started)
            yield Served(store, address, client)
        server.should_exit = True
        await serving


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for is on a disk, or another server's
            await asyncio.sleep(0.01)


def is_problem(answer: httpx.Response, status: int, slug: str) -> bool:
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["type"] == f"/problems/{slug}"
    )


async def test_a_photo_is_uploaded_and_read_back(served: Served) -> None:
    upload = await served.presigned()
    assert upload["method"] == "PUT"
    assert upload["upload_url"].startswith(served.address)  # in development, where the request came to
    put = await served.client.put(upload["upload_url"], content=PNG, headers=upload["headers"])
    assert put.status_code == 204
    got = await served.client.get(upload["image_url"])
    assert got.content == PNG
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-length"] == str(len(PNG))
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["cache-control"].startswith("private")
    assert got.headers["content-disposition"] == "inline"
    key = await served.store.key_of(upload["image_url"])
    assert key is not None
    assert await served.store.get(key) == PNG


async def test_head_says_what_get_would_and_sends_nothing(served: Served) -> None:
    url = await served.link(await served.store.put(PNG, kind="results", content_type="image/png"))
    head = await served.client.head(url)
    got = await served.client.get(url)
    assert head.content == b""
    assert {**head.headers, "date": "", "x-request-id": ""} == {**got.headers, "date": "", "x-request-id": ""}


async def test_a_browser_that_has_the_picture_is_not_sent_it_again(served: Served) -> None:
    url = await served.link(await served.store.put(PNG, kind="results", content_type="image/png"))
    first = await served.client.get(url)
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await served.client.get(url, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == first.headers["cache-control"]  # it may go on keeping it
    assert (await served.client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_range_that_is_asked_for_is_answered_with_the_whole(served: Served) -> None:
    url = await served.link(await served.store.put(PNG, kind="results", content_type="image/png"))
    for asked in ("bytes=0-9", "bytes=999999999-", "nonsense"):
        answer = await served.client.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, PNG)


async def test_a_picture_that_is_gone_is_not_found(served: Served) -> None:
    key = await served.store.put(PNG, kind="results", content_type="image/png")
    url = await served.link(key)
    await served.store.delete(key)
    assert is_problem(await served.client.get(url), 404, "not-found")


async def test_an_upload_that_was_never_made_is_not_found(served: Served) -> None:
    assert is_problem(await served.client.get((await served.presigned())["image_url"]), 404, "not-found")


async def test_a_link_that_is_forged_changed_or_missing_its_signature_is_forbidden(served: Served) -> None:
    mine = await served.store.put(PNG, kind="results", content_type="image/png")
    other = await served.store.put(PNG, kind="inputs", content_type="image/png")
    url = await served.link(mine)
    bare = url.partition("?")[0]
    for forged in (
        bare,
        bare + "?expires=9999999999&signature=",
        bare + "?expires=9999999999&signature=%C3%A9%ED%A0%80",
        url + "&expires=9999999999",
        url.replace(mine, other),
        url.replace("signature=", "signature=A"),
        url[:-1],
    ):
        answer = await served.client.get(forged)
        assert is_problem(answer, 403, "forbidden"), forged
        assert str(served.store._folder) not in answer.text


async def test_an_expired_link_is_forbidden(served: Served) -> None:
    key = await served.store.put(PNG, kind="results", content_type="image/png")
    answer = await served.client.get(await served.link(key, -100))
    assert is_problem(answer, 403, "forbidden")
    assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2f..%2f..%2fetc%2fpasswd",
        "/files/.link-secret",
        "/files/results/%2e%2e/.link-secret",
        "/files//etc/passwd",
        "/files/",
        "/files/%00",
        "/files/%ff%fe",
    ],
)
async def test_no_path_leads_out_of_the_store(served: Served, path: str) -> None:
    for method in ("GET", "HEAD", "PUT"):
        answer = await served.client.request(method, path)
        assert answer.status_code in {403, 404}
    # Not even with a good signature, should one ever be made for such a path.
    odd = httpx.URL(served.store.links.download("../.link-secret", 60).replace("..", "%2e%2e")).raw_path.decode()
    assert (await served.client.get(odd)).status_code in {403, 404}


async def test_a_download_link_is_no_upload_link_and_the_other_way_round(served: Served) -> None:
    upload = await served.presigned()
    assert is_problem(await served.client.get(upload["upload_url"]), 403, "forbidden")
    put = await served.client.put(upload["image_url"], content=PNG, headers=upload["headers"])
    assert is_problem(put, 403, "forbidden")
    assert served.stored() == []


@pytest.mark.parametrize("change", [{"size": "3000000"}, {"size": ""}, {"size": "x"}, {"expires": "9999999999"}])
async def test_a_changed_upload_link_is_forbidden(served: Served, change: dict[str, str]) -> None:
    upload = await served.presigned()
    url = httpx.URL(upload["upload_url"]).copy_merge_params(change)
    assert is_problem(await served.client.put(url, content=PNG, headers=upload["headers"]), 403, "forbidden")
    assert served.stored() == []


@pytest.mark.parametrize(
    ("data", "headers", "status", "slug"),
    [
        (PNG + b"x", {}, 413, "photo-too-large"),
        (PNG[:-1], {}, 422, "validation"),
        (b"", {}, 422, "validation"),
        (PNG, {"Content-Type": "image/jpeg"}, 415, "photo-type-unsupported"),
        (PNG, {"Content-Type": "text/html"}, 415, "photo-type-unsupported"),
        (PNG, {"Content-Type": ""}, 415, "photo-type-unsupported"),
        (b"GIF89a" + PNG[6:], {}, 415, "photo-type-unsupported"),
        (b"\xff\xd8\xff" + PNG[3:], {}, 415, "photo-type-unsupported"),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upload_unlike_what_was_asked_for_leaves_nothing(
    served: Served, data: bytes, headers: dict[str, str], status: int, slug: str, chunked: bool
) -> None:
    upload = await served.presigned()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    answer = await served.client.put(
        upload["upload_url"], content=pieces() if chunked else data, headers=upload["headers"] | headers
    )
    assert is_problem(answer, status, slug)
    assert served.stored() == []


async def test_a_photo_may_be_uploaded_in_chunks_of_unknown_number(served: Served) -> None:
    upload = await served.presigned()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(PNG), 77_777):
            yield PNG[start : start + 77_777]

    assert (
        await served.client.put(upload["upload_url"], content=pieces(), headers=upload["headers"])
    ).status_code == 204
    assert (await served.client.get(upload["image_url"])).content == PNG


async def test_after_a_lost_answer_the_same_link_may_be_used_again(served: Served) -> None:
    upload = await served.presigned()
    for _ in range(2):
        put = await served.client.put(upload["upload_url"], content=PNG, headers=upload["headers"])
        assert put.status_code == 204
    assert len(served.stored()) == 1


async def test_of_an_upload_whose_connection_is_cut_nothing_is_left(served: Served) -> None:
    upload = await served.presigned()
    url = httpx.URL(upload["upload_url"])
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: image/png\r\n"
    writer.write(head.encode() + f"Content-Length: {len(PNG)}\r\n\r\n".encode() + PNG[:600_000])
    await writer.drain()
    await until(lambda: bool(served.stored()))  # the draft is under way
    writer.transport.abort()
    await until(lambda: not served.stored())
    assert is_problem(await served.client.get(upload["image_url"]), 404, "not-found")


async def test_an_upload_that_stalls_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_STALL_S", 0.05)
    upload = await served.presigned()
    url = httpx.URL(upload["upload_url"])
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: image/png\r\n"
    writer.write(head.encode() + f"Content-Length: {len(PNG)}\r\n\r\n".encode() + PNG[:600_000])
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert served.stored() == []


async def test_a_reader_that_goes_away_leaves_the_picture_and_the_service_well(served: Served) -> None:
    url = httpx.URL(await served.link(await served.store.put(PNG, kind="results", content_type="image/png")))
    for _ in range(5):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
        await reader.read(1000)
        writer.transport.abort()
    assert (await served.client.get(url)).content == PNG


async def test_many_readers_and_writers_at_once_get_whole_pictures(served: Served) -> None:
    async def round_trip() -> bool:
        upload = await served.presigned()
        await served.client.put(upload["upload_url"], content=PNG, headers=upload["headers"])
        return (await served.client.get(upload["image_url"])).content == PNG

    assert all(await asyncio.gather(*(round_trip() for _ in range(20))))
    assert len(served.stored()) == 20


async def test_a_photo_over_the_limit_is_refused_before_it_is_sent(served: Served) -> None:
    for size in (2_000_001, 10**30):
        answer = await served.client.post("/uploads", json={"content_type": "image/png", "size": size})
        assert is_problem(answer, 413, "photo-too-large")
    assert (
        await served.client.post("/uploads", json={"content_type": "image/png", "size": 2_000_000})
    ).status_code == 201


async def test_the_body_limit_of_json_does_not_hold_for_uploads(served: Served) -> None:
    upload = await served.presigned()  # a megabyte, where the body of another request may have 1024 bytes
    put = await served.client.put(upload["upload_url"], content=PNG, headers=upload["headers"])
    assert put.status_code == 204


@pytest.mark.parametrize(
    "body", [{"content_type": "image/gif", "size": 1}, {"content_type": "image/png", "size": 0}, {}]
)
async def test_an_upload_of_no_known_type_or_no_bytes_is_not_promised(served: Served, body: dict[str, Any]) -> None:
    assert (await served.client.post("/uploads", json=body)).status_code == 422


async def test_a_link_made_with_another_secret_is_forbidden(served: Served) -> None:
    key = new_key("results", "image/png")
    foreign = Links(b"another secret of 32 bytes or so", base=served.address).download(key, 60)
    assert is_problem(await served.client.get(foreign), 403, "forbidden")


class Elsewhere(LocalStorage):
    """A store whose pictures lie at another address, as a bucket's do."""

    async def open(self, key: str) -> str:  # type: ignore[override]
        return f"https://bucket.example/{key}?X-Amz-Signature=abc"


async def test_a_short_link_to_a_bucket_redirects_to_where_the_picture_lies(served: Served, tmp_path: Path) -> None:
    elsewhere = Elsewhere(tmp_path / "other", served.store.links, link_ttl_s=60)
    app = FastAPI()
    app.include_router(files.router)
    app.add_exception_handler(DeskteriorError, problem)
    app.state.services = SimpleNamespace(settings=Settings(), storage=elsewhere)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk.test") as client:
        key = new_key("results", "image/png")
        answer = await client.get(await elsewhere.url(key))
        assert answer.status_code == 302
        assert answer.headers["location"] == f"https://bucket.example/{key}?X-Amz-Signature=abc"
        assert (await client.get(f"/files/{key}?expires=9999999999&signature=x")).status_code == 403
