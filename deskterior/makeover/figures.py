"""What the job store tells of all processes together: what waits, for how long, and the day's money. For a scrape."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from deskterior.jobs import executors
from deskterior.makeover.tables import UNFINISHED, callbacks, tasks
from deskterior.makeover.totals import NANO, day_of, read_totals


@dataclass(frozen=True)
class StoreFigures:
    """Counts, seconds and USD. `tasks` is by kind and status, `oldest_s` by status."""

    tasks: dict[tuple[str, str], int] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)
    callbacks_waiting: int = 0
    callbacks_oldest_s: float = 0.0
    executors: int = 0
    spent_usd: float = 0.0
    held_usd: float = 0.0


def store_figures(connection: sa.Connection, now: float, executor_ttl_s: float) -> StoreFigures:
    """Read within one transaction, by indexes: what has ended, however much, is not looked at.

    `now` is Unix seconds. The oldest task is the one that was queued, or began, first.
    """
    since = sa.case((tasks.c.status == "queued", tasks.c.queued_at), else_=tasks.c.started_at)
    unfinished = sa.select(tasks.c.kind, tasks.c.status, sa.func.count(), sa.func.min(since))
    unfinished = unfinished.where(tasks.c.status.in_(UNFINISHED)).group_by(tasks.c.kind, tasks.c.status)
    counts: dict[tuple[str, str], int] = {}
    oldest: dict[str, float] = dict.fromkeys(UNFINISHED, 0.0)
    for kind, status, count, first in connection.execute(unfinished):
        counts[kind, status] = count
        oldest[status] = max(oldest[status], now - (first or now))
    pending = sa.select(sa.func.count(), sa.func.min(callbacks.c.created_at)).where(callbacks.c.status == "pending")
    waiting, first_told = connection.execute(pending).one()
    spent, held = read_totals(connection, day_of(now))
    return StoreFigures(
        tasks=counts,
        oldest_s=oldest,
        callbacks_waiting=waiting,
        callbacks_oldest_s=max(0.0, now - (first_told or now)),
        executors=executors.living(connection, executor_ttl_s),
        spent_usd=spent / NANO,
        held_usd=held / NANO,
    )
