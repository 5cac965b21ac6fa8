"""`POST /uploads`: an address to put a photo at, so that it need not lie on a server of the client's own."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from deskterior.errors import PhotoTooLarge
from deskterior.routers.files import remember_base
from deskterior.schemas import Upload, UploadRequest
from deskterior.services import services_of

router = APIRouter(tags=["uploads"], dependencies=[Depends(remember_base)])


@router.post("/uploads", status_code=201, summary="Get an address to upload a photo to")
async def presign(upload: UploadRequest, request: Request) -> Upload:
    """PUT the photo to `upload_url` with exactly these `headers`; then give `image_url` where a photo's address goes.

    The photo must have exactly the type and size that were said here.
    """
    to = services_of(request)
    limit = to.settings.photo_max_bytes
    if upload.size > limit:
        raise PhotoTooLarge(f"A photo may have {limit} bytes, not {upload.size}")
    return await to.storage.presign_upload(upload.content_type, upload.size)
