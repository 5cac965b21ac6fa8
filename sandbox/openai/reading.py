"""What OpenAI's endpoints do before they look at a request: the key, the media type, the JSON, the pictures in it."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from PIL import Image
from starlette.requests import Request

from sandbox.openai.errors import ApiError

MAX_BODY = 64 * 1024 * 1024
MAX_PICTURE = 50 * 1024 * 1024
_MAX_PIXELS = 80_000_000
_VISION_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


@dataclass(frozen=True)
class Picture:
    """A picture that decodes. Sizes in pixels, as stored (before any rotation that EXIF asks for)."""

    data: bytes
    format: str
    width: int
    height: int
    has_alpha: bool


def check_key(request: Request, wanted: str | None) -> None:
    """Raises ApiError (401) without a bearer key, or with another than the one wanted."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ApiError("No API key was given: send it as 'Authorization: Bearer KEY'.", status=401)
    if wanted is not None and key.strip() != wanted:
        raise ApiError("Incorrect API key provided.", status=401, code="invalid_api_key")


async def read_json(request: Request) -> object:
    """The body as JSON. Raises ApiError where it is something else, or too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError("This endpoint takes 'Content-Type: application/json'.", code="unsupported_content_type")
    raw = await read_body(request)
    try:
        body = json.loads(raw, parse_constant=_no_constant)
        if b"\\ud" in raw.lower():
            json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise ApiError("The JSON body of the request could not be parsed.") from None
    if not isinstance(body, dict):
        raise ApiError("The JSON body of the request is not an object.", code="invalid_type")
    return body


async def read_body(request: Request) -> bytes:
    """The whole body. Raises ApiError (413) over the limit, before the rest of it is read."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise ApiError("The request is too large.", status=413, code="request_too_large")
        chunks.append(chunk)
    return b"".join(chunks)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def read_picture(data: bytes, formats: tuple[str, ...] = _VISION_FORMATS) -> Picture:
    """Decode it whole. Raises ValueError naming what is wrong."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_kind(image, formats)
            alpha = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
            found = Picture(data, str(image.format), image.width, image.height, alpha)
            image.load()
            return found
    except ValueError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise ValueError("does not decode") from None


def _check_kind(image: Image.Image, formats: tuple[str, ...]) -> None:
    if image.format not in formats:
        raise ValueError(f"is {image.format}, not one of {', '.join(formats)}")
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError("has too many pixels")
    if image.format == "GIF" and getattr(image, "n_frames", 1) > 1:
        raise ValueError("is animated")


def picture_in(url: str, param: str) -> Picture | None:
    """The picture of an `image_url`. None for a public address: the sandbox fetches nothing.

    Raises ApiError for bytes that are no picture and for an address that OpenAI could not reach.
    """
    if url[:5].lower() != "data:":
        _check_public(url, param)
        return None
    head, comma, encoded = url[5:].partition(",")
    if not comma or not head.lower().startswith("image/") or not head.lower().endswith(";base64"):
        raise ApiError(
            "Invalid image data URL: it must read 'data:image/TYPE;base64,DATA'.", param=param, code="invalid_image_url"
        )
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("Invalid base64 in the image data URL.", param=param, code="invalid_base64_image") from None
    if len(data) > MAX_PICTURE:
        raise ApiError("The image is larger than 50 MB.", param=param, code="image_too_large")
    try:
        return read_picture(data)
    except ValueError as error:
        code = "invalid_image_format" if "not one of" in str(error) else "image_parse_error"
        raise ApiError(f"The image {error}.", param=param, code=code) from None


def _check_public(url: str, param: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise ApiError(
            "Invalid image URL: it is neither http(s) nor a data URL.", param=param, code="invalid_image_url"
        )
    try:
        reachable = ipaddress.ip_address(host).is_global
    except ValueError:
        reachable = "." in host and not host.endswith((".localhost", ".local", ".internal"))
    if not reachable:
        raise ApiError("The image could not be downloaded from its URL.", param=param, code="invalid_image_url")
