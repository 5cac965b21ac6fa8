"""Pictures in a bucket, by the real boto3 against moto's server on loopback."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest

from deskterior.config import Settings
from deskterior.errors import NotFound, StorageFailed
from deskterior.storage import Storage, build, key_for
from deskterior.storage.keys import new_key
from tests.buckets import BUCKET, make_bucket, s3_server, use_credentials

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as (address, _):
        yield address


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_credentials(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bucket(endpoint: str) -> Iterator[str]:
    make_bucket(endpoint)
    client = boto3.client("s3", endpoint_url=endpoint)
    yield endpoint
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


def settings(endpoint: str, **changes: object) -> Settings:
    given: dict[str, object] = {"storage": "s3", "s3_bucket": BUCKET, "s3_endpoint_url": endpoint}
    return Settings.model_validate(given | changes)


@pytest.fixture
async def store(bucket: str) -> AsyncIterator[Storage]:
    storage = build(settings(bucket, s3_prefix="/desk/erior/"))
    yield storage
    await storage.aclose()


def objects(endpoint: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=endpoint)
    found = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    client.close()
    return found


async def fetch(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def test_what_is_put_is_got_and_served_with_its_type(store: Storage, bucket: str) -> None:
    key = await store.put(PNG, kind="results", content_type="image/png")
    assert objects(bucket) == [f"desk/erior/{key}"]
    assert await store.get(key) == PNG
    answer = await fetch(await store.url(key))
    assert answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert "max-age" in answer.headers["cache-control"]
    assert await store.check()


async def test_a_step_that_runs_again_overwrites_its_own_picture(store: Storage, bucket: str) -> None:
    key = key_for("results", "task-1", "image/png")
    await store.put_at(key, b"first")
    await store.put_at(key, PNG)
    assert await store.get(key) == PNG
    assert len(objects(bucket)) == 1


async def test_what_is_deleted_is_gone(store: Storage) -> None:
    key = await store.put(PNG, kind="inputs", content_type="image/jpeg")
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(NotFound):
        await store.get(key)


async def test_no_method_leaves_the_prefix(store: Storage) -> None:
    for attempt in (
        store.get("../other.png"),
        store.put_at("x", b""),
        store.delete(""),
        store.url("/"),
        store.open("a"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_photo_is_uploaded_to_the_bucket_itself_and_known_again(store: Storage) -> None:
    upload = await store.presign_upload("image/png", len(PNG))
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.put(upload.upload_url, content=PNG, headers=upload.headers)
    assert answer.is_success
    signed = parse_qs(urlsplit(upload.upload_url).query)["X-Amz-SignedHeaders"][0].split(";")
    assert {"content-type", "content-length"} <= set(signed)  # so the store refuses another type or size
    key = await store.key_of(upload.image_url)
    assert key is not None
    assert await store.get(key) == PNG
    assert (await fetch(upload.image_url)).headers["content-type"] == "image/png"
    assert await store.key_of(upload.upload_url) is None


async def test_a_presigned_address_is_known_by_its_signature_alone(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key("results", "image/png")
    url = await store.url(key, 60)
    assert await store.key_of(url) == key
    head, _, signature = url.rpartition("=")
    for forged in (
        url.partition("?")[0],
        head + "=" + ("0" * 64),
        head + "=",
        head + "=é",
        url + "&x=1",
        url + "0",
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600000"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=x"),
        url.replace("X-Amz-Date=2", "X-Amz-Date=3"),
        url.replace("/results/", "/inputs/"),
        url.replace("/desk/erior/", "/"),
        url.replace(BUCKET, "other"),
        url.replace("127.0.0.1", "localhost"),
        url.replace("http:", "https:"),
        url.replace("&X-Amz-SignedHeaders=host", ""),
        url.replace("X-Amz-Credential=", "X-Credential="),
        f"https://example.com/?{signature}",
        "https://[broken/?a=b&X-Amz-Signature=c",
    ):
        assert await store.key_of(forged) is None, forged


async def test_an_expired_presigned_address_is_no_longer_known(bucket: str) -> None:
    storage = build(settings(bucket))
    key = new_key("results", "image/png")
    url = await storage.url(key, 1)
    fresh = parse_qs(urlsplit(url).query)["X-Amz-Date"][0]
    assert await storage.key_of(url.replace(fresh, "20200101T000000Z")) is None
    await storage.aclose()


async def test_another_accounts_presigned_address_is_not_known(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key("results", "image/png")
    theirs = build(settings(bucket))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    ours = build(settings(bucket))
    assert await ours.key_of(await theirs.url(key)) is None
    assert await ours.key_of(await ours.url(key)) == key
    await theirs.aclose()
    await ours.aclose()


async def test_with_temporary_credentials_addresses_are_known_too(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token/with+signs==")
    storage = build(settings(bucket))
    key = new_key("uploads", "image/heic")
    assert await storage.key_of(await storage.url(key)) == key
    await storage.aclose()


async def test_a_presigned_address_is_never_good_for_more_than_the_week_that_s3_allows(store: Storage) -> None:
    url = await store.url(new_key("results", "image/png"), 10**9)
    assert "X-Amz-Expires=604800&" in url


async def test_with_a_cdn_addresses_are_its_own_and_never_signed(bucket: str) -> None:
    storage = build(settings(bucket, s3_prefix="p", s3_public_base_url="https://cdn.example/x/"))
    key = await storage.put(PNG, kind="results", content_type="image/png")
    url = await storage.url(key)
    assert url == f"https://cdn.example/x/p/{key}"
    assert await storage.key_of(url) == key
    for odd in (url + "?a", url.replace("cdn", "evil"), url.replace("/p/", "/"), f"https://cdn.example/x/p/../{key}"):
        assert await storage.key_of(odd) is None
    upload = await storage.presign_upload("image/png", 5)
    assert upload.upload_url.startswith(bucket)
    assert upload.image_url.startswith("https://cdn.example/x/p/uploads/")
    await storage.aclose()


async def test_for_the_flat_callback_addresses_are_short_and_lead_to_presigned_ones(
    bucket: str, tmp_path: Path
) -> None:
    storage = build(
        settings(bucket, callback_format="flat", storage_dir=tmp_path, public_base_url="https://desk.example")
    )
    key = await storage.put(PNG, kind="results", content_type="image/png")
    url = await storage.url(key)
    assert url.startswith("https://desk.example/files/results/")
    assert len(url) <= 255
    assert await storage.key_of(url) == key
    behind = await storage.open(key)
    assert isinstance(behind, str)
    assert (await fetch(behind)).content == PNG
    await storage.aclose()


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers every connection once, with whatever bytes `answer` sends, and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def failure(storage: Storage) -> StorageFailed:
    with pytest.raises(StorageFailed) as checked:
        await storage.check()
    with pytest.raises(StorageFailed) as caught:
        await storage.put(PNG, kind="results", content_type="image/png")
    await storage.aclose()
    assert checked.value.detail == caught.value.detail
    assert BUCKET not in caught.value.detail
    assert "AKIA" not in caught.value.detail
    return caught.value


async def test_a_bucket_that_does_not_exist_is_named(endpoint: str) -> None:
    assert "S3_BUCKET" in (await failure(build(settings(endpoint, s3_bucket="absent-bucket")))).detail


async def test_a_store_that_is_away_is_named() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        error = await failure(build(settings(f"http://127.0.0.1:{nobody.getsockname()[1]}")))
    assert "cannot be reached" in error.detail


async def test_missing_credentials_are_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage = build(settings(endpoint))
    with pytest.raises(StorageFailed, match="AWS_ACCESS_KEY_ID"):
        await storage.url(new_key("results", "image/png"))
    assert "AWS_ACCESS_KEY_ID" in (await failure(storage)).detail


async def test_credentials_and_region_may_stand_in_dotenv_beside_the_other_settings(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # so that what is set below is undone afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "")
    monkeypatch.delenv("AWS_REGION")
    (tmp_path / ".env").write_text("AWS_ACCESS_KEY_ID=AKIADOT\nAWS_SECRET_ACCESS_KEY=dot\nAWS_REGION=eu-west-3\n")
    storage = build(settings(bucket))
    url = await storage.url(new_key("results", "image/png"))
    assert "AKIADOT" in url
    assert "eu-west-3" in url
    await storage.aclose()


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [
        (403, "AccessDenied", "rights on the bucket"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (301, "PermanentRedirect", "AWS_REGION"),
        (418, "Teapot", "The picture store failed"),
    ],
)
async def test_a_refusal_is_named_without_the_stores_own_words(status: int, code: str, named: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>secret words</Message></Error>".encode()

    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    with answering(refuse) as address:
        storage = build(settings(address))
        with pytest.raises(StorageFailed, match=named) as caught:
            await storage.get(new_key("results", "image/png"))
        await storage.aclose()
    assert "secret" not in caught.value.detail


async def test_a_picture_cut_off_on_its_way_is_a_failure_not_half_a_picture() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    with answering(cut) as address:
        storage = build(settings(address))
        with pytest.raises(StorageFailed):
            await storage.get(new_key("results", "image/png"))
        await storage.aclose()
