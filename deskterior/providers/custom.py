"""Drawing by our own model, wherever it runs: asked whether it can before anything is spent, and what it drew checked.

It costs nothing, so unlike an `ImageModel` it may be asked again; when, is left to the makeover.
"""

from __future__ import annotations

from contextlib import suppress

from deskterior.errors import RunnerFailed
from deskterior.providers.pictures import NotAPicture, whole
from deskterior.schemas import Concept
from runners.drawing import DrawingClient, DrawnPicture, DrawRequest, OnStep
from runners.drawing_state import NoAnswerYet, check_usable


class OwnModel:
    def __init__(self, drawing: DrawingClient) -> None:
        self._drawing = drawing

    async def check_ready(self) -> None:
        """Before money is spent: is there a model that draws? One that is still being loaded is.

        Raises:
            CustomModelMissing: what to put where.
            Overloaded, RunnerFailed: its runner cannot be reached, or is none.
        """
        with suppress(NoAnswerYet):
            check_usable(await self._drawing.info())

    async def draw(self, prompt: str, photo: bytes, concept: Concept, on_step: OnStep) -> DrawnPicture:
        """Restyle the photo, a JPEG. Raises as `DrawingClient.draw`; RunnerFailed also for what is no whole picture."""
        drawn = await self._drawing.draw(DrawRequest(photo, prompt, concept), on_step)
        try:
            picture = await whole(drawn.image)
        except NotAPicture as error:
            raise RunnerFailed(f"What the drawing model drew cannot be used: {error}") from error
        return DrawnPicture(picture.image, picture.content_type, drawn.seed, drawn.version)
