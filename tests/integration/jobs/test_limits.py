"""Limits on money, places and time, and other settings: each with makeovers of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from deskterior.callbacks import TryAgain
from deskterior.errors import ProviderFailed, ProviderRefused, ProviderTimeout, SpendingCapReached
from deskterior.makeover.tables import stages
from deskterior.schemas import CostItem, GenerateRequest
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


class TestCallback:
    async def test_the_flat_message_has_the_code_of_the_teams_own_table(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, callback_format="flat") as house:
            await house.made()
            [(_, body)] = house.sender.sent
            assert [product["product_code"] for product in json.loads(body)["products"]] == ["M-1"]

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
