"""LitServe with its batching and a worker for each core: `python -m benchmarks.others.litserve_batching PORT`."""

from __future__ import annotations

import os
import sys

import httpx
import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.others import answer
from deskterior.config import settings
from deskterior.decoding import decode
from runners import desk_engine

Photo = tuple[str, NDArray[np.uint8]]
Scored = tuple[str, float]


class Desk(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's interface
        self.engine, self.info = desk_engine.load(settings().desk_model_dir)
        self.client = httpx.Client(trust_env=False)

    def decode_request(self, request: dict[str, str]) -> Photo:
        url = request["initial_image_url"]
        return url, decode(self.client.get(url).content)

    def batch(self, inputs: list[Photo]) -> list[Photo]:
        return inputs

    def predict(self, photos: list[Photo]) -> list[Scored]:
        logits = self.engine.logits(np.stack([pixels for _, pixels in photos]))
        scores = desk_engine.scores(logits, self.info.temperature)
        return [(url, float(score)) for (url, _), score in zip(photos, scores, strict=True)]

    def unbatch(self, output: list[Scored]) -> list[Scored]:
        return output

    def encode_response(self, output: Scored) -> dict[str, str | bool]:
        return answer(*output)


if __name__ == "__main__":
    api = Desk(max_batch_size=8, batch_timeout=0.002, api_path="/classify")
    cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=cores, healthcheck_path="/ready")
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
