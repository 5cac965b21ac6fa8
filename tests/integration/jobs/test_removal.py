"""Tasks that are deleted, or older than they are kept: gone with all that belongs to them, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from deskterior.callbacks import TryAgain
from deskterior.errors import DeskteriorError, NotFound, ProviderRefused, StorageFailed, TaskNotFinished
from deskterior.makeover.makeovers import Makeovers
from deskterior.makeover.register import Origin
from deskterior.makeover.removal import Removal, discarded, turns
from deskterior.makeover.tables import metadata, stages, tasks
from deskterior.makeover.totals import totals
from deskterior.schemas import GenerateRequest, TaskStatus
from tests.integration.jobs.accounts import check_totals
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.stand_ins import DESK, until

REQUEST = GenerateRequest(image_url=DESK)
DAY = 24 * 3600
AGES = {
    tasks: ("created_at", "started_at", "finished_at", "queued_at"),
    stages: ("started_at", "ended_at"),
    metadata.tables["makeover_callbacks"]: ("created_at", "due_at"),
    discarded: ("due_at",),
}


@dataclass
class Yard:
    house: House
    removal: Removal

    async def rounds(self) -> None:
        while await self.removal.round():
            pass

    def pictures(self) -> set[Path]:
        return {path for path in (self.house.folder / "storage").rglob("*") if path.suffix in {".png", ".jpg"}}

    async def age(self, days: float) -> None:
        """Everything happened so much earlier."""

        def age(connection: sa.Connection) -> None:
            for table, columns in AGES.items():
                older = {name: table.c[name] - days * DAY for name in columns}
                connection.execute(table.update().values(older))

        await self.house.database.write(age)

    async def rows(self) -> dict[str, int]:
        """Of each of our tables."""
        ours = [table for table in metadata.sorted_tables if table not in (totals, turns)]
        count = sa.func.count()
        return await self.house.database.read(
            lambda c: {table.name: c.execute(sa.select(count).select_from(table)).scalar_one() for table in ours}
        )


@pytest_asyncio.fixture
async def yard(tmp_path: Path, database_url: str) -> AsyncIterator[Yard]:
    """Tasks are kept for 30 days."""
    async with open_house(tmp_path, url=database_url, task_retention_days=30) as house:
        yield Yard(house, removal_of(house.makeovers))


def removal_of(makeovers: Makeovers) -> Removal:
    return makeovers._removal


async def test_what_is_older_than_it_is_kept_goes_with_all_that_belongs_to_it(yard: Yard) -> None:
    house = yard.house
    keyed = Origin(idempotency_key="once")
    first = await house.made(origin=keyed)
    house.faults.render = [ProviderRefused("no")]
    failed = await house.made()
    await house.makeovers.suggest(REQUEST)
    await house.makeovers.notify_classified(TaskStatus(initial_image_url=DESK, classify=True))
    await until(lambda: len(house.sender.sent) == 3)
    await yard.age(29)
    await yard.rounds()
    assert (await house.makeovers.start(REQUEST, "v1", keyed)).id == first.id, "a key lives as long as its task"
    assert (await house.makeovers.get(failed.id)).status == "failed"

    await yard.age(2)
    young = await house.made()
    await yard.rounds()

    for gone in (first, failed):
        with pytest.raises(NotFound):
            await house.makeovers.get(gone.id)
        assert [event async for event in house.makeovers.events(gone.id)] == []
    assert [task.id for task in (await house.makeovers.page()).tasks] == [young.id]
    assert len(yard.pictures()) == 2
    await yard.age(1)  # the day on which they were removed is over
    await yard.rounds()
    assert await yard.rows() == {
        "makeover_callbacks": 1,
        "makeover_discarded": 0,
        "makeover_drafts": 0,
        "makeover_progress": 0,
        "makeover_spenders": 0,
        "makeover_stages": 6,
        "makeover_tasks": 1,
        "makeover_traces": 0,
    }
    assert (await house.made(origin=keyed)).id != first.id


async def test_what_runs_or_waits_for_the_backend_stays_however_old_it_is(yard: Yard) -> None:
    house = yard.house
    house.faults.outcomes = [TryAgain("the backend is away", after=3600)]
    told = await house.makeovers.start(REQUEST)

    async def tried() -> bool:
        return bool((await house.makeovers.get(told.id)).callback.attempts)

    await until(tried)
    held = asyncio.Event()
    house.faults.before["render"] = held.wait  # type: ignore[assignment]
    running = await house.makeovers.start(REQUEST)
    cut_off = await house.makeovers.start(REQUEST)
    await until(lambda: house.count("render") == 3)
    await house.makeovers.cancel(cut_off.id)  # its call is still out
    await yard.age(400)
    await yard.rounds()
    assert {task.id for task in (await house.makeovers.page()).tasks} == {told.id, running.id, cut_off.id}
    held.set()
    assert (await house.ended(running.id)).status == "succeeded"


async def test_to_remove_a_task_is_not_to_have_its_money_back(yard: Yard) -> None:
    task = await yard.house.made()
    await yard.house.makeovers.delete(task.id)
    await yard.rounds()
    check_totals(yard.house.database)
    spent = (await yard.house.makeovers.figures()).spent_usd
    assert spent == pytest.approx(task.cost.total)
    assert (await yard.rows())["makeover_spenders"] == 1, "until the day is over"


async def test_a_task_is_gone_before_its_pictures_so_nobody_goes_on_with_half_of_it(yard: Yard) -> None:
    house = yard.house
    house.faults.shop = [RuntimeError("no matter")]
    task = await house.made()
    deleting, goes_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        deleting.set()
        await goes_on.wait()

    house.faults.before["delete"] = wait
    removed = asyncio.create_task(house.makeovers.delete(task.id))
    await deleting.wait()
    for do in (house.makeovers.retry, house.makeovers.get, house.makeovers.delete):
        with pytest.raises(NotFound):
            await do(task.id)
    goes_on.set()
    await removed
    assert yard.pictures() == set()


async def test_of_two_who_delete_and_retry_at_once_one_is_told_so(yard: Yard) -> None:
    house = yard.house
    for _ in range(5):
        house.faults.render = [ProviderRefused("no")]
        task = await house.made()
        outcomes = await asyncio.gather(
            house.makeovers.delete(task.id),
            house.makeovers.retry(task.id),
            house.makeovers.delete(task.id),
            return_exceptions=True,
        )
        lost = [one for one in outcomes if isinstance(one, NotFound | TaskNotFinished)]
        assert all(one is None or isinstance(one, DeskteriorError) or one.id == task.id for one in outcomes)  # type: ignore[union-attr]
        assert lost
        if not any(isinstance(one, NotFound) for one in outcomes):
            assert (await house.ended(task.id)).status == "succeeded"
    check_totals(house.database)


async def test_pictures_that_the_storage_does_not_let_go_of_follow(yard: Yard) -> None:
    house = yard.house
    task = await house.made()
    house.faults.delete = [StorageFailed("The picture store does not answer")] * 3
    await house.makeovers.delete(task.id)
    assert len(yard.pictures()) == 2
    await yard.rounds()
    assert len(yard.pictures()) == 2, "not before it may have mended"
    for _ in range(2):  # the first of the two that failed fails once more
        await yard.age(1)
        await yard.rounds()
    assert yard.pictures() == set()
    assert (await yard.rows())["makeover_discarded"] == 0


async def test_one_process_at_a_time_makes_rounds(yard: Yard) -> None:
    house = yard.house
    await house.made()
    await yard.age(31)
    other = Removal(house.database, house.makeovers._outfit.storage, house.makeovers._jobs.forget, 30)
    await other._turn()
    await yard.rounds()
    assert (await yard.rows())["makeover_tasks"] == 1
    await house.database.execute(turns.update().values(until=time.time() - 1))  # it has died
    await yard.rounds()
    assert (await yard.rows())["makeover_tasks"] == 0


async def test_many_go_in_small_rounds(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deskterior.makeover.removal.BATCH", 2)
    yard.house.faults.score = 0.1
    for _ in range(5):
        await yard.house.made()
    await yard.age(31)
    left = []
    more = True
    while more:
        more = await yard.removal.round()
        left.append((await yard.rows())["makeover_tasks"])
    assert left == [3, 1, 0]


async def test_kept_for_ever_nothing_goes_but_what_clients_delete(tmp_path: Path) -> None:
    async with open_house(tmp_path, task_retention_days=0) as house:
        yard = Yard(house, removal_of(house.makeovers))
        task = await house.made()
        gone = await house.made()
        await house.makeovers.delete(gone.id)
        await yard.age(10_000)
        await yard.rounds()
        assert [one.id for one in (await house.makeovers.page()).tasks] == [task.id]
        assert (await yard.rows())["makeover_spenders"] == 0


async def test_rounds_are_made_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deskterior.makeover.workshop.REMOVE_S", 0.05)
    async with open_house(tmp_path, task_retention_days=30) as house:
        yard = Yard(house, removal_of(house.makeovers))
        await house.made()
        await yard.age(31)

        async def empty() -> bool:
            return not (await house.makeovers.page()).tasks

        await until(empty)
