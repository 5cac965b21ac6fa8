"""The face of this room: starting makeovers, looking at them, waiting for them, and what else clients do to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from deskterior.callback_messages import OwnCode, desk_found, no_code
from deskterior.config import Settings
from deskterior.errors import CustomModelMissing, NotFound, Overloaded
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.jobs.engine import Engine, Job
from deskterior.makeover.delivery import Delivery, Sender, Terms
from deskterior.makeover.describe import Describe
from deskterior.makeover.drafts import Drafts
from deskterior.makeover.events import ProgressEvent, StageEvent, progress_event, stage_events
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.photo import Desk, Kept, Photos, TakePhoto
from deskterior.makeover.pictures import Picture, Pictures
from deskterior.makeover.prompts import Prompts
from deskterior.makeover.prompts.own import OwnPrompts
from deskterior.makeover.publish import Publish
from deskterior.makeover.register import Origin, Register, Whole
from deskterior.makeover.render import Render
from deskterior.makeover.render_ourselves import RenderOurselves
from deskterior.makeover.shop import Shop
from deskterior.makeover.spending import Expected, SpendingCap
from deskterior.makeover.suggest import Suggest
from deskterior.makeover.tables import metadata
from deskterior.makeover.view import View
from deskterior.makeover.waiting import WaitingLimit
from deskterior.makeover.watch import Watch
from deskterior.makeover.workflow import Makeover, RenderStage, Stages
from deskterior.providers import ImageModel, ProductSearch, VisionModel
from deskterior.providers.custom import OwnModel
from deskterior.schemas import Description, GenerateRequest, Task, TaskPage, TaskState, TaskStatus
from deskterior.storage import Storage

log = structlog.get_logger(__name__)

Kind = Literal["v1", "v2"]
NOBODY = Origin()
DELIVERIES = 32
"""Callbacks under way at once in one process."""
MEND_S = 10.0
"""How often tasks and callbacks without a job are looked for."""
KEEP = timedelta(days=7)
"""How long the engine's own records of ended jobs are kept, for whoever looks into a fault."""
SWEEP = timedelta(hours=1)
DRAIN_S = 20.0
"""How long a stop waits for stages that are under way."""
QUIET_S = 15.0
"""A stream of events looks again after so long without a change."""


@dataclass(frozen=True)
class Outfit:
    """What a makeover is made with."""

    photos: Photos
    storage: Storage
    desk: Desk
    desk_threshold: float
    vision: VisionModel
    images: Mapping[Kind, ImageModel]
    """The model that draws each kind for money; a kind without one cannot be made here."""
    search: ProductSearch
    sender: Sender
    prompts: Prompts
    own_code: OwnCode = no_code
    own_model: OwnModel | None = None
    """What draws v2."""


