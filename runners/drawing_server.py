"""The server's side of the drawing wire: routes over any `DrawingClient`, for the service that holds one to mount.

It asks nobody for a key by itself: it belongs on loopback or a private network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from opentelemetry.trace import SpanKind
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deskterior.errors import (
    BodyTooLarge,
    ClientError,
    DeskteriorError,
    InternalError,
    Invalid,
    ServerError,
)
from deskterior.problems import of_status, problem_response
from deskterior.telemetry import traces
from runners import drawing_wire as wire
from runners.drawing import DrawingClient, DrawnPicture, DrawRequest

log = structlog.get_logger(__name__)


def drawing_app(client: Callable[[], DrawingClient]) -> Starlette:
    """`POST /draw` and `GET /drawing-model` by the client that `client()` gives when they are asked.

    A caller that hangs up cancels its drawing. Errors are RFC 9457 problems.
    """

    async def draw(request: Request) -> Response:
        return _Drawing(
            client(),
            await _order(request),
            stream=wire.NDJSON in request.headers.get("accept", ""),
            traceparent=request.headers.get(traces.TRACEPARENT, ""),
        )

    async def model(_: Request) -> Response:
        return Response((await client().info()).model_dump_json(), media_type="application/json")

    return Starlette(
        routes=[Route(wire.DRAW_PATH, draw, methods=["POST"]), Route(wire.MODEL_PATH, model)],
        exception_handlers={
            DeskteriorError: _problem,
            HTTPException: _problem,
            ClientDisconnect: _gone,
            Exception: _problem,
        },
    )


class _Drawing(Response):
    """Draws while it answers. What fails before the first step is an answer with a status of its own."""

    def __init__(self, client: DrawingClient, wanted: DrawRequest, *, stream: bool, traceparent: str) -> None:
        self._client = client
        self._wanted = wanted
        self._stream = stream
        self._traceparent = traceparent
        self._step: tuple[int, int] | None = None  # not told yet
        self._news = asyncio.Event()
        self.background = None

    def _on_step(self, step: int, of: int) -> None:
        self._step = (step, of)
        self._news.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with traces.span("POST /draw", SpanKind.SERVER, parent=self._traceparent):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        drawing = asyncio.ensure_future(self._client.draw(self._wanted, self._on_step))
        leaving = asyncio.ensure_future(_left(receive))
        drawing.add_done_callback(lambda _: self._news.set())
        leaving.add_done_callback(lambda _: self._news.set())
        begun = False
        try:
            while not await self._until_news(drawing, leaving):
                if not begun:
                    head = [(b"content-type", wire.NDJSON.encode()), (b"cache-control", b"no-store")]
                    await send({"type": "http.response.start", "status": 200, "headers": head})
                    begun = True
                line = wire.HEARTBEAT if self._step is None else wire.step_line(*self._step)
                self._step = None
                await send({"type": "http.response.body", "body": line, "more_body": True})
            if not begun:
                answer = _whole(await _drawn(drawing), stream=self._stream)
                await answer(scope, receive, send)
            else:
                await send({"type": "http.response.body", "body": await _last_line(drawing), "more_body": False})
        except ClientDisconnect:
            if not begun:
                raise
        finally:
            drawing.cancel()
            leaving.cancel()
            await asyncio.gather(drawing, leaving, return_exceptions=True)

    async def _until_news(self, drawing: asyncio.Future[DrawnPicture], leaving: asyncio.Future[None]) -> bool:
        """Wait for something to tell; whether the drawing has come to its end. Raises ClientDisconnect."""
        try:
            async with asyncio.timeout(wire.HEARTBEAT_S if self._stream else None):
                while True:
                    await self._news.wait()
                    self._news.clear()
                    if drawing.done() or leaving.done() or self._stream:
                        break
        except TimeoutError:
            return False
        if leaving.done() and not drawing.done():
            raise ClientDisconnect
        return drawing.done()


async def _drawn(drawing: asyncio.Future[DrawnPicture]) -> DrawnPicture:
    """The picture of a drawing that has ended. Raises DeskteriorError, whatever it ended of."""
    try:
        return await drawing
    except DeskteriorError:
        raise
    except Exception as error:
        log.exception("drawing.crashed")
        raise InternalError from error


async def _last_line(drawing: asyncio.Future[DrawnPicture]) -> bytes:
    try:
        return await asyncio.to_thread(wire.picture_line, await _drawn(drawing))
    except DeskteriorError as error:
        _tell(error)
        return wire.problem_line(error)


def _whole(picture: DrawnPicture, *, stream: bool) -> Response:
    if stream:
        return Response(wire.picture_line(picture), media_type=wire.NDJSON)
    headers = {wire.VERSION: picture.version} if picture.version.isascii() else {}
    if picture.seed is not None:
        headers[wire.SEED] = str(picture.seed)
    return Response(picture.image, headers=headers, media_type=picture.content_type)


async def _order(request: Request) -> DrawRequest:
    """What is to be drawn. Raises Invalid, BodyTooLarge."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Invalid("Send a multipart body with a Content-Length")
    if int(length) > wire.MAX_BODY:
        raise BodyTooLarge(f"The body is over {wire.MAX_BODY} bytes")
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Invalid("Send multipart/form-data with the parts photo and request")
    async with request.form(max_files=2, max_fields=2, max_part_size=8 * wire.MAX_PROMPT) as form:
        photo, order = form.get("photo"), form.get("request")
        if not isinstance(photo, UploadFile) or order is None:
            raise Invalid("The parts photo (a file) and request (JSON) are both needed")
        text = await order.read() if isinstance(order, UploadFile) else order
        data = await photo.read()
    try:
        wanted = wire.Order.model_validate_json(text)
    except ValidationError as error:
        wrong = [
            {"field": ".".join(map(str, item["loc"])) or "request", "message": item["msg"]} for item in error.errors()
        ]
        raise Invalid(errors=wrong) from None
    return DrawRequest(data, wanted.prompt, wanted.concept, wanted.seed)


async def _left(receive: Receive) -> None:
    """Returns when the caller hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _problem(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = of_status(error.status_code, str(error.detail))
    if not isinstance(error, DeskteriorError):
        log.error("drawing.crashed", exc_info=error)
        error = InternalError()
    _tell(error)
    headers, body = problem_response(error, None)
    answer = Response(body, error.status, {name.decode(): value.decode() for name, value in headers})
    if isinstance(error, ClientError):
        answer.headers["Connection"] = "close"  # or the server would go on reading what it throws away
    return answer


def _tell(error: DeskteriorError) -> None:
    if isinstance(error, ServerError):
        log.warning("drawing.failed", slug=error.slug, detail=error.detail, internal=error.internal or None)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
