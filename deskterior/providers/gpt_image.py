"""Drawing by OpenAI's GPT Image models: the photo itself goes to `images.edit`, so the desk stays this very desk.

A call is paid, also when its client hung up, and is never repeated here: the error says whether another try is free.
"""

from __future__ import annotations

from typing import Literal, cast

from deskterior.providers import Drawn
from deskterior.providers.openai_client import openai_call
from deskterior.providers.openai_pictures import OpenAIPictures, drawn, size_for
from deskterior.providers.outside_text import cut
from deskterior.schemas import Concept

MAX_PROMPT = 32_000

Quality = Literal["low", "medium", "high", "xhigh", "max", "auto"]


class GptImage(OpenAIPictures):
    """An `ImageModel`."""

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
