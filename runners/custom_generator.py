"""Our own drawing model as a BentoML service: the drawing of `drawing_engine`, behind HTTP.

`POST /draw` and `GET /drawing-model` are the wire of `drawing_server`, for our own API; `render` is for BentoML's
clients. Either way the pictures of all callers meet in one queue. It belongs on loopback or a private network: it knows
no clients and no limits, only `RUNNER_TOKEN`, which every request must carry where it is set.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated, Any, Self, cast

import bentoml
import structlog
from bentoml.exceptions import BentoMLException, InternalServerError, InvalidArgument, ServiceUnavailable
from bentoml.validators import ContentType
from pydantic import Field
from starlette.requests import Request

from deskterior import telemetry
from deskterior.config import SettingsError, settings
from deskterior.errors import ClientError, CustomModelMissing, DeskteriorError, Overloaded
from deskterior.gpu_figures import gpu_text
from deskterior.schemas import Concept
from deskterior.startup import keep_loaded
from deskterior.telemetry import folder, serving, traces
from deskterior.telemetry.bentoml import label_by_path
from runners import drawing_wire
from runners.body_limit import BodyLimit
from runners.drawing import DrawingClient, DrawRequest
from runners.drawing_server import drawing_app
from runners.token import TokenGuard, demanded_token

log = structlog.get_logger(__name__)

try:
    TOKEN = demanded_token(settings())
except SettingsError as error:
    raise SystemExit(f"The runner does not start. {error}") from None

label_by_path(drawing_wire.DRAW_PATH, drawing_wire.MODEL_PATH, "/render")

_SERVED: list[DrawingClient] = []


class RenderInput(bentoml.IODescriptor):  # type: ignore[misc]
    """What `render` takes. The photo is a file: an address in its place, BentoML would fetch by rules of its own."""

    photo: Annotated[Path, ContentType("image/*")]
    prompt: Annotated[str, Field(min_length=1, max_length=drawing_wire.MAX_PROMPT)]
    concept: Concept = Concept.BASIC
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:
        form = await request.form()  # parsed once: BentoML is given the same
        if any(isinstance(part, str) for part in form.getlist("photo")):
            raise InvalidArgument("photo is the file itself, a part of a multipart body, and no address or text")
        return cast(Self, await super().from_http_request(request, serde))


@bentoml.asgi_app(drawing_app(lambda: _SERVED[-1]))
@bentoml.service(
    name="CustomGenerator",
    workers=1,  # the point of it: all pictures meet in one queue, and the model is in memory once
    # Callers have timeouts of their own, and the queue is bounded.
    traffic={"timeout": settings().draw_timeout_s + 5},
    logging={"access": {"enabled": False}},
)
class CustomGenerator:
    def __init__(self) -> None:
        from runners.drawing_engine import LocalDrawing

        # Whoever started this process starts it again; what waits is told to come back.
        self.drawing = LocalDrawing(settings(), on_lost=lambda: os.kill(os.getpid(), signal.SIGTERM))
        _SERVED.append(self.drawing)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def own_figures() -> None:
        """Once, before the worker: where this is served by itself, its figures are nobody else's."""
        folder.share()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def ready(self) -> None:
        """Nothing is loaded yet: whoever asks meanwhile waits in the queue."""
        telemetry.configure_logging(settings().log_level, settings().log_format)
        serving.begin(settings(), "custom-generator")
        keep_loaded()
        self.drawing.start()
        log.info("runner.ready", model=await self.drawing.check())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        await self.drawing.aclose()
        await traces.stop()

    async def __metrics__(self, counted: str) -> str:
        return counted + await asyncio.to_thread(gpu_text)

    @bentoml.api(input_spec=RenderInput)  # type: ignore[untyped-decorator]
    async def render(
        self, context: bentoml.Context, photo: Path, prompt: str, concept: Concept, seed: int | None
    ) -> Annotated[Path, ContentType("image/jpeg")]:
        """Draw a photo anew: a JPEG, PNG or WebP goes in, a JPEG of its shape comes out."""
        try:
            bytes_of_photo = await asyncio.to_thread(photo.read_bytes)
            drawn = await self.drawing.draw(DrawRequest(bytes_of_photo, prompt, concept, seed))
        except DeskteriorError as error:
            raise _as_bentoml(error) from error
        made = Path(context.temp_dir, "drawn.jpg")
        await asyncio.to_thread(made.write_bytes, drawn.image)
        return made


CustomGenerator.add_asgi_middleware(TokenGuard, token=TOKEN)  # type: ignore[attr-defined]
CustomGenerator.add_asgi_middleware(BodyLimit, limit=drawing_wire.MAX_BODY)  # type: ignore[attr-defined]


def _as_bentoml(error: DeskteriorError) -> BentoMLException:
    """BentoML knows its own errors alone."""
    if isinstance(error, ClientError):
        return InvalidArgument(error.detail)
    if isinstance(error, Overloaded | CustomModelMissing):
        return ServiceUnavailable(error.detail)
    return InternalServerError(error.detail)
