"""Waiting for a task to change, whichever process changes it: at once for our own, within a poll for others'."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

import sqlalchemy as sa
import structlog

from deskterior.jobs.database import Database, DatabaseAway
from deskterior.makeover.tables import UNFINISHED, tasks

log = structlog.get_logger(__name__)

POLL_S = 0.2
AWAY_S = 10.0
"""A job store that is away for so long is told to those who wait, by waking them to look for themselves."""
CHUNK = 500


@dataclass(eq=False)
class _Waiter:
    version: int
    for_end: bool
    event: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """One poll of the database for all who wait in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[_Waiter]] = defaultdict(set)
        self._poller: asyncio.Task[None] | None = None

    def changed(self, task_id: str, *, ended: bool = False) -> None:
        """Wake those who wait for this task, those who wait for its end only if that is what has come."""
        for waiter in self._waiting.get(task_id, ()):
            if ended or not waiter.for_end:
                waiter.event.set()

    async def wait(self, task_id: str, version: int, timeout_s: float, *, for_end: bool = False) -> bool:
        """Wait until the task is not at `version` any more, or has ended; False after `timeout_s` seconds.

        It may wake for nothing.
        """
        waiter = _Waiter(version, for_end)
        self._waiting[task_id].add(waiter)
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="task-watch")
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.event.wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waiting[task_id].discard(waiter)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _poll(self) -> None:
        answered = time.monotonic()
        try:
            while self._waiting:
                await asyncio.sleep(POLL_S)
                ids = list(self._waiting)
                try:
                    for start in range(0, len(ids), CHUNK):
                        await self._look(ids[start : start + CHUNK])
                    answered = time.monotonic()
                except DatabaseAway as error:
                    log.warning("tasks.watch_failed", internal=error.internal)
                    if time.monotonic() - answered >= AWAY_S:
                        for task_id in ids:
                            self.changed(task_id, ended=True)
        finally:
            self._poller = None

    async def _look(self, ids: list[str]) -> None:
        query = sa.select(tasks.c.id, tasks.c.version, tasks.c.status).where(tasks.c.id.in_(ids))
        found = {row.id: row for row in await self._database.read(lambda c: c.execute(query).all())}
        for task_id in ids:
            row = found.get(task_id)
            ended = row is None or row.status not in UNFINISHED
            for waiter in self._waiting.get(task_id, ()):
                if ended or (row is not None and not waiter.for_end and row.version != waiter.version):
                    waiter.event.set()

    async def aclose(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
