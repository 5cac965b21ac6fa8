"""Removing tasks that have ended: those that a client deletes, and those that are older than `TASK_RETENTION_DAYS`.

The rows go first, in one transaction, which also writes down the task's pictures as discarded. So a task is there or
gone, whatever dies in between, and a picture that the storage does not let go of now, or that arrives late, is deleted
in a later round. Rounds are made by one process at a time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa
import structlog

from deskterior.errors import NotFound, Overloaded, StorageFailed, TaskNotFinished
from deskterior.jobs.database import Database, clock_of
from deskterior.makeover.photo import Kept
from deskterior.makeover.pictures import PICTURE_TYPES, Picture
from deskterior.makeover.spending import keep_spender
from deskterior.makeover.tables import (
    UNFINISHED,
    StageRow,
    callbacks,
    drafts,
    metadata,
    progress,
    spenders,
    stages,
    tasks,
)
from deskterior.makeover.totals import ALL, HELD, NANO, add, amiss, day_of, totals
from deskterior.makeover.tracing import forget_trace
from deskterior.makeover.whole import at_rest
from deskterior.storage import key_for

log = structlog.get_logger(__name__)

BATCH = 50
"""Tasks of a round, each a transaction of its own."""
CHUNK = 1000
"""Rows without a picture of a round."""
LATE_S = 900.0
"""A picture may be on its way to the storage while its task is deleted; after so long it has arrived."""
TURN_S = 300.0
"""A process that has begun a round and said nothing for so long has died in it."""

discarded = sa.Table(
    "makeover_discarded",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("due_at", sa.Double, nullable=False, index=True),
)
turns = sa.Table(
    "makeover_turns",
    metadata,
    sa.Column("of", sa.String(20), primary_key=True),
    sa.Column("holder", sa.String(32), nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)


class PictureStore(Protocol):
    async def delete(self, key: str) -> None:
        """Raises StorageFailed."""
        ...


class Removal:
    """`forget` deletes the engine's records of jobs, by their ids. `keep_days` 0 is for ever."""

    def __init__(
        self,
        database: Database,
        storage: PictureStore,
        forget: Callable[[list[str]], Awaitable[None]],
        keep_days: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._storage = storage
        self._forget = forget
        self._keep = timedelta(days=keep_days)
        self._clock = clock
        self._name = uuid.uuid4().hex

    async def delete(self, task_id: str, owner: str | None = None) -> None:
        """Delete a finished task and its pictures. What its calls cost stays counted for the day.

        A picture that the storage does not let go of follows when it does.

        Raises:
            NotFound, TaskNotFinished
        """
        await self._delete(task_id, owner, None)

    async def round(self) -> bool:
        """Remove what is due, if no other process is at it; whether there is more to do at once. What an older release
        did to the totals of money is put right by the way.

        Raises:
            DatabaseAway
        """
        now = await self._turn()
        if now is None:
            return False
        more = await self._pictures(now)
        more |= await self._leftovers(now)
        await self._mend_totals()
        if self._keep:
            more |= await self._old(now - self._keep.total_seconds())
        return more

    async def _turn(self) -> float | None:
        """The time (Unix seconds, by the database's clock: a wrong one of ours must not cost tasks), if it is ours."""

        def take(connection: sa.Connection) -> float | None:
            now: float = connection.execute(sa.select(clock_of(connection))).scalar_one()
            mine = {"holder": self._name, "until": now + TURN_S}
            free = sa.or_(turns.c.until < now, turns.c.holder == self._name)
            if connection.execute(turns.update().where(turns.c.of == "removal", free).values(mine)).rowcount:
                return now
            if connection.execute(sa.select(turns.c.of).where(turns.c.of == "removal")).first():
                return None
            connection.execute(turns.insert().values(of="removal", **mine))
            return now

        try:
            return await self._database.write(take)
        except sa.exc.IntegrityError:  # another one was the first
            return None

    async def _old(self, before: float) -> bool:
        """Remove tasks that ended `before`, unless their callback is still being tried."""
        pending = sa.exists().where(callbacks.c.task_id == tasks.c.id, callbacks.c.status == "pending")
        query = sa.select(tasks.c.id).where(tasks.c.created_at < before, _ended(before), ~pending)
        query = query.order_by(tasks.c.created_at).limit(BATCH)
        found = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        removed = 0
        for task_id in found:
            try:
                await self._delete(task_id, None, before)
                removed += 1
            except (NotFound, TaskNotFinished):
                continue  # somebody has deleted it, or goes on with it
        if removed:
            log.info("tasks.removed", tasks=removed)
        told = sa.select(callbacks.c.id).where(
            callbacks.c.task_id.is_(None), callbacks.c.status.in_(("delivered", "failed")), callbacks.c.due_at < before
        )
        gone = await self._database.execute(callbacks.delete().where(callbacks.c.id.in_(told.limit(CHUNK))))
        await self._database.execute(totals.delete().where(totals.c.of < day_of(before), totals.c.of != HELD))
        return removed == BATCH or gone == CHUNK

    async def _leftovers(self, now: float) -> bool:
        """Remove what is kept of calls without a task, for the sake of their day's money, when that day is over."""
        midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        day_ago = midnight - 24 * 3600  # no clock is so far behind
        recent = sa.exists().where(stages.c.task_id == spenders.c.task_id, stages.c.started_at >= day_ago)
        query = sa.select(spenders.c.task_id).where(~recent).limit(CHUNK)

        def remove(connection: sa.Connection) -> int:
            over = connection.execute(query).scalars().all()
            if over:
                connection.execute(stages.delete().where(stages.c.task_id.in_(over)))
                connection.execute(spenders.delete().where(spenders.c.task_id.in_(over)))
            return len(over)

        return await self._database.write(remove) == CHUNK

    async def _mend_totals(self) -> None:
        if change := await self._database.read(amiss):
            await self._database.write(lambda connection: add(connection, change))
            log.warning("totals.mended", usd=change[ALL, HELD] / NANO)

    async def _pictures(self, now: float) -> bool:
        query = sa.select(discarded.c.key).where(discarded.c.due_at < now).order_by(discarded.c.due_at).limit(BATCH)
        keys = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        kept = await self._throw_away(keys)
        gone = [key for key in keys if key not in kept]
        if gone:
            await self._database.execute(discarded.delete().where(discarded.c.key.in_(gone)))
        if kept:
            again = discarded.update().where(discarded.c.key.in_(kept)).values(due_at=now + LATE_S)
            await self._database.execute(again)
        return len(gone) == BATCH

    async def _throw_away(self, keys: Sequence[str]) -> set[str]:
        """Delete pictures; the keys of those that the storage did not let go of."""
        kept = set()
        for key in keys:
            try:
                await self._storage.delete(key)
            except StorageFailed as error:
                kept.add(key)
                log.warning("picture.not_deleted", internal=error.internal or error.detail)
        return kept

    async def _delete(self, task_id: str, owner: str | None, before: float | None) -> None:
        def delete(connection: sa.Connection) -> tuple[str, list[str]]:
            task = at_rest(connection, task_id, owner)
            if before is not None:
                pending = sa.select(callbacks.c.id).where(
                    callbacks.c.task_id == task_id, callbacks.c.status == "pending"
                )
                if (task.finished_at or 0) >= before or connection.execute(pending).first():
                    raise TaskNotFinished
            calls = connection.execute(sa.select(stages).where(stages.c.task_id == task_id))
            keys = _keys(task_id, [StageRow.of(row) for row in calls])
            for table in (callbacks, drafts, progress):
                connection.execute(table.delete().where(table.c.task_id == task_id))
            # It holds nothing back any more, and what it has cost stays: so the totals stay as they are.
            connection.execute(stages.delete().where(stages.c.task_id == task_id, stages.c.usd == 0))
            if connection.execute(stages.update().where(stages.c.task_id == task_id).values(result=None)).rowcount:
                keep_spender(connection, task_id, task.owner)
            forget_trace(connection, task_id)
            connection.execute(tasks.delete().where(tasks.c.id == task_id))
            late = self._clock() + LATE_S
            if keys:
                connection.execute(discarded.insert(), [{"key": key, "due_at": late} for key in keys])
            return task.job_id, keys

        job_id, keys = await self._database.write(delete)
        await self._throw_away(keys)
        with suppress(Overloaded):  # it is forgotten by its age then
            await self._forget([job_id])


def _ended(before: float) -> sa.ColumnElement[bool]:
    return sa.and_(tasks.c.status.not_in(UNFINISHED), tasks.c.finished_at < before)


def _keys(task_id: str, calls: list[StageRow]) -> list[str]:
    """The keys of all pictures of a task, also those that a call which was cut off may have kept."""
    keys = set()
    for call in calls:
        if call.result and call.stage == "photo":
            keys.add(Kept.model_validate_json(call.result).key)
        if call.result and call.stage == "render":
            keys.add(Picture.model_validate_json(call.result).key)
        elif call.stage == "render":
            keys.update(key_for("results", f"{task_id}.{call.number}", kind) for kind in PICTURE_TYPES)
    return sorted(keys)
