"""Describe: the vision model tells how to restyle the desk and what to shop for."""

from __future__ import annotations

from deskterior.makeover.journal import Journal, Run
from deskterior.makeover.paid import Bought, buy
from deskterior.providers import VisionModel
from deskterior.schemas import Concept, CostItem, Description


class Describe:
    def __init__(self, vision: VisionModel, expected: CostItem) -> None:
        self._vision = vision
        self._expected = expected

    async def __call__(self, run: Run, journal: Journal, photo: bytes) -> Description:
        """Raises as `buy`."""
        done = run.done.get("describe")
        if done is None:

            async def call(_: int) -> Bought:
                described = await self._vision.describe(photo, Concept(run.task.concept))
                return Bought(described.description.model_dump_json(), described.cost)

            done = await buy(journal, run, "describe", call, expected=self._expected)
        return Description.model_validate_json(done)
