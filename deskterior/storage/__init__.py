"""Where pictures are kept: the input photo, the result, and what clients upload. A folder (`local`) or a bucket (`s3`).

Jobs keep keys; a link is made whenever one is shown, because links expire.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from deskterior.config import Settings
from deskterior.schemas import Upload
from deskterior.storage.keys import HEAD, Kind, content_type_of, key_for, sniff
from deskterior.storage.links import Links, request_base
from deskterior.storage.local import LocalStorage, StoredFile

__all__ = [
    "HEAD",
    "Kind",
    "Links",
    "LocalStorage",
    "Storage",
    "StoredFile",
    "build",
    "content_type_of",
    "key_for",
    "request_base",
    "sniff",
]

log = structlog.get_logger(__name__)


class Storage(Protocol):
    """A store of pictures. Every method may raise StorageFailed; a key that is none is NotFound."""

    @property
    def links(self) -> Links | None:
        """Makes the service's own links, where this store uses them."""
        ...

    async def put(self, data: bytes, *, kind: Kind, content_type: str) -> str:
        """Store a picture under a key that nothing else has, and return the key."""
        ...

    async def put_at(self, key: str, data: bytes) -> None:
        """Store a picture under `key` (see `key_for`), in place of what was there: to do it twice is to do it once."""
        ...

    async def get(self, key: str) -> bytes:
        """The picture's bytes. Raises NotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Delete the picture, if it is there."""
        ...

    async def url(self, key: str, ttl: float | None = None) -> str:
        """An address for `key` that is good for `ttl` seconds (`LINK_TTL_S` when None), or for ever on a CDN."""
        ...

    async def presign_upload(self, content_type: str, size: int) -> Upload:
        """Where to PUT a photo of exactly this type and size (bytes), and the address that it will then have."""
        ...

    async def key_of(self, url: str) -> str | None:
        """The key behind a download address that this store made and that is still good, or None.

        Such a photo is read with `get`, not over HTTP. That the caller was given the address is checked: nobody reads a
        picture by guessing its key.
        """
        ...

    async def open(self, key: str) -> StoredFile | str:
        """The picture as an open file, or the address at which it lies. For `routers/files.py`."""
        ...

    async def check(self) -> str:
        """A sentence for the health check. Raises StorageFailed with the reason."""
        ...

    async def aclose(self) -> None: ...


def build(settings: Settings) -> Storage:
    """The store that the settings name. Touches the disk, not the network.

    Raises:
        SettingsError: the folder cannot be used.
    """
    if settings.storage == "s3":
        # boto3 takes a second to import, and a folder needs none of it.
        from deskterior.storage.s3 import S3Storage

        return S3Storage.of(settings)
    if settings.env == "production" and not settings.public_base_url:
        log.warning("storage.links_are_local", hint="PUBLIC_BASE_URL is missing: links will lead to 127.0.0.1")
    return LocalStorage(settings.storage_dir, Links.of(settings), link_ttl_s=settings.link_ttl_s)
