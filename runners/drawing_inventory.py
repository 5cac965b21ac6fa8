"""What draws and what lies in the folder beside it, as `/info` tells it: versions, digests, adapters, problems.

Reads files on threads; loads nothing, and imports no torch. Which version draws is `diffusion.switching`'s to say.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from deskterior.schemas import Concept
from runners.diffusion import checkpoint, loading, recipe
from runners.diffusion.engine import DrawingModel
from runners.diffusion.switching import Switching
from runners.diffusion.versions import Digests, ModelFolder, Version, VersionUnusable, fingerprint
from runners.drawing import DrawingModelInfo, VersionInfo

DIGESTS_WITHIN_S = 1.0
"""What is waited for digests of files that were not read before: 10 GB take longer, and are told the next time."""


class Inventory:
    """Of one folder and the model that draws from it."""

    def __init__(self, folder: ModelFolder, switching: Switching) -> None:
        self._folder = folder
        self._switching = switching
        self._digests = Digests()
        self._digest_of: WeakKeyDictionary[DrawingModel, str] = WeakKeyDictionary()
        self._reading: asyncio.Task[dict[str, str]] | None = None

    async def info(self) -> DrawingModelInfo:
        versions = await asyncio.to_thread(self._folder.versions)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._all_digests, versions))
        await asyncio.wait({self._reading}, timeout=DIGESTS_WITHIN_S)
        digests = self._reading.result() if self._reading.done() else {}
        return await asyncio.to_thread(self._describe_all, versions, digests)

    async def aclose(self) -> None:
        self._digests.stop()
        if self._reading is not None:
            await asyncio.wait({self._reading})

    def _all_digests(self, versions: Sequence[Version]) -> dict[str, str]:
        return {version.name: self._digests.of(version) for version in versions}

    def _describe_all(self, versions: Sequence[Version], digests: dict[str, str]) -> DrawingModelInfo:
        """What draws, as it is in memory, and what lies in the folder. Those differ where the files of the version that
        draws were changed or deleted: what is in memory needs them no more."""
        model, loaded, problem = self._switching.model, self._switching.loaded, self._switching.problem
        told = []
        if model is not None:
            same = fingerprint(model.version.path) == loaded
            digest = digests.get(model.version.name, "") if same else ""
            told.append(
                VersionInfo(
                    version=model.version.name,
                    active=True,
                    digest=self._loaded_digest(model, digest),
                    family=model.family,
                    loras=with_lora(model.recipes),
                )
            )
            versions = [version for version in versions if not (same and version == model.version)]
        coming = self._coming() if model is None and not self._switching.settled.is_set() else None
        for version in versions:
            one = self._describe(version, digests.get(version.name, ""))
            one.active = version == coming and not one.problem
            if model is None and not one.active and not one.problem:
                one.problem = problem
            told.append(one)
        return DrawingModelInfo(
            device=model.device if model else "", versions=told, problem="" if told else self._folder.stray()
        )

    def _loaded_digest(self, model: DrawingModel, now: str) -> str:
        """Of the files that a model was made of, which may have been read only while they were still there."""
        if now:
            self._digest_of[model] = now
        return self._digest_of.get(model, "")

    def _coming(self) -> Version | None:
        try:
            return self._folder.active()
        except VersionUnusable:
            return None

    def _describe(self, version: Version, digest: str) -> VersionInfo:
        told = VersionInfo(version=version.name, digest=digest, problem=self._switching.refused.get(version.name, ""))
        try:
            found = checkpoint.vet(version.path)
            told.family = found.class_name
            told.loras = with_lora(recipe.read(version.path, found, version.name))
            if "diffusers" in sys.modules:  # not worth the seconds of an import here
                told.family = loading.pipeline_class(found).__name__
        except VersionUnusable as error:
            told.problem = told.problem or error.detail
        return told


def with_lora(recipes: recipe.Recipes) -> list[str]:
    """The concepts that have an adapter."""
    return [concept.value for concept in Concept if recipes.by_concept[concept].lora is not None]
