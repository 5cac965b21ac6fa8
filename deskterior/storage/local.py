"""Pictures in a folder of this machine, reached by the service's own signed links.

A file has its name only once it is whole and on the disk: what a crash or a cut connection leaves is a draft, which no
key leads to and which the next start sweeps away.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from deskterior.config import SettingsError
from deskterior.errors import Invalid, NotFound, PhotoTooLarge, PhotoTypeUnsupported, StorageFailed
from deskterior.schemas import Upload
from deskterior.storage.keys import HEAD, Kind, checked, content_type_of, new_key, sniff
from deskterior.storage.links import UPLOAD_TTL_S, Links

log = structlog.get_logger(__name__)

_WRITE = 256 * 1024
"""Bytes of an upload that are gathered before a thread writes them."""


@dataclass(frozen=True)
class StoredFile:
    """An open picture. Whoever got it closes `file`; it stays whole even if the key is overwritten or deleted."""

    file: BinaryIO
    size: int
    etag: str
    content_type: str


class LocalStorage:
    """A folder. Several processes of one machine may share it."""

    def __init__(self, folder: Path, links: Links, *, link_ttl_s: float) -> None:
        """Make the folder and sweep away what writers that are gone left half done.

        Raises:
            SettingsError: the folder cannot be made or written.
        """
        self.links = links
        self._folder = folder
        self._drafts = folder / ".drafts"
        self._ttl = link_ttl_s
        self._cleared_on: date | None = None
        try:
            self._drafts.mkdir(parents=True, exist_ok=True)
            _sweep(self._drafts)
            _Draft(self._drafts).discard()
        except OSError as error:
            raise SettingsError(f"STORAGE_DIR: the folder cannot be used ({error.strerror})") from None

    async def put(self, data: bytes, *, kind: Kind, content_type: str) -> str:
        """Store under a key of its own, which is returned. Raises StorageFailed."""
        key = new_key(kind, content_type)
        await self.put_at(key, data)
        return key

    async def put_at(self, key: str, data: bytes) -> None:
        """Store under `key`, in place of what was there. Raises StorageFailed."""
        await asyncio.to_thread(self._write, checked(key), data)

    async def get(self, key: str) -> bytes:
        """The picture's bytes. Raises NotFound, StorageFailed."""
        return await asyncio.to_thread(self._read, checked(key))

    async def delete(self, key: str) -> None:
        """Delete the picture, if it is there. Raises StorageFailed."""
        await asyncio.to_thread(self._unlink, checked(key))

    async def url(self, key: str, ttl: float | None = None) -> str:
        """A signed link that is good for `ttl` seconds (`LINK_TTL_S` when None)."""
        return self.links.download(checked(key), self._ttl if ttl is None else ttl)

    async def presign_upload(self, content_type: str, size: int) -> Upload:
        """Where to PUT a photo of exactly this type and size, and the address that it will then have.

        The first of a day makes room: uploads to which every link has expired are removed.
        """
        if (today := datetime.now(UTC).date()) != self._cleared_on:
            self._cleared_on = today
            await asyncio.to_thread(_clear_uploads, self._folder / "uploads", self._ttl)
        key = new_key("uploads", content_type)
        address, expires = self.links.upload(key, size)
        return Upload(
            upload_url=address,
            headers={"Content-Type": content_type},
            image_url=self.links.download(key, self._ttl),
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    async def key_of(self, url: str) -> str | None:
        """The key behind a link of ours that is still good; None for any other address."""
        return self.links.key_of(url)

    async def open(self, key: str) -> StoredFile:
        """The picture as an open file, to be streamed. Raises NotFound, StorageFailed."""
        return await asyncio.to_thread(self._open, checked(key))

    async def receive(self, key: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Store an upload of exactly `size` bytes as it arrives; of one that fails in any way nothing is left.

        Raises:
            PhotoTooLarge, Invalid: more, or fewer, bytes than the link was made for.
            PhotoTypeUnsupported: by its content it is not what the link was made for.
            StorageFailed: it could not be written.
        """
        checked(key)
        draft = await asyncio.to_thread(self._draft)
        gathered = bytearray()
        arrived = 0
        looked = False
        try:
            async for chunk in chunks:
                gathered += chunk
                arrived += len(chunk)
                if arrived > size:
                    raise PhotoTooLarge(f"More bytes arrived than the {size} that the link was made for")
                if not looked and arrived >= min(HEAD, size):
                    _check_type(key, bytes(gathered[:HEAD]))
                    looked = True
                if len(gathered) >= _WRITE:
                    await asyncio.to_thread(self._append, draft, bytes(gathered))
                    gathered.clear()
            if arrived != size:
                raise Invalid(
                    f"{arrived} bytes arrived, but the link was made for {size}",
                    errors=[{"field": "body", "message": "is shorter than the size that was asked for"}],
                )
            await asyncio.to_thread(self._append, draft, bytes(gathered))
            await asyncio.to_thread(self._commit, draft, key)
        finally:
            draft.discard()

    async def check(self) -> str:
        """A sentence for the health check. Raises StorageFailed when nothing can be written."""
        await asyncio.to_thread(self._try_writing)
        return "the folder can be written"

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _draft(self) -> _Draft:
        with _disk_errors():
            return _Draft(self._drafts)

    def _append(self, draft: _Draft, data: bytes) -> None:
        with _disk_errors():
            draft.write(data)

    def _commit(self, draft: _Draft, key: str) -> None:
        with _disk_errors():
            draft.commit(self._path(key))

    def _write(self, key: str, data: bytes) -> None:
        with _disk_errors():
            draft = _Draft(self._drafts)
            try:
                draft.write(data)
                draft.commit(self._path(key))
            finally:
                draft.discard()

    def _read(self, key: str) -> bytes:
        with _disk_errors(), _missing_as_not_found():
            return self._path(key).read_bytes()

    def _unlink(self, key: str) -> None:
        with _disk_errors():
            self._path(key).unlink(missing_ok=True)

    def _open(self, key: str) -> StoredFile:
        with _disk_errors(), _missing_as_not_found():
            file = self._path(key).open("rb")
            about = os.fstat(file.fileno())
            return StoredFile(file, about.st_size, f'"{about.st_mtime_ns:x}-{about.st_size:x}"', content_type_of(key))

    def _try_writing(self) -> None:
        with _disk_errors():
            draft = _Draft(self._drafts)
            try:
                draft.write(b"healthy")
                draft.sync()
            finally:
                draft.discard()


class _Draft:
    """A file on its way. Its lock, which dies with the process, tells the sweep that somebody is still writing it."""

    def __init__(self, folder: Path) -> None:
        while True:
            self._path = folder / secrets.token_hex(16)
            self._file: BinaryIO = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                return
            self._file.close()  # a sweep came between the opening and the lock

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def commit(self, target: Path) -> None:
        """Give it its name, once every byte is on the disk."""
        self.sync()
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Close it and, unless it was committed, remove it. Never raises: it ends what has failed already."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):  # what is still buffered is flushed, and the disk may be full
            self._file.close()


def _sweep(folder: Path) -> None:
    """Remove the drafts of writers that are gone."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()
            log.info("storage.draft_swept")


def _clear_uploads(folder: Path, ttl_s: float) -> None:
    """Remove the days whose last link has expired. Nothing else leads to an upload: tasks have copies of their own."""
    # `Links.download` gives up to a tenth more; what is over thirty years is for ever.
    oldest = datetime.now(UTC) - timedelta(seconds=min(1.1 * ttl_s, 1e9) + UPLOAD_TTL_S)
    for day in folder.glob("????/??/??"):
        if "/".join(day.parts[-3:]) < f"{oldest:%Y/%m/%d}":
            shutil.rmtree(day, ignore_errors=True)  # another process may be at it too
            log.info("storage.uploads_cleared", day="/".join(day.parts[-3:]))


def _check_type(key: str, head: bytes) -> None:
    declared = content_type_of(key)
    found = sniff(head)
    if found != declared:
        raise PhotoTypeUnsupported(f"The link was made for {declared}, but the content is {found or 'something else'}")


@contextmanager
def _missing_as_not_found() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound("This picture is not, or no longer, in the store") from None


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Name what the disk refused."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                why = "The disk of the picture store is full: free room where STORAGE_DIR lies"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                why = "The picture store may not be written or read: check the rights of STORAGE_DIR"
            case errno.EMFILE | errno.ENFILE:
                why = "The picture store has too many files open: raise the limit on open files"
            case _:
                why = f"The picture store's disk failed ({errno.errorcode.get(error.errno or 0, 'unknown error')})"
        raise StorageFailed(why, internal=repr(error)) from error
