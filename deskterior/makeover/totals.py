"""Running totals of money, so that a cap is one look at two rows however much a day has had: what the calls of each day
(UTC) have cost, and what unfinished tasks are still held back for, of all together and of each owner.

They are changed by `booked` in the very transaction that changes what they count, by the difference that it makes to
what the task counts for. So whatever is done to a task, and however often, the totals are the sum over all tasks.
Whole nano-USD, because sums of fractions drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from deskterior.makeover.tables import UNFINISHED, metadata, spenders, stages, tasks

NANO = 1_000_000_000
ALL = "all"
HELD = "held"
"""In place of a day: what unfinished tasks may still cost, whatever day that will be."""

totals = sa.Table(
    "makeover_totals",
    metadata,
    # `all`, or `owner:` and whose.
    sa.Column("account", sa.String(210), primary_key=True),
    # `2026-11-22`, or `held`.
    sa.Column("of", sa.String(10), primary_key=True),
    sa.Column("nanos", sa.BigInteger, nullable=False),
)

Counts = Counter[tuple[str, str]]
"""Nano-USD by account and day, or `held`."""

_LOCK = sa.select(tasks.c.id).where(tasks.c.id == sa.bindparam("task")).with_for_update()
_TASK = sa.select(tasks.c.owner, tasks.c.status, tasks.c.reserved).where(tasks.c.id == sa.bindparam("task"))
_SPENDER = sa.select(spenders.c.owner).where(spenders.c.task_id == sa.bindparam("task"))
_CALLS = sa.select(stages.c.started_at, stages.c.usd).where(stages.c.task_id == sa.bindparam("task"), stages.c.usd != 0)

_CALLS_OF_TASK = sa.and_(stages.c.task_id == tasks.c.id, stages.c.usd != 0)
_HELD_AND_KEPT = sa.union_all(
    sa.select(tasks.c.id, tasks.c.owner, tasks.c.reserved.label("amount"), stages.c.usd)
    .select_from(tasks.outerjoin(stages, _CALLS_OF_TASK))
    .where(tasks.c.status.in_(UNFINISHED)),
    sa.select(
        sa.cast(sa.null(), sa.String), totals.c.account, sa.cast(totals.c.nanos, sa.Double), sa.literal(0.0)
    ).where(totals.c.of == HELD),
)


def account_of(owner: str | None) -> str:
    """None is all owners together."""
    return ALL if owner is None else f"owner:{owner}"


def nanos(usd: float) -> int:
    return round(usd * NANO)


def day_of(at: float) -> str:
    """The day (UTC) of a Unix time."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


@contextmanager
def booked(connection: sa.Connection, task_id: str) -> Iterator[None]:
    """What is done to a task and its calls within changes the totals too. The task's row is this transaction's from
    here on, so that two who change it at once count one after the other; the totals come last, for a moment."""
    connection.execute(_LOCK, {"task": task_id})
    before = counted(connection, task_id)
    yield
    change = counted(connection, task_id)
    change.subtract(before)
    add(connection, change)


def counted(connection: sa.Connection, task_id: str) -> Counts:
    """What one task counts for: each call on the day on which it began, and while the task has not ended what it is
    expected to cost beyond them. Of a task that was deleted, or a prompt, the calls alone."""
    found = connection.execute(_TASK, {"task": task_id}).one_or_none()
    owner = found.owner if found else connection.execute(_SPENDER, {"task": task_id}).scalar()
    if owner is None:
        return Counter()
    counts: Counts = Counter()
    cost = 0
    for call in connection.execute(_CALLS, {"task": task_id}):
        cost += nanos(call.usd)
        _count(counts, owner, day_of(call.started_at), nanos(call.usd))
    if found and found.status in UNFINISHED:
        _count(counts, owner, HELD, max(0, nanos(found.reserved) - cost))
    return counts


def read_totals(connection: sa.Connection, today: str, owner: str | None = None) -> tuple[int, int]:
    """Nano-USD that today's calls have cost, and those held back. Of one owner, or of all (None).

    What a machine whose clock is ahead has begun counts too.
    """
    ours = sa.select(totals.c.of, totals.c.nanos).where(totals.c.account == account_of(owner))
    found = {row.of: row.nanos for row in connection.execute(ours.where(totals.c.of >= today))}
    held = found.pop(HELD, 0)  # a word comes after every day
    return sum(found.values()), held


def amiss(connection: sa.Connection) -> Counts:
    """What is to be added to what is held back: nothing, unless a process that keeps no totals (an older release, not
    stopped before this one started) has ended tasks or begun some. By one statement, and so at one moment."""
    counts: Counts = Counter()
    owners: dict[str, str] = {}
    left: dict[str, int] = {}
    for row in connection.execute(_HELD_AND_KEPT):
        if row.id is None:
            counts[row.owner, HELD] -= round(row.amount)
            continue
        owners[row.id] = row.owner
        left[row.id] = left.get(row.id, nanos(row.amount)) - nanos(row.usd or 0.0)
    for task_id, amount in left.items():
        _count(counts, owners[task_id], HELD, max(0, amount))
    return Counter({key: amount for key, amount in counts.items() if amount})


def add(connection: sa.Connection, change: Counts) -> None:
    """Change the totals by so much."""
    # In one order for all, so that two transactions never wait for each other.
    found = sorted((key, amount) for key, amount in change.items() if amount)
    if found:
        rows = [{"account": account, "of": of, "nanos": amount} for (account, of), amount in found]
        connection.execute(_ADD[connection.dialect.name], rows)


def recount(connection: sa.Connection) -> None:
    """Make the totals anew from all tasks and calls. Nobody else may write them meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("lock table makeover_tasks, makeover_stages in share row exclusive mode"))
    counts: Counts = Counter()
    unfinished = sa.select(tasks.c.id, tasks.c.owner, tasks.c.reserved).where(tasks.c.status.in_(UNFINISHED))
    owners, held = {}, {}
    for row in connection.execute(unfinished):
        owners[row.id], held[row.id] = row.owner, nanos(row.reserved)
    whose = sa.func.coalesce(tasks.c.owner, spenders.c.owner).label("owner")
    of_task, of_spender = tasks.c.id == stages.c.task_id, spenders.c.task_id == stages.c.task_id
    calls = sa.select(stages.c.task_id, stages.c.started_at, stages.c.usd, whose).where(stages.c.usd != 0)
    calls = calls.select_from(stages.outerjoin(tasks, of_task).outerjoin(spenders, of_spender))
    for call in connection.execute(calls):
        if call.owner is not None:
            _count(counts, call.owner, day_of(call.started_at), nanos(call.usd))
        if call.task_id in held:
            held[call.task_id] -= nanos(call.usd)
    for task_id, left in held.items():
        _count(counts, owners[task_id], HELD, max(0, left))
    connection.execute(totals.delete())
    add(connection, counts)


@sa.event.listens_for(metadata, "after_create")
def _take_over(_: object, connection: sa.Connection, *, tables: list[sa.Table], **__: Any) -> None:
    """A database from before there were totals is counted once, in the transaction that makes their table."""
    if totals in tables:
        recount(connection)


def _count(counts: Counts, owner: str, of: str, amount: int) -> None:
    counts[account_of(None), of] += amount
    counts[account_of(owner), of] += amount


def _adding(insert: Any) -> sa.Insert:
    add = insert(totals)
    made: sa.Insert = add.on_conflict_do_update(
        index_elements=[totals.c.account, totals.c.of], set_={"nanos": totals.c.nanos + add.excluded.nanos}
    )
    return made


_ADD = {"postgresql": _adding(postgresql.insert), "sqlite": _adding(sqlite.insert)}
