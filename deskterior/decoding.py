"""Photos as bytes become pixels: type by content, limits kept before decoding, orientation and colours put right.

The bytes come from outside, so whatever they make a decoder do ends as one of the three photo errors. Serving and
training decode through here. Colour profiles (ICC) are ignored: a Display P3 photo comes out slightly paler than it is.
Threads and memory for many photos at once are left to `deskterior.photos`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deskterior import photo_parts
from deskterior.errors import PhotoError, PhotoTooLarge, PhotoTypeUnsupported, PhotoUnreadable
from deskterior.heic_parts import heic_cost

SIZE = 224
MAX_PIXELS = 64_000_000

PhotoType = Literal["image/jpeg", "image/png", "image/webp", "image/heic"]


class _Jpeg(JpegImageFile):
    def getexif(self) -> Image.Exif:
        """Nothing. Pillow looks for the dots per inch in it while it opens the file; which way is up we read."""
        return Image.Exif()


# Each type is opened by its one class and never by `Image.open`: no other plugin of Pillow's ever sees the bytes, an
# MPO (the JPEG of many phones) is its first picture, and no warning of Pillow's own pixel limit is printed.
_OPENERS: dict[PhotoType, type[ImageFile]] = {
    "image/jpeg": _Jpeg,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
    "image/heic": pillow_heif.HeifImageFile,
}

# Only the primary picture is of use; what hangs on it is more for a hostile file to play with.
pillow_heif.options.THUMBNAILS = False
pillow_heif.options.DEPTH_IMAGES = False
pillow_heif.options.AUX_IMAGES = False

_HEIC_STILLS = {b"heic", b"heix", b"heim", b"heis"}
_HEIC_SEQUENCES = {b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}
_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "ZIP",
    b"\0\0\x01\0": "an icon",
}

# Peak bytes a pixel of the whole decode, measured at 64 megapixels: WebP keeps two canvases beside the picture.
_BYTES_A_PIXEL: dict[PhotoType, int] = {"image/jpeg": 8, "image/png": 10, "image/webp": 20, "image/heic": 10}
_HEIC_OVERHEAD = 4  # a grid has its pixels twice: as tiles and as a whole
_BYTES_A_COEFFICIENT_SET = 8  # of a JPEG in several scans, all of which libjpeg holds at full size

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PhotoInfo:
    """What the header says; width and height are in pixels as stored, before the orientation is applied."""

    type: PhotoType
    width: int
    height: int


def decode(data: bytes, size: int = SIZE, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a photo to ``(size, size, 3)`` uint8 RGB, orientation applied, the whole picture squeezed to a square.

    A JPEG is decoded at the smallest of its built-in scales that is still at least twice ``size``: for 12 megapixels
    28 ms instead of 118 ms, with pixels that differ by 0.3 of 255. Transparency is laid over white; 16 bits are scaled
    to 8.

    Raises:
        PhotoTypeUnsupported: not a still JPEG, PNG, WebP or HEIC by its content.
        PhotoTooLarge: more than ``max_pixels`` by its header; nothing was decoded.
        PhotoUnreadable: empty, damaged or cut short.
    """
    with _named_errors():
        rgb = _pixels(_open(data, max_pixels)[1], (2 * size, 2 * size))
        return np.array(rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0))


def scaled_jpeg(data: bytes, longest_side: int, max_pixels: int = MAX_PIXELS, quality: int = 90) -> bytes:
    """The photo as a JPEG for other services: upright, no side over ``longest_side`` pixels, no metadata at all.

    A smaller photo keeps its size. Raises as `decode` does.
    """
    rgb = fitted(data, longest_side, max_pixels)
    with _named_errors():
        out = io.BytesIO()
        rgb.save(out, "JPEG", quality=quality)
        return out.getvalue()


