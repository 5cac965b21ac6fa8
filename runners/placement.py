"""Where the desk classifier runs, behind one small protocol: in this process, beside it, or on another machine.

The setting `RUNNERS` (or `DESK_RUNNER`) alone decides. The model and its batcher are the same in all three places.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deskterior.config import Settings, SettingsError
from deskterior.errors import RunnerFailed
from deskterior.telemetry import metrics, traces
from runners import desk_engine
from runners.batching import MicroBatcher
from runners.desk_engine import ModelInfo
from runners.wire import LATELY_S, RemoteDesk

MAX_QUEUE = 1024
"""Photos that may wait for the model: 150 MB of them."""


def _observe(waited: Sequence[float], seconds: float) -> None:
    for each in waited:
        metrics.DESK_WAIT_SECONDS.observe(each)
    metrics.DESK_BATCH_SECONDS.observe(seconds)


class DeskClient(Protocol):
    """The desk classifier, wherever it runs."""

    @property
    def info(self) -> ModelInfo: ...

    async def score(self, photo: NDArray[np.uint8]) -> float:
        """Calibrated probability that `photo`, `(info.size, info.size, 3)` uint8 RGB, shows a desk.

        Raises:
            Overloaded: too many photos wait, or the runner is restarting; `retry_after` says when to come back.
            RunnerFailed: the model failed on this photo, or did not answer in time.
        """
        ...

    async def check(self) -> str:
        """Run the model on an empty photo and say so in a word, unless it has answered within the last `LATELY_S`.

        Under load that is all the time, and the empty photo would wait behind all others.

        Raises:
            RunnerFailed: it cannot be reached, or fails.
            Overloaded: it is alive, but too many photos wait.
        """
        ...

    async def aclose(self) -> None:
        """Answer what waits, then let go."""
        ...


async def connect_desk_classifier(settings: Settings) -> DeskClient:
    """The desk classifier where the settings place it, warmed up.

    Raises:
        ModelUnusable: the model's files are missing or damaged.
        RunnerFailed: no runner answers at the address.
        SettingsError: the placement is `process`, and nobody has started it.
    """
    place = settings.desk_placement
    if place == "embedded":
        return await asyncio.to_thread(EmbeddedDesk, settings.desk_model_dir)
    if place == "process":
        raise SettingsError(
            "RUNNERS=process is for `bentoml serve service:Deskterior`, which starts the runner. Anywhere else, start "
            "`bentoml serve runners.desk_classifier:DeskClassifier` and give its address as RUNNERS"
        )
    return await RemoteDesk.open(
        place, timeout_s=settings.runner_timeout_s, token=settings.runner_token.get_secret_value()
    )


class EmbeddedDesk:
    """The desk classifier in this process: the model on a thread of its own, behind the adaptive batcher.

    Loading and warming up takes about a second and blocks. Raises `ModelUnusable`.
    """

    def __init__(self, folder: Path, max_queue: int = MAX_QUEUE) -> None:
        self._engine, self.info = desk_engine.load(folder)
        self._shape = (self.info.size, self.info.size, 3)
        self.batcher: MicroBatcher[NDArray[np.uint8], float] = MicroBatcher(
            self._scores,
            max_batch=self._engine.max_batch,
            max_queue=max_queue,
            on_batch=metrics.DESK_BATCH_SIZE.observe,
            on_timed=_observe,
            name="desk classifier",
        )

    def _scores(self, photos: Sequence[NDArray[np.uint8]]) -> list[float]:
        logits = self._engine.logits(np.stack(photos))
        if logits.shape != (len(photos),):
            raise RunnerFailed(internal=f"logits of shape {logits.shape} for {len(photos)} photos")
        scores: list[float] = desk_engine.scores(logits, self.info.temperature).tolist()
        return scores

    async def score(self, photo: NDArray[np.uint8]) -> float:
        if photo.dtype != np.uint8 or photo.shape != self._shape:
            raise RunnerFailed(internal=f"a photo of {photo.dtype} {photo.shape} was given to the desk classifier")
        with traces.span("desk_classifier"):
            return await self.batcher(photo)

    async def check(self) -> str:
        if time.monotonic() - self.batcher.answered_at > LATELY_S:
            await self.score(np.zeros(self._shape, np.uint8))
        return f"ok ({self.info.device})"

    async def aclose(self) -> None:
        await self.batcher.close()
