"""From a prompt and perhaps a photo to the bytes of a picture: size, style, mask and file format."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from hashlib import sha256
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from sandbox.drawing.scene import scene
from sandbox.drawing.styles import detect, restyle

Format = Literal["png", "jpeg", "webp"]
_KEPT = 32
_drawn: OrderedDict[str, bytes] = OrderedDict()
_lock = threading.Lock()


def draw(
    prompt: str,
    photo: bytes | None,
    size: tuple[int, int],
    output: Format,
    *,
    mask: bytes | None = None,
    transparent: bool = False,
    compression: int | None = None,
) -> bytes:
    """The photo (or a desk scene) restyled as the prompt says, `size` in pixels, encoded.

    With `mask` (a PNG of the photo's size) only its transparent parts change. The latest pictures are kept: a load run
    asks for the same one again and again, and is about the service, not about this.
    """
    style = detect(prompt)
    key = sha256(repr((style, None if photo else prompt, size, output, transparent, compression)).encode())
    key.update(photo or b"")
    key.update(mask or b"")
    name = key.hexdigest()
    with _lock:
        if name in _drawn:
            _drawn.move_to_end(name)
            return _drawn[name]
    before = _opened(photo) if photo else scene(prompt)
    fitted = ImageOps.fit(before, size, Image.Resampling.LANCZOS)
    after = restyle(fitted, style)
    if mask is not None:
        after = Image.composite(fitted, after, _kept(mask, size))
    if transparent:
        after.putalpha(_rounded(size))
    data = _encode(after, output, compression)
    with _lock:
        _drawn[name] = data
        while len(_drawn) > _KEPT:
            _drawn.popitem(last=False)
    return data


def _opened(photo: bytes) -> Image.Image:
    with Image.open(io.BytesIO(photo)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in {"RGBA", "LA", "PA", "P"}:
            rgba = upright.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return Image.alpha_composite(white, rgba).convert("RGB")
        return upright.convert("RGB")


def _kept(mask: bytes, size: tuple[int, int]) -> Image.Image:
    with Image.open(io.BytesIO(mask)) as image:
        return ImageOps.fit(image.convert("RGBA").getchannel("A"), size)


def _rounded(size: tuple[int, int]) -> Image.Image:
    alpha = Image.new("L", size, 0)
    edge = min(size) // 24
    box = (edge, edge, size[0] - edge, size[1] - edge)
    ImageDraw.Draw(alpha).rounded_rectangle(box, min(size) // 8, fill=255)
    return alpha.filter(ImageFilter.GaussianBlur(edge / 3))


def _encode(image: Image.Image, output: Format, compression: int | None) -> bytes:
    out = io.BytesIO()
    quality = 90 if compression is None else compression
    if output == "png":
        image.save(out, "PNG", compress_level=1)
    elif output == "jpeg":
        image.convert("RGB").save(out, "JPEG", quality=max(1, min(95, quality)))
    else:
        image.save(out, "WEBP", quality=quality, method=0)
    return out.getvalue()
