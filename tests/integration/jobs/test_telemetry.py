"""What is told of a makeover: one trace from the request to the callback, whoever runs it, and figures of each part."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from deskterior.callbacks import TryAgain
from deskterior.config import Settings
from deskterior.errors import NotADesk, ProviderRefused
from deskterior.jobs import executors
from deskterior.jobs.database import Database
from deskterior.makeover import tracing
from deskterior.makeover.figures import store_figures
from deskterior.makeover.register import Origin
from deskterior.makeover.spending import Expected
from deskterior.makeover.tables import metadata
from deskterior.schemas import GenerateRequest, TaskStatus
from deskterior.telemetry import traces
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.stand_ins import DESK, until
from tests.recorded import Counting, Recorded, parent_id, recorded, span_id, trace_id

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASKED = GenerateRequest(image_url=DESK)


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recorded() as found:
        yield found


async def _forever() -> None:
    await asyncio.Event().wait()


async def _ordered(house: House) -> str:
    """A task as a request of the client orders it."""
    with traces.span("POST /v1/generate", parent=CLIENT):
        return (await house.makeovers.start(ASKED)).id


async def test_a_makeover_is_one_trace_from_the_request_to_the_callback(
    database_url: str, tmp_path: Path, spans: Recorded
) -> None:
    async with open_house(tmp_path, url=database_url) as house:
        await house.ended(await _ordered(house))
        await until(lambda: spans.all("notify"))

    request, makeover = spans.one("POST /v1/generate"), spans.one("makeover")
    assert {trace_id(span) for span in spans.all()} == {CLIENT.split("-")[1]}
    assert parent_id(request) == CLIENT.split("-")[2]
    assert parent_id(makeover) == parent_id(spans.one("notify")) == span_id(request)
    for stage in ("photo", "describe", "render", "shop", "publish"):
        assert parent_id(spans.one(stage)) == span_id(makeover), stage


async def test_the_trace_goes_on_after_a_restart(database_url: str, tmp_path: Path, spans: Recorded) -> None:
    async with open_house(tmp_path, url=database_url, drain_s=0) as house:
        house.faults.before["render"] = _forever
        task_id = await _ordered(house)
        await until(lambda: house.count("render"))
    cut_off = spans.one("makeover")
    async with open_house(tmp_path, url=database_url, image_attempts=2) as house:
        task = await house.ended(task_id)
        await until(lambda: spans.all("notify"))

    assert task.status == "succeeded"
    first, second = spans.all("makeover")
    assert first is cut_off
    assert not first.status.is_ok
    assert {trace_id(span) for span in spans.all()} == {CLIENT.split("-")[1]}
    assert parent_id(second) == parent_id(first) == span_id(spans.one("POST /v1/generate"))


async def test_a_makeover_that_began_without_traces_begins_a_trace_of_its_own(
    database_url: str, tmp_path: Path
) -> None:
    async with open_house(tmp_path, url=database_url) as house:
        house.faults.before["describe"] = lambda: until(traces.on)
        task_id = (await house.makeovers.start(ASKED)).id
        with recorded() as spans:
            await house.ended(task_id)
            assert spans.one("notify").parent is None


async def test_a_desk_that_was_found_is_told_in_the_trace_of_its_request(tmp_path: Path, spans: Recorded) -> None:
    async with open_house(tmp_path) as house:
        house.faults.outcomes = [TryAgain("not yet")]
        with traces.span("POST /classify", parent=CLIENT):
            await house.makeovers.notify_classified(TaskStatus(initial_image_url=DESK, classify=True))
        await until(lambda: len(spans.all("notify")) == 2)

        first, second = spans.all("notify")
        assert trace_id(first) == trace_id(second) == CLIENT.split("-")[1]
        left = await house.database.read(lambda c: c.execute(sa.select(tracing.table)).all())
        assert left == []  # nothing is to be told any more


async def test_a_deleted_task_leaves_no_trace(tmp_path: Path, spans: Recorded) -> None:
    async with open_house(tmp_path) as house:
        task_id = await _ordered(house)
        await house.ended(task_id)
        await house.makeovers.delete(task_id)
        assert await house.database.read(lambda c: tracing.kept_trace(c, task_id)) == ""


async def test_a_failed_makeover_is_marked_with_its_problem_and_nothing_else(tmp_path: Path, spans: Recorded) -> None:
    async with open_house(tmp_path) as house:
        house.faults.describe = [ProviderRefused("refused: sk-secret", provider="openai")]
        await house.made(ASKED)

    for name in ("makeover", "describe"):
        span = spans.one(name)
        assert not span.status.is_ok
        assert span.attributes is not None
        assert span.attributes["error.type"] == "provider-refused"
        assert not span.events
        assert "secret" not in span.to_json()


async def test_a_job_store_of_before_there_were_traces_is_gone_on_with(
    database_url: str, tmp_path: Path, spans: Recorded
) -> None:
    database = Database(database_url)
    database.create(metadata)
    database.execute_now(sa.text("drop table makeover_traces"))  # type: ignore[arg-type]
    database.close()
    async with open_house(tmp_path, url=database_url) as house:
        assert (await house.ended(await _ordered(house))).status == "succeeded"


async def test_what_a_makeover_costs_and_comes_to_is_counted_once(tmp_path: Path) -> None:
    usd = Counting("deskterior_provider_usd_total", provider="openai", model="painter")
    ended = Counting("deskterior_tasks_ended_total", kind="v1", status="succeeded", slug="")
    rendered = Counting("deskterior_stage_seconds_count", stage="render", outcome="done")
    delivered = Counting("deskterior_callbacks_total", outcome="delivered")
    async with open_house(tmp_path) as house:
        await house.made(ASKED)
        again = await house.made(ASKED, Origin(idempotency_key="k"))
        assert (await house.makeovers.start(ASKED, "v1", Origin(idempotency_key="k"))).id == again.id
    assert usd.grown == pytest.approx(0.08)
    assert (ended.grown, rendered.grown, delivered.grown) == (2, 2, 2)


async def test_a_call_that_was_cut_off_is_counted_at_what_it_may_have_cost(tmp_path: Path) -> None:
    model = "gpt-image-2.6-sunburst"
    async with open_house(tmp_path, drain_s=0) as house:
        house.faults.before["render"] = _forever
        task_id = (await house.makeovers.start(ASKED)).id
        await until(lambda: house.count("render"))
        expected = (await house.makeovers.get(task_id)).cost
    usd = Counting("deskterior_provider_usd_total", provider="openai", model=model)
    async with open_house(tmp_path) as house:
        task = await house.ended(task_id)
    cut_off = [item for item in task.cost.items if item.model == model]
    assert expected.total > 0
    assert len(cut_off) == 1
    assert usd.grown == pytest.approx(cut_off[0].usd)


async def test_a_photo_without_a_desk_is_counted_as_refused(tmp_path: Path) -> None:
    refused = Counting("deskterior_photos_refused_total", slug=NotADesk.slug)
    failed = Counting("deskterior_tasks_ended_total", kind="v1", status="failed", slug=NotADesk.slug)
    async with open_house(tmp_path) as house:
        house.faults.score = 0.1
        await house.made(ASKED)
    assert (refused.grown, failed.grown) == (1, 1)


async def test_the_job_store_tells_what_waits_and_for_how_long(database_url: str, tmp_path: Path) -> None:
    async with open_house(tmp_path, url=database_url, drain_s=0, jobs_concurrency=1) as house:
        house.faults.before["describe"] = _forever
        first = (await house.makeovers.start(ASKED)).id
        await until(lambda: house.count("describe"))
        second = (await house.makeovers.start(ASKED)).id
        then = (await house.makeovers.get(first)).created_at.timestamp() + 100

        found = await house.database.read(lambda connection: store_figures(connection, then, 1.0))
        assert found.tasks == {("v1", "running"): 1, ("v1", "queued"): 1}
        assert 90 < found.oldest_s["running"] <= 100
        assert 90 < found.oldest_s["queued"] <= 100
        assert found.executors == 1
        prices = Expected.of(Settings())
        assert found.spent_usd == pytest.approx(prices.describe.usd), "a call under way, as expected"
        assert found.held_usd == pytest.approx(2 * prices.usd["v1"] - found.spent_usd)
        await house.makeovers.cancel(second)
        await house.makeovers.cancel(first)


async def test_what_has_ended_is_money_spent_and_a_message_that_waits(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.faults.outcomes = [TryAgain("away", after=600.0)]
        task = await house.makeovers.start(ASKED)
        await house.makeovers.wait(task.id, 20)

        async def tried() -> bool:
            return (await house.makeovers.get(task.id)).callback.attempts == 1

        await until(tried)
        found = await house.makeovers.figures()
        assert found.tasks == {}
        assert found.spent_usd == pytest.approx(0.05)
        assert found.held_usd == 0
        assert found.callbacks_waiting == 1
        assert 0 <= found.callbacks_oldest_s < 60


def test_figures_of_the_job_store_do_not_look_at_what_has_ended(tmp_path: Path) -> None:
    """By SQLite's own plan: no table is read from end to end."""
    database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    database.create(metadata)
    database.create(executors.metadata)
    seen: list[str] = []

    def explain(connection: sa.Connection) -> None:
        @sa.event.listens_for(connection, "before_cursor_execute")
        def _tell(_: object, cursor: object, statement: str, parameters: object, *__: object) -> None:
            plan = connection.connection.cursor()
            plan.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
            seen.extend(str(row[3]) for row in plan.fetchall())

        store_figures(connection, 1e9, 15.0)

    database.read_now(explain)
    database.close()
    scans = [line for line in seen if line.startswith("SCAN") and "INDEX" not in line and "CONSTANT" not in line]
    assert seen
    assert scans in ([], ["SCAN job_executors"])
