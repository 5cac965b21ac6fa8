"""What others would serve the same model with. Each answers `POST /classify` as our API does.

But for `naive_fastapi`, they decode by our own function and run the same ONNX model: what differs is the serving.
"""

from __future__ import annotations


def answer(url: str, score: float) -> dict[str, str | bool]:
    return {"initial_image_url": url, "classify": bool(score >= 0.5)}
