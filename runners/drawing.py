"""What drawing with our own model is, whoever does it and wherever it runs: the request, the picture, the errors.

No torch here: the API process imports this module, and talks to a runner that may be on another machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel

from deskterior.schemas import Concept

OnStep = Callable[[int, int], None]
"""Called on the event loop after each denoising step with (steps done, steps in all)."""


@dataclass(frozen=True)
class DrawRequest:
    """One picture to be drawn.

    `photo` is a JPEG, PNG or WebP of any size; the runner scales it to what its model draws. `seed` None: one is
    chosen and told.
    """

    photo: bytes = field(repr=False)
    prompt: str = field(repr=False)
    concept: Concept = Concept.BASIC
    seed: int | None = None


@dataclass(frozen=True)
class DrawnPicture:
    """`image` is a whole picture file of `content_type` (image/png, image/jpeg or image/webp)."""

    image: bytes = field(repr=False)
    content_type: str
    seed: int | None = None
    version: str = ""


class VersionInfo(BaseModel):
    """One checkpoint in the folder of the drawing model. `problem` says why it cannot be used, if it cannot."""

    version: str
    active: bool = False
    digest: str = ""
    family: str = ""
    """The diffusers pipeline, `StableDiffusionXLImg2ImgPipeline` for example."""
    loras: list[str] = []
    """Concepts that have an adapter of their own."""
    problem: str = ""


class DrawingModelInfo(BaseModel):
    """What draws, and what else is installed beside it. `device` is torch's, with the precision: `cuda (bfloat16)`.

    `problem` says why there is no version at all, where something lies there all the same.
    """

    device: str = ""
    versions: list[VersionInfo] = []
    problem: str = ""


class DrawingClient(Protocol):
    """Our own drawing model, wherever it runs."""

    async def info(self) -> DrawingModelInfo:
        """What is installed, now: versions come and go while the runner runs. Raises RunnerFailed."""
        ...

    async def draw(self, request: DrawRequest, on_step: OnStep | None = None) -> DrawnPicture:
        """Draw. Given up while it still waits (the awaiting task is cancelled), it is never drawn.

        Raises:
            CustomModelMissing: no usable version is installed.
            Overloaded: the queue is full, or the runner is restarting; `retry_after` says when to come back.
            PhotoUnreadable: the photo cannot be decoded.
            RunnerFailed: the model failed on this picture, ran out of memory, or did not answer in time.
        """
        ...

    async def check(self) -> str:
        """A word for the health check; does not draw. Raises RunnerFailed."""
        ...

    async def aclose(self) -> None:
        """Finish what is being drawn, refuse what waits, and let go."""
        ...
