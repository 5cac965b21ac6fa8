"""Downloaders for tests, and answers that photo hosts give: good, rude and endless."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deskterior.download import PhotoDownloader
from deskterior.egress import PhotoHosts, Resolve
from tests.photographs import encoded, scene
from tests.websites import Answer, Site, Switchboard, Visit, site

PHOTO = encoded(scene(64, 64))
LIMIT = 100_000
SOON = 0.3
"""Seconds to wait for servers that never finish; those that answer are given PATIENCE."""
PATIENCE = 30.0


@asynccontextmanager
async def downloader(
    *allowed: str,
    timeout_s: float = PATIENCE,
    resolve: Resolve | None = None,
    network: Switchboard | None = None,
    development: bool = True,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[PhotoDownloader]:
    photos = PhotoDownloader(
        PhotoHosts(allowed, development=development),
        max_bytes=LIMIT,
        timeout_s=timeout_s,
        connections=8,
        resolve=resolve,
        network=network,
        trust=trust,
    )
    try:
        yield photos
    finally:
        await photos.aclose()


async def fetched(answer: Answer, path: str = "/desk.jpg", timeout_s: float = PATIENCE) -> tuple[bytes, Site]:
    async with site(answer) as web, downloader("127.0.0.1", timeout_s=timeout_s) as photos:
        return await photos.fetch(web.url(path)), web


async def photo(visit: Visit) -> None:
    await visit.answer(PHOTO)


def saying(*parts: bytes, then: str = "close") -> Answer:
    """Say bytes, then close the connection or leave it hanging until the client goes."""

    async def answer(visit: Visit) -> None:
        for part in parts:
            await visit.say(part)
        if then == "hang":
            await visit.gone()
        visit.writer.close()

    return answer


def for_ever(head: bytes, more: bytes) -> Answer:
    async def answer(visit: Visit) -> None:
        await visit.say(head)
        while True:
            await visit.say(more)

    return answer
