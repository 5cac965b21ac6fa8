"""Publish: the picture is in storage and can be reached; with the products it is the result."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from deskterior.errors import StorageFailed
from deskterior.makeover.drafts import Drafts
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.pictures import Picture
from deskterior.makeover.shop import Basket
from deskterior.schemas import Product
from deskterior.storage import Storage

PAUSES_S = (0.2, 1.0, 3.0)


class Published(BaseModel):
    """The result as it is kept: a key instead of a link, because links expire."""

    key: str
    products: list[Product]
    warnings: list[str] = []


class Publish:
    def __init__(self, storage: Storage, drafts: Drafts) -> None:
        self._storage = storage
        self._drafts = drafts

    async def __call__(self, run: Run, journal: Journal, picture: Picture, basket: Basket) -> None:
        """Raises StorageFailed when the picture cannot be stored, or no link to it can be made; it is not lost."""
        if "publish" in run.done:
            return
        number = await journal.begin(run, "publish")
        try:
            await self._store(picture.key)
        except StorageFailed:
            await journal.failed(run, "publish", number)
            raise
        published = Published(key=picture.key, products=basket.products, warnings=basket.problems)
        await journal.done(run, "publish", number, published.model_dump_json())

    async def _store(self, key: str) -> None:
        draft = await self._drafts.get(key)
        for pause in (*PAUSES_S, None):
            try:
                if draft is not None:
                    await self._storage.put_at(key, draft)
                await self._storage.url(key)
                break
            except StorageFailed:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        if draft is not None:
            await self._drafts.delete(key)
