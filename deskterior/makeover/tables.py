"""The tables of the tasks, and their rows as plain dataclasses. Times are Unix seconds, JSON is text.

Their names have a prefix: a Postgres database may be shared with the backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa

metadata = sa.MetaData()

tasks = sa.Table(
    "makeover_tasks",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("initial_image_url", sa.Text, nullable=False),
    sa.Column("concept", sa.String(16), nullable=False),
    sa.Column("prompt_version", sa.String(64)),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(128)),
    # The address that the request came to: links in the callback lead there too.
    sa.Column("link_base", sa.Text, nullable=False),
    # USD that this task is expected to cost, held back from the day's cap until it has ended.
    sa.Column("reserved", sa.Double, nullable=False),
    # The job that may run it, when that job was queued, and how often one has begun to in this attempt.
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("queued_at", sa.Double, nullable=False),
    sa.Column("claims", sa.Integer, nullable=False),
    # The one run of that job that may write; any other has been declared dead.
    sa.Column("token", sa.String(32)),
    # Counts every change, for those who wait for one.
    sa.Column("version", sa.Integer, nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sa.Index("makeover_tasks_newest", "created_at", "id"),
    sa.Index("makeover_tasks_status", "status"),
)

stages = sa.Table(
    "makeover_stages",
    metadata,
    sa.Column("task_id", sa.String(64), primary_key=True),
    sa.Column("stage", sa.String(16), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("usd", sa.Double, nullable=False),
    sa.Column("cost", sa.Text),
    sa.Column("result", sa.Text),
    sa.Index("makeover_stages_started", "started_at"),
    sa.Index("makeover_stages_state", "state"),
)

callbacks = sa.Table(
    "makeover_callbacks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("task_id", sa.String(32), index=True),
    # The message itself, where there is no task to make it from.
    sa.Column("body", sa.LargeBinary),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Index("makeover_callbacks_due", "status", "due_at"),
)

drafts = sa.Table(
    "makeover_drafts",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("task_id", sa.String(32), nullable=False, index=True),
    sa.Column("image", sa.LargeBinary, nullable=False),
)

# How far the drawing under way is: one row a task while there is one.
progress = sa.Table(
    "makeover_progress",
    metadata,
    sa.Column("task_id", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("of", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

# Whose the cost is of calls without a task: of prompts, and of tasks that were deleted.
spenders = sa.Table(
    "makeover_spenders",
    metadata,
    sa.Column("task_id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False, index=True),
)

UNFINISHED = ("queued", "running")


@dataclass(frozen=True)
class TaskRow:
    id: str
    kind: str
    status: str
    initial_image_url: str
    concept: str
    prompt_version: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    attempts: int
    error: str | None
    owner: str
    idempotency_key: str | None
    request_hash: str
    request_id: str | None
    link_base: str
    reserved: float
    job_id: str
    queued_at: float
    claims: int
    token: str | None
    version: int

    @classmethod
    def of(cls, row: sa.Row[tuple[object, ...]]) -> Self:
        return cls(**row._mapping)

    @property
    def finished(self) -> bool:
        return self.status not in UNFINISHED


@dataclass(frozen=True)
class StageRow:
    """One run of a stage. `state`: running, done, failed, or interrupted (the process died in it)."""

    task_id: str
    stage: str
    number: int
    attempt: int
    state: str
    started_at: float
    ended_at: float | None
    usd: float
    cost: str | None
    result: str | None

    @classmethod
    def of(cls, row: sa.Row[tuple[object, ...]]) -> Self:
        return cls(**row._mapping)


@dataclass(frozen=True)
class ProgressRow:
    """`number` is of the run of render that has come to `step`."""

    task_id: str
    number: int
    step: int
    of: int
    at: float

    @classmethod
    def of_row(cls, row: sa.Row[tuple[object, ...]]) -> Self:
        return cls(**row._mapping)


@dataclass(frozen=True)
class CallbackRow:
    id: str
    task_id: str | None
    body: bytes | None
    status: str
    attempts: int
    last_error: str | None
    created_at: float
    due_at: float

    @classmethod
    def of(cls, row: sa.Row[tuple[object, ...]]) -> Self:
        return cls(**row._mapping)
