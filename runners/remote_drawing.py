"""The client's side of the drawing wire: a `DrawingClient` whose model is in another process or on another server.

What answers there is not trusted: nothing that it sends fills the memory, holds a caller for ever, or is raised as
anything but the errors of `DrawingClient`. Its own words stay in the log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx
from pydantic import ValidationError

from deskterior.errors import CustomModelMissing, DeskteriorError, Overloaded, PhotoUnreadable, RunnerFailed
from deskterior.retry_after import retry_after_s
from deskterior.telemetry import traces
from deskterior.telemetry.calls import outside_call
from runners import drawing_wire as wire
from runners.drawing import DrawingModelInfo, DrawnPicture, DrawRequest, OnStep, VersionInfo
from runners.drawing_state import UNUSABLE, NoAnswerYet, in_a_word
from runners.token import token_headers
from runners.wire import CONNECT_TIMEOUT_S, KEEP_ALIVE_S

INFO_TIMEOUT_S = 2.0
MAX_INFO = 256 * 1024
MAX_PROBLEM = 16 * 1024
LONGEST_WAIT_S = 120.0
"""A `Retry-After` beyond it is not believed."""
UNTOLD = "unknown"
"""The device and version of a server that has no `GET /drawing-model`."""


class RemoteDrawing:
    """Draws at `url` (a `DrawingClient`).

    Args:
        timeout_s: for one picture, the wait in the runner's queue included.
        silence_s: so long without a word after the answer has begun, and the runner is taken for dead.
    """

    def __init__(self, url: str, *, timeout_s: float, token: str = "", silence_s: float = wire.SILENCE_S) -> None:
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Accept-Encoding": "identity", **token_headers(token)},  # nothing is unpacked here
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=False,  # a proxy of the environment is for the world outside
        )

    async def info(self) -> DrawingModelInfo:
        """Also of a server that does not tell: one version, active, named `UNTOLD`. Raises RunnerFailed, Overloaded."""
        with _faults(INFO_TIMEOUT_S):
            async with asyncio.timeout(INFO_TIMEOUT_S), self._client.stream("GET", wire.MODEL_PATH) as answer:
                if answer.status_code in {404, 405, 501}:
                    return DrawingModelInfo(device=UNTOLD, versions=[VersionInfo(version=UNTOLD, active=True)])
                if answer.status_code != 200:
                    raise await _refusal(answer)
                body = await _read(answer, MAX_INFO)
        try:
            return DrawingModelInfo.model_validate_json(body)
        except ValidationError as error:
            raise RunnerFailed(
                "What answers at CUSTOM_RUNNER does not tell what it draws with", internal=str(error)[:500]
            ) from None

    async def draw(self, request: DrawRequest, on_step: OnStep | None = None) -> DrawnPicture:
        """Raises as `DrawingClient` says. A runner that cannot be reached is Overloaded: waiting helps."""
        order = wire.Order(prompt=request.prompt[: wire.MAX_PROMPT], concept=request.concept, seed=request.seed)
        parts = {
            "photo": ("photo.jpg", request.photo, "image/jpeg"),
            "request": (None, order.model_dump_json(exclude_none=True).encode(), "application/json"),
        }
        accept = ", ".join([wire.NDJSON, *wire.PICTURE_TYPES])
        with outside_call("drawing-runner", "draw"), _faults(self._timeout_s):
            headers = {"Accept": accept, **traces.headers()}
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", wire.DRAW_PATH, files=parts, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise await _refusal(answer)
                return await self._picture(answer, on_step)

    async def check(self) -> str:
        return in_a_word(await self.info())

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _picture(self, answer: httpx.Response, on_step: OnStep | None) -> DrawnPicture:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in wire.PICTURE_TYPES:
            seed = answer.headers.get(wire.SEED, "")
            return DrawnPicture(
                image=await _read(answer, wire.MAX_PICTURE),
                content_type=kind,
                seed=int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 20 else None,
                version=answer.headers.get(wire.VERSION, "")[:200],
            )
        if kind != wire.NDJSON:
            raise RunnerFailed(_NO_PICTURE, internal=f"the runner answered with {kind[:100]!r}")
        last = 0
        async for raw in self._lines(answer):
            line = await _line(raw)
            if line.problem is not None:
                raise _error(line.problem, f"the runner told {line.problem!r}")
            if line.picture is not None:
                if line.content_type not in wire.PICTURE_TYPES or len(line.picture) > wire.MAX_PICTURE:
                    raise RunnerFailed(_NO_PICTURE, internal=f"a picture of {line.content_type!r}")
                return DrawnPicture(line.picture, line.content_type, line.seed, line.version)
            if on_step is not None and last < line.step <= line.of:
                last = line.step
                on_step(line.step, line.of)
        raise RunnerFailed(
            "The drawing model's runner hung up before the picture was done", internal="the lines ended with no picture"
        )

    async def _lines(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The lines of an answer as they come. Raises RunnerFailed: silence, or more than a drawing has to tell."""
        _refuse_packed(answer)
        buffer, told, looked = bytearray(), 0, 0
        pieces = answer.aiter_raw()
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise RunnerFailed(
                    f"The drawing model's runner said nothing for {self._silence_s:g} s", internal="silence"
                ) from None
            told += len(piece)
            if told > wire.MAX_LINE + wire.MAX_TOLD:
                raise RunnerFailed(_TOO_MUCH)
            buffer += piece
            while (end := buffer.find(b"\n", looked)) >= 0:
                yield bytes(buffer[:end])
                del buffer[: end + 1]
                looked = 0
            looked = len(buffer)
        if buffer.strip():
            yield bytes(buffer)


