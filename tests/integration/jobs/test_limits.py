"""Limits on money, places and time, and other settings: each with makeovers of its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deskterior.callbacks import TryAgain
from deskterior.config import Settings
from deskterior.errors import (
    Overloaded,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    RateLimited,
    SpendingCapReached,
)
from deskterior.makeover.register import Origin
from deskterior.makeover.spending import Allowance, Expected
from deskterior.makeover.tables import stages
from deskterior.makeover.totals import recount
from deskterior.schemas import CostItem, GenerateRequest, Task
from tests.integration.jobs.accounts import check_totals
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.stand_ins import DESK, until
from tests.painters import Painter

REQUEST = GenerateRequest(image_url=DESK)
EXPECTED = Expected.of(Settings()).usd["v1"]
"""More than the 0.05 USD that the stand-ins take: the list's price."""
DESCRIBE = Expected.of(Settings()).usd["v2"]


class TestSpendingCap:
    async def test_new_tasks_stop_before_the_day_s_cost_would_pass_it(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=EXPECTED + 0.06) as house:
            assert (await house.made()).cost.total == pytest.approx(0.05)
            first = await house.made()  # 0.05 are spent, and what a task is expected to cost fits in yet

            with pytest.raises(SpendingCapReached) as raised:
                await house.makeovers.start(REQUEST)
            assert 0 < (raised.value.retry_after or 0) <= 24 * 3600
            assert "The service may spend" in raised.value.detail
            assert "0.10 are spent" in raised.value.detail

            await house.makeovers.delete(first.id)
            with pytest.raises(SpendingCapReached):  # to delete a task is not to have its money back
                await house.makeovers.start(REQUEST)

            await house.database.execute(stages.update().values(started_at=stages.c.started_at - 24 * 3600))
            await house.database.write(recount)
            assert (await house.made()).status == "succeeded"

    async def test_what_is_under_way_is_held_back_from_it(self, tmp_path: Path, database_url: str) -> None:
        async with open_house(tmp_path, url=database_url, spend_cap_usd_per_day=EXPECTED * 2.5) as house:
            owners, _ = await taken(house, Origin("a"), Origin("b"))
            assert len(owners) == 2

    async def test_every_picture_that_a_task_may_ask_for_is_held_back(self, tmp_path: Path) -> None:
        three = Expected.of(Settings(image_attempts=3))
        assert three.usd["v1"] == pytest.approx(three.describe.usd + 3 * three.render.usd)
        async with open_house(tmp_path, spend_cap_usd_per_day=three.usd["v1"] * 1.9, image_attempts=3) as house:
            owners, _ = await taken(house, Origin("a"))
            assert len(owners) == 1

    @pytest.mark.parametrize("refused", [False, True])
    async def test_a_prompt_that_is_paid_for_is_told_though_the_job_store_goes_away(
        self, tmp_path: Path, *, refused: bool
    ) -> None:
        async with open_house(tmp_path) as house:

            async def go() -> None:
                house.database.away = 1

            house.faults.before["describe"] = go
            if refused:
                house.faults.describe = [ProviderRefused("not this one")]
                with pytest.raises(ProviderRefused):
                    await house.makeovers.suggest(REQUEST)
            else:
                assert (await house.makeovers.suggest(REQUEST)).prompt
            assert house.database.away == 0
            assert (await house.makeovers.figures()).spent_usd == pytest.approx(Expected.of(Settings()).describe.usd)
            check_totals(house.database)

    async def test_a_key_has_a_cap_of_its_own(self, tmp_path: Path, database_url: str) -> None:
        poor = Origin("poor", allowance=Allowance(usd_per_day=EXPECTED * 2.5))
        async with open_house(tmp_path, url=database_url, spend_cap_usd_per_day=EXPECTED * 5.5) as house:
            owners, refused = await taken(house, poor, Origin("rich"))
            assert owners.count("poor") <= 2
            assert len(owners) == 5
            assert "The service may spend" in refused

    async def test_what_a_key_has_spent_stays_its_own(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:
            poor = Origin("poor", allowance=Allowance(usd_per_day=EXPECTED + 0.055))
            await house.made(origin=Origin("rich"))
            await house.makeovers.suggest(REQUEST, poor)
            task = await house.made(origin=poor)  # 0.06 with the prompt
            await house.makeovers.delete(task.id)
            for owner in (poor, replace(poor, idempotency_key="a key")):
                with pytest.raises(SpendingCapReached, match="The key poor may spend"):
                    await house.makeovers.start(REQUEST, "v1", owner)
            assert (await house.made(origin=Origin("rich"))).status == "succeeded"

    async def test_a_prompt_counts_and_a_timed_out_one_counts_as_if_billed(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=0.04 + DESCRIBE / 2) as house:
            await house.makeovers.suggest(REQUEST)
            cost = CostItem(what="describe", model="gpt-4o", units={"assumed": 1.0}, usd=0.03)
            house.faults.describe = [ProviderTimeout("No answer within 60 s", cost=cost)]
            with pytest.raises(ProviderTimeout):
                await house.makeovers.suggest(REQUEST)

            with pytest.raises(SpendingCapReached):
                await house.makeovers.suggest(REQUEST)

    async def test_a_retry_counts_with_what_the_task_has_cost_already(self, tmp_path: Path) -> None:
        poor = Origin("poor", allowance=Allowance(usd_per_day=EXPECTED * 2 + 0.005))
        async with open_house(tmp_path) as house:
            house.faults.render = [ProviderRefused("The image model refused")]
            task = await house.made(origin=poor)
            assert task.cost.total == pytest.approx(0.01)
            other = await house.made(origin=poor)
            assert other.status == "succeeded"

            held = asyncio.Event()
            house.faults.before["render"] = held.wait  # type: ignore[assignment]
            await house.makeovers.retry(task.id, origin=poor)
            with pytest.raises(SpendingCapReached):  # 0.05 and 0.01 are spent, and twice the expected does not fit
                await house.makeovers.start(REQUEST, "v1", poor)
            held.set()
            assert (await house.ended(task.id)).status == "succeeded"

    async def test_a_retry_is_refused_by_it_too(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, spend_cap_usd_per_day=EXPECTED) as house:
            house.faults.render = [ProviderRefused("The image model refused")]
            task = await house.made()
            with pytest.raises(SpendingCapReached):
                await house.makeovers.retry(task.id)
            assert (await house.makeovers.get(task.id)).status == "failed"


class TestWaiting:
    async def test_so_many_of_one_key_and_of_all_may_wait(self, tmp_path: Path, database_url: str) -> None:
        few = Origin("few", allowance=Allowance(tasks_waiting=2))
        async with open_house(tmp_path, url=database_url, jobs_concurrency=1, tasks_waiting=3) as house:
            held = asyncio.Event()
            house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
            first = await house.makeovers.start(REQUEST)

            async def running() -> bool:
                return (await house.makeovers.get(first.id)).status == "running"

            await until(running)
            owners, _ = await taken(house, few)
            assert len(owners) == 2, "both wait behind the first"
            with pytest.raises(RateLimited, match="The key few may have 2 tasks waiting") as raised:
                await house.makeovers.start(REQUEST, "v1", few)
            assert raised.value.retry_after

            keyed = Origin("other", idempotency_key="once")
            task = await house.makeovers.start(REQUEST, "v1", keyed)
            with pytest.raises(Overloaded, match="3 tasks are waiting") as full:
                await house.makeovers.start(REQUEST, "v1", Origin("other"))
            assert full.value.retry_after
            assert (await house.makeovers.start(REQUEST, "v1", keyed)).id == task.id, "it is the same task"

            await house.makeovers.cancel(task.id)
            await house.makeovers.start(REQUEST, "v1", Origin("other"))
            with pytest.raises(Overloaded):
                await house.makeovers.retry(task.id)
            held.set()
            page = await house.makeovers.page()
            for waiting in page.tasks:
                if waiting.id != task.id:
                    assert (await house.ended(waiting.id)).status == "succeeded"


async def taken(house: House, *origins: Origin) -> tuple[list[str], str]:
    """Of many tasks asked for at once: whose are taken (they are then made), and what is said of the others."""
    held = asyncio.Event()
    waited = house.faults.before.get("fetch")
    if waited is None:
        house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
    asked = [origin for _ in range(8) for origin in origins]
    found = await asyncio.gather(*(house.makeovers.start(REQUEST, "v1", by) for by in asked), return_exceptions=True)
    for outcome in found:
        assert isinstance(outcome, Task | SpendingCapReached | RateLimited), outcome
    held.set()
    owners = [by.owner for by, outcome in zip(asked, found, strict=True) if isinstance(outcome, Task)]
    if waited is None:
        for outcome in found:
            if isinstance(outcome, Task):
                assert (await house.ended(outcome.id)).status == "succeeded"
    return owners, " ".join(str(outcome) for outcome in found if not isinstance(outcome, Task))


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

    async def test_pictures_of_our_own_are_neither_counted_there_nor_held_up(self, tmp_path: Path) -> None:
        async with open_house(tmp_path, render_per_minute=1, drawing=Painter()) as house:
            assert (await house.made(kind="v2")).status == "succeeded"
            assert (await house.made(kind="v1")).status == "succeeded"  # the one paid picture of this minute
            assert (await house.made(kind="v2")).status == "succeeded"


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
            # As often as it is tried here: how soon it is stopped is not the matter.
            house.faults.outcomes = [TryAgain("the backend could not be reached", after=0.5)] * 100
            task_id = (await house.makeovers.start(REQUEST)).id

            async def attempts() -> int:
                return (await house.makeovers.get(task_id)).callback.attempts

            await until(attempts)  # written down: one that was only sent is made again
            before = await attempts()
            message_id = house.sender.sent[0][0]

        async with open_house(tmp_path) as house:
            callback = (await house.ended(task_id)).callback
            assert callback.status == "delivered"
            assert callback.attempts > before
            assert [sent for sent, _ in house.sender.sent] == [message_id]

    async def test_without_an_address_there_is_nothing_to_tell(self, tmp_path: Path) -> None:
        async with open_house(tmp_path) as house:
            house.sender.enabled = False
            house.faults.describe = [ProviderFailed("OpenAI answered 500")]
            for _ in range(2):
                task = await house.made()
                assert task.callback.status == "none"
                assert task.stage in {"describe", "publish"}
