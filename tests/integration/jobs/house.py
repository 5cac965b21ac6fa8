"""Makeovers running in the test's own process, and what they are made with at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from deskterior.jobs.database import Database, DatabaseAway
from deskterior.makeover.makeovers import Makeovers
from deskterior.makeover.outfit import Kind
from deskterior.makeover.register import Origin
from deskterior.schemas import GenerateRequest, Task
from runners.drawing import DrawingClient
from tests.integration.jobs.stand_ins import DESK, FakeSender, Faults, Ledger, make_outfit, make_settings, until

T = TypeVar("T")


class FlightyDatabase(Database):
    """A job store that is away for the next `away` writes, and for all who read while it is `unread`."""

    away = 0
    unread = False
    refused = 0
    """Reads meanwhile."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        if self.unread:
            self.refused += 1
            raise DatabaseAway
        return await super().read(work)

    async def write(self, work: Callable[[sa.Connection], T], *, durable: bool = False, patiently: bool = False) -> T:
        if self.away:
            self.away -= 1
            raise DatabaseAway
        return await super().write(work, durable=durable, patiently=patiently)

    async def in_turn(self, work: Callable[[], T]) -> T:
        if self.away:
            self.away -= 1
            raise DatabaseAway
        return await super().in_turn(work)


@dataclass
class House:
    """Makeovers that run, and what they are made with."""

    makeovers: Makeovers
    database: FlightyDatabase
    ledger: Ledger
    faults: Faults
    sender: FakeSender
    folder: Path

    async def made(
        self, request: GenerateRequest | None = None, origin: Origin | None = None, kind: Kind = "v1"
    ) -> Task:
        """A task that has ended, its callback delivered or given up."""
        task = await self.makeovers.start(request or GenerateRequest(image_url=DESK), kind, origin or Origin())
        return await self.ended(task.id)

    async def ended(self, task_id: str) -> Task:
        await self.makeovers.wait(task_id, 20)

        async def told() -> bool:
            return (await self.makeovers.get(task_id)).callback.status != "pending"

        await until(told)
        return await self.makeovers.get(task_id)

    def count(self, stage: str) -> int:
        return self.ledger.count(f"{stage} sent")


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    url: str = "",
    drain_s: float = 5,
    drawing: DrawingClient | None = None,
    runs_jobs: bool = True,
    **settings: object,
) -> AsyncIterator[House]:
    """One at a time: DBOS is one per process. Without `runs_jobs` it is an API's, whose jobs others run."""
    url = url or f"sqlite:///{folder}/jobs.sqlite"
    made = make_settings(url, folder, **settings)
    database = FlightyDatabase(url)
    faults, ledger = Faults(), Ledger(folder / "ledger")
    outfit, sender = make_outfit(made, ledger, faults, drawing=drawing)
    makeovers = Makeovers(made, database, outfit, runs_jobs=runs_jobs)
    await makeovers.launch()
    try:
        yield House(makeovers, database, ledger, faults, sender, folder)
    finally:
        await makeovers.close(drain_s)
        database.close()
