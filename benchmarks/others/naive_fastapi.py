"""What one writes in ten minutes: `python -m benchmarks.others.naive_fastapi PORT`.

A plain function: `Image.open`, `convert`, `resize`, torch; one photo at a time in each of FastAPI's threads.
"""

from __future__ import annotations

import io
import sys

import httpx
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image

from benchmarks.others import answer
from deskterior.config import settings
from runners.desk_model import load_torch

app = FastAPI()
model = load_torch(settings().desk_model_dir)
client = httpx.Client(trust_env=False)


@app.get("/ready")
def ready() -> None: ...


@app.post("/classify")
def classify(body: dict[str, str]) -> dict[str, str | bool]:
    url = body["initial_image_url"]
    photo = Image.open(io.BytesIO(client.get(url).content)).convert("RGB").resize((224, 224))
    with torch.no_grad():
        logit = model(torch.from_numpy(np.array(photo))[None])
    return answer(url, float(torch.sigmoid(logit)))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
