"""Stops, deaths and outages: what becomes of makeovers that were under way, and who finds what got lost."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from deskterior.errors import Overloaded
from deskterior.jobs import executors
from deskterior.jobs.engine import Engine
from deskterior.makeover.tables import callbacks, tasks
from deskterior.schemas import GenerateRequest, TaskStatus
from tests.integration.jobs.house import open_house
from tests.integration.jobs.stand_ins import DESK, until

REQUEST = GenerateRequest(image_url=DESK)


class TestStopping:
    async def test_a_stop_waits_for_the_call_under_way_and_the_next_start_goes_on(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:
            held = asyncio.Event()
            house.faults.before["describe"] = held.wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("describe"))
            closing = asyncio.create_task(house.makeovers.close(10))

            async def stopping() -> bool:
                try:
                    await house.makeovers.check()
                except Overloaded:
                    return True
                return False

            await until(stopping)
            with pytest.raises(Overloaded):
                await house.makeovers.start(REQUEST)
            held.set()
            await closing
            assert house.ledger.count("describe answered") == 1
            assert house.count("render") == 0

        async with open_house(tmp_path) as house:
            task = await house.ended(task.id)
            assert task.status == "succeeded"
            assert house.count("describe") == house.count("render") == 1
            assert task.warnings == []
            assert len((await house.makeovers.page()).tasks) == 1

    async def test_a_call_that_outlasts_the_stop_is_told_and_made_again(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, drain_s=0) as house:
            house.faults.before["render"] = asyncio.Event().wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("render"))

        async with open_house(tmp_path) as house:
            task = await house.ended(task.id)
            assert task.status == "succeeded"
            assert "render" in task.warnings[0]
            assert house.count("render") == 2

    @pytest.mark.parametrize("slow", [False, True])
    async def test_declared_dead_it_goes_on_under_another_name(self, tmp_path: Path, *, slow: bool) -> None:
        """Also where DBOS takes its time to end: a second one beside it would be taken along."""
        destroy = DBOS.destroy

        def slowly(**how: Any) -> None:
            time.sleep(0.3)
            destroy(**how)

        async with open_house(tmp_path, executor_ttl_s=0.15) as house:
            held = asyncio.Event()
            house.faults.before["render"] = held.wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("render"))

            with pytest.MonkeyPatch.context() as patience:
                if slow:
                    patience.setattr("deskterior.jobs.engine.TIDY_S", 0.01)
                    patience.setattr(DBOS, "destroy", slowly)
                await house.database.execute(executors.table.update().values(claimed_by="another"))

                async def reborn() -> bool:
                    query = sa.select(executors.table.c.executor_id).where(executors.table.c.claimed_by.is_(None))
                    return bool(await house.database.read(lambda c: c.execute(query).all()))

                await until(reborn)
                held.set()
                task = await house.ended(task.id)
            assert task.status == "succeeded"
            assert await house.makeovers.check() == "ok"
            assert "render" in task.warnings[0]


class TestMending:
    async def test_a_task_whose_job_got_lost_is_queued_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        async with open_house(tmp_path) as house:
            house.sender.enabled = False
            task = await house.made()
            lost = {"status": "running", "job_id": "lost", "queued_at": time.time() - 60, "token": "gone"}
            await house.database.execute(tasks.update().values(**lost))

            assert (await house.ended(task.id)).status == "succeeded"
            assert house.count("render") == 1

    async def test_a_callback_whose_job_got_lost_is_sent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        async with open_house(tmp_path) as house:
            await house.made()
            lost = {"status": "pending", "due_at": time.time() - 120}
            await house.database.execute(callbacks.update().values(**lost))

            await until(lambda: len(house.sender.sent) == 2)

    async def test_a_desk_found_while_the_service_stops_is_told_after_the_next_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        monkeypatch.setattr("deskterior.makeover.delivery.LOST_S", 0.0)
        async with open_house(tmp_path) as house:
            await house.makeovers.close(0)
            await house.makeovers.notify_classified(TaskStatus(initial_image_url=DESK, classify=True))

        async with open_house(tmp_path) as house:
            await until(lambda: house.sender.sent)

    async def test_a_round_that_fails_is_not_the_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        rounds = 0

        async def fails(*_: object) -> int:
            nonlocal rounds
            rounds += 1
            raise RuntimeError("DBOS is being opened anew")

        monkeypatch.setattr(Engine, "forget_old", fails)
        async with open_house(tmp_path):
            await until(lambda: rounds == 2)

    async def test_a_task_that_kills_every_process_is_given_up(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, drain_s=0) as house:
            house.faults.before["fetch"] = asyncio.Event().wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)

            async def running() -> bool:
                return (await house.makeovers.get(task.id)).status == "running"

            await until(running)
            await house.database.execute(tasks.update().values(claims=10))

        async with open_house(tmp_path) as house:
            task = await house.ended(task.id)
            assert task.error is not None
            assert (task.status, task.error.type) == ("failed", "/problems/internal")
            assert house.count("describe") == 0

    async def test_a_second_death_in_one_paid_call_is_not_paid_a_third_time(self, tmp_path: Path) -> None:
        for _ in range(2):
            async with open_house(tmp_path, drain_s=0) as house:
                before = house.count("render")
                house.faults.before["render"] = asyncio.Event().wait  # type: ignore[assignment]
                if not before:
                    task = await house.makeovers.start(REQUEST)
                await until(lambda: house.count("render") > before)  # noqa: B023 - used up within the loop

        async with open_house(tmp_path) as house:
            task = await house.ended(task.id)
            assert task.status == "failed"
            assert house.count("render") == 2
            assert len(task.warnings) == 2

            await house.makeovers.retry(task.id)
            assert (await house.ended(task.id)).status == "succeeded"

    async def test_cancelled_in_a_call_that_the_process_dies_in_it_can_still_be_retried(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house(tmp_path, drain_s=0) as house:
            house.faults.before["render"] = asyncio.Event().wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("render"))
            await house.makeovers.cancel(task.id)

        async with open_house(tmp_path) as house:

            async def at_rest() -> bool:
                return bool((await house.makeovers.get(task.id)).warnings)

            await until(at_rest)
            assert (await house.makeovers.get(task.id)).status == "cancelled"
            assert house.count("render") == 1
            await house.makeovers.retry(task.id)
            assert (await house.ended(task.id)).status == "succeeded"

    async def test_a_database_that_is_away_while_a_picture_is_drawn_loses_nothing(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:

            async def goes() -> None:
                house.database.away = 2

            house.faults.before["render"] = goes
            task = await house.made()

            assert task.status == "succeeded"
            assert house.database.away == 0
            assert house.count("render") == 1

    async def test_a_database_that_is_away_at_a_beginning_delays_the_task(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        monkeypatch.setattr("deskterior.makeover.register.STUCK_S", 0.0)
        async with open_house(tmp_path) as house:

            async def goes() -> None:
                house.database.away = 1
                house.faults.before.clear()

            house.faults.before["fetch"] = goes
            task = await house.made()

            assert task.status == "succeeded"
            assert house.count("describe") == house.count("render") == 1

    async def test_the_records_of_ended_jobs_do_not_pile_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deskterior.makeover.workshop.MEND_S", 0.05)
        monkeypatch.setattr("deskterior.makeover.workshop.KEEP", timedelta(0))
        monkeypatch.setattr("deskterior.makeover.workshop.SWEEP", timedelta(0))
        async with open_house(tmp_path) as house:
            task = await house.made()
            left = sa.text("select count(*) from workflow_status")

            async def forgotten() -> bool:
                return not await house.database.read(lambda c: c.execute(left).scalar())

            await until(forgotten)
            assert (await house.makeovers.get(task.id)).status == "succeeded"
