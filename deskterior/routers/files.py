"""`/files/...`: pictures behind the service's own signed links, and uploads to them. A signature stands for an API key.

What is stored where is the storage's business; the answers to a browser are here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from deskterior.errors import Invalid, NotFound, PhotoTooLarge, PhotoTypeUnsupported
from deskterior.routers import etags
from deskterior.services import services_of
from deskterior.storage import Links, LocalStorage, Storage, StoredFile, content_type_of, request_base

router = APIRouter(prefix="/files", tags=["uploads"])

_READ = 256 * 1024
_STALL_S = 30.0
"""An upload that sends nothing for so long is given up."""
_WHOLE_UPLOAD_S = 300.0
"""So is one that drips on for so long."""
_IMAGE: dict[str, Any] = {"content": {media: {} for media in ("image/jpeg", "image/png", "image/webp", "image/heic")}}

Signed = Annotated[str, Query(description="From the link.")]


async def remember_base(request: Request) -> None:
    """FastAPI dependency for routes that show links: in development these begin with the address of the request."""
    request_base.set(str(request.base_url).rstrip("/"))


@router.api_route(
    "/{key:path}",
    methods=["GET", "HEAD"],
    summary="A stored picture",
    response_class=Response,
    responses={200: _IMAGE, 302: {"description": "The picture lies at the address in Location."}},
)
async def picture(key: str, request: Request, expires: Signed = "", signature: Signed = "") -> Response:
    """The picture behind a signed link."""
    storage, links = _own(request)
    links.check_download(key, expires, signature)
    stored = await storage.open(key)
    if isinstance(stored, str):
        return RedirectResponse(stored, 302, {"Cache-Control": "private, no-store"})
    headers = {"ETag": stored.etag, "Cache-Control": "private, max-age=3600"}
    if etags.has(request, stored.etag):
        stored.file.close()
        return Response(status_code=304, headers=headers)
    return _Picture(stored, headers)


@router.put("/{key:path}", status_code=204, summary="Upload a photo", response_class=Response)
async def upload(
    key: str, request: Request, size: Signed = "", expires: Signed = "", signature: Signed = ""
) -> Response:
    """Take a photo at the address that `POST /uploads` gave, of the very type and size said there.

    Until it expires the address may be used again, as after an answer that was lost; the last whole upload stands.
    """
    storage, links = _own(request)
    if not isinstance(storage, LocalStorage):
        raise NotFound("Photos are uploaded to the picture store itself, at the address that POST /uploads gives")
    links.check_upload(key, size, expires, signature)
    _check_headers(request, content_type_of(key), int(size))
    try:
        await storage.receive(key, int(size), _unstalled(request))
    except ClientDisconnect:
        raise Invalid("The upload was cut off; nothing of it was kept") from None
    return Response(status_code=204)


def _own(request: Request) -> tuple[Storage, Links]:
    storage: Storage = services_of(request).storage
    if storage.links is None:
        raise NotFound("Pictures are served by the picture store itself")
    return storage, storage.links


def _check_headers(request: Request, content_type: str, size: int) -> None:
    """Refuse what cannot be right before a byte is read."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != content_type:
        raise PhotoTypeUnsupported(f"The link was made for {content_type}: send it as the Content-Type header")
    length = request.headers.get("content-length")
    if length is None or length == str(size):
        return
    if length.isdigit() and int(length) > size:
        raise PhotoTooLarge(f"The link was made for {size} bytes, not {length}")
    wrong = {"field": "content-length", "message": f"must be {size}, as was asked for"}
    raise Invalid(f"The link was made for {size} bytes", errors=[wrong])


async def _unstalled(request: Request) -> AsyncIterator[bytes]:
    chunks = request.stream()
    ends = time.monotonic() + _WHOLE_UPLOAD_S
    while True:
        try:
            async with asyncio.timeout(min(_STALL_S, ends - time.monotonic())):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Invalid("The upload is too slow, or has stopped; nothing of it was kept") from None
        yield chunk


class _Picture(Response):
    """Streams an open file and closes it, however the sending ends."""

    def __init__(self, stored: StoredFile, headers: dict[str, str]) -> None:
        self._stored = stored
        about = {
            "Content-Length": str(stored.size),
            "Content-Disposition": "inline",
            "X-Content-Type-Options": "nosniff",
        }
        super().__init__(media_type=stored.content_type, headers=headers | about)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's form
        with self._stored.file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = 0 if scope["method"] == "HEAD" else self._stored.size
            while left:
                chunk = await asyncio.to_thread(file.read, min(_READ, left))
                if not chunk:
                    raise OSError("the stored picture ended early")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
