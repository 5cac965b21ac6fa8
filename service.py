"""The Bento Service: composes the runners and the outside services into one API. Wiring only.

`bentoml serve` runs it. The HTTP surface is `deskterior.app`, behind `deskterior.front`; the methods below are what
BentoML's own clients read from `/schema.json`, and share the routes' code.
"""

from __future__ import annotations

import asyncio

import bentoml

from deskterior import telemetry
from deskterior.app import create_app
from deskterior.browsers import Browsers
from deskterior.config import SettingsError, settings
from deskterior.figures import Figures
from deskterior.front import Front, Scope, respelled
from deskterior.gateway.access import route_of
from deskterior.gateway.caller import Entry
from deskterior.gateway.limits_http import bound_connections
from deskterior.makeover.makeovers import NOBODY
from deskterior.routers.classify import look
from deskterior.routers.generate import make
from deskterior.schemas import ClassifyRequest, Description, GenerateRequest, PromptResponse, TaskStatus
from deskterior.services import Services
from deskterior.startup import be_main, end_with_main, keep_loaded
from deskterior.telemetry import folder, serving, traces
from deskterior.telemetry.bentoml import label_by_route
from runners.launcher import ChildFailed, start_beside, start_job_workers

try:
    SETTINGS = settings()
except SettingsError as error:
    raise SystemExit(f"Deskterior does not start. {error}") from None
bound_connections(SETTINGS.header_max_bytes, SETTINGS.header_timeout_s)
label_by_route(lambda path: route_of(respelled(path)))
API = create_app(SETTINGS.access)


async def enter(scope: Scope) -> Entry:
    """Ask the gateway; it is opened with the rest."""
    services: Services = API.state.services
    return await services.gateway.enter(scope)


ANSWER_WITHIN_S = max(SETTINGS.wait_max_s, 300) + 30
"""Every wait has an end of its own before this one."""


@bentoml.service(
    workers=SETTINGS.workers,
    http={"port": SETTINGS.port},
    # The limits of BentoML answer in shapes of their own, so Front limits. This timeout is longer than Front's, and
    # short, because each request leaves a timer behind until it has passed.
    traffic={"timeout": ANSWER_WITHIN_S + 30},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},  # our own spans begin in Front
)
class Deskterior:
    @bentoml.on_deployment
    @staticmethod
    def start_beside() -> None:
        """Once, before the workers: the processes that run beside the API (runners, job workers, the sandbox).

        Settings that cannot be used end the start here. A worker that dies of them is started again for ever.
        """
        be_main()
        try:
            telemetry.configure_logging("error", SETTINGS.log_format)  # the workers say the rest
            asyncio.run(Services.rehearse(SETTINGS))
            telemetry.configure_logging(SETTINGS.log_level, SETTINGS.log_format)
            folder.share()
            start_beside(SETTINGS)
            start_job_workers(SETTINGS)
        except (SettingsError, ChildFailed) as error:
            raise SystemExit(f"Deskterior does not start. {error}") from None

    @bentoml.on_startup
    async def open(self) -> None:
        end_with_main()
        telemetry.configure_logging(SETTINGS.log_level, SETTINGS.log_format)
        serving.begin(SETTINGS)
        self.services = API.state.services = await Services.open(SETTINGS)
        self.figures = Figures.of(self.services)
        keep_loaded()

    @bentoml.on_shutdown
    async def close(self) -> None:
        await self.services.aclose()
        await traces.stop()

    async def __metrics__(self, counted: str) -> str:
        """What BentoML serves at /metrics: the figures of all processes, and of what they share."""
        return counted + await self.figures.text()

    @bentoml.api(route="/classify")
    async def classify(self, request: ClassifyRequest, /) -> TaskStatus:
        """Tell whether a photo shows a desk."""
        return (await look(request, self.services, NOBODY)).status

    @bentoml.api(route="/v1/prompt")
    async def prompt(self, request: GenerateRequest, /) -> Description:
        """Tell how to make a desk over, without drawing it."""
        return await self.services.makeovers.suggest(request)

    @bentoml.api(route="/v1/generate")
    async def generate(self, request: GenerateRequest, /) -> PromptResponse:
        """Make a desk over."""
        return await make(request, "v1", self.services)

    @bentoml.api(route="/v2/generate")
    async def generate_by_ourselves(self, request: GenerateRequest, /) -> PromptResponse:
        """Make a desk over with our own model."""
        return await make(request, "v2", self.services)


Deskterior.add_asgi_middleware(
    Browsers, cors_origins=SETTINGS.cors_origins, https=SETTINGS.public_base_url.startswith("https://")
)
Deskterior.add_asgi_middleware(
    Front,
    api=API,
    enter=enter,
    body_max_bytes=SETTINGS.body_max_bytes,
    max_concurrency=SETTINGS.max_concurrency,
    answer_within_s=ANSWER_WITHIN_S,
)
