"""The same model behind BentoML's own dispatcher (`batchable=True`), so that the day it is the better one we see it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import bentoml
import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.others import answer
from deskterior.config import settings
from deskterior.decoding import decode
from runners import desk_engine


@bentoml.service(workers=1, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self.engine, self.info = desk_engine.load(settings().desk_model_dir)

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)  # type: ignore[untyped-decorator]
    def score(self, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
        return desk_engine.scores(self.engine.logits(photos), self.info.temperature)


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
)
class Batchable:
    model = bentoml.depends(Model)

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(trust_env=False, timeout=60)
        self.threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    @bentoml.api(route="/classify")  # type: ignore[untyped-decorator]
    async def classify(self, initial_image_url: str) -> dict[str, str | bool]:
        data = (await self.client.get(initial_image_url)).content
        photo = await asyncio.get_running_loop().run_in_executor(self.threads, decode, data)
        (score,) = await self.model.to_async.score(photo[np.newaxis])
        return answer(initial_image_url, score)
