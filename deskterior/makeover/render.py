"""Render: the image model draws the desk restyled, and the picture is kept before anything else is done.

The picture is the dearest thing here; `pictures` keeps it, and `paid` has the rule for buying it.
"""

from __future__ import annotations

import asyncio

from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.paid import Bought, Lost, buy
from deskterior.makeover.pictures import Picture, Pictures
from deskterior.makeover.prompts import Prompts
from deskterior.providers import ImageModel
from deskterior.schemas import Concept, CostItem, Description


class Render:
    """At most `places` pictures are drawn at once."""

    def __init__(
        self,
        model: ImageModel,
        pictures: Pictures,
        prompts: Prompts,
        *,
        expected: CostItem,
        allowed: int,
        places: asyncio.Semaphore,
    ) -> None:
        self._model = model
        self._pictures = pictures
        self._prompts = prompts
        self._expected = expected
        self._allowed = allowed
        self._places = places

    async def __call__(self, run: Run, journal: Journal, photo: bytes, description: Description) -> Picture:
        """Raises as `buy`."""
        done = run.done.get("render") or await self._pictures.kept_before_the_end(run, journal, self._expected)
        if done is None:
            concept = Concept(run.task.concept)
            prompt = self._prompts.render(concept, description)

            async def call(number: int) -> Bought:
                drawn = await self._model.draw(prompt, photo, concept)
                try:
                    key = await self._pictures.keep(run, number, drawn.content_type, drawn.image)
                except DatabaseAway as error:
                    raise Lost(drawn.cost, error) from error
                return Bought(Picture(key=key, revised_prompt=drawn.revised_prompt).model_dump_json(), drawn.cost)

            async with self._places:
                done = await buy(journal, run, "render", call, expected=self._expected, allowed=self._allowed)
        return Picture.model_validate_json(done)
