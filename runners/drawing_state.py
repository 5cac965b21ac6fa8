"""What a `DrawingModelInfo` amounts to: can it draw, and what is to be said when it cannot."""

from __future__ import annotations

from deskterior.errors import CustomModelMissing, RunnerFailed
from runners.drawing import DrawingModelInfo

_MEND = (
    "Put a diffusers image-to-image checkpoint (model_index.json and safetensors) into a folder of its own in "
    "CUSTOM_MODEL_DIR, models/custom/1 for example, where the model runs; no restart is needed. Until then, use "
    "/v1/generate"
)
MISSING = f"No drawing model is installed. {_MEND}"
UNUSABLE = f"There is no drawing model that can be used; /info says what is installed. {_MEND}"
UNUSABLE_IN_A_WORD = "no usable model"
LONGEST_PROBLEM = 500
"""Characters of a version's problem that callers are told."""


class NoAnswerYet(RunnerFailed):
    """Nothing came in time. The runner may be dead, or loading its model."""


def check_usable(info: DrawingModelInfo) -> None:
    """Raises CustomModelMissing when there is no version that draws, nor one that may be about to: it is loading."""
    if not info.versions:
        raise missing(info.problem)
    if not any(one.active or not one.problem for one in info.versions):
        raise unusable("; ".join(dict.fromkeys(one.problem for one in info.versions)))


def missing(problem: str = "") -> CustomModelMissing:
    """What a caller is told where nothing is installed, and what lies there in its place."""
    return CustomModelMissing(f"{MISSING}. {problem:.{LONGEST_PROBLEM}}" if problem else MISSING)


def unusable(problem: str) -> CustomModelMissing:
    """What a caller is told where something is installed, and why it does not draw."""
    return CustomModelMissing(f"The drawing model that is installed cannot be used: {problem:.{LONGEST_PROBLEM}}")


def in_a_word(info: DrawingModelInfo) -> str:
    """What the health check says of it."""
    if active := next((one for one in info.versions if one.active), None):
        return f"ok ({info.device}, {active.version})" if info.device else f"ok ({active.version})"
    if any(not one.problem for one in info.versions):
        return "loading"
    return UNUSABLE_IN_A_WORD if info.versions else "no model installed"
