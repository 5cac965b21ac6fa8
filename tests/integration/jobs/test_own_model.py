"""Makeovers that our own model draws: free, told of by steps, stopped when cancelled, drawn again after a crash."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import sqlalchemy as sa
from PIL import Image

from deskterior.errors import CustomModelMissing, Overloaded, PhotoUnreadable, RunnerFailed
from deskterior.jobs.database import Database
from deskterior.makeover import render_ourselves
from deskterior.makeover.events import ProgressEvent, StageEvent
from deskterior.makeover.makeovers import Makeovers
from deskterior.makeover.tables import progress, stages, tasks
from deskterior.schemas import Concept, GenerateRequest, Task
from runners.drawing import DrawingModelInfo, VersionInfo
from tests.integration.jobs.conftest import make_database
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.stand_ins import DESK, Faults, Ledger, make_outfit, make_settings, until
from tests.painters import Painter

pytestmark = pytest.mark.asyncio(loop_scope="module")
WANTED = GenerateRequest(image_url=DESK, concept=Concept.OIL)


@dataclass
class Studio:
    house: House
    painter: Painter
    url: str

    async def made(self) -> Task:
        return await self.house.made(WANTED, kind="v2")

    async def begun(self) -> Task:
        """A task whose picture is begun, and will not be done until the gate opens."""
        self.painter.gate = asyncio.Event()
        task = await self.house.makeovers.start(WANTED, "v2")

        async def told() -> bool:
            return self.rows() > 0

        await until(told)
        return task

    def rows(self) -> int:
        query = sa.select(sa.func.count()).select_from(progress)
        return int(self.house.database.read_now(lambda connection: connection.execute(query).scalar_one()))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_ourselves, "BUSY_PAUSE_S", (0.001, 0.005))
    monkeypatch.setattr(render_ourselves, "FAILED_PAUSES_S", (0.001, 0.002))
    monkeypatch.setattr(render_ourselves, "STEP_PAUSE_S", 0.001)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgres"])
async def one_studio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    url = f"sqlite:///{folder}/jobs.sqlite"
    if request.param == "postgres":
        url = make_database(request.getfixturevalue("postgres"))
    painter = Painter()
    async with open_house(folder, url=url, drawing=painter) as house:
        yield Studio(house, painter, url)


@pytest.fixture
def studio(one_studio: Studio) -> Studio:
    """The one studio, with no faults and an empty ledger."""
    vars(one_studio.painter).update(vars(Painter(steps=8)))
    vars(one_studio.house.faults).update(vars(Faults()))
    (one_studio.house.folder / "ledger").unlink(missing_ok=True)
    return one_studio


async def test_a_desk_becomes_a_picture_of_ours_which_costs_nothing(studio: Studio) -> None:
    task = await studio.made()

    assert (task.status, task.kind, task.progress) == ("succeeded", "v2", 1.0)
    assert task.result is not None
    assert [product.keyword for product in task.result.products] == ["마우스", "키보드"]
    assert [item.what for item in task.cost.items] == ["describe"]
    assert task.cost.total == pytest.approx(0.01)
    assert task.callback.status == "delivered"
    [asked] = studio.painter.asked
    assert asked.concept is Concept.OIL
    assert asked.prompt.startswith("oil painting")
    assert "a calm desk" in asked.prompt
    assert Image.open(io.BytesIO(asked.photo)).format == "JPEG"
    assert task.prompt_version is not None
    assert "own_v1" in task.prompt_version
    assert studio.house.count("render") == 0
    assert studio.rows() == 0


@pytest.mark.parametrize(
    ("versions", "said"),
    [([], "CUSTOM_MODEL_DIR"), ([VersionInfo(version="1", problem="model.safetensors is cut short")], "is cut short")],
    ids=["none", "broken"],
)
async def test_without_a_model_nothing_is_spent_and_v1_goes_on(
    versions: list[VersionInfo], said: str, studio: Studio
) -> None:
    studio.painter.installed = DrawingModelInfo(versions=versions)

    with pytest.raises(CustomModelMissing, match=said):
        await studio.made()

    assert studio.house.count("describe") == 0
    assert (await studio.house.made()).status == "succeeded"


@pytest.mark.parametrize("error", [Overloaded("away", retry_after=3), RunnerFailed("no runner")])
async def test_with_a_runner_that_is_away_nothing_is_spent(error: Exception, studio: Studio) -> None:
    studio.painter.info_error = error
    with pytest.raises(type(error)):
        await studio.made()
    assert studio.house.count("describe") == 0


async def test_a_model_that_is_being_loaded_is_waited_for(studio: Studio) -> None:
    studio.painter.installed = DrawingModelInfo(versions=[VersionInfo(version="1")])
    assert (await studio.made()).status == "succeeded"


async def test_a_model_that_vanishes_midway_fails_the_task_by_name_and_it_can_be_retried(studio: Studio) -> None:
    studio.painter.errors = [CustomModelMissing("The drawing model is gone")]

    failed = await studio.made()
    assert failed.error is not None
    assert (failed.error.type, failed.stage) == ("/problems/custom-model-missing", "render")

    await studio.house.makeovers.retry(failed.id)
    again = await studio.house.ended(failed.id)
    assert again.status == "succeeded"
    assert again.cost.total == pytest.approx(0.01)
    assert studio.house.count("describe") == 1


async def test_a_busy_model_is_waited_for_in_one_stage(studio: Studio) -> None:
    studio.painter.errors = [Overloaded("full", retry_after=0.001)] * 20

    task = await studio.made()

    assert task.status == "succeeded"
    assert len(studio.painter.asked) == 21
    query = sa.select(sa.func.count()).where(stages.c.stage == "render", stages.c.task_id == task.id)
    assert studio.house.database.read_now(lambda connection: connection.execute(query).scalar_one()) == 1


async def test_but_not_for_ever(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_ourselves, "PATIENCE_S", 0.0)
    studio.painter.errors = [Overloaded("full", retry_after=1)]

    task = await studio.made()

    assert task.error is not None
    assert (task.error.type, task.error.detail) == ("/problems/overloaded", "full")


@pytest.mark.parametrize(("failures", "status"), [(2, "succeeded"), (3, "failed")])
async def test_a_failure_is_tried_again_twice(failures: int, status: str, studio: Studio) -> None:
    studio.painter.errors = [RunnerFailed("out of memory")] * failures
    studio.painter.fail_at = 3

    task = await studio.made()

    assert task.status == status
    assert len(studio.painter.asked) == 3
    assert task.cost.total == pytest.approx(0.01)
    assert studio.rows() == 0


async def test_a_photo_that_cannot_be_decoded_is_not_tried_again(studio: Studio) -> None:
    studio.painter.errors = [PhotoUnreadable("cut off")]
    task = await studio.made()
    assert task.error is not None
    assert task.error.type == "/problems/photo-unreadable"
    assert len(studio.painter.asked) == 1


@pytest.mark.parametrize("image", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
async def test_what_is_no_picture_is_never_published(image: bytes, studio: Studio) -> None:
    studio.painter.image = image
    task = await studio.made()
    assert task.error is not None
    assert task.error.type == "/problems/runner-failed"


async def test_steps_are_told_by_any_process_as_they_come(studio: Studio, tmp_path: Path) -> None:
    task = await studio.begun()
    faults, ledger = Faults(), Ledger(tmp_path / "another")
    settings = make_settings(studio.url, tmp_path)
    outfit, _ = make_outfit(settings, ledger, faults)
    database = Database(studio.url)
    another = Makeovers(settings, database, outfit)  # never launched: it only looks
    try:
        told: list[StageEvent | ProgressEvent | Task] = []
        async with asyncio.timeout(20):
            async for event in another.events(task.id):
                told.append(event)
                if isinstance(event, ProgressEvent) and studio.painter.gate:
                    studio.painter.gate.set()
    finally:
        await another.close(0)
        database.close()

    steps = [event for event in told if isinstance(event, ProgressEvent)]
    assert steps
    assert steps[0].of == 8
    assert 0 < steps[0].step <= 4
    assert 0.15 < steps[0].progress < 0.95
    assert [event.step for event in steps] == sorted({event.step for event in steps})
    names = [(event.stage, event.state) for event in told if isinstance(event, StageEvent)]
    assert ("render", "started") in names
    assert ("render", "done") in names
    assert isinstance(told[-1], Task)
    assert told[-1].status == "succeeded"
    assert studio.rows() == 0


async def test_steps_that_come_fast_are_not_all_written(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_ourselves, "STEP_PAUSE_S", 60.0)
    studio.painter.steps = 500
    task = await studio.begun()
    query = sa.select(tasks.c.version).where(tasks.c.id == task.id)
    version = studio.house.database.read_now(lambda connection: connection.execute(query).scalar_one())
    assert studio.painter.gate is not None
    studio.painter.gate.set()
    assert (await studio.house.ended(task.id)).status == "succeeded"
    assert version < 20


async def test_a_drawing_begun_anew_takes_no_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_ourselves, "STEP_PAUSE_S", 0)
    told: list[tuple[int, int]] = []

    class Book:
        async def step(self, _run: object, _number: int, step: int, of: int) -> None:
            told.append((step, of))

    nobody: Any = None
    steps = render_ourselves._Steps(nobody, cast(Any, Book()), 1)
    writing = asyncio.create_task(steps.write())
    for step, of in [(1, 4), (3, 4), (1, 4), (2, 4), (1, 2), (4, 5), (4, 4)]:
        steps(step, of)
        for _ in range(10):
            await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert told == [(1, 4), (3, 4), (4, 5), (4, 4)]


async def test_cancel_stops_the_drawing_and_the_task_can_be_retried_at_once(studio: Studio) -> None:
    task = await studio.begun()

    await studio.house.makeovers.cancel(task.id)

    await until(lambda: studio.painter.cancelled)
    assert studio.painter.gate is not None
    assert not studio.painter.gate.is_set()
    await until(lambda: studio.rows() == 0)
    assert (await studio.house.makeovers.get(task.id)).status == "cancelled"
    studio.painter.gate.set()
    await studio.house.makeovers.retry(task.id)
    assert (await studio.house.ended(task.id)).status == "succeeded"
    assert studio.house.count("describe") == 1


async def test_cancelled_while_it_waits_for_a_busy_model_it_is_not_drawn(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render_ourselves, "BUSY_PAUSE_S", (60.0, 60.0))
    studio.painter.errors = [Overloaded("full", retry_after=60)]
    task = await studio.house.makeovers.start(WANTED, "v2")
    await until(lambda: studio.painter.asked)

    await studio.house.makeovers.cancel(task.id)

    async def rests() -> bool:
        query = sa.select(sa.func.count()).where(stages.c.state == "running")
        return not studio.house.database.read_now(lambda connection: connection.execute(query).scalar_one())

    await until(rests)
    assert len(studio.painter.asked) == 1
