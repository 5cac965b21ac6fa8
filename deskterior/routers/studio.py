"""`GET /studio`: the web page, and the files of `deskterior/studio` that it is made of.

The page is an ordinary client of the API, by relative addresses alone; what browsers are told everywhere is
`browsers.py`'s, the page's own policy is here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from deskterior.errors import NotFound, StorageFailed
from deskterior.routers import etags
from deskterior.routers.files import remember_base
from deskterior.services import Services, services_of

router = APIRouter(prefix="/studio", tags=["studio"])
log = structlog.get_logger(__name__)

FOLDER = Path(__file__).resolve().parent.parent / "studio"
PAGE = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""By themselves, since the machine's own table may know these endings otherwise."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data: {pictures}; "
    "connect-src 'self'{uploads}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No text becomes markup (Trusted Types), whatever a task or a shop says. Pictures may come from anywhere: photos lie
on their owners' servers, products' pictures on those of shops."""


@dataclass(frozen=True)
class Asset:
    """A file as it is sent. The ETag is of its content: times of files say nothing in an image."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, path: Path) -> Asset:
        body = path.read_bytes()
        return cls(body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def answer(self, request: Request, **headers: str) -> Response:
        """The file, or 304 to a browser that has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", **headers}
        if etags.has(request, self.etag):
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


ASSETS = {
    path.relative_to(FOLDER).as_posix(): Asset.of(path) for path in sorted(FOLDER.rglob("*")) if path.suffix in TYPES
}
"""Read once: what is not in here is 404, however its path is spelled."""


@router.api_route(
    "",
    methods=["GET", "HEAD"],
    summary="The studio, a web page",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}},
)
async def studio(request: Request) -> Response:
    """Make a desk over by hand: photo, verdict, style, progress, before and after, products, and the tasks so far."""
    return ASSETS[PAGE].answer(request, **{"Content-Security-Policy": await _policy(request)})


@router.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def asset(name: str, request: Request) -> Response:
    """A file of the page."""
    if not name:  # typed with a slash at its end
        return RedirectResponse("../studio", 307)
    if name == PAGE or (found := ASSETS.get(name)) is None:
        raise NotFound("The studio has no such file; the page is /studio")
    return found.answer(request)


async def _policy(request: Request) -> str:
    """The content security policy, with the origins that this installation's pictures and uploads need."""
    to = services_of(request)
    pictures = "https: http:" if to.settings.env == "development" else "https:"
    uploads = await _upload_origin(to, request)
    # An `http:` store in production is somebody's own choice; a browser that came by https refuses it anyway.
    pictures += f" {uploads}" if uploads.startswith("http://") and "http:" not in pictures.split() else ""
    return POLICY.format(pictures=pictures, uploads=f" {uploads}" if uploads else "")


async def _upload_origin(to: Services, request: Request) -> str:
    """Where photos are put, if that is elsewhere: the bucket's origin, or that of `PUBLIC_BASE_URL`. Signing an address
    asks nobody."""
    await remember_base(request)
    try:
        parts = urlsplit((await to.storage.presign_upload("image/jpeg", 1)).upload_url)
    except StorageFailed as error:
        log.warning("studio.no_uploads", detail=error.detail, internal=error.internal)
        return ""  # the page works with addresses, and says why an upload fails
    origin = f"{parts.scheme}://{parts.netloc}"
    return "" if origin == f"{request.url.scheme}://{request.url.netloc}" else origin