def fitted(data: bytes, longest_side: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The photo in its own shape: upright RGB, no side over ``longest_side`` pixels, no metadata.

    Raises as `decode` does.
    """
    with _named_errors():
        rgb = _pixels(_open(data, max_pixels)[1], (longest_side, longest_side))
        rgb.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        rgb.info.clear()  # Pillow writes comments back from here
        return rgb


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> PhotoInfo:
    """Read the header alone. Refuses what `decode` refuses before decoding, so damage in the pixels is not seen."""
    with _named_errors():
        kind, image = _open(data, max_pixels)
        return PhotoInfo(kind, *image.size)


def memory_needed(data: bytes, side: int = SIZE, max_pixels: int = MAX_PIXELS) -> int:
    """Bytes that decoding to about ``side`` pixels will take at its peak, by the header, rounded up generously.

    Raises as `inspect` does.
    """
    with _named_errors():
        kind, image = _open(data, max_pixels)
        full = image.width * image.height
        if kind != "image/jpeg":
            full = max(full, heic_cost(data).largest) if kind == "image/heic" else full
            return full * _BYTES_A_PIXEL[kind]
        image.draft("RGB", (2 * side, 2 * side))
        coefficients = full * _BYTES_A_COEFFICIENT_SET if photo_parts.scans(data, 1) > 1 else 0
        return image.width * image.height * _BYTES_A_PIXEL[kind] + coefficients


def photo_type(data: bytes) -> PhotoType:
    """The type by the first bytes, whatever the name or the header of the answer said.

    Raises:
        PhotoUnreadable: there are no bytes.
        PhotoTypeUnsupported: naming what it looks like instead.
    """
    if not data:
        raise PhotoUnreadable("The photo is empty: 0 bytes arrived")
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _heic(data)
    looks = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), None)
    if looks is None and data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        looks = "a web page or SVG"
    raise _unsupported(looks or "something else")


def _heic(data: bytes) -> PhotoType:
    end = min(int.from_bytes(data[:4]), len(data), 512)
    major, brands = data[8:12], {data[at : at + 4] for at in (8, *range(16, end - 3, 4))}
    if brands & _HEIC_SEQUENCES:
        raise PhotoTypeUnsupported("This HEIC is a moving picture: send a still photo")
    if major in _HEIC_STILLS or (major == b"mif1" and brands & _HEIC_STILLS):
        return "image/heic"
    raise _unsupported("AVIF" if b"avif" in brands else "a video or another picture")


def _unsupported(looks: str) -> PhotoTypeUnsupported:
    return PhotoTypeUnsupported(f"The content is {looks}, whatever its name: send a JPEG, PNG, WebP or HEIC photo")


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise PhotoTooLarge("The photo has too many pixels to decode: scale it down", internal=repr(error)) from error
    except Exception as error:  # hostile bytes make decoders throw anything: struct.error, SyntaxError, KeyError ...
        raise PhotoUnreadable(
            "The photo is damaged or cut short: save or upload it again", internal=repr(error)[:300]
        ) from error


def _open(data: bytes, max_pixels: int) -> tuple[PhotoType, ImageFile]:
    """Read the header and refuse by it. No pixel is decoded yet."""
    kind = photo_type(data)
    if kind == "image/jpeg":
        photo_parts.check_jpeg(data)
    elif kind == "image/png":
        photo_parts.check_png(data)
    image = _OPENERS[kind](io.BytesIO(data))
    if image.width * image.height > max_pixels:
        raise PhotoTooLarge(
            f"The photo has {image.width} x {image.height} pixels, over the limit of {max_pixels}: scale it down"
        )
    if getattr(image, "is_animated", False):
        raise PhotoTypeUnsupported("The file is animated or holds several pictures: send a still photo")
    if kind == "image/heic":
        cost = heic_cost(data)
        if cost.largest > max_pixels or cost.total > _HEIC_OVERHEAD * max_pixels:
            raise PhotoTooLarge(f"The HEIC is made of more than {max_pixels} pixels, whatever it shows: scale it down")
    return kind, image


def _pixels(image: ImageFile, at_least: tuple[int, int]) -> Image.Image:
    """Decode to upright RGB; of a JPEG the smallest scale not under ``at_least``.

    Names are reused so that a picture is freed as soon as the next one is made: 64 megapixels are 256 MB each.
    """
    if isinstance(image, JpegImageFile):
        image.draft("RGB", at_least)
    image.load()
    # libheif has turned a HEIC already.
    turned = isinstance(image, pillow_heif.HeifImageFile)
    method = None if turned else _TRANSPOSE.get(photo_parts.orientation(image.info))
    picture: Image.Image = image if method is None else image.transpose(method)
    del image
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")
