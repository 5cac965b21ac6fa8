"""Waiting for a task to change, whichever process changes it: at once for our own, within a poll for others'."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import sqlalchemy as sa
import structlog

from deskterior.jobs.database import Database
from deskterior.makeover.tables import tasks

log = structlog.get_logger(__name__)

POLL_S = 0.2
CHUNK = 500


class Watch:
    """One poll of the database for all who wait in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[tuple[int, asyncio.Event]]] = defaultdict(set)
        self._poller: asyncio.Task[None] | None = None

    def changed(self, task_id: str) -> None:
        """Wake those who wait for this task."""
        for _, event in self._waiting.get(task_id, ()):
            event.set()

    async def wait(self, task_id: str, version: int, timeout_s: float) -> bool:
        """Wait until the task is not at `version` any more; False after `timeout_s` seconds. May wake for nothing."""
        waiter = (version, asyncio.Event())
        self._waiting[task_id].add(waiter)
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="task-watch")
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1].wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waiting[task_id].discard(waiter)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _poll(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(POLL_S)
                ids = list(self._waiting)
                for start in range(0, len(ids), CHUNK):
                    try:
                        await self._look(ids[start : start + CHUNK])
                    except sa.exc.SQLAlchemyError as error:
                        log.warning("tasks.watch_failed", error=type(error).__name__)
        finally:
            self._poller = None

    async def _look(self, ids: list[str]) -> None:
        query = sa.select(tasks.c.id, tasks.c.version).where(tasks.c.id.in_(ids))
        found = {row.id: row.version for row in await self._database.read(lambda c: c.execute(query).all())}
        for task_id in ids:
            for version, event in self._waiting.get(task_id, ()):
                if found.get(task_id) != version:
                    event.set()

    async def aclose(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
