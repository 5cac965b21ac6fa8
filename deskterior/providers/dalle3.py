"""Drawing by DALL·E 3, text to image: for endpoints that still serve it. It takes no picture, the prompt tells all.

A call is paid and is never repeated here: the error says whether another try is free.
"""

from __future__ import annotations

from typing import Literal, cast

from deskterior.providers import Drawn
from deskterior.providers.openai_client import openai_call
from deskterior.providers.openai_pictures import OpenAIPictures, drawn, size_for
from deskterior.providers.outside_text import cut
from deskterior.schemas import Concept

MAX_PROMPT = 4_000

_LIFELIKE = {Concept.BASIC, Concept.SIMPLE}

Size = Literal["1024x1024", "1792x1024", "1024x1792"]
Quality = Literal["standard", "hd"]


class Dalle3(OpenAIPictures):
    """An `ImageModel` that ignores the photo, but for its shape."""

    async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:
        """Draw the desk from its description. One call, once.

        Raises:
            ProviderRefused, ProviderTimeout, ProviderFailed
        """
        size = await size_for(photo, self._sizes)
        unknown = self._model.cost(self._quality, size, None)
        async with openai_call(self._timeout_s, setting="IMAGE_MODEL", unknown_cost=unknown):
            answer = await self._client.images.generate(
                model=self._model.name,
                prompt=cut(prompt, MAX_PROMPT),
                n=1,
                size=cast(Size, size),
                quality=cast(Quality, self._quality),
                style="natural" if concept in _LIFELIKE else "vivid",
                response_format="b64_json",
            )
        return await drawn(answer, self._model, quality=self._quality, size=size)
