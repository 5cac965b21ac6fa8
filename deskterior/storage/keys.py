"""Keys: the names under which pictures are stored, and the picture types that may be.

A key is made of a few known words, digits and lower-case hex, so it can never lead out of a folder, and two pictures
never meet under one key unless they are meant to.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Literal

from deskterior.errors import NotFound, PhotoTypeUnsupported

Kind = Literal["inputs", "results", "uploads"]

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/heic": "heic"}
_TYPES = {extension: content_type for content_type, extension in _EXTENSIONS.items()}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

HEAD = 16
"""Bytes from the beginning of a picture that tell its type."""

PATTERN = (
    r"(?:inputs|results|uploads)/(?:[0-9]{4}/[0-9]{2}/[0-9]{2}|task/[0-9a-f]{2})/[0-9a-f]{32}\.(?:jpg|png|webp|heic)"
)
_KEY = re.compile(PATTERN)


def new_key(kind: Kind, content_type: str) -> str:
    """A key that nothing else has (128 random bits), filed under today's date in UTC."""
    return f"{kind}/{datetime.now(UTC):%Y/%m/%d}/{secrets.token_hex(16)}.{_extension(content_type)}"


def key_for(kind: Kind, task_id: str, content_type: str) -> str:
    """The one key of a task's picture: a step that runs again after a crash overwrites its own file.

    The id is hashed, so that a public address does not give away a task.
    """
    digest = hashlib.sha256(f"{kind}/{task_id}".encode()).hexdigest()[:32]
    return f"{kind}/task/{digest[:2]}/{digest}.{_extension(content_type)}"


def checked(key: str) -> str:
    """The key itself, or NotFound for what cannot be one: then nothing can be stored under it either."""
    if not _KEY.fullmatch(key):
        raise NotFound("There is no picture under this key")
    return key


def content_type_of(key: str) -> str:
    """The media type that a key's ending stands for."""
    return _TYPES[key.rpartition(".")[2]]


def sniff(head: bytes) -> str | None:
    """The media type that a picture's first `HEAD` bytes tell, or None when it is no type that is stored."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "image/heic"
    return None


def _extension(content_type: str) -> str:
    try:
        return _EXTENSIONS[content_type]
    except KeyError:
        raise PhotoTypeUnsupported(f"Pictures are stored as {', '.join(_EXTENSIONS)}, not as {content_type}") from None
