"""Pictures in a folder: whole or not there, whatever happens to the writer."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deskterior.config import Settings, SettingsError
from deskterior.errors import Invalid, NotFound, PhotoTooLarge, PhotoTypeUnsupported, StorageFailed
from deskterior.storage import Links, LocalStorage, StoredFile, build, key_for
from deskterior.storage.keys import new_key

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3000


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store", Links(b"s" * 32), link_ttl_s=600)


def files(store: LocalStorage) -> list[Path]:
    """Everything in the store's folder, half written or whole."""
    return [path for path in store._folder.rglob("*") if path.is_file()]


async def sent(*chunks: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if then:
        raise then


async def test_what_is_put_is_what_is_got(store: LocalStorage) -> None:
    key = await store.put(PNG, kind="results", content_type="image/png")
    assert await store.get(key) == PNG
    assert key.startswith("results/")
    assert key.endswith(".png")
    assert await store.key_of(await store.url(key)) == key
    stored = await store.open(key)
    assert isinstance(stored, StoredFile)
    with stored.file as file:
        assert (file.read(), stored.size, stored.content_type) == (PNG, len(PNG), "image/png")


async def test_a_step_that_runs_again_overwrites_its_own_picture(store: LocalStorage) -> None:
    key = key_for("results", "task-1", "image/png")
    await store.put_at(key, b"first")
    await store.put_at(key, PNG)
    assert await store.get(key) == PNG
    assert len(files(store)) == 1


async def test_uploads_go_when_every_link_to_them_has_expired(tmp_path: Path) -> None:
    days = 24 * 3600
    store = LocalStorage(tmp_path, Links(b"s" * 32), link_ttl_s=10 * days)
    kept = [
        f"{kind}/{datetime.now(UTC) - age:%Y/%m/%d}/{'0' * 32}.png"
        for kind, age in (("uploads", timedelta(0)), ("uploads", timedelta(days=10)), ("results", timedelta(days=99)))
    ]
    gone = [f"uploads/{datetime.now(UTC) - timedelta(days=age):%Y/%m/%d}/{'0' * 32}.png" for age in (13, 999)]
    for key in (*kept, *gone):
        await store.put_at(key, PNG)
    await store.presign_upload("image/png", 5)
    for key in kept:
        assert await store.get(key) == PNG
    for key in gone:
        with pytest.raises(NotFound):
            await store.get(key)


async def test_what_is_deleted_is_gone_and_to_delete_it_again_is_no_error(store: LocalStorage) -> None:
    key = await store.put(PNG, kind="inputs", content_type="image/jpeg")
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(NotFound):
        await store.get(key)
    with pytest.raises(NotFound):
        await store.open(key)


async def test_an_open_picture_stays_whole_while_it_is_overwritten_and_deleted(store: LocalStorage) -> None:
    key = await store.put(PNG, kind="results", content_type="image/png")
    stored = await store.open(key)
    await store.put_at(key, b"other")
    await store.delete(key)
    with stored.file as file:
        assert file.read() == PNG


@pytest.mark.parametrize("key", ["../../etc/passwd", ".link-secret", "results/x.png", ""])
async def test_no_method_leaves_the_folder(store: LocalStorage, key: str) -> None:
    with pytest.raises(NotFound):
        await store.get(key)
    with pytest.raises(NotFound):
        await store.put_at(key, b"x")
    with pytest.raises(NotFound):
        await store.delete(key)
    with pytest.raises(NotFound):
        await store.open(key)
    with pytest.raises(NotFound):
        await store.url(key)
    with pytest.raises(NotFound):
        await store.receive(key, 1, sent(b"x"))


@pytest.mark.parametrize("step", [1, 7, 100_000, len(PNG)])
async def test_an_upload_arrives_in_pieces_of_any_size(store: LocalStorage, step: int) -> None:
    data = PNG if step > 7 else PNG[:1000]
    key = new_key("uploads", "image/png")
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    await store.receive(key, len(data), sent(b"", *pieces, b""))
    assert await store.get(key) == data
    assert len(files(store)) == 1


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([PNG[:-1]], Invalid),
        ([], Invalid),
        ([PNG, b"x"], PhotoTooLarge),
        ([PNG + PNG], PhotoTooLarge),
        ([b"\xff\xd8\xff" + PNG[3:]], PhotoTypeUnsupported),
        ([b"<svg>" + PNG[5:]], PhotoTypeUnsupported),
    ],
)
async def test_of_an_upload_that_fails_nothing_is_left(
    store: LocalStorage, chunks: list[bytes], expected: type[Exception]
) -> None:
    key = new_key("uploads", "image/png")
    with pytest.raises(expected):
        await store.receive(key, len(PNG), sent(*chunks))
    assert files(store) == []


