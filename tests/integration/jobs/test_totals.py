"""The running totals of money are the sum over all tasks, whatever is done to tasks, and the caps hold by them."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from deskterior.errors import (
    DeskteriorError,
    InternalError,
    NotFound,
    SpendingCapReached,
    TaskFinished,
    TaskNotFinished,
)
from deskterior.jobs.database import Database
from deskterior.makeover.journal import Journal, Run, Superseded
from deskterior.makeover.register import Origin, Register
from deskterior.makeover.removal import Removal
from deskterior.makeover.spending import Allowance, SpendingCap
from deskterior.makeover.tables import metadata, stages, tasks
from deskterior.makeover.totals import read_totals, totals
from deskterior.schemas import CostItem, GenerateRequest
from tests.integration.jobs.accounts import check_totals
from tests.integration.jobs.stand_ins import DESK

REQUEST = GenerateRequest(image_url=DESK)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
MIDNIGHT = NOON + 12 * 3600
EXPECTED = {"describe": 0.0123456789, "render": 0.07}
RESERVED = sum(EXPECTED.values())


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


def item(usd: float) -> CostItem:
    return CostItem(what="call", model="painter", units={}, usd=usd)


async def no_jobs(_: list[str]) -> None: ...


class NoPictures:
    async def delete(self, key: str) -> None: ...


def nobody_waits(task_id: str, *, ended: bool = False) -> None: ...


class Books:
    """Tasks that are ordered, run, and killed, without an engine; `random` decides."""

    def __init__(self, database: Database, seed: int, cap: float = 0.0) -> None:
        self.clock = Clock()
        self.register = Register(database, SpendingCap(cap), clock=self.clock)
        self.journal = Journal(database, checkpoint=lambda: None, changed=nobody_waits, clock=self.clock)
        self.removal = Removal(database, NoPictures(), no_jobs, 0)
        self.random = random.Random(seed)
        self.tasks: list[str] = []
        self.runs: dict[str, Run] = {}
        self.calls: list[tuple[Run, str, int]] = []
        self.open: set[tuple[str, str]] = set()

    async def order(self, owner: str = "", allowance: Allowance | None = None) -> str:
        by = Origin(owner, uuid.uuid4().hex, allowance=allowance or Allowance())
        whole = await self.register.create(REQUEST, "v1", by, RESERVED)
        self.tasks.append(whole.task.id)
        return whole.task.id

    async def claim(self, task_id: str) -> Run | None:
        """As a job does, also the second after a kill."""
        row = await self.register.row(task_id)
        run = await self.journal.claim(task_id, row.job_id, {})
        if run is not None:
            self.runs[task_id] = run
        return run

    async def begin(self, run: Run, stage: str) -> int:
        self.open.add((run.token, stage))
        number = await self.journal.begin(run, stage, item(EXPECTED[stage]))
        self.calls.append((run, stage, number))
        return number

    async def end(self, run: Run, stage: str, number: int, usd: float | None) -> None:
        cost = None if usd is None else item(usd)
        if self.random.random() < 0.5:
            await self.journal.done(run, stage, number, f'{{"key": "results/{run.task.id}.{number}.png"}}', cost)
        else:
            await self.journal.failed(run, stage, number, cost)
        self.open.discard((run.token, stage))

    async def something(self) -> None:
        task_id = self.random.choice(self.tasks or [""])
        run = self.runs.get(task_id)
        match self.random.choice(
            ["order", "claim", "begin", "begin", "end", "end", "finish", "cancel", "retry", "delete", "mend"]
        ):
            case "order":
                await self.order(self.random.choice(["", "a", "b"]))
            case "claim":
                await self.claim(task_id)
            case "begin" if run:
                stage = self.random.choice(list(EXPECTED))
                if stage not in run.done and (run.token, stage) not in self.open:
                    await self.begin(run, stage)
            case "end" if self.calls:
                called = self.calls.pop(self.random.randrange(len(self.calls)))
                await self.end(*called, self.random.choice([None, 0.0, 0.01, 0.1 / 3, 0.09]))
                if self.random.random() < 0.1:
                    self.calls.append(called)  # it is written down twice: the first answer got lost
            case "finish" if run:
                await self.journal.finish(run, self.random.choice([None, InternalError()]), tell=False)
            case "cancel":
                await self.register.cancel(task_id)
            case "retry":
                await self.register.retry(task_id, {"v1": RESERVED}, Origin())
            case "delete":
                await self.removal.delete(task_id)
            case "mend":
                await self.removal._mend_totals()  # nothing is amiss, whoever is at it meanwhile
            case _:
                self.clock.now += self.random.choice([1, 3600, 30_000])


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.create(metadata)
    yield database
    database.close()


REFUSALS = (NotFound, TaskFinished, TaskNotFinished, Superseded, SpendingCapReached)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_done_to_tasks_the_totals_are_the_sum_over_them(database: Database, seed: int) -> None:
    books = Books(database, seed)
    for _ in range(150):
        with suppress(*REFUSALS):
            await books.something()
        check_totals(database)
    assert books.tasks


async def test_however_many_do_it_at_once(database: Database) -> None:
    crowd = [books := Books(database, 0), *(Books(database, seed) for seed in (1, 2, 3))]
    for one in crowd:
        one.tasks, one.runs, one.calls, one.open = books.tasks, books.runs, books.calls, books.open

    async def go(one: Books) -> None:
        for _ in range(60):
            with suppress(*REFUSALS):
                await one.something()

    await asyncio.gather(*map(go, crowd))
    check_totals(database)


async def test_a_database_from_before_there_were_totals_is_counted_at_the_start(database: Database) -> None:
    books = Books(database, 7)
    for _ in range(150):
        with suppress(*REFUSALS):
            await books.something()
    kept = database.read_now(lambda c: set(c.execute(sa.select(totals).where(totals.c.nanos != 0)).all()))
    version = sa.table("deskterior_schema", sa.column("version"))

    def age(connection: sa.Connection) -> None:
        totals.drop(connection)
        connection.execute(version.delete())
        connection.execute(version.insert().values(version=1))

    database.write_now(age)
    for _ in range(2):
        database.create(metadata)

        check_totals(database)
        assert database.read_now(lambda c: set(c.execute(sa.select(totals)).all())) == kept
    newest = database.read_now(lambda c: c.execute(sa.select(sa.func.max(version.c.version))).scalar())
    assert newest is not None
    assert newest > 1, "older processes, which would spend uncounted, do not start any more"


async def test_what_a_process_of_an_older_release_did_beside_us_is_mended(database: Database) -> None:
    books = Books(database, 0)
    ended, runs = [await books.order(owner) for owner in ("a", "")]
    run = await books.claim(runs)
    assert run is not None
    await books.begin(run, "describe")
    await books.order("b")
    await database.execute(tasks.update().where(tasks.c.id == ended).values(status="succeeded", finished_at=NOON))
    await database.execute(tasks.update().where(tasks.c.owner == "b").values(owner="c"))  # as if another had ordered
    with pytest.raises(AssertionError):
        check_totals(database)
    await books.removal._mend_totals()
    check_totals(database)


class TestMidnight:
    async def test_each_call_counts_on_the_day_it_began_and_the_rest_is_held_back_on_the_next(
        self, database: Database
    ) -> None:
        books = Books(database, 0, cap=RESERVED * 2)
        books.clock.now = MIDNIGHT - 2
        run = await books.claim(await books.order())
        assert run is not None
        await books.end(run, "describe", await books.begin(run, "describe"), 0.01)
        books.clock.now = MIDNIGHT - 1
        number = await books.begin(run, "render")
        books.clock.now = MIDNIGHT + 1
        await books.journal.done(run, "render", number, "{}", item(0.06))
        assert self.seen(database, "2026-11-22")[0] == pytest.approx(0.07)
        assert self.seen(database, "2026-11-23")[0] == 0.0
        left = RESERVED - 0.07
        assert self.seen(database, "2026-11-23")[1] == pytest.approx(left)

        await books.order()  # the new day is empty but for what the old task may still cost
        with pytest.raises(SpendingCapReached) as full:
            await books.order()
        assert full.value.retry_after == pytest.approx(24 * 3600 - 1)
        await books.journal.finish(run, None, tell=False)
        assert self.seen(database, "2026-11-23")[1] == pytest.approx(RESERVED)
        check_totals(database)

    async def test_a_task_that_failed_yesterday_is_retried_at_today_s_cost_alone(self, database: Database) -> None:
        books = Books(database, 0, cap=RESERVED)
        task_id = await books.order()
        run = await books.claim(task_id)
        assert run is not None
        await books.journal.failed(run, "render", await books.begin(run, "render"), item(0.07))
        await books.journal.finish(run, InternalError(), tell=False)
        with pytest.raises(SpendingCapReached):
            await books.register.retry(task_id, {"v1": RESERVED}, Origin())
        books.clock.now = MIDNIGHT
        await books.register.retry(task_id, {"v1": RESERVED}, Origin())
        assert self.seen(database, "2026-11-23") == pytest.approx((0.0, RESERVED))
        check_totals(database)

    @staticmethod
    def seen(database: Database, day: str) -> tuple[float, float]:
        spent, held = database.read_now(lambda connection: read_totals(connection, day))
        return spent / 1e9, held / 1e9


async def test_what_a_machine_whose_clock_is_ahead_has_spent_counts_already(database: Database) -> None:
    ahead, here = Books(database, 0), Books(database, 0, cap=RESERVED)
    ahead.clock.now = MIDNIGHT + 60
    run = await ahead.claim(await ahead.order())
    assert run is not None
    await ahead.journal.done(run, "render", await ahead.begin(run, "render"), "{}", item(0.07))
    await ahead.journal.finish(run, None, tell=False)
    here.clock.now = MIDNIGHT - 60
    with pytest.raises(SpendingCapReached, match=r"0\.07 are spent"):
        await here.order()


async def test_orders_of_many_processes_at_once_never_pass_a_cap(database: Database) -> None:
    poor = Allowance(usd_per_day=RESERVED * 2)
    crowd = [Books(database, seed, cap=RESERVED * 5) for seed in range(4)]
    asked = [one.order(owner, poor if owner == "poor" else None) for one in crowd for owner in ("poor", "rich") * 3]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, str) for one in found) == 5
    assert all(isinstance(one, str | DeskteriorError) for one in found), found
    check_totals(database)
    spent, held = database.read_now(lambda connection: read_totals(connection, "2026-11-22", "poor"))
    assert spent == 0
    assert held <= RESERVED * 2e9 + 1


async def test_calls_that_nobody_owns_are_nobody_s(database: Database, tmp_path: Path) -> None:
    """A stage without its task cannot be written by us; were one there, it would stop no start."""
    row = {"task_id": "gone", "stage": "render", "number": 1, "attempt": 1, "state": "done", "started_at": NOON}
    database.execute_now(stages.insert().values(usd=0.5, **row))
    database.execute_now(sa.delete(totals))
    database.write_now(lambda connection: totals.drop(connection))
    database.create(metadata)
    assert database.read_now(lambda connection: read_totals(connection, "2026-11-22")) == (0, 0)
