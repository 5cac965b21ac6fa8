"""Makeovers in one process, with faults on demand: what becomes of a task, and what clients may do to it."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa

from deskterior.callbacks import Delivered, TryAgain
from deskterior.errors import (
    PhotoUnreadable,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    RunnerFailed,
    StorageFailed,
    TaskFinished,
    TaskNotFinished,
)
from deskterior.makeover.tables import drafts
from deskterior.schemas import Concept, CostItem, GenerateRequest, TaskStatus
from tests.integration.jobs.house import House
from tests.integration.jobs.stand_ins import DESK, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASSUMED = CostItem(what="render", model="painter", units={"assumed": 1.0}, usd=0.25)


class TestWhatGoesWell:
    async def test_a_desk_becomes_a_picture_and_products(self, house: House) -> None:
        task = await house.made(GenerateRequest(image_url=DESK + "?a=%2F&b=ü", concept=Concept.OIL))

        assert (task.status, task.progress, task.attempts, task.concept) == ("succeeded", 1.0, 1, Concept.OIL)
        assert task.result is not None
        assert task.result.initial_image_url == task.initial_image_url == DESK + "?a=%2F&b=ü"
        assert task.result.processed_image_url.startswith("https://desk.example/files/results/")
        assert [item.what for item in task.cost.items] == ["describe", "render"]
        assert task.cost.total == pytest.approx(0.05)
        assert task.started_at is not None
        assert task.finished_at is not None
        assert task.created_at <= task.started_at <= task.finished_at
        assert task.prompt_version is not None
        assert task.prompt_version.startswith("v")

    async def test_the_photo_and_the_picture_are_kept(self, house: House) -> None:
        await house.made()

        stored = {path.relative_to(house.folder / "storage").parts[0] for path in house.folder.rglob("*.png")}
        assert stored == {"inputs", "results"}

    async def test_the_backend_is_told(self, house: House) -> None:
        task = await house.made()

        [(message_id, body)] = house.sender.sent
        assert task.callback.status == "delivered"
        assert task.id in message_id
        assert task.result is not None
        told = json.loads(body)
        assert told["initial_image_url"] == DESK
        assert told["processed_image_url"].startswith("https://desk.example/files/")
        assert len(told["products"]) == 2

    async def test_a_found_desk_is_told_durably(self, house: House) -> None:
        house.faults.outcomes = [TryAgain("the backend answered 503", after=0.0)]

        await house.makeovers.notify_classified(TaskStatus(initial_image_url=DESK, classify=True))

        await until(lambda: len(house.sender.sent) == 2)
        assert {message_id for message_id, _ in house.sender.sent} == {house.sender.sent[0][0]}
        assert json.loads(house.sender.sent[1][1]) == {"initial_image_url": DESK, "classify": True}


class TestFailureStaysWhereItIs:
    async def test_a_bad_photo_fails_the_task_before_money_is_spent(self, house: House) -> None:
        house.faults.fetch = [PhotoUnreadable("The photo ends before its end")]

        task = await house.made()

        assert task.status == "failed"
        assert task.error is not None
        assert (task.error.type, task.error.status) == ("/problems/photo-unreadable", 422)
        assert house.count("describe") == house.count("render") == 0
        assert task.cost.total == 0

    async def test_what_is_no_desk_is_refused_before_money_is_spent(self, house: House) -> None:
        house.faults.score = 0.2

        task = await house.made()

        assert task.error is not None
        assert task.error.type == "/problems/not-a-desk"
        assert house.count("describe") == 0
        assert not list((house.folder / "storage" / "inputs").rglob(f"*{task.id}*"))

    async def test_a_failed_description_fails_the_task_and_nothing_is_drawn(self, house: House) -> None:
        house.faults.describe = [ProviderRefused("The vision model refused this photo", provider="openai")]

        task = await house.made()

        assert task.error is not None
        assert (task.error.type, task.stage) == ("/problems/provider-refused", "describe")
        assert house.count("render") == house.count("shop") == 0

    async def test_the_backend_is_told_of_a_failure(self, house: House) -> None:
        house.faults.describe = [ProviderRefused("The vision model refused this photo", provider="openai")]

        await house.made()

        told = json.loads(house.sender.sent[0][1])
        assert told["processed_image_url"] is None
        assert told["products"] is None
        assert told["error"]["type"] == "/problems/provider-refused"

    @pytest.mark.parametrize("error", [ProviderFailed("Naver answered 500"), RuntimeError("a mistake of ours")])
    async def test_without_the_product_search_the_picture_still_comes_and_the_task_says_so(
        self, house: House, error: Exception
    ) -> None:
        house.faults.shop = [error]

        task = await house.made()

        assert task.status == "succeeded"
        assert task.result is not None
        assert task.result.products == []
        assert len(task.warnings) == 1

    async def test_keywords_that_could_not_be_searched_are_told(self, house: House) -> None:
        house.faults.problems = ["의자: Naver answered 429"]

        assert (await house.made()).warnings == ["의자: Naver answered 429"]

    async def test_a_backend_that_is_down_fails_no_task_and_is_told_when_it_is_back(self, house: House) -> None:
        house.faults.outcomes = [TryAgain("the backend could not be reached", after=0.0)] * 2

        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        assert (await house.makeovers.wait(task.id, 20)).status == "succeeded"

        await until(lambda: len(house.sender.sent) == 3)
        task = await house.ended(task.id)
        assert task.callback.attempts == 3
        assert task.callback.last_error is None
        assert len({message_id for message_id, _ in house.sender.sent}) == 1

    async def test_a_storage_that_is_away_for_a_moment_loses_no_picture(self, house: House) -> None:
        house.faults.keep = [None, StorageFailed(), StorageFailed()]

        task = await house.made()

        assert task.status == "succeeded"
        assert house.count("render") == 1

    async def test_a_storage_that_stays_away_fails_the_task_and_the_retry_buys_nothing_again(
        self, house: House
    ) -> None:
        house.faults.keep = [None, *[StorageFailed("The picture store does not answer")] * 7]

        task = await house.made()

        assert task.error is not None
        assert (task.error.type, task.stage) == ("/problems/storage-failed", "publish")
        assert task.cost.total == pytest.approx(0.05)

        await house.makeovers.retry(task.id)
        again = await house.ended(task.id)
        assert again.status == "succeeded"
        assert again.result is not None
        assert house.count("describe") == house.count("render") == 1
        assert again.cost.total == pytest.approx(0.05)
        left = await house.database.read(lambda c: c.execute(sa.select(drafts.c.key)).all())
        assert left == []

    async def test_a_mistake_of_ours_is_an_internal_error_and_counted_as_if_billed(self, house: House) -> None:
        house.faults.render = [ZeroDivisionError("secret")]

        task = await house.made()

        assert task.error is not None
        assert task.error.type == "/problems/internal"
        assert "secret" not in task.model_dump_json()
        assert task.cost.items[1].what == "render (failed, may have been billed)"

    async def test_a_broken_runner_fails_the_task_and_nothing_else(self, house: House) -> None:
        house.faults.fetch = [RunnerFailed("The model failed")]

        task = await house.made()

        assert task.error is not None
        assert task.error.status == 500
        assert (await house.made()).status == "succeeded"


class TestPaidCalls:
    async def test_a_timed_out_picture_is_drawn_again_within_the_setting_and_both_count(self, house: House) -> None:
        house.faults.render = [ProviderTimeout("No picture within 180 s", cost=ASSUMED, retry_after=0.0)]

        task = await house.made()

        assert task.status == "succeeded"
        assert [item.what for item in task.cost.items] == [
            "describe",
            "render (failed, may have been billed)",
            "render",
        ]
        assert task.cost.total == pytest.approx(0.01 + 0.25 + 0.04)

    async def test_but_never_more_often_than_the_setting_says(self, house: House) -> None:
        house.faults.render = [ProviderTimeout("No picture within 180 s", cost=ASSUMED, retry_after=0.0)] * 5

        task = await house.made()

        assert task.error is not None
        assert task.error.type == "/problems/provider-timeout"
        assert house.count("render") == 2

    async def test_a_refusal_is_final(self, house: House) -> None:
        house.faults.render = [ProviderRefused("The image model refused", cost=ASSUMED)]

        assert (await house.made()).status == "failed"
        assert house.count("render") == 1

    async def test_what_was_certainly_not_billed_is_tried_again(self, house: House) -> None:
        busy = ProviderFailed("OpenAI is busy", safe_to_retry=True, retry_after=0.0)
        house.faults.render = [busy, busy]

        task = await house.made()

        assert task.status == "succeeded"
        assert [item.what for item in task.cost.items] == ["describe", "render"]

    async def test_what_was_not_billed_and_cannot_help_is_not_tried_again(self, house: House) -> None:
        house.faults.render = [ProviderFailed("OpenAI answered 401")]

        assert (await house.made()).status == "failed"
        assert house.count("render") == 1

    async def test_the_running_stage_is_shown(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["render"] = held.wait  # type: ignore[assignment]

        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        await until(lambda: house.count("render"))
        seen = await house.makeovers.get(task.id)
        held.set()

        assert (seen.status, seen.stage, seen.finished_at) == ("running", "render", None)
        assert 0 < seen.progress < 1
        assert seen.cost.total == pytest.approx(0.01)
        assert (await house.ended(task.id)).status == "succeeded"


class TestRetry:
    async def test_goes_on_from_the_stage_that_failed(self, house: House) -> None:
        house.faults.render = [ProviderRefused("The image model refused")]
        task = await house.made()

        await house.makeovers.retry(task.id)
        again = await house.ended(task.id)

        assert (again.status, again.attempts, again.error) == ("succeeded", 2, None)
        assert (house.count("describe"), house.count("render"), house.count("shop")) == (1, 2, 1)
        assert house.ledger.count("fetch answered") == 1
        assert again.cost.total == pytest.approx(0.05)

    async def test_tells_the_backend_how_the_new_attempt_ended(self, house: House) -> None:
        house.faults.outcomes = [TryAgain("the backend could not be reached", after=3600.0), Delivered()]
        house.faults.render = [ProviderRefused("The image model refused")]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        await house.makeovers.wait(task.id, 20)
        await until(lambda: house.sender.sent)

        await house.makeovers.retry(task.id)
        again = await house.ended(task.id)

        assert again.callback.status == "delivered"
        first, second = house.sender.sent
        assert first[0] != second[0]
        assert json.loads(second[1])["processed_image_url"]

    async def test_of_a_task_that_is_under_way_or_has_succeeded_is_refused(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["render"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        with pytest.raises(TaskNotFinished):
            await house.makeovers.retry(task.id)
        held.set()
        await house.ended(task.id)
        with pytest.raises(TaskFinished):
            await house.makeovers.retry(task.id)
