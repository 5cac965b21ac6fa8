"""Our own drawing model in this process: requests join into batches, one thread draws, versions change in between.

The embedded side of `runners.drawing`; torch is imported on a thread, once there is something to load. What draws is
`diffusion.engine`, what waits `drawing_queue`, which version it is `diffusion.switching`, what is told of it
`drawing_inventory`.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import structlog
from PIL import Image

from deskterior import decoding
from deskterior.config import Settings
from deskterior.errors import (
    CustomModelMissing,
    DeskteriorError,
    Invalid,
    Overloaded,
    PhotoError,
    PhotoUnreadable,
    RunnerFailed,
)
from deskterior.telemetry import metrics
from runners.diffusion.engine import DrawingModel, Item
from runners.diffusion.failures import Abandoned, DeviceLost, OutOfMemory
from runners.diffusion.layout import Options
from runners.diffusion.switching import Switching
from runners.diffusion.versions import ModelFolder
from runners.drawing import DrawingModelInfo, DrawnPicture, DrawRequest, OnStep
from runners.drawing_inventory import Inventory
from runners.drawing_queue import DrawQueue, Job
from runners.drawing_state import UNUSABLE_IN_A_WORD, missing, unusable

log = structlog.get_logger(__name__)

POLL_S = 1.0
LONGEST_SIDE = 2048
"""In pixels, of a photo that waits: 12 MB at most."""
MAX_PROMPT = 8000
"""Characters. The text encoders read 77 to 512 tokens of them."""
JPEG_QUALITY = 95


class LocalDrawing:
    """The drawing model of this process (a `DrawingClient`), from the settings' `CUSTOM_MODEL_DIR`.

    It may be made on any thread, and loads nothing until it is first asked for something or told to `start`. Requests
    wait while the model loads, and what is not installed at start may be put there later.

    `on_lost` is called once when the GPU has failed in a way that only a new process gets over.
    """

    def __init__(
        self, settings: Settings, *, poll_s: float = POLL_S, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.queue = DrawQueue(settings.drawing_max_queue)
        self._folder = ModelFolder(settings.custom_model_dir)
        self._max_pixels = settings.photo_max_pixels
        options = Options(settings.drawing_max_batch, settings.drawing_memory, settings.drawing_precision)
        self._switching = Switching(self._folder, options, poll_s)
        self._inventory = Inventory(self._folder, self._switching)
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="drawing-model")
        # One at a time: a photo of 64 megapixels takes a gigabyte while it is decoded.
        self._photos = ThreadPoolExecutor(1, thread_name_prefix="drawing-photos")
        self._worker: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False
        self._lost = ""
        self._on_lost = on_lost

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """The drawing model of the settings, which begins to load."""
        drawing = cls(settings)
        drawing.start()
        return drawing

    def start(self) -> None:
        """Begin to follow the folder, on the event loop that is running. The second time nothing happens."""
        if self._watcher is None and not self._closed:
            self._watcher = asyncio.create_task(self._switching.watch(), name="drawing-model-watch")

    async def refresh(self) -> None:
        """Follow what has changed in the folder now, instead of within two seconds. Returns when it is done."""
        await self._switching.look(at_once=True)

    async def draw(self, request: DrawRequest, on_step: OnStep | None = None) -> DrawnPicture:
        """As `DrawingClient.draw`; `Invalid` for a seed that is none."""
        self._refuse_if_closed()
        self.start()
        if self._switching.model is None and self._switching.settled.is_set():
            await self._switching.notice()
            if self._switching.settled.is_set():
                raise await self._missing()
        if request.seed is not None and not 0 <= request.seed < 2**63:
            raise Invalid("seed is a number from 0 to 2^63 - 1")
        loop = asyncio.get_running_loop()
        self.queue.enter()
        try:
            picture = await loop.run_in_executor(self._photos, self._decode, request.photo)
            self._refuse_if_closed()
        except BaseException:
            self.queue.leave()
            raise
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        job = Job(request, picture, seed, loop.create_future(), on_step)
        self.queue.put(job)
        metrics.DRAWING_WAITING.set(len(self.queue))
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name="drawing-model-batches")
        try:
            return await job.answer
        finally:
            self.queue.drop(job)
            metrics.DRAWING_WAITING.set(len(self.queue))
            if job.answer.done() and not job.answer.cancelled():
                job.answer.exception()  # given up just as its error came: no news for the log

    async def info(self) -> DrawingModelInfo:
        self.start()
        return await self._inventory.info()

    async def check(self) -> str:
        self.start()
        if self._lost:
            raise RunnerFailed(self._lost)
        if (model := self._switching.model) is not None:
            return f"ok ({model.device}, {model.version.name})"
        if not self._switching.settled.is_set():
            return "loading"
        return UNUSABLE_IN_A_WORD if self._switching.problem else "no model installed"

    async def aclose(self) -> None:
        """Safe to call twice."""
        self._closed = True
        self.queue.fail_all(_stopping)
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        await self._inventory.aclose()
        if self._worker is not None:
            await asyncio.wait({self._worker})
        self._photos.shutdown(wait=False)
        self._engine.shutdown(wait=False)
        await asyncio.to_thread(self._switching.close)

    # drawing

    async def _work(self) -> None:
        try:
            while len(self.queue):
                if self._switching.model is None:
                    await self._switching.settled.wait()
                async with self._switching.turn:
                    model = self._switching.model
                    if model is not None:
                        batch = self.queue.take(_kind(model), model.max_batch)
                        metrics.DRAWING_WAITING.set(len(self.queue))
                        await self._draw(model, batch)
                    elif self._switching.settled.is_set():
                        self.queue.fail_all(partial(CustomModelMissing, (await self._missing()).detail))
        except BaseException as error:  # nobody may be left waiting for ever
            told = repr(error)
            self.queue.fail_all(lambda: RunnerFailed(internal=f"the drawing model's queue ended by {told}"))
            raise
        finally:
            # No await between the last look at the queue and here, so no job can slip in unseen.
            self._worker = None

    async def _draw(self, model: DrawingModel, batch: Sequence[Job]) -> None:
        """Draw a batch. One that fails is drawn again one by one, so that a picture fails only by its own doing."""
        batch = [job for job in batch if not job.gone]
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            outcome = await loop.run_in_executor(self._engine, self._attempt, model, batch, loop)
        except BaseException:
            for job in batch:
                job.fail(RunnerFailed(internal="the drawing model's thread ended"))
            raise
        if isinstance(outcome, list):
            for job, drawn in zip(batch, outcome, strict=True):
                if isinstance(drawn, DeskteriorError):
                    job.fail(drawn)
                elif not job.gone:
                    job.answer.set_result(drawn)
            return
        if isinstance(outcome, DeviceLost) and not self._lost:
            self._lost = outcome.detail
            self._on_lost()
        if len(batch) == 1 or isinstance(outcome, DeviceLost):
            log.error("drawing_model.failed", why=outcome.detail, internal=outcome.internal or None)
            for job in batch:
                job.fail(outcome)
            return
        log.warning("drawing_model.batch_failed", size=len(batch), internal=outcome.internal or None)
        if isinstance(outcome, OutOfMemory):
            model.max_batch = max(1, min(model.max_batch, len(batch) // 2))
        for job in batch:
            await self._draw(model, [job])

    def _attempt(
        self, model: DrawingModel, batch: Sequence[Job], loop: asyncio.AbstractEventLoop
    ) -> list[DrawnPicture | RunnerFailed] | RunnerFailed:
        """One batch, on the model's thread. Errors come back as values: a future cannot carry every exception."""

        def on_step(done: int, total: int) -> None:
            metrics.DRAWING_STEPS.inc(len(batch))
            for job in batch:
                loop.call_soon_threadsafe(job.step, done, total)

        items = [Item(job.picture, job.request.prompt[:MAX_PROMPT], job.seed) for job in batch]
        metrics.DRAWING_BATCH_SIZE.observe(len(batch))
        started = time.perf_counter()
        try:
            drawn = model.draw(batch[0].request.concept, items, on_step, lambda: all(job.gone for job in batch))
            finished = [
                each
                if isinstance(each, RunnerFailed)
                else DrawnPicture(_jpeg(each), "image/jpeg", job.seed, model.version.name)
                for job, each in zip(batch, drawn, strict=True)
            ]
        except Abandoned:
            return [RunnerFailed("Given up") for _ in batch]  # nobody reads it
        except RunnerFailed as error:
            return error.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - whatever a library raises must reach its caller, not the loop
            return RunnerFailed("The drawing model failed on this picture", internal=repr(error)[:1000])
        seconds = time.perf_counter() - started
        metrics.DRAWING_SECONDS.observe(seconds / len(batch))
        loop.call_soon_threadsafe(self.queue.measured, seconds, len(batch))
        return finished

    def _decode(self, photo: bytes) -> Image.Image:
        try:
            return decoding.fitted(photo, LONGEST_SIDE, self._max_pixels)
        except PhotoUnreadable:
            raise
        except PhotoError as error:
            raise PhotoUnreadable(error.detail, internal=error.internal) from None

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise _stopping()

    async def _missing(self) -> CustomModelMissing:
        if problem := self._switching.problem:
            return unusable(problem)
        return missing(await asyncio.to_thread(self._folder.stray))


def _kind(model: DrawingModel) -> Callable[[Job], Hashable]:
    """What jobs of one batch have in common."""
    return lambda job: (job.request.concept, model.size(job.picture))


def _jpeg(picture: Image.Image) -> bytes:
    """As good as it can be seen: a PNG is three times as long, and phones load it."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return out.getvalue()


def _stopping() -> Overloaded:
    return Overloaded("The drawing model is stopping. Try again in a moment.", retry_after=3)
