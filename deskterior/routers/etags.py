"""Whether a browser has already what it asks for (`If-None-Match`, RFC 9110, 13.1.2)."""

from __future__ import annotations

from fastapi import Request


def has(request: Request, etag: str) -> bool:
    """`etag` as it was sent, in quotes. Proxies that pack answers send it back as a weak one."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]
