"""Makeovers in one process, with faults on demand: what becomes of a task, and what clients may do to it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa

from deskterior.callbacks import Delivered, TryAgain
from deskterior.errors import (
    CustomModelMissing,
    IdempotencyConflict,
    Invalid,
    NotFound,
    PhotoUnreadable,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    RunnerFailed,
    StorageFailed,
    TaskFinished,
    TaskNotFinished,
)
from deskterior.makeover.makeovers import StageEvent
from deskterior.makeover.register import Origin
from deskterior.makeover.tables import drafts
from deskterior.schemas import Concept, CostItem, GenerateRequest, Task, TaskStatus
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.stand_ins import DESK, Faults, until

LOOP = pytest.mark.asyncio(loop_scope="module")
pytestmark = LOOP
ASSUMED = CostItem(what="render", model="painter", units={"assumed": 1.0}, usd=0.25)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("house"), image_attempts=2) as house:
        yield house


@pytest.fixture
def house(one_house: House) -> House:
    """The one house, with no faults and an empty ledger."""
    fresh = Faults()
    for name in vars(fresh):
        setattr(one_house.faults, name, getattr(fresh, name))
    one_house.sender.sent.clear()
    path = one_house.folder / "ledger"
    path.unlink(missing_ok=True)
    return one_house


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


class TestCancel:
    async def test_a_running_task_stops_before_its_next_stage_and_keeps_its_cost(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["describe"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        await until(lambda: house.count("describe"))

        cancelled = await house.makeovers.cancel(task.id)
        assert cancelled.status == "cancelled"
        with pytest.raises(TaskNotFinished):  # its call is still out
            await house.makeovers.retry(task.id)
        with pytest.raises(TaskNotFinished):
            await house.makeovers.delete(task.id)
        held.set()

        async def paid() -> bool:
            return bool((await house.makeovers.get(task.id)).cost.items)

        await until(paid)
        task = await house.makeovers.get(task.id)

        assert (task.status, task.result) == ("cancelled", None)
        assert task.cost.total == pytest.approx(0.01)
        assert house.count("render") == 0
        assert house.sender.sent == []

        await house.makeovers.retry(task.id)
        again = await house.ended(task.id)
        assert (again.status, house.count("describe"), house.count("render")) == ("succeeded", 1, 1)

    async def test_twice_is_once(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))

        first, second = await asyncio.gather(house.makeovers.cancel(task.id), house.makeovers.cancel(task.id))

        held.set()
        assert first.status == second.status == "cancelled"

    async def test_while_the_photo_is_fetched_and_retried_at_once_it_is_made_once(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        for _ in range(3):
            await house.makeovers.cancel(task.id)
            await house.makeovers.retry(task.id)
        held.set()

        again = await house.ended(task.id)

        assert (again.status, again.attempts) == ("succeeded", 4)
        assert house.count("describe") == house.count("render") == 1

    async def test_what_has_finished_cannot_be_cancelled(self, house: House) -> None:
        task = await house.made()
        with pytest.raises(TaskFinished):
            await house.makeovers.cancel(task.id)


class TestDelete:
    async def test_takes_the_pictures_with_it(self, house: House) -> None:
        before = set(house.folder.rglob("*.png"))
        task = await house.made()
        assert len(set(house.folder.rglob("*.png")) - before) == 2

        await house.makeovers.delete(task.id)

        assert set(house.folder.rglob("*.png")) == before
        for gone in (house.makeovers.get, house.makeovers.delete, house.makeovers.cancel, house.makeovers.retry):
            with pytest.raises(NotFound):
                await gone(task.id)

    async def test_is_refused_while_the_task_is_under_way(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["render"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        with pytest.raises(TaskNotFinished):
            await house.makeovers.delete(task.id)
        held.set()
        await house.ended(task.id)


class TestIdempotency:
    async def test_the_same_key_and_body_is_the_same_task_however_many_ask_at_once(self, house: House) -> None:
        origin = Origin(owner="team", idempotency_key="한 번만")
        request = GenerateRequest(image_url=DESK)

        tasks = await asyncio.gather(*(house.makeovers.start(request, "v1", origin) for _ in range(20)))

        assert len({task.id for task in tasks}) == 1
        await house.ended(tasks[0].id)
        assert house.count("render") == 1
        again = await house.makeovers.start(request, "v1", origin)
        assert (again.id, again.status) == (tasks[0].id, "succeeded")

    @pytest.mark.parametrize(
        "other", [GenerateRequest(image_url=DESK + "#"), GenerateRequest(image_url=DESK, concept=Concept.OIL)]
    )
    async def test_the_same_key_with_another_body_is_a_conflict(self, house: House, other: GenerateRequest) -> None:
        origin = Origin(idempotency_key=f"key-{other.image_url}-{other.concept}")
        await house.made(origin=origin)
        with pytest.raises(IdempotencyConflict):
            await house.makeovers.start(other, "v1", origin)

    async def test_keys_are_each_owner_s_own(self, house: House) -> None:
        mine = await house.made(origin=Origin(owner="a", idempotency_key="k"))
        yours = await house.made(origin=Origin(owner="b", idempotency_key="k"))

        assert mine.id != yours.id
        assert (await house.makeovers.get(mine.id, owner="a")).id == mine.id
        with pytest.raises(NotFound):
            await house.makeovers.get(mine.id, owner="b")

    @pytest.mark.parametrize("key", ["", "x" * 256, "line\nbreak", "nul\0"])
    async def test_a_key_that_is_none_is_named(self, house: House, key: str) -> None:
        with pytest.raises(Invalid) as raised:
            await house.makeovers.start(GenerateRequest(image_url=DESK), "v1", Origin(idempotency_key=key))
        assert raised.value.errors[0]["field"] == "Idempotency-Key"


class TestLooking:
    async def test_pages_go_from_the_newest_to_the_oldest_and_miss_none(self, house: House) -> None:
        house.faults.score = 0.1
        made = [(await house.made(origin=Origin(owner="pager"))).id for _ in range(5)]

        seen, cursor = [], None
        while True:
            page = await house.makeovers.page(limit=2, cursor=cursor, owner="pager")
            seen += [task.id for task in page.tasks]
            if (cursor := page.next_cursor) is None:
                break

        assert seen == made[::-1]
        assert (await house.makeovers.page(status="failed", owner="pager", limit=100)).tasks
        assert (await house.makeovers.page(status="succeeded", owner="pager")).tasks == []

    @pytest.mark.parametrize("limit", [0, 101, -1])
    async def test_a_limit_that_is_none_is_named(self, house: House, limit: int) -> None:
        with pytest.raises(Invalid):
            await house.makeovers.page(limit=limit)

    @pytest.mark.parametrize("cursor", ["", "x", "한글", "bmFuIDAw", "MS4wIHg=", b64encode(b"inf x").decode()])
    async def test_a_cursor_that_is_none_is_named(self, house: House, cursor: str) -> None:
        with pytest.raises(Invalid):
            await house.makeovers.page(cursor=cursor)

    @pytest.mark.parametrize("task_id", ["", "nope", "0" * 32, "a\0b", "é" * 32, "' or 1=1 --", "x" * 10_000])
    async def test_an_unknown_id_is_not_found(self, house: House, task_id: str) -> None:
        with pytest.raises(NotFound):
            await house.makeovers.get(task_id)

    @pytest.mark.parametrize("url", ["https://a/\0", "https://a/\ud800"])
    async def test_an_address_that_cannot_be_stored_is_named(self, house: House, url: str) -> None:
        with pytest.raises(Invalid):
            await house.makeovers.start(GenerateRequest.model_construct(image_url=url, concept=Concept.BASIC))

    async def test_a_kind_without_a_model_is_refused(self, house: House) -> None:
        with pytest.raises(CustomModelMissing):
            await house.makeovers.start(GenerateRequest(image_url=DESK), "v2")

    async def test_the_wait_ends_with_the_task_as_it_is(self, house: House) -> None:
        held = asyncio.Event()
        house.faults.before["render"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))

        assert (await house.makeovers.wait(task.id, 0.05)).status == "running"

        held.set()
        await house.ended(task.id)

    async def test_events_come_as_they_happen_and_to_those_who_come_late(self, house: House) -> None:
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        live = [event async for event in house.makeovers.events(task.id)]
        late = [event async for event in house.makeovers.events(task.id)]

        for events in (live, late):
            *stages, last = events
            told = [(event.stage, event.state) for event in stages if isinstance(event, StageEvent)]
            for stage in ("describe", "render", "shop", "publish", "notify"):
                assert told.index((stage, "started")) < told.index((stage, "done"))
            assert told.index(("describe", "done")) < told.index(("render", "started"))
            assert isinstance(last, Task)
            assert last.status == "succeeded"

    async def test_events_of_a_failure_name_the_stage(self, house: House) -> None:
        house.faults.describe = [ProviderRefused("The vision model refused this photo")]
        task = await house.made()

        events = [event async for event in house.makeovers.events(task.id)]

        assert ("describe", "failed") in [(e.stage, e.state) for e in events if isinstance(e, StageEvent)]


class TestSuggest:
    async def test_tells_without_drawing(self, house: House) -> None:
        description = await house.makeovers.suggest(GenerateRequest(image_url=DESK))

        assert description.keywords == ["마우스", "키보드"]
        assert house.count("render") == house.count("shop") == 0

    async def test_refuses_what_is_no_desk(self, house: House) -> None:
        house.faults.score = 0.1
        with pytest.raises(Exception, match="desk"):
            await house.makeovers.suggest(GenerateRequest(image_url=DESK))
        assert house.count("describe") == 0
