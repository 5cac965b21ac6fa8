"""Keeping the picture of a task, whoever drew it: under a key that is known before it is drawn.

So a process that dies right after keeping it does not have it drawn again. While the storage is away, it is kept as a
draft.
"""

from __future__ import annotations

import asyncio

import structlog
from pydantic import BaseModel

from deskterior.errors import NotFound, StorageFailed
from deskterior.makeover.drafts import Drafts
from deskterior.makeover.journal import Journal, Run
from deskterior.schemas import CostItem
from deskterior.storage import Storage, key_for

log = structlog.get_logger(__name__)

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
KEEP_PAUSES_S = (0.2, 1.0)
"""Between tries to store a picture, before it is kept as a draft."""


class Picture(BaseModel):
    """What render brings."""

    key: str
    revised_prompt: str | None = None


class Pictures:
    def __init__(self, storage: Storage, drafts: Drafts) -> None:
        self._storage = storage
        self._drafts = drafts

    async def keep(self, run: Run, number: int, content_type: str, image: bytes) -> str:
        """Keep the picture of the call `number`; its key. Raises DatabaseAway when neither place takes it."""
        key = key_for("results", f"{run.task.id}.{number}", content_type)
        for pause in (*KEEP_PAUSES_S, 0.0):
            try:
                await self._storage.put_at(key, image)
                return key
            except StorageFailed as error:
                log.warning("render.not_stored", internal=error.internal or error.detail)
            await asyncio.sleep(pause)
        await self._drafts.put(run.task.id, key, image)
        return key

    async def kept_before_the_end(self, run: Run, journal: Journal, cost: CostItem | None) -> str | None:
        """The result of an interrupted call that got as far as keeping its picture, if there is one; written down."""
        for interrupted in run.calls.get("render", []):
            for content_type in PICTURE_TYPES if interrupted.state == "interrupted" else ():
                key = key_for("results", f"{run.task.id}.{interrupted.number}", content_type)
                if not await self._is_kept(key):
                    continue
                log.info("render.found", number=interrupted.number)
                result = Picture(key=key).model_dump_json()
                await journal.done(run, "render", interrupted.number, result, cost)
                return result
        return None

    async def _is_kept(self, key: str) -> bool:
        try:
            await self._storage.get(key)
        except NotFound:
            return await self._drafts.get(key) is not None
        return True
