"""Pictures that were paid for while the storage was away: kept in the job store until they can be published."""

from __future__ import annotations

import sqlalchemy as sa

from deskterior.jobs.database import Database
from deskterior.makeover.tables import drafts


class Drafts:
    """By the key under which the picture will be published. Every method may raise DatabaseAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, task_id: str, key: str, image: bytes) -> None:
        row = drafts.insert().values(key=key, task_id=task_id, image=image)
        await self._database.write(lambda connection: connection.execute(row), durable=True)

    async def get(self, key: str) -> bytes | None:
        query = sa.select(drafts.c.image).where(drafts.c.key == key)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def delete(self, key: str) -> None:
        await self._database.execute(drafts.delete().where(drafts.c.key == key))
