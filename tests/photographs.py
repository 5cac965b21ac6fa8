"""Pictures for the tests, made on the fly: ordinary, odd and hostile ones. Nothing here reads a file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 40), (30, 60, 200), (230, 220, 40)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def scene(width: int = 480, height: int = 320) -> Image.Image:
    """Four coloured quarters: red, green above; blue, yellow below. Which way is up is always seen."""
    picture = Image.new("RGB", (width, height), RED)
    half = (width // 2, height // 2)
    picture.paste(GREEN, (half[0], 0, width, half[1]))
    picture.paste(BLUE, (0, half[1], half[0], height))
    picture.paste(YELLOW, (*half, width, height))
    return picture


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Colours at the middle of each quarter: top left, top right, bottom left, bottom right."""
    high, wide = pixels.shape[:2]
    return [tuple(int(v) for v in pixels[y, x]) for y in (high // 4, 3 * high // 4) for x in (wide // 4, 3 * wide // 4)]


def noise(width: int = 480, height: int = 320) -> Image.Image:
    """A picture that does not compress: a cut anywhere in the file takes pixels away."""
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """`picture` as a file; `kind` is a Pillow format or HEIF."""
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def ycck(colour: tuple[int, int, int]) -> bytes:
    """A JPEG as Photoshop writes CMYK ones: YCCK, inks inverted, Adobe marker with transform 2."""
    inks = tuple(255 - value for value in colour)
    luma = Image.new("RGB", (64, 64), inks).convert("YCbCr").getpixel((0, 0))
    assert isinstance(luma, tuple)
    stored = Image.new("CMYK", (64, 64), (*(255 - int(value) for value in luma), 0))
    data = encoded(stored, "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int = 8, colour: int = 2, pixels: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG from its parts; without `pixels` the header promises what is not there."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG_MAGIC + header + extra + chunk(b"IDAT", zlib.compress(pixels, 1)) + chunk(b"IEND", b"")


def with_png_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """`data` with one more chunk right after its header."""
    return data[:33] + chunk(name, body) + data[33:]


def many_scans(count: int) -> bytes:
    """A small progressive JPEG whose last scan comes again and again."""
    data = encoded(scene(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def animated(kind: str) -> bytes:
    return encoded(scene(64, 64), kind, save_all=True, append_images=[noise(64, 64)])


def ftyp(*brands: bytes) -> bytes:
    """The head of an ISO base media file: HEIC, AVIF, MP4 ..., and nothing behind it."""
    body = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return struct.pack(">I", len(body) + 4) + body + bytes(64)
