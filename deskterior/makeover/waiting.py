"""The limits on tasks that wait for a place, counted in the transaction that adds one."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from deskterior.errors import Overloaded, RateLimited
from deskterior.makeover.spending import UNLIMITED, Allowance
from deskterior.makeover.tables import tasks

TRY_AGAIN_S = 10.0
"""A picture takes some tens of seconds, and several are drawn at once."""


@dataclass(frozen=True)
class WaitingLimit:
    """`most` is for all owners together; 0 is no limit."""

    most: int

    def check(self, connection: sa.Connection, owner: str = "", allowance: Allowance = UNLIMITED) -> None:
        """Within the transaction that adds a job, of which there may be only one at a time.

        Raises:
            RateLimited: so many tasks of this owner wait already.
            Overloaded: so many wait in all.
        """
        waiting = sa.select(sa.func.count()).select_from(tasks).where(tasks.c.status == "queued")
        own = allowance.tasks_waiting
        if own is not None and connection.execute(waiting.where(tasks.c.owner == owner)).scalar_one() >= own:
            raise RateLimited(
                f"The key {owner} may have {own} tasks waiting, and has. Wait until one begins, cancel one, or have "
                "the limit of the key raised",
                retry_after=TRY_AGAIN_S,
            )
        if self.most and connection.execute(waiting).scalar_one() >= self.most:
            raise Overloaded(
                f"{self.most} tasks are waiting, as many as may; try again shortly", retry_after=TRY_AGAIN_S
            )


NO_LIMIT = WaitingLimit(0)
