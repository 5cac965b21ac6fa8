"""The face of this room: starting makeovers, looking at them, waiting for them, and what else clients do to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from deskterior.callback_messages import desk_found
from deskterior.config import Settings
from deskterior.errors import CustomModelMissing, NotFound, Overloaded
from deskterior.jobs import executors
from deskterior.jobs.database import Database, DatabaseAway
from deskterior.jobs.queueing import Jobs, Queueing
from deskterior.makeover.delivery import Delivery, Terms
from deskterior.makeover.events import ProgressEvent, StageEvent, progress_event, stage_events
from deskterior.makeover.figures import StoreFigures, store_figures
from deskterior.makeover.outfit import Kind, Outfit
from deskterior.makeover.photo import TakePhoto
from deskterior.makeover.register import Origin, Register
from deskterior.makeover.removal import Removal
from deskterior.makeover.spending import Expected, SpendingCap
from deskterior.makeover.suggest import Suggest
from deskterior.makeover.tables import metadata
from deskterior.makeover.view import View
from deskterior.makeover.waiting import WaitingLimit
from deskterior.makeover.watch import Watch
from deskterior.makeover.workshop import Workshop
from deskterior.schemas import Description, GenerateRequest, Task, TaskPage, TaskState, TaskStatus

NOBODY = Origin()
DRAIN_S = 20.0
"""How long a stop waits for stages that are under way."""
HANG_UP_S = 3.0
"""How long it then waits for the job store."""
AWAY_S = 1.0
"""A stream looks again for a job store that is away after so long."""
QUIET_S = 15.0
"""A stream of events looks again after so long without a change."""


class Makeovers:
    """`launch` before use, `close` after; both on one event loop. One per process.

    Args:
        runs_jobs: whether makeovers are made in this process; otherwise they are left to the job workers.
    """

    def __init__(self, settings: Settings, database: Database, outfit: Outfit, *, runs_jobs: bool = True) -> None:
        self._outfit = outfit
        self._ttl_s = settings.executor_ttl_s
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
            submit=lambda job_id, arguments, delay_s: self._jobs.submit("deliver", job_id, *arguments, delay_s=delay_s),
            changed=self._watch.changed,
        )
        photo = TakePhoto(
            outfit.photos, outfit.storage, outfit.desk, outfit.desk_threshold if settings.require_desk else None
        )
        self._suggest = Suggest(self._database, cap, photo, outfit.vision, self._expected.describe)
        self._removal = Removal(
            self._database,
            outfit.storage,
            forget=lambda job_ids: self._jobs.forget(job_ids),
            keep_days=settings.task_retention_days,
        )
        self._workshop: Workshop | None = None
        if runs_jobs:
            self._workshop = Workshop(
                settings,
                database,
                outfit,
                register=self._register,
                watch=self._watch,
                delivery=self._delivery,
                removal=self._removal,
                expected=self._expected,
                photo=photo,
            )
        self._jobs: Jobs = self._workshop.engine if self._workshop else Queueing(database)

    @property
    def kinds(self) -> frozenset[str]:
        """What can be made."""
        return self._outfit.kinds

    async def launch(self) -> None:
        """Open the job store and begin to run what is in it, if this process runs jobs.

        Raises:
            DatabaseError: it cannot be used; says why.
        """
        await asyncio.to_thread(self._database.create, metadata)
        await (self._workshop or self._jobs).launch()

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Stop. Calls under way have `drain_s` seconds; what is left goes on after the next start, or elsewhere.

        A job store that hangs is given up then.
        """
        giving_up = asyncio.get_running_loop().call_later(drain_s + HANG_UP_S, self._database.cut)
        try:
            await (self._workshop or self._jobs).close(drain_s)
            await self._watch.aclose()
        finally:
            giving_up.cancel()

    async def check(self) -> str:
        """For the health check. Raises Overloaded with the reason."""
        return await self._jobs.check()

    async def check_workers(self) -> str:
        """Who makes makeovers, in words. Raises DatabaseAway."""
        if self._workshop:
            return "ok (in this process)"
        living = await self._database.read(lambda connection: executors.living(connection, self._ttl_s))
        if not living:
            return "nobody: no job worker is alive, and makeovers wait until one is"
        return f"ok ({living} job worker{'s' if living > 1 else ''})"

    async def figures(self) -> StoreFigures:
        """What the job store tells of all processes together. Raises DatabaseAway."""
        return await self._database.read(lambda connection: store_figures(connection, time.time(), self._ttl_s))

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
        self._jobs.admit()
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
        self._jobs.admit()
        job_id = await self._register.retry(task_id, self._expected.usd, origin, owner)
        await self._submit(task_id, job_id)
        return await self.get(task_id, owner)

    async def delete(self, task_id: str, owner: str | None = None) -> None:
        """Delete a finished task and its pictures. Raises NotFound, TaskNotFinished."""
        self._jobs.admit()
        await self._removal.delete(task_id, owner)

    async def events(self, task_id: str, owner: str | None = None) -> AsyncIterator[StageEvent | ProgressEvent | Task]:
        """Every stage of the task as it begins and ends, those of the past first, and the steps of a drawing under
        way, the newest alone if they come fast; at last the finished task. Silent while the job store is away."""
        told: set[tuple[str, int, str]] = set()
        while True:
            try:
                whole = await self._register.whole(task_id, owner)
            except NotFound:
                return  # deleted while we looked on
            except DatabaseAway:
                await asyncio.sleep(AWAY_S)  # whoever listens hears the rest when it is back
                continue
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
        # Had the service begun to stop at this very moment, or the job store gone away: the task is written down, and
        # whoever runs jobs looks for those that have none.
        with suppress(Overloaded):
            await self._jobs.submit("makeover", job_id, task_id, job_id)