async def test_a_tiny_upload_is_looked_at_too(store: LocalStorage) -> None:
    with pytest.raises(PhotoTypeUnsupported):
        await store.receive(new_key("uploads", "image/png"), 3, sent(b"abc"))
    assert files(store) == []


async def test_an_upload_of_another_type_is_refused_before_the_rest_has_come(store: LocalStorage) -> None:
    reached_the_end = AssertionError("read on after the type was known to be wrong")
    with pytest.raises(PhotoTypeUnsupported):
        await store.receive(new_key("uploads", "image/png"), 10**9, sent(b"GIF89a" + bytes(20), then=reached_the_end))


async def test_of_an_upload_that_is_cut_off_nothing_is_left_and_an_older_one_stays(store: LocalStorage) -> None:
    key = new_key("uploads", "image/png")
    await store.receive(key, len(PNG), sent(PNG))
    with pytest.raises(ConnectionError):
        await store.receive(key, len(PNG), sent(PNG[:500_000], then=ConnectionError()))
    assert await store.get(key) == PNG
    assert len(files(store)) == 1


async def test_of_a_cancelled_upload_nothing_is_left(store: LocalStorage) -> None:
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield PNG[:400_000]
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.receive(new_key("uploads", "image/png"), len(PNG), stuck()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert files(store) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from deskterior.storage.local import _Draft
draft = _Draft(Path(sys.argv[1]) / ".drafts")
draft.write(b"half a picture")
draft.sync()
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_a_killed_writer_leaves_is_swept_at_the_next_start_and_nothing_else(store: LocalStorage) -> None:
    await store.put(PNG, kind="results", content_type="image/png")
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(store._folder)], check=False)
    assert len(files(store)) == 2
    living = await asyncio.to_thread(store._draft)
    LocalStorage(store._folder, store.links, link_ttl_s=1)
    assert len(files(store)) == 2  # the whole picture, and the draft that somebody is still writing
    living.discard()
    assert len(files(store)) == 1


async def test_many_writers_of_one_key_leave_one_whole_picture(store: LocalStorage) -> None:
    key = key_for("results", "task-1", "image/png")
    versions = [bytes([n]) * 100_000 for n in range(20)]
    await asyncio.gather(*(store.put_at(key, data) for data in versions))
    assert await store.get(key) in versions
    assert len(files(store)) == 1


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (errno.ENOSPC, "disk of the picture store is full"),
        (errno.EDQUOT, "disk of the picture store is full"),
        (errno.EROFS, "rights of STORAGE_DIR"),
        (errno.EMFILE, "open files"),
        (errno.EIO, "EIO"),
    ],
)
async def test_what_the_disk_refuses_is_named(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch, number: int, named: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number), str(store._folder))

    monkeypatch.setattr(os, "fsync", refuse)
    for attempt in (
        store.put(PNG, kind="results", content_type="image/png"),
        store.receive(new_key("uploads", "image/png"), len(PNG), sent(PNG)),
        store.check(),
    ):
        with pytest.raises(StorageFailed, match=named) as caught:
            await attempt
        assert str(store._folder) not in caught.value.detail
    assert files(store) == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The system takes 100 kB of any file and no more: a write is cut off in its middle, as by a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("size", [100_001, 104_000, len(PNG)])
async def test_of_a_write_that_the_disk_cuts_off_nothing_is_left(store: LocalStorage, size: int) -> None:
    with pytest.raises(StorageFailed, match="EFBIG"):
        await store.put(PNG[:size], kind="results", content_type="image/png")
    with pytest.raises(StorageFailed, match="EFBIG"):
        await store.receive(new_key("uploads", "image/png"), size, sent(PNG[:50_000], PNG[50_000:size]))
    assert files(store) == []


async def test_a_folder_that_vanished_is_the_stores_failure_not_the_clients(store: LocalStorage) -> None:
    store._drafts.rmdir()
    with pytest.raises(StorageFailed):
        await store.put(PNG, kind="results", content_type="image/png")
    with pytest.raises(StorageFailed):
        await store.check()


async def test_the_health_check_leaves_nothing_behind(store: LocalStorage) -> None:
    assert await store.check()
    assert files(store) == []


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings.model_validate({"storage_dir": tmp_path / "file", "storage_secret": "given"})
    with pytest.raises(SettingsError, match="STORAGE_DIR"):
        build(settings)


async def test_an_upload_has_an_address_to_put_to_and_one_to_read_from(store: LocalStorage) -> None:
    upload = await store.presign_upload("image/webp", 12345)
    assert upload.method == "PUT"
    assert upload.headers == {"Content-Type": "image/webp"}
    assert "size=12345" in upload.upload_url
    assert (await store.key_of(upload.image_url) or "").startswith("uploads/")
    assert await store.key_of(upload.upload_url) is None
    assert upload.expires_at.utcoffset() is not None
