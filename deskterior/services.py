"""What the routers work with: one object of each kind, opened when the service starts and closed when it stops."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa
from fastapi import Request

from deskterior import storage
from deskterior.config import Settings
from deskterior.jobs.database import Database
from deskterior.photos import Photos
from deskterior.storage import Storage
from runners.placement import DeskClient, connect_desk_classifier


@dataclass(frozen=True)
class Services:
    """Everything that answers a request, made by `open` in the order in which one needs the other."""

    settings: Settings
    storage: Storage
    photos: Photos
    desk: DeskClient
    database: Database
    opened: AsyncExitStack

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        async with AsyncExitStack() as opened:
            store = storage.build(settings)
            opened.push_async_callback(store.aclose)

            async def own(url: str) -> bytes | None:
                """A photo in our own storage is read there, whatever the rules for strangers' addresses say."""
                key = await store.key_of(url)
                return None if key is None else await store.get(key)

            photos = Photos(settings, own)
            opened.push_async_callback(photos.aclose)
            desk = await connect_desk_classifier(settings)
            opened.push_async_callback(desk.aclose)
            database = Database(settings.database_url.get_secret_value())
            opened.callback(database.close)
            return cls(settings, store, photos, desk, database, opened.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    async def aclose(self) -> None:
        await self.opened.aclose()

    @property
    def desk_threshold(self) -> float:
        """Score from which a photo is a desk."""
        own = self.settings.desk_threshold
        return self.desk.info.threshold if own is None else own

    async def check_job_store(self) -> str:
        """Reach the job store, or raise."""
        await self.database.read(lambda connection: connection.execute(sa.select(1)).scalar())
        return "ok"


def services(request: Request) -> Services:
    """The services of the application that a request reached (a FastAPI dependency)."""
    found: Services = request.app.state.services
    return found
