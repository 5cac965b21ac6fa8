"""What a run has begun, done and paid: named checkpoints in the database, written before and after every stage.

DBOS's own step checkpoints are told apart by number, so an upgrade that adds a stage would strand the jobs in flight.
Ours have the stage's name; they are also what the task shows, what the day's spending is counted from, and what a retry
goes on from. A stage that was begun and never ended was interrupted: if it was a paid call, nobody can know whether it
was billed. It is counted as if it were, said so, and bought once more.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Protocol, TypeVar

import sqlalchemy as sa
import structlog

from deskterior.errors import DeskteriorError
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.makeover.run import Run, Superseded
from deskterior.makeover.tables import StageRow, TaskRow, callbacks, progress, stages, tasks
from deskterior.makeover.totals import booked
from deskterior.makeover.tracing import kept_trace
from deskterior.schemas import CostItem
from deskterior.telemetry import metrics, traces
from deskterior.telemetry.calls import count_cost

log = structlog.get_logger(__name__)

__all__ = ["MAX_CLAIMS", "Changed", "Journal", "Run", "Superseded"]

T = TypeVar("T")

PAID_LOCK = 77_003
MAX_CLAIMS = 10
"""Processes that may die of one attempt at a task before it is given up."""
KEEP_TRYING_S = 3600.0
"""How long the end of a stage, paid for perhaps, is tried to be written while the database is away. A stop ends it."""
MINUTE_S = 60.0

# Built once: these run a dozen times in every makeover, and building one takes longer than running it.
_CHANGE = tasks.update().where(tasks.c.id == sa.bindparam("task")).values(version=tasks.c.version + 1)
_CHANGE_OF_RUN = _CHANGE.where(tasks.c.token == sa.bindparam("run"), tasks.c.status == "running")
_BEGIN = stages.insert()
_END = stages.update().where(
    stages.c.task_id == sa.bindparam("task"),
    stages.c.stage == sa.bindparam("of_stage"),
    stages.c.number == sa.bindparam("of_number"),
)


_STEP = progress.update().where(progress.c.task_id == sa.bindparam("task"))
_FORGET_STEPS = progress.delete().where(progress.c.task_id == sa.bindparam("task"))
_IS_RUNNING = sa.select(stages.c.state).where(
    stages.c.task_id == sa.bindparam("task"),
    stages.c.stage == sa.bindparam("of_stage"),
    stages.c.number == sa.bindparam("of_number"),
    stages.c.state == "running",
)


class Changed(Protocol):
    """Tells those who wait for a task that it has changed."""

    def __call__(self, task_id: str, *, ended: bool = False) -> None: ...


class Journal:
    """`checkpoint` raises when this process is to run no more jobs."""

    def __init__(
        self,
        database: Database,
        *,
        checkpoint: Callable[[], None],
        changed: Changed,
        renders_per_minute: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self.checkpoint = checkpoint
        self._changed = changed
        self._per_minute = renders_per_minute
        self._clock = clock

    async def claim(self, task_id: str, job_id: str, prompt_versions: Mapping[str, str]) -> Run | None:
        """Begin to run a task; None when it needs no run, or not by this job. Any earlier run may write no more.

        Stages that were begun and not ended are marked as interrupted. `prompt_versions` is by the kind of task.
        """
        token = uuid.uuid4().hex
        now = self._clock()

        def claim(connection: sa.Connection) -> Run | None:
            found = connection.execute(sa.select(tasks).where(tasks.c.id == task_id).with_for_update()).one_or_none()
            if found is None or found.job_id != job_id:
                return None
            begun = stages.update().where(stages.c.task_id == task_id, stages.c.state == "running")
            cut_off = begun.values(state="interrupted", ended_at=now).returning(stages.c.cost)
            interrupted.extend(connection.execute(cut_off).scalars())
            connection.execute(_FORGET_STEPS, {"task": task_id})
            task = TaskRow.of(found)
            if task.finished:
                return None
            task = replace(
                task,
                status="running",
                started_at=task.started_at or now,
                claims=task.claims + 1,
                token=token,
                prompt_version=prompt_versions.get(task.kind),
                version=task.version + 1,
            )
            new = {
                name: getattr(task, name)
                for name in ("status", "started_at", "claims", "token", "prompt_version", "version")
            }
            connection.execute(tasks.update().where(tasks.c.id == task_id).values(**new))
            rows = connection.execute(sa.select(stages).where(stages.c.task_id == task_id).order_by(stages.c.number))
            run = Run(task, token, {})
            run.traceparent = kept_trace(connection, task_id) if traces.on() else ""
            for row in map(StageRow.of, rows):
                if row.state == "done" and row.result is not None:
                    run.done[row.stage] = row.result
                else:
                    run.calls.setdefault(row.stage, []).append(row)
            return run

        interrupted: list[str | None] = []
        run = await self._database.write(claim, patiently=True)
        for cost in interrupted:
            count_cost(CostItem.model_validate_json(cost) if cost else None)
        if run is not None and run.task.claims == 1:
            metrics.QUEUE_SECONDS.labels(run.task.kind).observe(max(0.0, now - run.task.queued_at))
        self._changed(task_id)
        return run

    async def begin(self, run: Run, stage: str, expected: CostItem | None = None) -> int:
        """Write down that a stage begins; returns its number. `expected` is what a paid call is expected to cost.

        Waits where paid pictures in a minute are limited.

        Raises:
            Superseded: the task was cancelled, or another run has it.
        """
        number = max([call.number for call in run.calls.get(stage, [])], default=0) + 1
        while True:
            self.checkpoint()
            wait = await self._database.write(
                lambda connection: self._begin(connection, run, stage, number, expected), patiently=True
            )
            if not wait:
                break
            await asyncio.sleep(wait)
        run.begun[stage, number] = self._clock()
        self._changed(run.task.id)
        return number

    def _begin(self, connection: sa.Connection, run: Run, stage: str, number: int, expected: CostItem | None) -> float:
        """Seconds to wait for a place in this minute; 0 when the stage has begun."""
        now = self._clock()
        if stage == "render" and expected is not None and self._per_minute:
            self._database.lock(connection, PAID_LOCK)
            since = now - MINUTE_S
            ours = sa.exists().where(tasks.c.id == stages.c.task_id, tasks.c.kind == "v2")  # drawn by ourselves, free
            paid = sa.select(stages.c.started_at).where(stages.c.stage == "render", stages.c.started_at > since, ~ours)
            paid = paid.order_by(stages.c.started_at.desc()).limit(self._per_minute)
            recent = connection.execute(paid).scalars().all()
            if len(recent) >= self._per_minute:
                return min(1.0, max(0.05, float(recent[-1]) - since))
        begun = {
            "task_id": run.task.id,
            "stage": stage,
            "number": number,
            "attempt": run.task.attempts,
            "state": "running",
            "started_at": now,
            "usd": expected.usd if expected else 0.0,
            "cost": expected.model_dump_json() if expected else None,
        }
        with booked(connection, run.task.id) if expected else nullcontext():
            _touch(connection, run)
            connection.execute(_BEGIN, begun)
        return 0.0

    async def done(self, run: Run, stage: str, number: int, result: str, cost: CostItem | None = None) -> None:
        """Write down a stage's result (JSON) and what it cost. Also after the task was cancelled: it is paid for."""
        await self._end(run, stage, number, state="done", cost=cost, result=result)
        run.done[stage] = result

    async def failed(self, run: Run, stage: str, number: int, cost: CostItem | None = None) -> None:
        """Write down that a stage failed, with what that cost or may have cost."""
        await self._end(run, stage, number, state="failed", cost=cost, result=None)

    async def _end(
        self, run: Run, stage: str, number: int, *, state: str, cost: CostItem | None, result: str | None
    ) -> None:
        now = self._clock()
        usd = cost.usd if cost else 0.0
        paid = cost.model_dump_json() if cost else None
        ended = {"state": state, "ended_at": now, "usd": usd, "cost": paid, "result": result}
        key = {"task": run.task.id, "of_stage": stage, "of_number": number}

        def end(connection: sa.Connection) -> None:
            # The task's row first, as everywhere: whoever claims the task meanwhile waits, and neither for the other.
            with booked(connection, run.task.id):
                connection.execute(_CHANGE, {"task": run.task.id})
                connection.execute(_END, key | ended)
            if run.stepped and stage == "render":
                connection.execute(_FORGET_STEPS, {"task": run.task.id})

        await self._insist(end, durable=cost is not None)
        count_cost(cost)
        metrics.STAGE_SECONDS.labels(stage, state).observe(max(0.0, now - run.begun.get((stage, number), now)))
        if state != "done":
            row = StageRow(run.task.id, stage, number, run.task.attempts, state, now, now, usd, paid, result)
            run.calls.setdefault(stage, []).append(row)
        self._changed(run.task.id)

    async def step(self, run: Run, number: int, step: int, of: int) -> None:
        """Write down how far the drawing under way is: the run `number` of render. Nothing when it has ended by now.

        Raises:
            Superseded: the task was cancelled, or another run has it.
            DatabaseAway
        """
        run.stepped = True
        key = {"task": run.task.id, "of_stage": "render", "of_number": number}
        now = {"number": number, "step": step, "of": of, "at": self._clock()}

        def tell(connection: sa.Connection) -> None:
            _touch(connection, run)  # this first: it keeps out the end of the stage, which deletes the row
            if connection.execute(_IS_RUNNING, key).first() is None:
                return
            if not connection.execute(_STEP, {"task": run.task.id, **now}).rowcount:
                connection.execute(progress.insert().values(task_id=run.task.id, **now))

        await self._database.write(tell, patiently=True)
        self._changed(run.task.id)

    async def note(self, run: Run, stage: str, result: str) -> None:
        """Write down the result of something that is no stage of its own to the outside, and free.

        Raises:
            Superseded: the task was cancelled, or another run has it.
        """
        now = self._clock()
        row = {"task_id": run.task.id, "stage": stage, "number": 1, "attempt": run.task.attempts, "state": "done"}

        def note(connection: sa.Connection) -> None:
            _touch(connection, run)
            connection.execute(stages.delete().where(stages.c.task_id == run.task.id, stages.c.stage == stage))
            connection.execute(stages.insert().values(started_at=now, ended_at=now, usd=0.0, result=result, **row))

        await self._database.write(note, patiently=True)
        run.done[stage] = result

    async def finish(self, run: Run, error: DeskteriorError | None, *, tell: bool) -> str | None:
        """Write down how the task ended. With `tell`, also that the backend is to be told: the callback's id.

        Raises:
            Superseded: it has ended otherwise before.
        """
        now = self._clock()
        status = "failed" if error else "succeeded"
        problem = json.dumps(error.problem(run.task.request_id), ensure_ascii=False) if error else None
        callback_id = f"{run.task.id}.{run.task.attempts}"

        def finish(connection: sa.Connection) -> None:
            mine = tasks.update().where(tasks.c.id == run.task.id, tasks.c.token == run.token)
            ended = mine.where(tasks.c.status == "running").values(
                status=status, finished_at=now, error=problem, version=tasks.c.version + 1
            )
            with booked(connection, run.task.id):
                if connection.execute(ended).rowcount != 1:
                    raise Superseded
            if tell:
                pending = {"status": "pending", "attempts": 0, "created_at": now, "due_at": now}
                connection.execute(callbacks.insert().values(id=callback_id, task_id=run.task.id, **pending))
                last = sa.select(sa.func.coalesce(sa.func.max(stages.c.number), 0))
                number = connection.execute(last.where(stages.c.task_id == run.task.id, stages.c.stage == "notify"))
                notify = {"stage": "notify", "number": number.scalar_one() + 1, "state": "done", "usd": 0.0}
                times = {"started_at": now, "ended_at": now}
                connection.execute(
                    stages.insert().values(task_id=run.task.id, attempt=run.task.attempts, **notify, **times)
                )

        await self._insist(finish)
        since = run.task.created_at if run.task.attempts == 1 else run.task.queued_at
        metrics.TASK_SECONDS.labels(run.task.kind, status).observe(max(0.0, now - since))
        metrics.TASKS_ENDED.labels(run.task.kind, status, error.slug if error else "").inc()
        self._changed(run.task.id, ended=True)
        return callback_id if tell else None

    async def _insist(self, work: Callable[[sa.Connection], T], *, durable: bool = False) -> T:
        """Write what must not be lost, through an outage of the database if need be. `work` may be done twice."""
        deadline = time.monotonic() + KEEP_TRYING_S
        pause = 0.1
        while True:
            try:
                return await self._database.write(work, durable=durable, patiently=True)
            except DatabaseAway as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("journal.retrying", internal=error.internal)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def _touch(connection: sa.Connection, run: Run) -> None:
    """Count a change of the task. Raises Superseded when it is not this run's any more."""
    if connection.execute(_CHANGE_OF_RUN, {"task": run.task.id, "run": run.token}).rowcount != 1:
        raise Superseded
