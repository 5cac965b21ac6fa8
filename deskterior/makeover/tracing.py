"""The trace of a makeover, or of a callback without one, kept beside it: who goes on with it after a restart, or on
another machine, goes on with the trace too. There is a row only for what began while there were traces.
"""

from __future__ import annotations

import sqlalchemy as sa

from deskterior.makeover.tables import metadata

table = sa.Table(
    "makeover_traces",
    metadata,
    # A task's id, or that of a callback without a task.
    sa.Column("id", sa.String(64), primary_key=True),
    # W3C Trace Context.
    sa.Column("traceparent", sa.String(64), nullable=False),
)


def keep_trace(connection: sa.Connection, of: str, traceparent: str | None) -> None:
    if traceparent:
        connection.execute(table.insert().values(id=of, traceparent=traceparent))


def kept_trace(connection: sa.Connection, of: str) -> str:
    """The `traceparent`; empty where there is none."""
    found: str | None = connection.execute(sa.select(table.c.traceparent).where(table.c.id == of)).scalar()
    return found or ""


def forget_trace(connection: sa.Connection, of: str) -> None:
    connection.execute(table.delete().where(table.c.id == of))
