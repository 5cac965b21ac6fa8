"""The cap on a day's spending, counted in the database, so that it holds for all processes together.

The day is UTC's. Counted are the costs of the day's calls, those that were interrupted or may have been billed at what
they were expected to cost, and what the unfinished tasks are still expected to cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import sqlalchemy as sa

from deskterior.config import Settings
from deskterior.errors import SpendingCapReached
from deskterior.makeover.tables import UNFINISHED, stages, tasks
from deskterior.providers.models import known_models
from deskterior.providers.openai_pictures import quality_for
from deskterior.schemas import CostItem


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
    def makeover_usd(self) -> float:
        return self.describe.usd + self.render.usd


@dataclass(frozen=True)
class SpendingCap:
    """`usd_per_day` 0 is no cap."""

    usd_per_day: float

    def check(self, connection: sa.Connection, now: datetime) -> None:
        """Within the transaction that adds a job.

        Raises:
            SpendingCapReached: with the seconds until the day ends.
        """
        if not self.usd_per_day:
            return
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        spent, held = spent_since(connection, midnight.timestamp())
        if spent + held >= self.usd_per_day:
            raise SpendingCapReached(
                f"Today's limit is {self.usd_per_day:.2f} USD: {spent:.2f} are spent and {held:.2f} are held back for "
                "tasks under way. New tasks are taken after midnight UTC, or with a higher SPEND_CAP_USD_PER_DAY",
                retry_after=(midnight + timedelta(days=1) - now).total_seconds(),
            )


def spent_since(connection: sa.Connection, since: float) -> tuple[float, float]:
    """USD that calls begun after `since` (Unix seconds) have cost, and USD held back for unfinished tasks."""
    unfinished = sa.select(tasks.c.id).where(tasks.c.status.in_(UNFINISHED))
    spent = sa.select(sa.func.coalesce(sa.func.sum(stages.c.usd), 0.0)).where(
        stages.c.started_at >= since, stages.c.task_id.not_in(unfinished)
    )
    # A task that has cost more than was expected of it counts with that.
    cost = sa.select(sa.func.coalesce(sa.func.sum(stages.c.usd), 0.0)).where(
        stages.c.task_id == tasks.c.id, stages.c.started_at >= since
    )
    so_far = cost.scalar_subquery()
    held = sa.select(
        sa.func.coalesce(sa.func.sum(sa.case((so_far > tasks.c.reserved, so_far), else_=tasks.c.reserved)), 0.0)
    ).where(tasks.c.status.in_(UNFINISHED))
    return float(connection.execute(spent).scalar_one()), float(connection.execute(held).scalar_one())
