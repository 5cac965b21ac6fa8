"""The photo of a task: fetched once, refused if it shows no desk, and kept: every later step has the same one."""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel

from deskterior.errors import NotADesk, NotFound, Overloaded
from deskterior.makeover.journal import Journal, Run
from deskterior.storage import HEAD, Storage, key_for, sniff
from deskterior.telemetry import metrics

log = structlog.get_logger(__name__)

LONGEST = 1280
"""Pixels of the longer side of what the outside models are shown: more than a picture they draw has."""

PATIENCE_S = 600.0
"""How long a task waits for a classifier that is full or restarting."""
PAUSE_S = (0.5, 5.0)


class Photos(Protocol):
    async def fetch(self, url: str) -> bytes: ...

    async def square(self, data: bytes) -> NDArray[np.uint8]: ...

    async def scaled(self, data: bytes, longest: int) -> bytes: ...


class Desk(Protocol):
    async def score(self, square: NDArray[np.uint8]) -> float: ...


class Kept(BaseModel):
    key: str


class TakePhoto:
    """`threshold`: score from which a photo is a desk; None lets any photo through."""

    def __init__(self, photos: Photos, storage: Storage, desk: Desk, threshold: float | None) -> None:
        self._photos = photos
        self._storage = storage
        self._desk = desk
        self._threshold = threshold

    async def __call__(self, run: Run, journal: Journal) -> bytes:
        """The photo as a JPEG of at most `LONGEST` pixels a side.

        Raises:
            PhotoError: it cannot be fetched or decoded, or shows no desk.
            RunnerFailed, StorageFailed
            Overloaded: the classifier was full or restarting for too long.
        """
        if done := run.done.get("photo"):
            try:
                return await self._photos.scaled(await self._storage.get(Kept.model_validate_json(done).key), LONGEST)
            except NotFound:
                log.warning("photo.gone")
        data = await self._patiently(run.task.initial_image_url, journal)
        # A type that is not stored was refused by the decoder already.
        key = key_for("inputs", run.task.id, sniff(data[:HEAD]) or "image/jpeg")
        if not done:
            # Before it is stored: of a task that was deleted meanwhile nothing is kept, and no key is unknown.
            await journal.note(run, "photo", Kept(key=key).model_dump_json())
        await self._storage.put_at(key, data)
        return await self._photos.scaled(data, LONGEST)

    async def only(self, url: str) -> bytes:
        """The same for a call that keeps nothing. Raises as the task's."""
        return await self._photos.scaled(await self._looked_at(url), LONGEST)

    async def _patiently(self, url: str, journal: Journal) -> bytes:
        """A task can wait for a runner that is full or being replaced: nobody holds a connection for it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while True:
            try:
                return await self._looked_at(url)
            except Overloaded as error:
                pause = min(PAUSE_S[1], max(PAUSE_S[0], error.retry_after or 0.0))
                if loop.time() + pause > until:
                    raise
                log.warning("photo.again", internal=error.internal or error.detail, in_s=pause)
            await asyncio.sleep(pause)
            journal.checkpoint()

    async def _looked_at(self, url: str) -> bytes:
        data = await self._photos.fetch(url)
        square = await self._photos.square(data)
        if self._threshold is not None:
            score = await self._desk.score(square)
            if score < self._threshold:
                metrics.PHOTOS_REFUSED.labels(NotADesk.slug).inc()
                raise NotADesk(
                    f"The photo does not show a desk (score {score:.2f}, needed {self._threshold:.2f}); "
                    "take one that shows the whole desk"
                )
        return data
