"""The caps on a day's spending, in all and for one key, counted in the database, so that all processes hold them.

The day is UTC's. Counted are the costs of the calls that began on it, those under way, interrupted or perhaps billed at
what they were expected to cost; and what the unfinished tasks are still expected to cost, whatever day it will be by
then. So a task that runs over midnight is on both days with what it costs on each. What a new one is expected to cost
must fit in as well. The sums are kept by `totals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import sqlalchemy as sa

from deskterior.config import Settings
from deskterior.errors import SpendingCapReached
from deskterior.makeover.tables import spenders
from deskterior.makeover.totals import NANO, day_of, nanos, read_totals
from deskterior.providers.models import known_models
from deskterior.providers.openai_pictures import quality_for
from deskterior.schemas import CostItem


@dataclass(frozen=True)
class Expected:
    """What a call is expected to cost: counted while it runs, and kept where nobody can know whether it was billed."""

    describe: CostItem
    render: CostItem
    renders: int = 1
    """Paid pictures that one task may ask for (`IMAGE_ATTEMPTS`): each may be billed."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """By the price list. Raises SettingsError for an image model that is not on it."""
        models = known_models()
        vision, _ = models.vision_model(settings.vision_model)
        image, _ = models.image_model(settings.image_model)
        quality = quality_for(image, settings.image_quality)
        render = image.cost(quality, settings.image_size, None)
        return cls(describe=vision.cost(None), render=render, renders=settings.image_attempts)

    @property
    def usd(self) -> dict[str, float]:
        """What a task of each kind may cost: so much is held back for it until it ends."""
        return {"v1": self.describe.usd + self.render.usd * self.renders, "v2": self.describe.usd}


@dataclass(frozen=True)
class Allowance:
    """What one owner may use: None is no limit, and 0 nothing at all."""

    usd_per_day: float | None = None
    tasks_waiting: int | None = None


UNLIMITED = Allowance()


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
    spent, held = read_totals(connection, day_of(now.timestamp()), owner)
    if spent + held + nanos(expected) > nanos(cap):
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        raise SpendingCapReached(
            f"{sentence}: {spent / NANO:.2f} are spent, {held / NANO:.2f} are held back for tasks under way, and this "
            f"may cost {expected:.2f} more. New tasks are taken after midnight UTC, or with {mend}",
            retry_after=(midnight + timedelta(days=1) - now).total_seconds(),
        )


def keep_spender(connection: sa.Connection, task_id: str, owner: str) -> None:
    """Remember whose cost it is that stays behind without a task."""
    connection.execute(spenders.insert().values(task_id=task_id, owner=owner))
