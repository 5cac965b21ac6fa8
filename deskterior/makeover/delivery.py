"""Delivery: the backend is told, at least once, for as long as `CALLBACK_MAX_AGE_S` says, across restarts.

Each attempt is a job of its own, so that a backend that is away holds no place and no memory between two of them. What
a message says and how it is sent is left to `callback_messages` and `callbacks`.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
import structlog

from deskterior.callback_messages import Failure, Format, OwnCode, generate_ended, no_code
from deskterior.callbacks import Delivered, Outcome, TryAgain, next_pause
from deskterior.errors import NotFound, Overloaded
from deskterior.jobs.database import Database
from deskterior.makeover.register import Register
from deskterior.makeover.tables import CallbackRow, callbacks, tasks
from deskterior.makeover.tracing import forget_trace, keep_trace, kept_trace
from deskterior.makeover.view import View
from deskterior.storage import request_base
from deskterior.telemetry import metrics, traces

log = structlog.get_logger(__name__)

LOST_S = 60.0
"""A message overdue for so long has no job any more."""

Submit = Callable[[str, tuple[str, int], float], Awaitable[None]]
"""Have `deliver(*arguments)` run as the job of this id, so many seconds from now."""


class Sender(Protocol):
    @property
    def enabled(self) -> bool: ...

    async def attempt(self, message_id: str, body: bytes) -> Outcome: ...


@dataclass(frozen=True)
class Terms:
    """How messages are made and for how long they are tried."""

    form: Format
    max_age_s: float
    own_code: OwnCode = no_code


def pause_before_next(outcome: TryAgain, attempts: int, rng: random.Random) -> float:
    """Seconds. What the backend asks for is the least: `Retry-After: 0` is no leave to ask it without end."""
    return max(outcome.after or 0.0, next_pause(attempts, rng))


class Delivery:
    def __init__(
        self,
        database: Database,
        sender: Sender,
        register: Register,
        view: View,
        terms: Terms,
        *,
        submit: Submit,
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._sender = sender
        self._register = register
        self._view = view
        self._terms = terms
        self._submit = submit
        self._changed = changed
        self._clock = clock
        self._rng = rng or random.Random()

    @property
    def enabled(self) -> bool:
        """Whether there is anybody to tell."""
        return self._sender.enabled

    async def post(self, body: bytes) -> None:
        """Tell the backend something that belongs to no task."""
        callback_id, now = uuid.uuid4().hex, self._clock()
        row = {"id": callback_id, "body": body, "status": "pending", "attempts": 0, "created_at": now, "due_at": now}
        traceparent = traces.current()

        def post(connection: sa.Connection) -> None:
            connection.execute(callbacks.insert().values(**row))
            keep_trace(connection, callback_id, traceparent)

        await self._database.write(post)
        # Written down is as good as sent: who is told otherwise asks again, and the backend hears of it twice.
        with suppress(Overloaded):
            await self.start(callback_id)

    async def start(self, callback_id: str, attempts: int = 0, delay_s: float = 0.0) -> None:
        await self._submit(f"callback.{callback_id}.{attempts}", (callback_id, attempts), delay_s)

    async def deliver(self, callback_id: str, attempts: int) -> None:
        """One attempt, the one after `attempts` others, and the arrangement for the next if it came to nothing."""
        row = await self._row(callback_id)
        if row is None or row.status != "pending":
            return
        if row.attempts == attempts:  # else it was made before a crash, and only the next one is to be arranged
            with traces.span(
                "notify", parent=await self._traceparent(row), attributes={"deskterior.attempt": attempts + 1}
            ):
                body = row.body or await self._of_task(row)
                if body is None:
                    return
                row = await self._write_down(row, await self._sender.attempt(callback_id, body))
        if row.status == "pending":
            await self.start(callback_id, row.attempts, max(0.001, row.due_at - self._clock()))

    async def _of_task(self, row: CallbackRow) -> bytes | None:
        assert row.task_id is not None
        try:
            whole = await self._register.whole(row.task_id)
        except NotFound:
            return None
        request_base.set(whole.task.link_base)
        task = await self._view.task(whole)
        if task.result is not None:
            return generate_ended(task.result, self._terms.form, self._terms.own_code)
        if task.error is not None:
            return generate_ended(Failure(task.initial_image_url, task.error), self._terms.form)
        return None  # it was cancelled, or runs again: then it will be told how that ends

    async def _write_down(self, row: CallbackRow, outcome: Outcome) -> CallbackRow:
        now = self._clock()
        metrics.CALLBACKS.labels("delivered" if isinstance(outcome, Delivered) else "failed").inc()
        end = row.created_at + self._terms.max_age_s
        attempts, status, error, due_at = row.attempts + 1, "delivered", None, now
        if not isinstance(outcome, Delivered):
            error = outcome.reason
            due_at = min(now + pause_before_next(outcome, attempts, self._rng), end)
            status = "pending" if now < end else "failed"
            if status == "failed":
                metrics.CALLBACKS.labels("given-up").inc()
            log.warning("callback.undelivered", callback_id=row.id, attempts=attempts, reason=error, again=status)
        update = callbacks.update().where(callbacks.c.id == row.id)
        update = update.values(status=status, attempts=attempts, last_error=error, due_at=due_at)

        def write(connection: sa.Connection) -> None:
            if row.task_id:  # first, as everywhere: whoever deletes the task waits, and neither for the other
                connection.execute(tasks.update().where(tasks.c.id == row.task_id).values(version=tasks.c.version + 1))
            connection.execute(update)
            if status != "pending" and not row.task_id:
                forget_trace(connection, row.id)

        await self._database.write(write, patiently=True)
        if row.task_id:
            self._changed(row.task_id)
        return CallbackRow(row.id, row.task_id, row.body, status, attempts, error, row.created_at, due_at)

    async def resume(self, task_id: str) -> None:
        """See to it that the message of a task that has ended is on its way."""
        query = sa.select(callbacks).where(callbacks.c.task_id == task_id, callbacks.c.status == "pending")
        for row in await self._database.read(lambda connection: connection.execute(query).all()):
            await self.start(row.id, row.attempts, max(0.0, row.due_at - self._clock()))

    async def find_lost(self) -> None:
        """Start anew what is overdue: its job died in a way that no takeover mends."""
        now = self._clock()
        overdue = sa.and_(callbacks.c.status == "pending", callbacks.c.due_at < now - LOST_S)
        for row in await self._database.read(lambda c: c.execute(sa.select(callbacks).where(overdue).limit(100)).all()):
            mine = callbacks.update().where(callbacks.c.id == row.id, callbacks.c.due_at == row.due_at)
            if await self._database.execute(mine.values(due_at=now)):
                log.warning("callback.lost", callback_id=row.id)
                await self._submit(f"callback.{row.id}.{row.attempts}.{now:.0f}", (row.id, row.attempts), 0.0)

    async def _traceparent(self, row: CallbackRow) -> str:
        """Of what the message tells about, however long ago that was."""
        if not traces.on():
            return ""
        return await self._database.read(lambda connection: kept_trace(connection, row.task_id or row.id))

    async def _row(self, callback_id: str) -> CallbackRow | None:
        query = sa.select(callbacks).where(callbacks.c.id == callback_id)
        found = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return CallbackRow.of(found) if found else None
