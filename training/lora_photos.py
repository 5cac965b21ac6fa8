"""The folder of pictures that a LoRA learns from: which, their captions, and their pixels.

They are decoded by the very limits that serving keeps: a picture that the service would refuse is refused here.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deskterior import decoding
from deskterior.errors import PhotoError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".heic"}
CAPTION_LETTERS = 1000
"""Several times what a text encoder reads. A longer text beside a picture is no caption."""
MAX_RATIO = 4.0
"""Longer side to shorter: of a longer picture, too little would be left in the square."""
MAX_BYTES = 100_000_000
MOST_TOLD = 10
"""Of the files that cannot be used; so many are mended at a time."""


class LoraError(ValueError):
    """A LoRA cannot be made of what is there; the message says what to mend."""


@dataclass(frozen=True)
class Picture:
    """One picture. `width` and `height` are those of the file, in pixels as stored."""

    path: Path
    caption: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder, by name. `digest` changes with any picture or caption."""

    items: tuple[Picture, ...]

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for picture in self.items:
            # As the disk has the name, which need not be UTF-8.
            whole.update(os.fsencode(picture.path.name) + f"\0{picture.sha256}\0{picture.caption}\n".encode())
        return f"sha256:{whole.hexdigest()}"


def find(folder: Path, caption: str) -> Pictures:
    """Look at every picture's header and at the text beside it (`desk.txt` for `desk.jpg`); else it is `caption`.

    Raises:
        LoraError: no folder, no pictures, or naming those that the service would refuse, and texts that are no caption.
    """
    if not folder.is_dir():
        raise LoraError(f"there is no folder {folder}")
    try:
        # Hidden ones are none of the user's: macOS leaves a `._name` beside each file it copies.
        seen = (path for path in folder.iterdir() if not path.name.startswith("."))
        paths = sorted(path for path in seen if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise LoraError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise LoraError(
            f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); pictures in sub-folders do not count"
        )
    found, wrong = [], []
    for path in paths:
        try:
            found.append(_look(path, caption))
        except LoraError as error:
            wrong.append(str(error))
    if wrong:
        more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise LoraError("; ".join(wrong[:MOST_TOLD]) + more)
    return Pictures(tuple(found))


def square(picture: Picture, side: int) -> NDArray[np.uint8]:
    """The middle of the picture as `(side, side, 3)` uint8 RGB, upright. Raises `LoraError` if it cannot be decoded."""
    ratio = max(picture.width, picture.height) / min(picture.width, picture.height)
    data = _read(picture.path)
    try:
        upright = decoding.scaled_jpeg(data, int(side * ratio) + 1, quality=100)
    except PhotoError as error:
        raise LoraError(f"{picture.path.name}: {error.detail}") from error
    with Image.open(io.BytesIO(upright), formats=["JPEG"]) as image:
        scale = side / min(image.size)
        size = max(side, round(image.width * scale)), max(side, round(image.height * scale))
        whole = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    left, top = corner(whole.width, whole.height, side)
    return np.array(whole.crop((left, top, left + side, top + side)))


def corner(width: int, height: int, side: int) -> tuple[int, int]:
    """Left and top of the square in the middle."""
    return (width - side) // 2, (height - side) // 2


def _look(path: Path, caption: str) -> Picture:
    data = _read(path)
    try:
        info = decoding.inspect(data)
    except PhotoError as error:
        raise LoraError(f"{path.name}: {error.detail}") from error
    if max(info.width, info.height) > MAX_RATIO * min(info.width, info.height):
        raise LoraError(f"{path.name} is {info.width} x {info.height} pixels: crop it to at most {MAX_RATIO:g} to 1")
    return Picture(path, _caption(path, caption), info.width, info.height, hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LoraError(f"{path.name} is over {MAX_BYTES // 1_000_000} MB: scale it down")
        return path.read_bytes()
    except OSError as error:
        raise LoraError(f"{path.name} cannot be read: {error.strerror}") from error


def _caption(picture: Path, default: str) -> str:
    path = picture.with_suffix(".txt")
    try:
        with path.open("rb") as file:
            raw = file.read(4 * CAPTION_LETTERS + 4)
        text = " ".join(raw.decode("utf-8-sig").split())
    except FileNotFoundError:
        return default
    except OSError as error:
        raise LoraError(f"{path.name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(raw) > 4 * CAPTION_LETTERS:
            raise _too_long(path) from None
        raise LoraError(f"{path.name} is not text in UTF-8") from None
    if len(raw) > 4 * CAPTION_LETTERS or len(text) > CAPTION_LETTERS:
        raise _too_long(path)
    if not text:
        raise LoraError(f"{path.name} is empty: write what the picture shows, or delete the file")
    return text


def _too_long(path: Path) -> LoraError:
    return LoraError(f"{path.name} is over {CAPTION_LETTERS} characters: a caption is a sentence or two")
