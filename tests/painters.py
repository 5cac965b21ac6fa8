"""A small real drawing model: paints over the photo with Pillow, step by step, and does wrong what it is told to."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from PIL import Image
from starlette.types import ASGIApp

from runners.drawing import DrawingModelInfo, DrawnPicture, DrawRequest, OnStep, VersionInfo

INSTALLED = DrawingModelInfo(
    device="cpu (float32)",
    versions=[VersionInfo(version="1", active=True, digest="sha256:1", family="StableDiffusionImg2ImgPipeline")],
)


class Painter:
    """A `DrawingClient`. `errors` are for the coming drawings in turn, None for one that goes well.

    `fail_at` is the step at which an error comes.
    """

    def __init__(self, steps: int = 4, installed: DrawingModelInfo = INSTALLED) -> None:
        self.steps = steps
        self.installed = installed
        self.errors: list[Exception | None] = []
        self.fail_at = 0
        self.info_error: Exception | None = None
        self.gate: asyncio.Event | None = None
        """What the second half of the steps waits for."""
        self.image: bytes | None = None
        self.asked: list[DrawRequest] = []
        self.drawn = self.cancelled = 0
        self.closed = False

    async def info(self) -> DrawingModelInfo:
        if self.info_error is not None:
            raise self.info_error
        return self.installed

    async def draw(self, request: DrawRequest, on_step: OnStep | None = None) -> DrawnPicture:
        self.asked.append(request)
        error = self.errors.pop(0) if self.errors else None
        try:
            for step in range(self.steps + 1):
                if error is not None and step >= self.fail_at:
                    raise error
                if self.gate is not None and step > self.steps // 2:
                    await self.gate.wait()
                await asyncio.sleep(0)
                if step and on_step is not None:
                    on_step(step, self.steps)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.drawn += 1
        image = self.image if self.image is not None else painted(request.photo)
        return DrawnPicture(image, "image/png", 7 if request.seed is None else request.seed, "1")

    async def check(self) -> str:
        await self.info()
        return "ok (cpu (float32), 1)"

    async def aclose(self) -> None:
        self.closed = True


def painted(photo: bytes) -> bytes:
    """The photo in orange, as a PNG."""
    with Image.open(io.BytesIO(photo)) as picture:
        made = Image.blend(picture.convert("RGB"), Image.new("RGB", picture.size, (255, 140, 0)), 0.5)
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def jpeg(size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (40, 80, 120)).save(out, "JPEG")
    return out.getvalue()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """An application on a free port of loopback; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def says(*pieces: bytes, keep_open: bool = False, endless: bytes = b"") -> AsyncIterator[str]:
    """A server that reads a request, says these bytes, then `endless` for ever or until hung up on, and hangs up."""
    told = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal told
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.split(b":")[1]))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while endless and told < 1 << 30:
                writer.write(endless)
                told += len(endless)
                await writer.drain()
            if keep_open:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert told < 1 << 30, "the client read a gigabyte"
