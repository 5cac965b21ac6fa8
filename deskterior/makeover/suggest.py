"""Suggest: what describe would say, for a caller who wants no picture. Nothing is kept but what it cost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from deskterior.errors import ProviderError
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.makeover.photo import TakePhoto
from deskterior.makeover.register import CREATE_LOCK, Origin
from deskterior.makeover.spending import SpendingCap, keep_spender
from deskterior.makeover.tables import stages
from deskterior.makeover.totals import booked
from deskterior.providers import VisionModel
from deskterior.schemas import CostItem, Description, GenerateRequest
from deskterior.telemetry.calls import count_cost

log = structlog.get_logger(__name__)


class Suggest:
    def __init__(
        self,
        database: Database,
        cap: SpendingCap,
        photo: TakePhoto,
        vision: VisionModel,
        expected: CostItem,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._cap = cap
        self._photo = photo
        self._vision = vision
        self._expected = expected
        self._clock = clock

    async def __call__(self, request: GenerateRequest, origin: Origin) -> Description:
        """Look at the photo and tell. What it costs is the origin's owner's.

        Raises:
            PhotoError, SpendingCapReached, ProviderError
        """
        photo = await self._photo.only(request.image_url)
        call_id = await self._begin(origin)
        try:
            described = await self._vision.describe(photo, request.concept)
        except ProviderError as error:
            await self._end(call_id, "failed", error.cost)
            raise
        except BaseException:
            count_cost(self._expected)  # a call that ends in any other way stays counted at that
            raise
        await self._end(call_id, "done", described.cost)
        return described.description

    async def _begin(self, origin: Origin) -> str:
        call_id, now = f"prompt-{uuid.uuid4().hex}", self._clock()
        row = {"task_id": call_id, "stage": "describe", "number": 1, "attempt": 1, "state": "running"}

        def begin(connection: sa.Connection) -> None:
            self._database.lock(connection, CREATE_LOCK)
            at = datetime.fromtimestamp(now, UTC)
            self._cap.check(connection, at, self._expected.usd, origin.owner, origin.allowance)
            with booked(connection, call_id):
                keep_spender(connection, call_id, origin.owner)
                connection.execute(stages.insert().values(started_at=now, usd=self._expected.usd, **row))

        await self._database.write(begin)
        return call_id

    async def _end(self, call_id: str, state: str, cost: CostItem | None) -> None:
        update = stages.update().where(stages.c.task_id == call_id)
        update = update.values(
            state=state,
            ended_at=self._clock(),
            usd=cost.usd if cost else 0.0,
            cost=cost.model_dump_json() if cost else None,
        )

        def end(connection: sa.Connection) -> None:
            with booked(connection, call_id):
                connection.execute(update)

        count_cost(cost)
        try:
            await self._database.write(end)
        except DatabaseAway as error:
            # Whoever paid for it has it, and for the day it stays counted at what it was expected to cost.
            log.warning("prompt.not_written_down", internal=error.internal)
