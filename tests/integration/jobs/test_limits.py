"""Limits on money, places and time, and stopping: each with makeovers of its own."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from deskterior.callbacks import TryAgain
from deskterior.errors import Overloaded, ProviderFailed, ProviderRefused, ProviderTimeout, SpendingCapReached
from deskterior.jobs import executors
from deskterior.jobs.engine import Engine
from deskterior.makeover.tables import callbacks, stages, tasks
from deskterior.schemas import CostItem, GenerateRequest, TaskStatus
from tests.integration.jobs.house import open_house
from tests.integration.jobs.stand_ins import DESK, until

REQUEST = GenerateRequest(image_url=DESK)


class TestSpendingCap:
    async def test_new_tasks_stop_when_the_day_s_cost_reaches_it(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=0.06) as house:
            assert (await house.made()).cost.total == pytest.approx(0.05)
            first = await house.made()  # 0.05 is not yet 0.06

            with pytest.raises(SpendingCapReached) as raised:
                await house.makeovers.start(REQUEST)
            assert 0 < (raised.value.retry_after or 0) <= 24 * 3600
            assert "0.06" in raised.value.detail
            assert "0.10" in raised.value.detail
            with pytest.raises(SpendingCapReached):
                await house.makeovers.suggest(REQUEST)

            await house.makeovers.delete(first.id)
            with pytest.raises(SpendingCapReached):  # to delete a task is not to have its money back
                await house.makeovers.start(REQUEST)

            yesterday = stages.update().values(started_at=stages.c.started_at - 24 * 3600)
            await house.database.execute(yesterday)
            assert (await house.made()).status == "succeeded"

    async def test_what_is_under_way_is_held_back_from_it(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=0.1) as house:
            held = asyncio.Event()
            house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
            outcomes = await asyncio.gather(*(house.makeovers.start(REQUEST) for _ in range(8)), return_exceptions=True)
            held.set()

            refused = [outcome for outcome in outcomes if isinstance(outcome, SpendingCapReached)]
            assert len(refused) in {6, 7}, "each is expected to cost some 0.1 USD"

    async def test_a_prompt_counts_and_a_timed_out_one_counts_as_if_billed(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=0.03) as house:
            await house.makeovers.suggest(REQUEST)
            cost = CostItem(what="describe", model="gpt-4o", units={"assumed": 1.0}, usd=0.03)
            house.faults.describe = [ProviderTimeout("No answer within 60 s", cost=cost)]
            with pytest.raises(ProviderTimeout):
                await house.makeovers.suggest(REQUEST)

            with pytest.raises(SpendingCapReached):
                await house.makeovers.suggest(REQUEST)

    async def test_a_retry_is_refused_by_it_too(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=0.01) as house:
            house.faults.render = [ProviderRefused("The image model refused")]
            task = await house.made()
            with pytest.raises(SpendingCapReached):
                await house.makeovers.retry(task.id)
            assert (await house.makeovers.get(task.id)).status == "failed"


class TestPlaces:
    async def test_what_finds_no_place_is_queued_and_a_cancelled_one_never_runs(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, jobs_concurrency=1) as house:
            held = asyncio.Event()
            house.faults.before["describe"] = held.wait  # type: ignore[assignment]
            first, second, third = [await house.makeovers.start(REQUEST) for _ in range(3)]
            await until(lambda: house.count("describe"))
            assert (await house.makeovers.get(second.id)).status == "queued"

            assert (await house.makeovers.cancel(second.id)).status == "cancelled"
            held.set()

            assert (await house.ended(first.id)).status == "succeeded"
            assert (await house.ended(third.id)).status == "succeeded"
            assert (await house.makeovers.get(second.id)).started_at is None
            assert house.count("describe") == 2

    async def test_only_so_many_pictures_are_drawn_at_once(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, render_concurrency=2) as house:
            drawing, most = 0, 0

            async def draw() -> None:
                nonlocal drawing, most
                drawing += 1
                most = max(most, drawing)
                await asyncio.sleep(0.02)
                drawing -= 1

            house.faults.before["render"] = draw
            made = [await house.makeovers.start(REQUEST) for _ in range(6)]
            assert {(await house.ended(task.id)).status for task in made} == {"succeeded"}
            assert most == 2

    async def test_pictures_in_a_minute_are_limited_over_all_processes(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, render_per_minute=1) as house:
            await house.made()
            task = await house.makeovers.start(REQUEST)

            await until(lambda: house.count("shop") == 2)
            assert (await house.makeovers.get(task.id)).status == "running"
            assert house.count("render") == 1

            await house.database.execute(stages.update().values(started_at=stages.c.started_at - 61))
            assert (await house.ended(task.id)).status == "succeeded"


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

    async def test_declared_dead_it_goes_on_under_another_name(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, executor_ttl_s=0.15) as house:
            held = asyncio.Event()
            house.faults.before["render"] = held.wait  # type: ignore[assignment]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.count("render"))

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
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
        async with open_house(tmp_path) as house:
            house.sender.enabled = False
            task = await house.made()
            lost = {"status": "running", "job_id": "lost", "queued_at": time.time() - 60, "token": "gone"}
            await house.database.execute(tasks.update().values(**lost))

            assert (await house.ended(task.id)).status == "succeeded"
            assert house.count("render") == 1

    async def test_a_callback_whose_job_got_lost_is_sent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
        async with open_house(tmp_path) as house:
            await house.made()
            lost = {"status": "pending", "due_at": time.time() - 120}
            await house.database.execute(callbacks.update().values(**lost))

            await until(lambda: len(house.sender.sent) == 2)

    async def test_a_desk_found_while_the_service_stops_is_told_after_the_next_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
        monkeypatch.setattr("deskterior.makeover.delivery.LOST_S", 0.0)
        async with open_house(tmp_path) as house:
            await house.makeovers.close(0)
            await house.makeovers.notify_classified(TaskStatus(initial_image_url=DESK, classify=True))

        async with open_house(tmp_path) as house:
            await until(lambda: house.sender.sent)

    async def test_a_round_that_fails_is_not_the_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
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
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
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
        monkeypatch.setattr("deskterior.makeover.makeovers.MEND_S", 0.05)
        monkeypatch.setattr("deskterior.makeover.makeovers.KEEP", timedelta(0))
        monkeypatch.setattr("deskterior.makeover.makeovers.SWEEP", timedelta(0))
        async with open_house(tmp_path) as house:
            task = await house.made()
            left = sa.text("select count(*) from workflow_status")

            async def forgotten() -> bool:
                return not await house.database.read(lambda c: c.execute(left).scalar())

            await until(forgotten)
            assert (await house.makeovers.get(task.id)).status == "succeeded"


class TestCallbackAge:
    async def test_a_backend_that_stays_away_is_given_up_in_the_end(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, callback_max_age_s=0.2) as house:
            house.faults.outcomes = [TryAgain("the backend could not be reached", after=0.05)] * 50

            task = await house.made()

            assert (task.status, task.callback.status) == ("succeeded", "failed")
            assert task.callback.last_error == "the backend could not be reached"
            assert task.callback.attempts >= 2

    async def test_it_is_tried_again_after_a_restart(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:
            house.faults.outcomes = [TryAgain("the backend could not be reached", after=0.5)]
            task = await house.makeovers.start(REQUEST)
            await until(lambda: house.sender.sent)
            [(message_id, _)] = house.sender.sent

        async with open_house(tmp_path) as house:
            task = await house.ended(task.id)
            assert (task.callback.status, task.callback.attempts) == ("delivered", 2)
            assert house.sender.sent[0][0] == message_id

    async def test_without_an_address_there_is_nothing_to_tell(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:
            house.sender.enabled = False
            house.faults.describe = [ProviderFailed("OpenAI answered 500")]
            for _ in range(2):
                task = await house.made()
                assert task.callback.status == "none"
                assert task.stage in {"describe", "publish"}