class Makeovers:
    """`launch` before use, `close` after; both on the event loop that the makeovers run on. One per process."""

    def __init__(self, settings: Settings, database: Database, outfit: Outfit) -> None:
        self._outfit = outfit
        self._expected = Expected.of(settings)
        self._database = database
        self._watch = Watch(self._database)
        cap = SpendingCap(settings.spend_cap_usd_per_day)
        self._register = Register(self._database, cap, WaitingLimit(settings.tasks_waiting))
        self._view = View(outfit.storage)
        self._delivery = Delivery(
            self._database,
            outfit.sender,
            self._register,
            self._view,
            Terms(settings.callback_format, settings.callback_max_age_s, outfit.own_code),
            submit=lambda job_id, arguments, delay_s: self._engine.submit(
                "deliver", job_id, *arguments, delay_s=delay_s
            ),
            changed=self._watch.changed,
        )
        journal = Journal(
            self._database,
            checkpoint=lambda: self._engine.checkpoint(),
            changed=self._watch.changed,
            renders_per_minute=settings.render_per_minute,
        )
        photo = TakePhoto(
            outfit.photos, outfit.storage, outfit.desk, outfit.desk_threshold if settings.require_desk else None
        )
        self._suggest = Suggest(self._database, cap, photo, outfit.vision, self._expected.describe)
        drafts = Drafts(database)
        pictures = Pictures(outfit.storage, drafts)
        places = {kind: asyncio.Semaphore(settings.render_concurrency) for kind in ("v1", "v2")}
        render: dict[str, RenderStage] = {
            kind: Render(
                model,
                pictures,
                outfit.prompts,
                expected=self._expected.render,
                allowed=settings.image_attempts,
                places=places[kind],
            )
            for kind, model in outfit.images.items()
        }
        own_prompts = OwnPrompts.load()
        if outfit.own_model is not None:
            render["v2"] = RenderOurselves(
                outfit.own_model, pictures, own_prompts, places=places["v2"], ended=self._ended
            )
        stages = Stages(
            photo=photo,
            describe=Describe(outfit.vision, self._expected.describe),
            render=render,
            shop=Shop(outfit.search),
            publish=Publish(outfit.storage, drafts),
        )
        self.kinds = frozenset(render)
        versions = {"v1": outfit.prompts.version, "v2": f"{outfit.prompts.version}+{own_prompts.version}"}
        makeover = Makeover(journal, stages, self._delivery, versions)
        self._engine = Engine(
            self._database,
            [
                Job("makeover", makeover.run, settings.jobs_concurrency),
                Job("deliver", self._delivery.deliver, DELIVERIES),
            ],
            executor_ttl_s=settings.executor_ttl_s,
        )
        self._mender: asyncio.Task[None] | None = None

    async def launch(self) -> None:
        """Open the job store and begin to run what is in it.

        Raises:
            DatabaseError: it cannot be used; says why.
        """
        await asyncio.to_thread(self._database.create, metadata)
        await self._engine.launch()
        self._mender = asyncio.create_task(self._mend(), name="makeovers-mend")

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Stop. Calls under way have `drain_s` seconds; what is left goes on after the next start, or elsewhere."""
        if self._mender is not None:
            self._mender.cancel()
            await asyncio.gather(self._mender, return_exceptions=True)
        await self._engine.close(drain_s)
        await self._watch.aclose()

    async def check(self) -> str:
        """For the health check. Raises Overloaded with the reason."""
        return await self._engine.check()

    async def start(self, request: GenerateRequest, kind: Kind = "v1", origin: Origin = NOBODY) -> Task:
        """Have a makeover made. The same idempotency key of the same owner is the same task.

        Raises:
            Invalid, IdempotencyConflict, SpendingCapReached
            RateLimited, Overloaded: too many tasks wait, of this owner or in all.
            CustomModelMissing: of this kind none can be made here.
            Overloaded: the service is stopping, or our own model's runner cannot be reached.
            RunnerFailed: our own model's runner is none.
        """
        if kind not in self.kinds:
            raise CustomModelMissing("No drawing model of our own is installed here; use /v1/generate")
        self._engine.admit()
        if kind == "v2" and self._outfit.own_model is not None:
            await self._outfit.own_model.check_ready()
        whole = await self._register.create(request, kind, origin, reserved=self._expected.usd[kind])
        await self._submit(whole.task.id, whole.task.job_id)
        return await self._view.task(whole)

    async def suggest(self, request: GenerateRequest, origin: Origin = NOBODY) -> Description:
        """What the vision model says of a desk; nothing is drawn. Raises as `Suggest`."""
        return await self._suggest(request, origin)

    async def get(self, task_id: str, owner: str | None = None) -> Task:
        """Raises NotFound, also for a task of another `owner`; None sees all."""
        return await self._view.task(await self._register.whole(task_id, owner))

    async def page(
        self,
        *,
        status: TaskState | None = None,
        limit: int = 20,
        cursor: str | None = None,
        owner: str | None = None,
    ) -> TaskPage:
        """Tasks, newest first. Raises Invalid for a limit or cursor that is none."""
        wholes, more = await self._register.page(status=status, limit=limit, cursor=cursor, owner=owner)
        return TaskPage(tasks=[await self._view.task(whole) for whole in wholes], next_cursor=more)

    async def wait(self, task_id: str, seconds: float, owner: str | None = None) -> Task:
        """The task when it has finished, or as it is after `seconds`. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            row = await self._register.row(task_id, owner)
            left = deadline - loop.time()
            if row.finished or left <= 0 or not await self._watch.wait(task_id, row.version, left, for_end=True):
                return await self.get(task_id, owner)

    async def cancel(self, task_id: str, owner: str | None = None) -> Task:
        """A queued task never runs, a running one stops before its next stage. Raises NotFound, TaskFinished."""
        await self._register.cancel(task_id, owner)
        self._watch.changed(task_id, ended=True)
        return await self.get(task_id, owner)

    async def retry(self, task_id: str, owner: str | None = None, origin: Origin = NOBODY) -> Task:
        """Go on with a failed or cancelled task from the stage where it stopped. `origin` is who asks.

        Raises:
            NotFound, TaskNotFinished, TaskFinished, SpendingCapReached, RateLimited, Overloaded
        """
        self._engine.admit()
        job_id = await self._register.retry(task_id, self._expected.usd, origin, owner)
        await self._submit(task_id, job_id)
        return await self.get(task_id, owner)

    async def delete(self, task_id: str, owner: str | None = None) -> None:
        """Delete a finished task and its pictures. Raises NotFound, TaskNotFinished, StorageFailed."""
        whole = await self._register.at_rest(task_id, owner)
        for key in _keys(whole):
            await self._outfit.storage.delete(key)
        task = await self._register.delete(task_id, owner)
        await self._engine.forget([task.job_id])

    async def events(self, task_id: str, owner: str | None = None) -> AsyncIterator[StageEvent | ProgressEvent | Task]:
        """Every stage of the task as it begins and ends, those of the past first, and the steps of a drawing under
        way, the newest alone if they come fast; at last the finished task."""
        told: set[tuple[str, int, str]] = set()
        while True:
            try:
                whole = await self._register.whole(task_id, owner)
            except NotFound:
                return  # deleted while we looked on
            happened: list[tuple[tuple[str, int, str], StageEvent | ProgressEvent]] = [*stage_events(whole.stages)]
            if at := progress_event(whole):
                happened.append(at)
            for key, event in happened:
                if key not in told:
                    told.add(key)
                    yield event
            if whole.task.finished:
                yield await self._view.task(whole)
                return
            await self._watch.wait(task_id, whole.task.version, QUIET_S)

    async def notify_classified(self, status: TaskStatus) -> None:
        """Tell the backend of a desk, durably."""
        await self._delivery.post(desk_found(status))

    async def _submit(self, task_id: str, job_id: str) -> None:
        # Had the service begun to stop at this very moment: the task is written down, so it will be made.
        with suppress(Overloaded):
            await self._engine.submit("makeover", job_id, task_id, job_id)

    async def _ended(self, run: Run) -> None:
        """Returns when a run may go no further: its task was cancelled or deleted, or another run has it."""
        while True:
            await self._watch.wait(run.task.id, run.task.version, QUIET_S, for_end=True)
            try:
                if (await self._register.row(run.task.id)).token != run.token:
                    return
            except NotFound:
                return
            except DatabaseAway as error:
                log.warning("makeover.unwatched", internal=error.internal)
                await asyncio.sleep(1.0)

    async def _mend(self) -> None:
        """Give a job to what has none: a process may die between writing a task down and queueing its job."""
        swept = datetime.min.replace(tzinfo=UTC)
        while True:
            await asyncio.sleep(MEND_S)
            try:
                if (now := datetime.now(UTC)) - swept > SWEEP and not await self._engine.forget_old(now - KEEP):
                    swept = now
                stale = {task.job_id: task for task in await self._register.unfinished()}
                for job_id in await self._engine.finished(list(stale)) if stale else ():
                    if task := await self._register.requeue(stale[job_id]):
                        log.warning("makeover.requeued", task_id=task.id)
                        await self._submit(task.id, task.job_id)
                await self._delivery.find_lost()
            except Exception as error:  # noqa: BLE001 - stopping, no database, no DBOS just now: the next round will do
                log.warning("makeovers.mend_failed", error=type(error).__name__)


def _keys(whole: Whole) -> list[str]:
    """The keys of all pictures of a task."""
    keys = []
    for row in whole.stages:
        if row.result and row.stage == "photo":
            keys.append(Kept.model_validate_json(row.result).key)
        if row.result and row.stage == "render":
            keys.append(Picture.model_validate_json(row.result).key)
    return keys
