"""A job worker: runs makeovers and callbacks, and tells how it is. Nobody can have it do anything but the job store.

An API with `JOB_WORKERS=n` starts n of them beside it. On other machines, on the same `DATABASE_URL` and storage:
`bentoml serve deskterior.job_worker:JobWorker`, which is `JOB_WORKERS` processes, or one. `/livez`, `/readyz`,
`/health` and `/metrics` know no clients and no keys: they belong on a private network.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import bentoml
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deskterior import telemetry
from deskterior.config import SettingsError, settings
from deskterior.errors import DeskteriorError
from deskterior.figures import Figures
from deskterior.schemas import Health
from deskterior.services import Services, Workplace
from deskterior.startup import be_main, end_with_main, keep_loaded
from deskterior.telemetry import folder, serving, traces
from deskterior.telemetry.bentoml import label_by_path
from runners.launcher import ChildFailed, start_beside

log = structlog.get_logger(__name__)

CHECK_TIMEOUT_S = 3.0

try:
    SETTINGS = settings()
except SettingsError as error:
    raise SystemExit(f"The job worker does not start. {error}") from None


async def health(request: Request) -> Response:
    """200 while jobs can run here; 503 with the reason when not."""
    work: Workplace = request.app.state.work
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            healthy, said = True, await work.makeovers.check()
    except TimeoutError:
        healthy, said = False, f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    except DeskteriorError as error:
        healthy, said = False, error.detail
    found = Health(status="healthy" if healthy else "unhealthy", checks={"job_store": said})
    return JSONResponse(found.model_dump(mode="json"), 200 if healthy else 503)


label_by_path("/health")
ASIDE = Starlette(routes=[Route("/health", health, methods=["GET"])])


@bentoml.asgi_app(ASIDE)
@bentoml.service(
    name="JobWorker",
    workers=SETTINGS.job_workers_beside or 1,
    http={"port": SETTINGS.port},
    logging={"access": {"enabled": False}},
)
class JobWorker:
    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def start_beside() -> None:
        """Once, before the workers, where this is served by itself: see `service.Deskterior`."""
        be_main()
        try:
            telemetry.configure_logging("error", SETTINGS.log_format)  # the workers say the rest
            asyncio.run(Services.rehearse(SETTINGS))
            telemetry.configure_logging(SETTINGS.log_level, SETTINGS.log_format)
            folder.share()
            start_beside(SETTINGS)
        except (SettingsError, ChildFailed) as error:
            raise SystemExit(f"The job worker does not start. {error}") from None

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def open(self) -> None:
        end_with_main()
        telemetry.configure_logging(SETTINGS.log_level, SETTINGS.log_format)
        serving.begin(SETTINGS, "job-worker")
        async with AsyncExitStack() as opened:
            ASIDE.state.work = await Workplace.furnish(SETTINGS, opened, runs_jobs=True)
            self.opened = opened.pop_all()
        self.figures = Figures.of(ASIDE.state.work)
        keep_loaded()
        log.info("job_worker.ready")

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        await self.opened.aclose()
        await traces.stop()

    async def __metrics__(self, counted: str) -> str:
        return counted + await self.figures.text()
