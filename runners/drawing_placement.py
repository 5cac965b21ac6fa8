"""Where our own drawing model runs, behind `DrawingClient`: in this process, beside it, or on another machine.

`RUNNERS` (or `CUSTOM_RUNNER`) alone decides. A model that is put into its folder later is taken up in all three places.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from deskterior.config import Settings, SettingsError
from runners.diffusion.versions import ModelFolder
from runners.drawing import DrawingClient
from runners.remote_drawing import RemoteDrawing

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors")
NO_PACKAGES = (
    "A drawing model is installed, but not what it runs on ({}): pip install -r requirements-gpu.txt where the model "
    "runs, and restart. Until then /v2/generate answers 503"
)


async def connect_drawing(settings: Settings) -> DrawingClient:
    """The drawing model where the settings place it. Nothing is loaded when this returns, and nobody was asked.

    Raises:
        SettingsError: the placement is `process`, and nobody has started it.
    """
    place = settings.custom_placement
    if place == "embedded":
        from runners.drawing_engine import LocalDrawing

        return await LocalDrawing.open(settings)
    if place == "process":
        raise SettingsError(
            "RUNNERS=process is for `bentoml serve service:Deskterior`, which starts the runner. Anywhere else, start "
            "`bentoml serve runners.custom_generator:CustomGenerator` and give its address as CUSTOM_RUNNER"
        )
    return RemoteDrawing(place, timeout_s=settings.draw_timeout_s, token=settings.runner_token.get_secret_value())


def notice(settings: Settings) -> str:
    """What is to be said at start where the model runs on this machine, but lacks what it runs on; else nothing."""
    here = settings.custom_placement in {"embedded", "process"}
    missing = missing_packages() if here and anything_installed(settings.custom_model_dir) else ""
    return NO_PACKAGES.format(missing) if missing else ""


def anything_installed(folder: Path) -> bool:
    """Whether there is something in the folder that wants to be a drawing model. Whether it is one, the engine says."""
    return bool(ModelFolder(folder).versions())


def missing_packages() -> str:
    """Which of the packages that a drawing model runs on are not installed, by commas; empty when all are."""
    return ", ".join(name for name in PACKAGES if importlib.util.find_spec(name) is None)
