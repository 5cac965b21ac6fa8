"""Publish: the picture can be reached and, with the products, is the result."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from deskterior.errors import StorageFailed
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.render import Picture
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
    def __init__(self, storage: Storage, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._storage = storage
        self._pauses_s = pauses_s

    async def __call__(self, run: Run, journal: Journal, picture: Picture, basket: Basket) -> None:
        """Raises StorageFailed when no link can be made for the picture."""
        if "publish" in run.done:
            return
        number = await journal.begin(run, "publish")
        try:
            await self._link(picture.key)
        except StorageFailed:
            await journal.failed(run, "publish", number)
            raise
        published = Published(key=picture.key, products=basket.products, warnings=basket.problems)
        await journal.done(run, "publish", number, published.model_dump_json())

    async def _link(self, key: str) -> str:
        for pause in self._pauses_s:
            try:
                return await self._storage.url(key)
            except StorageFailed:
                await asyncio.sleep(pause)
        return await self._storage.url(key)
