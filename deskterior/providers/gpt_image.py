"""Drawing by OpenAI's GPT Image models: the photo itself goes to `images.edit`, so the desk stays this very desk.

A call is paid, also when its client hung up, and is never repeated here: the error says whether another try is free.
"""

from __future__ import annotations

from typing import Literal, cast

from openai import AsyncOpenAI

from deskterior.providers import Drawn
from deskterior.providers.models import ImageEntry
from deskterior.providers.openai_client import openai_call
from deskterior.providers.openai_pictures import drawn, quality_for, size_for, sizes_for
from deskterior.providers.outside_text import cut
from deskterior.schemas import Concept

MAX_PROMPT = 32_000

Quality = Literal["low", "medium", "high", "xhigh", "max", "auto"]


class GptImage:
    """An `ImageModel`.

    Raises:
        SettingsError: the model knows no such size or quality.
    """

    def __init__(self, client: AsyncOpenAI, model: ImageEntry, *, size: str, quality: str, timeout_s: float) -> None:
        self._client = client
        self._model = model
        self._sizes = sizes_for(model, size)
        self._quality = quality_for(model, quality)
        self._timeout_s = timeout_s

    async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:  # noqa: ARG002  the prompt has the style
        """Restyle the photo, a JPEG under 50 MB. One call, once.

        Raises:
            ProviderRefused, ProviderTimeout, ProviderFailed
        """
        size = await size_for(photo, self._sizes)
        unknown = self._model.cost(self._quality, size, None)
        async with openai_call(self._timeout_s, setting="IMAGE_MODEL", unknown_cost=unknown):
            answer = await self._client.images.edit(
                model=self._model.name,
                image=("desk.jpg", photo, "image/jpeg"),
                prompt=cut(prompt, MAX_PROMPT),
                size=size,
                quality=cast(Quality, self._quality),
                output_format="jpeg",
            )
        return await drawn(answer, self._model, quality=self._quality, size=size)
