"""What the running totals of money must be, by adding up every task and call: the long way round, in plain Python."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import sqlalchemy as sa

from deskterior.jobs.database import Database
from deskterior.makeover.tables import spenders, stages, tasks
from deskterior.makeover.totals import totals


def check_totals(database: Database) -> None:
    """Fails when a total is not the sum."""
    kept, added = database.read_now(lambda connection: (_kept(connection), _added(connection)))
    assert kept == added


def _kept(connection: sa.Connection) -> dict[tuple[str, str], int]:
    rows = connection.execute(sa.select(totals)).all()
    return {(row.account, row.of): row.nanos for row in rows if row.nanos}


def _added(connection: sa.Connection) -> dict[tuple[str, str], int]:
    owners = {row.task_id: row.owner for row in connection.execute(sa.select(spenders))}
    found = connection.execute(sa.select(tasks)).all()
    owners |= {row.id: row.owner for row in found}
    added: Counter[tuple[str, str]] = Counter()
    cost: Counter[str] = Counter()
    for call in connection.execute(sa.select(stages)):
        paid = round(call.usd * 10**9)
        cost[call.task_id] += paid
        day = datetime.fromtimestamp(call.started_at, UTC).strftime("%Y-%m-%d")
        for account in ("all", f"owner:{owners[call.task_id]}") if paid else ():
            added[account, day] += paid
    for task in found:
        if task.status in {"queued", "running"}:
            for account in ("all", f"owner:{task.owner}"):
                added[account, "held"] += max(0, round(task.reserved * 10**9) - cost[task.id])
    return {key: amount for key, amount in added.items() if amount}
