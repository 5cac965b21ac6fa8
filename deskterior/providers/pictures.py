"""Pictures to and from an image model: checked bytes out of base64, and the size nearest to the photo's shape."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from dataclasses import dataclass

from PIL import Image

_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_MAX_PIXELS = 64_000_000


class NotAPicture(ValueError):
    """What came back is no whole PNG, JPEG or WebP; the text says how."""


@dataclass(frozen=True)
class Picture:
    image: bytes
    content_type: str


async def from_base64(text: object) -> Picture:
    """Decode a picture and make sure that all of it is there.

    Raises:
        NotAPicture: it is not base64, not PNG, JPEG or WebP, or cut off.
    """
    return await asyncio.to_thread(_decode, text)


async def whole(data: bytes) -> Picture:
    """Make sure that all of a picture is there, and name its type by its content. Raises NotAPicture."""
    return await asyncio.to_thread(_check, data)


def _decode(text: object) -> Picture:
    if not isinstance(text, str) or not text:
        raise NotAPicture("no base64 picture")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAPicture("not base64") from error
    return _check(data)


def _check(data: bytes) -> Picture:
    try:
        with Image.open(io.BytesIO(data), formats=list(_FORMATS)) as image:
            if image.width * image.height <= _MAX_PIXELS:
                image.load()
                return Picture(data, _FORMATS[image.format or ""])
    except Exception as error:  # Pillow's decoders raise many kinds on broken bytes
        raise NotAPicture("not a whole PNG, JPEG or WebP") from error
    raise NotAPicture("too many pixels")


def nearest_size(photo: bytes, sizes: list[str]) -> str:
    """Of sizes like `1536x1024`, the one whose shape is nearest to the photo's; the first when it cannot be read."""
    try:
        with Image.open(io.BytesIO(photo)) as image:
            shape = image.width / image.height
    except Exception:  # noqa: BLE001  the photo was decoded before; here only its shape is asked for
        return sizes[0]
    return min(sizes, key=lambda size: abs(shape_of(size) / shape - 1))


def shape_of(size: str) -> float:
    """Width over height of `WIDTHxHEIGHT`."""
    width, height = size.split("x")
    return int(width) / int(height)
