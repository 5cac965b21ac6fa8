"""What a `DrawingModelInfo` amounts to: can it draw, and what is to be said when it cannot."""

from __future__ import annotations

from deskterior.errors import CustomModelMissing, RunnerFailed
from runners.drawing import DrawingModelInfo

MISSING = (
    "No drawing model is installed. Put a diffusers image-to-image checkpoint (model_index.json and safetensors) into "
    "a folder of its own in CUSTOM_MODEL_DIR, models/custom/1 for example, where the model runs; no restart is needed. "
    "Until then, use /v1/generate"
)
BROKEN = (
    "A drawing model is installed, but it cannot be used; /info and the log say why. Put a whole checkpoint beside it, "
    "or use /v1/generate"
)


class NoAnswerYet(RunnerFailed):
    """Nothing came in time. The runner may be dead, or loading its model."""


def check_usable(info: DrawingModelInfo) -> None:
    """Raises CustomModelMissing when there is no version that draws, nor one that may be about to: it is loading."""
    if not any(one.active or not one.problem for one in info.versions):
        raise CustomModelMissing(BROKEN if info.versions else MISSING)


def in_a_word(info: DrawingModelInfo) -> str:
    """What the health check says of it."""
    if active := next((one for one in info.versions if one.active), None):
        return f"ok ({info.device}, {active.version})" if info.device else f"ok ({active.version})"
    if any(not one.problem for one in info.versions):
        return "loading"
    return "no usable model" if info.versions else "no model installed"
