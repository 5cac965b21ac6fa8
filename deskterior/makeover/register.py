"""The register of tasks: what clients do to them, each as one transaction. Running them is left to the workflow."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from deskterior.errors import IdempotencyConflict, Invalid, TaskFinished
from deskterior.jobs.database import Database
from deskterior.makeover.cursors import cursor_after, read_cursor
from deskterior.makeover.spending import UNLIMITED, Allowance, SpendingCap
from deskterior.makeover.tables import UNFINISHED, TaskRow, callbacks, stages, tasks
from deskterior.makeover.totals import booked
from deskterior.makeover.tracing import keep_trace
from deskterior.makeover.waiting import NO_LIMIT, WaitingLimit
from deskterior.makeover.whole import Whole, at_rest, task_of, wholes_of
from deskterior.schemas import GenerateRequest, TaskState
from deskterior.telemetry import metrics, traces

CREATE_LOCK = 77_002
MAX_PAGE = 100
MAX_KEY = 255
STUCK_S = 10.0
"""A task whose job is not known to the engine is queued anew, but not before its job had the time to get there."""


@dataclass(frozen=True)
class Origin:
    """Who asks for a task, and how. `owner` is the API key's name; idempotency keys are each owner's own."""

    owner: str = ""
    idempotency_key: str | None = None
    request_id: str | None = None
    link_base: str = ""
    allowance: Allowance = UNLIMITED


class Register:
    """`clock` is Unix seconds."""

    def __init__(
        self,
        database: Database,
        cap: SpendingCap,
        waiting: WaitingLimit = NO_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._cap = cap
        self._waiting = waiting
        self._clock = clock

    async def create(self, request: GenerateRequest, kind: str, origin: Origin, reserved: float) -> Whole:
        """Add a task; its job is then to be submitted. The same idempotency key is the same task.

        Raises:
            Invalid: the key or the address cannot be stored.
            IdempotencyConflict, SpendingCapReached
            RateLimited, Overloaded: too many tasks wait, of this owner or in all.
        """
        key = origin.idempotency_key
        if key is not None and not (0 < len(key) <= MAX_KEY and key.isprintable()):
            raise Invalid(errors=[{"field": "Idempotency-Key", "message": f"1 to {MAX_KEY} printable characters"}])
        storable(request.image_url)
        now = self._clock()
        task_id = uuid.uuid4().hex
        row = TaskRow(
            id=task_id,
            kind=kind,
            status="queued",
            initial_image_url=request.image_url,
            concept=request.concept.value,
            prompt_version=None,
            created_at=now,
            started_at=None,
            finished_at=None,
            attempts=1,
            error=None,
            owner=origin.owner,
            idempotency_key=key,
            request_hash=_hash(request, kind),
            request_id=origin.request_id,
            link_base=origin.link_base,
            reserved=reserved,
            job_id=_new_job(task_id),
            queued_at=now,
            claims=0,
            token=None,
            version=0,
        )

        traceparent = traces.current()

        def create(connection: sa.Connection) -> Whole:
            self._database.lock(connection, CREATE_LOCK)
            if key is not None:
                same = sa.select(tasks).where(tasks.c.owner == row.owner, tasks.c.idempotency_key == key)
                if found := connection.execute(same).one_or_none():
                    if found.request_hash != row.request_hash:
                        raise IdempotencyConflict
                    return wholes_of(connection, [TaskRow.of(found)])[0]
            self._admit(connection, now, reserved, origin)
            with booked(connection, task_id):
                connection.execute(tasks.insert().values(**asdict(row)))
            keep_trace(connection, task_id, traceparent)
            return Whole(row, [], None)

        return await self._database.write(create)

    async def row(self, task_id: str, owner: str | None = None) -> TaskRow:
        """Raises NotFound, also for a task of another owner."""
        return await self._database.read(lambda connection: task_of(connection, task_id, owner))

    async def whole(self, task_id: str, owner: str | None = None) -> Whole:
        """Raises as `row`."""
        return await self._database.read(
            lambda connection: wholes_of(connection, [task_of(connection, task_id, owner)])[0]
        )

    async def page(
        self, *, status: TaskState | None, limit: int, cursor: str | None, owner: str | None
    ) -> tuple[list[Whole], str | None]:
        """At most `limit` tasks, newest first, and the cursor for the next page.

        Raises:
            Invalid: `limit` is not 1 to 100, or the cursor is none of ours.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid(errors=[{"field": "limit", "message": f"1 to {MAX_PAGE}"}])
        query = sa.select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit + 1)
        if status is not None:
            query = query.where(tasks.c.status == status)
        if owner is not None:
            query = query.where(tasks.c.owner == owner)
        if cursor is not None:
            created_at, task_id = read_cursor(cursor)
            before = sa.and_(tasks.c.created_at == created_at, tasks.c.id < task_id)
            query = query.where(sa.or_(tasks.c.created_at < created_at, before))

        def page(connection: sa.Connection) -> tuple[list[Whole], str | None]:
            rows = [TaskRow.of(row) for row in connection.execute(query)]
            more = cursor_after(rows[limit - 1]) if len(rows) > limit else None
            return wholes_of(connection, rows[:limit]), more

        return await self._database.read(page)

    async def cancel(self, task_id: str, owner: str | None = None) -> None:
        """A queued task never runs; a running one stops before its next stage. One that has finished stays as it is.

        Raises:
            NotFound
            TaskFinished: there is nothing left to cancel.
        """

        def cancel(connection: sa.Connection) -> None:
            task = task_of(connection, task_id, owner, change=True)
            if task.status == "cancelled":
                return
            if task.finished:
                raise TaskFinished(f"The task has {task.status} already; there is nothing to cancel")
            with booked(connection, task_id):
                _update(connection, task, status="cancelled", finished_at=self._clock(), token=None)
            ended.append(task.kind)

        ended: list[str] = []
        await self._database.write(cancel)
        for kind in ended:
            metrics.TASKS_ENDED.labels(kind, "cancelled", "").inc()

    async def retry(self, task_id: str, expected: Mapping[str, float], origin: Origin, owner: str | None = None) -> str:
        """Queue a failed or cancelled task again; the id of the job to submit for it. What is done stays done.

        Args:
            expected: USD that a task of each kind is expected to cost from its start.
            origin: who asks; the allowance of another than the task's own owner is not touched.

        Raises:
            NotFound, SpendingCapReached, RateLimited, Overloaded
            TaskNotFinished: it is under way, or a call of its last attempt is.
            TaskFinished: it has succeeded.
        """

        def retry(connection: sa.Connection) -> str:
            self._database.lock(connection, CREATE_LOCK)
            task = at_rest(connection, task_id, owner)
            if task.status == "succeeded":
                raise TaskFinished("The task has succeeded already; there is nothing to retry")
            now = self._clock()
            again = expected[task.kind]
            by = origin if origin.owner == task.owner else Origin(task.owner)
            self._admit(connection, now, again, by)
            cost = sa.select(sa.func.coalesce(sa.func.sum(stages.c.usd), 0.0)).where(stages.c.task_id == task_id)
            reserved = connection.execute(cost).scalar_one() + again  # what it has cost stays counted with it
            job_id = _new_job(task_id)
            fresh = {"started_at": None, "finished_at": None, "error": None, "token": None, "claims": 0}
            queued = {"status": "queued", "attempts": task.attempts + 1, "job_id": job_id, "queued_at": now}
            with booked(connection, task_id):
                _update(connection, task, reserved=reserved, **fresh, **queued)
            # The backend need not hear any more how the last attempt ended.
            connection.execute(callbacks.delete().where(callbacks.c.task_id == task_id))
            return job_id

        return await self._database.write(retry)

    def _admit(self, connection: sa.Connection, now: float, expected_usd: float, origin: Origin) -> None:
        """Raises SpendingCapReached, RateLimited, Overloaded."""
        self._waiting.check(connection, origin.owner, origin.allowance)
        at = datetime.fromtimestamp(now, UTC)
        self._cap.check(connection, at, expected_usd, origin.owner, origin.allowance)

    async def unfinished(self) -> list[TaskRow]:
        """Tasks that some job should see to, the oldest thousand: those that have not ended, and those that were
        cancelled in the midst of a stage."""
        under_way = sa.select(stages.c.task_id).where(stages.c.state == "running")
        query = sa.select(tasks).where(sa.or_(tasks.c.status.in_(UNFINISHED), tasks.c.id.in_(under_way)))
        query = query.where(tasks.c.queued_at < self._clock() - STUCK_S)
        query = query.order_by(tasks.c.queued_at).limit(1000)
        return await self._database.read(lambda connection: [TaskRow.of(row) for row in connection.execute(query)])

    async def requeue(self, task: TaskRow) -> TaskRow | None:
        """Give a task whose job has ended without it another job; None when somebody else has done so."""
        again = replace(task, job_id=_new_job(task.id), queued_at=self._clock())
        update = tasks.update().values(job_id=again.job_id, queued_at=again.queued_at)
        update = update.where(tasks.c.id == task.id, tasks.c.job_id == task.job_id)
        changed = await self._database.execute(update)
        return again if changed else None


def storable(text: str) -> None:
    """Raises Invalid for an address that no database takes: with a NUL, or half of a UTF-16 pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        bad = True
    else:
        bad = "\0" in text
    if bad:
        raise Invalid(errors=[{"field": "image_url", "message": "holds a character that no address has"}])


def _update(connection: sa.Connection, task: TaskRow, **values: object) -> None:
    connection.execute(tasks.update().where(tasks.c.id == task.id).values(version=task.version + 1, **values))


def _new_job(task_id: str) -> str:
    return f"{task_id}.{uuid.uuid4().hex[:12]}"


def _hash(request: GenerateRequest, kind: str) -> str:
    body = json.dumps([kind, request.image_url, request.concept.value])
    return hashlib.sha256(body.encode()).hexdigest()