_NO_PICTURE = "What answers at CUSTOM_RUNNER does not draw: no PNG, JPEG or WebP picture came"
_TOO_MUCH = "The drawing model's runner sent more than a picture can be"


@contextmanager
def _faults(timeout_s: float) -> Iterator[None]:
    """What a connection may die of, in our own words."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Overloaded(
            "The drawing model's runner cannot be reached; it may be restarting. Try again shortly",
            retry_after=3,
            internal=repr(error),
        ) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise NoAnswerYet(
            f"The drawing model's runner did not answer within {timeout_s:g} s", internal=repr(error)
        ) from error
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise RunnerFailed(
            "The connection to the drawing model's runner broke before the picture was done", internal=repr(error)
        ) from error


async def _line(raw: bytes) -> wire.Line:
    try:
        # A picture of megabytes is parsed away from the loop.
        return wire.Line.read(raw) if len(raw) < 4096 else await asyncio.to_thread(wire.Line.read, raw)
    except ValueError:
        raise RunnerFailed(
            "What answers at CUSTOM_RUNNER does not speak the drawing wire", internal=f"a line {raw[:100]!r}"
        ) from None


def _refuse_packed(answer: httpx.Response) -> None:
    if (packed := answer.headers.get("content-encoding", "identity")).lower() != "identity":
        raise RunnerFailed(_NO_PICTURE, internal=f"an answer packed by {packed[:50]!r}")


async def _read(answer: httpx.Response, limit: int) -> bytes:
    """The whole body. Raises RunnerFailed when it is over `limit` bytes."""
    _refuse_packed(answer)
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > limit:
            raise RunnerFailed(_TOO_MUCH)
    return bytes(body)


async def _refusal(answer: httpx.Response) -> DeskteriorError:
    """An answer other than 200 as one of our errors."""
    body = b""
    with suppress(RunnerFailed):
        body = await _read(answer, MAX_PROBLEM)
    try:
        refused = wire.Refused.model_validate(json.loads(body))
    except (ValueError, RecursionError):
        refused = wire.Refused()
    refused.status = answer.status_code
    if (after := retry_after_s(answer.headers.get("retry-after"))) is not None:
        refused.retry_after = after
    return _error(refused, f"the runner answered {answer.status_code}: {body[:300]!r}")


def _error(refused: wire.Refused, told: str) -> DeskteriorError:
    """A refusal in our own words; the runner's own stay in the log."""
    told = told[:600]
    if refused.slug == CustomModelMissing.slug:
        return CustomModelMissing(UNUSABLE, internal=told)
    if refused.status in {429, 503}:
        wait = refused.retry_after if refused.retry_after is not None and refused.retry_after >= 0 else 2.0
        return Overloaded(
            "The drawing model is busy. Try again later", retry_after=min(wait, LONGEST_WAIT_S), internal=told
        )
    if refused.slug == PhotoUnreadable.slug:
        return PhotoUnreadable("The drawing model cannot decode the photo", internal=told)
    if refused.status in {401, 403}:
        return RunnerFailed("The drawing model's runner wants another RUNNER_TOKEN than it was shown", internal=told)
    return RunnerFailed("The drawing model failed on this picture", internal=told)
