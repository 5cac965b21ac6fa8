"""The caps on a day's spending, in all and for one key, counted in the database, so that all processes hold them.

The day is UTC's. Counted are the costs of the day's calls, those that were interrupted or may have been billed at what
they were expected to cost, and what the unfinished tasks are still expected to cost. What a new one is expected to cost
must fit in as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import sqlalchemy as sa

from deskterior.config import Settings
from deskterior.errors import SpendingCapReached
from deskterior.makeover.tables import UNFINISHED, metadata, stages, tasks
from deskterior.providers.models import known_models
from deskterior.providers.openai_pictures import quality_for
from deskterior.schemas import CostItem

ROUNDING_USD = 1e-9


@dataclass(frozen=True)
class Expected:
    """What a call is expected to cost: counted while it runs, and kept where nobody can know whether it was billed."""

    describe: CostItem
    render: CostItem

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """By the price list. Raises SettingsError for an image model that is not on it."""
        models = known_models()
        vision, _ = models.vision_model(settings.vision_model)
        image, _ = models.image_model(settings.image_model)
        quality = quality_for(image, settings.image_quality)
        return cls(describe=vision.cost(None), render=image.cost(quality, settings.image_size, None))

    @property
    def usd(self) -> dict[str, float]:
        """What a task of each kind is expected to cost."""
        return {"v1": self.describe.usd + self.render.usd, "v2": self.describe.usd}


@dataclass(frozen=True)
class Allowance:
    """What one owner may use: None is no limit, and 0 nothing at all."""

    usd_per_day: float | None = None
    tasks_waiting: int | None = None


UNLIMITED = Allowance()

# Whose the cost is of calls without a task: of prompts, and of tasks that were deleted.
spenders = sa.Table(
    "makeover_spenders",
    metadata,
    sa.Column("task_id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False, index=True),
)


@dataclass(frozen=True)
class SpendingCap:
    """`usd_per_day` is for all owners together; 0 is no cap."""

    usd_per_day: float

    def check(
        self,
        connection: sa.Connection,
        now: datetime,
        expected_usd: float = 0.0,
        owner: str = "",
        allowance: Allowance = UNLIMITED,
    ) -> None:
        """Within the transaction that adds a job, of which there may be only one at a time.

        Raises:
            SpendingCapReached: with the seconds until the day ends; the text says whose cap it is.
        """
        service = f"The service may spend {self.usd_per_day:.2f} USD a day"
        if self.usd_per_day:
            _check(connection, now, expected_usd, self.usd_per_day, None, service, "a higher SPEND_CAP_USD_PER_DAY")
        if (usd := allowance.usd_per_day) is not None:
            own = f"The key {owner} may spend {usd:.2f} USD a day"
            _check(connection, now, expected_usd, usd, owner, own, "a higher cap for this key")


def _check(
    connection: sa.Connection, now: datetime, expected: float, cap: float, owner: str | None, sentence: str, mend: str
) -> None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    spent, held = spent_since(connection, midnight.timestamp(), owner)
    if spent + held + expected > cap + ROUNDING_USD:
        raise SpendingCapReached(
            f"{sentence}: {spent:.2f} are spent, {held:.2f} are held back for tasks under way, and this may cost "
            f"{expected:.2f} more. New tasks are taken after midnight UTC, or with {mend}",
            retry_after=(midnight + timedelta(days=1) - now).total_seconds(),
        )


def spent_since(connection: sa.Connection, since: float, owner: str | None = None) -> tuple[float, float]:
    """USD that calls begun after `since` (Unix seconds) have cost, and USD held back for unfinished tasks.

    Of one owner, or of all (None).
    """
    held_for: sa.ColumnElement[bool] = tasks.c.status.in_(UNFINISHED)
    unfinished = sa.select(tasks.c.id).where(held_for)
    spent = sa.select(sa.func.coalesce(sa.func.sum(stages.c.usd), 0.0)).where(
        stages.c.started_at >= since, stages.c.task_id.not_in(unfinished)
    )
    if owner is not None:
        held_for = sa.and_(held_for, tasks.c.owner == owner)
        existing = sa.select(tasks.c.id).where(tasks.c.owner == owner)
        others = sa.select(spenders.c.task_id).where(spenders.c.owner == owner)
        spent = spent.where(sa.or_(stages.c.task_id.in_(existing), stages.c.task_id.in_(others)))
    # A task that has cost more than was expected of it counts with that.
    cost = sa.select(sa.func.coalesce(sa.func.sum(stages.c.usd), 0.0)).where(
        stages.c.task_id == tasks.c.id, stages.c.started_at >= since
    )
    so_far = cost.scalar_subquery()
    held = sa.select(
        sa.func.coalesce(sa.func.sum(sa.case((so_far > tasks.c.reserved, so_far), else_=tasks.c.reserved)), 0.0)
    ).where(held_for)
    return float(connection.execute(spent).scalar_one()), float(connection.execute(held).scalar_one())


def keep_spender(connection: sa.Connection, task_id: str, owner: str) -> None:
    """Remember whose cost it is that stays behind without a task."""
    connection.execute(spenders.insert().values(task_id=task_id, owner=owner))
