"""What clients may do to a task: cancel, delete, ask twice, look, wait, listen; and ask for a prompt alone."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from deskterior.errors import (
    CustomModelMissing,
    IdempotencyConflict,
    Invalid,
    NotFound,
    Overloaded,
    ProviderRefused,
    TaskFinished,
    TaskNotFinished,
)
from deskterior.jobs.engine import Engine
from deskterior.makeover.events import StageEvent
from deskterior.makeover.register import Origin
from deskterior.schemas import Concept, GenerateRequest, Task
from tests.integration.jobs.house import House
from tests.integration.jobs.stand_ins import DESK, until

T = TypeVar("T")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("one_house", ["sqlite", "postgres"], indirect=True, scope="module"),
]


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

    async def test_a_photo_that_arrives_afterwards_is_not_kept(self, house: House) -> None:
        before = set(house.folder.rglob("*.png"))
        asked, held = asyncio.Event(), asyncio.Event()

        async def fetch() -> None:
            asked.set()
            await held.wait()

        house.faults.before["fetch"] = fetch
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        await asked.wait()
        await house.makeovers.cancel(task.id)
        await house.makeovers.delete(task.id)
        held.set()

        await until(lambda: house.ledger.count("fetch answered"))
        engine = house.makeovers._jobs
        assert isinstance(engine, Engine)
        await until(lambda: not engine._running["makeover"])
        assert set(house.folder.rglob("*.png")) == before

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

    async def test_events_outlast_a_job_store_that_is_away(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.makeovers.AWAY_S", 0.01)
        held = asyncio.Event()
        house.faults.before["render"] = held.wait  # type: ignore[assignment]
        task = await house.makeovers.start(GenerateRequest(image_url=DESK))
        stream = house.makeovers.events(task.id)
        await anext(stream)
        await until(lambda: house.count("render"))
        house.database.unread = True
        rest = asyncio.create_task(_all(stream))
        await until(lambda: house.database.refused >= 2)
        house.database.unread = False
        held.set()

        assert isinstance((await rest)[-1], Task)

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


class TestAClassifierThatIsAway:
    """A desk runner is replaced while tasks run: they wait for the new one."""

    async def test_is_waited_for(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.photo.PAUSE_S", (0.001, 0.002))
        house.faults.fetch = [Overloaded("restarting", retry_after=3), Overloaded(), None]
        task = await house.made()
        assert task.status == "succeeded"
        assert house.ledger.count("fetch answered") == 1
        assert house.count("describe") == 1

    async def test_is_not_waited_for_for_ever(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deskterior.makeover.photo.PATIENCE_S", 0.0)
        house.faults.fetch = [Overloaded("restarting")]
        task = await house.made()
        assert task.status == "failed"
        assert task.error is not None
        assert task.error.type == "/problems/overloaded"
        assert house.count("describe") == 0


async def _all(stream: AsyncIterator[T]) -> list[T]:
    return [item async for item in stream]
