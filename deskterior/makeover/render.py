"""Render: the image model draws the desk restyled, and the picture is kept before anything else is done.

The picture is the dearest thing here. It is kept under a key that is known before the call, so that a process that dies
right after keeping it does not buy it again; while the storage is away, as a draft.
"""

from __future__ import annotations

import asyncio

import structlog
from pydantic import BaseModel

from deskterior.errors import NotFound, StorageFailed
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.drafts import Drafts
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.paid import Bought, Lost, buy
from deskterior.makeover.prompts import Prompts
from deskterior.providers import ImageModel
from deskterior.schemas import Concept, CostItem, Description
from deskterior.storage import Storage, key_for

log = structlog.get_logger(__name__)

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
KEEP_PAUSES_S = (0.2, 1.0)
"""Between tries to store a picture, before it is kept as a draft."""


class Picture(BaseModel):
    key: str
    revised_prompt: str | None = None


class Render:
    """`expected` None: the model is our own and costs nothing. At most `places` pictures are drawn at once."""

    def __init__(
        self,
        model: ImageModel,
        storage: Storage,
        drafts: Drafts,
        prompts: Prompts,
        *,
        expected: CostItem | None,
        allowed: int,
        places: asyncio.Semaphore,
    ) -> None:
        self._model = model
        self._storage = storage
        self._drafts = drafts
        self._prompts = prompts
        self._expected = expected
        self._allowed = allowed
        self._places = places

    async def __call__(self, run: Run, journal: Journal, photo: bytes, description: Description) -> Picture:
        """Raises as `buy`."""
        done = run.done.get("render") or await self._kept_before_the_end(run, journal)
        if done is None:
            concept = Concept(run.task.concept)
            prompt = self._prompts.render(concept, description)

            async def call(number: int) -> Bought:
                drawn = await self._model.draw(prompt, photo, concept)
                key = key_for("results", f"{run.task.id}.{number}", drawn.content_type)
                try:
                    await self._keep(run, key, drawn.image)
                except DatabaseAway as error:
                    raise Lost(drawn.cost, error) from error
                return Bought(Picture(key=key, revised_prompt=drawn.revised_prompt).model_dump_json(), drawn.cost)

            async with self._places:
                done = await buy(journal, run, "render", call, expected=self._expected, allowed=self._allowed)
        return Picture.model_validate_json(done)

    async def _kept_before_the_end(self, run: Run, journal: Journal) -> str | None:
        """The picture of an interrupted call that got as far as being kept, if there is one."""
        for interrupted in run.calls.get("render", []):
            for content_type in PICTURE_TYPES if interrupted.state == "interrupted" else ():
                key = key_for("results", f"{run.task.id}.{interrupted.number}", content_type)
                if not await self._is_kept(key):
                    continue
                log.info("render.found", number=interrupted.number)
                result = Picture(key=key).model_dump_json()
                await journal.done(run, "render", interrupted.number, result, self._expected)
                return result
        return None

    async def _is_kept(self, key: str) -> bool:
        try:
            await self._storage.get(key)
        except NotFound:
            return await self._drafts.get(key) is not None
        return True

    async def _keep(self, run: Run, key: str, image: bytes) -> None:
        for pause in (*KEEP_PAUSES_S, 0.0):
            try:
                await self._storage.put_at(key, image)
                return
            except StorageFailed as error:
                log.warning("render.not_stored", internal=error.internal or error.detail)
            await asyncio.sleep(pause)
        await self._drafts.put(run.task.id, key, image)
