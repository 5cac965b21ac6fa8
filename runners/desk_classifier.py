"""The desk classifier as a BentoML service: the embedded desk of `placement`, behind HTTP.

`POST /score` is the wire of `runners.wire`, for our own API; `classify` is for BentoML's clients. Either way the photos
of all callers meet in one batcher. It belongs on loopback or a private network: it knows no clients and no limits, only
`RUNNER_TOKEN`, which every request must carry where it is set.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Annotated, Any

import bentoml
import numpy as np
import structlog
from bentoml.exceptions import InvalidArgument, ServiceUnavailable
from bentoml.validators import DType
from numpy.typing import NDArray
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from deskterior import telemetry
from deskterior.config import SettingsError, settings
from deskterior.errors import (
    BodyTooLarge,
    ClientError,
    DeskteriorError,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServerError,
)
from deskterior.gpu_figures import gpu_text
from deskterior.problems import problem_response
from deskterior.startup import keep_loaded
from deskterior.telemetry import folder, serving, traces
from deskterior.telemetry.bentoml import label_by_path
from runners import wire
from runners.body_limit import BodyLimit
from runners.placement import EmbeddedDesk
from runners.token import TokenGuard, demanded_token

log = structlog.get_logger(__name__)

try:
    TOKEN = demanded_token(settings())
except SettingsError as error:
    raise SystemExit(f"The runner does not start. {error}") from None

label_by_path(wire.SCORE_PATH, wire.MODEL_PATH, "/classify")

MAX_PHOTOS = 64
"""In one call. More are several calls: they meet in the batcher all the same."""
MAX_BODY = 32 * 1024 * 1024
"""64 photos as raw bytes are 10 MB; as the numbers of a JSON document, up to 40 MB: those clients send 48."""


async def score(request: Request) -> Response:
    """`(n, size, size, 3)` uint8 photos as raw bytes to `(n,)` float32 scores as raw bytes."""
    desk: EmbeddedDesk = request.app.state.desk
    shape = wire.read_shape(request.headers.get(wire.SHAPE))
    dtype = wire.read_dtype(request.headers.get(wire.DTYPE))
    _check_photos(shape, dtype, desk.info.size)
    length = request.headers.get("content-length", "")
    if length != str(math.prod(shape) * dtype.itemsize):
        raise Invalid(f"Content-Length is {length or 'missing'} where {wire.SHAPE} says {math.prod(shape)}")
    photos = wire.to_array(await request.body(), shape, dtype)
    traceparent = request.headers.get(traces.TRACEPARENT, "")
    with traces.span("POST /score", SpanKind.SERVER, parent=traceparent, attributes={"deskterior.photos": shape[0]}):
        scores = await _unless_gone(request, _score_all(desk, photos))
    answer = np.array(scores, np.float32)
    headers = wire.array_headers(answer) | {wire.DIGEST: desk.info.digest}
    return Response(wire.array_bytes(answer), headers=headers, media_type=wire.CONTENT_TYPE)


async def model(request: Request) -> Response:
    """What answers here, as JSON."""
    desk: EmbeddedDesk = request.app.state.desk
    return Response(desk.info.model_dump_json(), media_type="application/json")


async def _problem(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = {404: NotFound, 405: MethodNotAllowed}.get(error.status_code, ClientError)(str(error.detail))
    if not isinstance(error, DeskteriorError):
        error = InternalError(internal=repr(error))
    if isinstance(error, ServerError):
        log.error("runner.failed", slug=error.slug, internal=error.internal or None)
    headers, body = problem_response(error, None)
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


WIRE = Starlette(
    routes=[Route(wire.SCORE_PATH, score, methods=["POST"]), Route(wire.MODEL_PATH, model)],
    exception_handlers={
        DeskteriorError: _problem,
        HTTPException: _problem,
        ClientDisconnect: _gone,
        Exception: _problem,
    },
)


@bentoml.asgi_app(WIRE)
@bentoml.service(
    name="DeskClassifier",
    workers=1,  # the point of it: all photos meet in one batcher
    # Callers have timeouts of their own, and the queue is bounded. BentoML's cannot be turned off and leaves a timer
    # behind for each request until it has passed, so it is not much longer than theirs.
    traffic={"timeout": settings().runner_timeout_s + 5},
    logging={"access": {"enabled": False}},
)
class DeskClassifier:
    def __init__(self) -> None:
        self.desk = EmbeddedDesk(settings().desk_model_dir)
        WIRE.state.desk = self.desk

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def own_figures() -> None:
        """Once, before the worker: where this is served by itself, its figures are nobody else's."""
        folder.share()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def ready(self) -> None:
        telemetry.configure_logging(settings().log_level, settings().log_format)
        serving.begin(settings(), "desk-classifier")
        keep_loaded()
        log.info("runner.ready", model=self.desk.info.version, device=self.desk.info.device)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        await self.desk.aclose()
        await traces.stop()

    async def __is_alive__(self) -> bool:
        """What /livez tells: a GPU that has failed here works again in a new process, which whoever asks can start."""
        try:
            await self.desk.check()
        except Overloaded:
            return True
        except DeskteriorError:
            return False
        return True

    async def __metrics__(self, counted: str) -> str:
        return counted + await asyncio.to_thread(gpu_text)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def classify(self, photos: Annotated[NDArray[np.uint8], DType("uint8")]) -> list[float]:
        """Calibrated probabilities that photos, `(n, size, size, 3)` uint8 RGB with n at most 64, show a desk."""
        try:
            _check_photos(photos.shape, photos.dtype, self.desk.info.size)
            return await _score_all(self.desk, photos)
        except ClientError as error:  # BentoML knows its own errors alone
            raise InvalidArgument(error.detail) from error
        except Overloaded as error:
            raise ServiceUnavailable(error.detail) from error


DeskClassifier.add_asgi_middleware(TokenGuard, token=TOKEN)  # type: ignore[attr-defined]
DeskClassifier.add_asgi_middleware(BodyLimit, limit=MAX_BODY)  # type: ignore[attr-defined]


def _check_photos(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (size, size, 3):
        raise Invalid(f"photos are uint8 (n, {size}, {size}, 3), these are {dtype} {shape}")
    if not 1 <= shape[0] <= MAX_PHOTOS:
        raise BodyTooLarge(f"1 to {MAX_PHOTOS} photos in one call, these are {shape[0]}")


async def _score_all(desk: EmbeddedDesk, photos: NDArray[Any]) -> list[float]:
    """Each photo goes into the batcher by itself. If one fails the call fails, and the rest of it is not computed."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(desk.score(photo)) for photo in photos]
    except* DeskteriorError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _unless_gone(request: Request, work: Awaitable[list[float]]) -> list[float]:
    """`work`, given up when the caller hangs up: what nobody waits for is not computed."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and leaving.result()["type"] == "http.disconnect":
            raise ClientDisconnect
        return await working
    finally:
        leaving.cancel()
        working.cancel()
