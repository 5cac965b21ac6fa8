"""What OpenAI's image adapters share: sizes and qualities in a model's own terms, and the picture out of the answer."""

from __future__ import annotations

import asyncio
import re

from openai import AsyncOpenAI
from openai.types import ImagesResponse

from deskterior.config import SettingsError
from deskterior.errors import ProviderFailed
from deskterior.providers import Drawn
from deskterior.providers.models import ImageEntry
from deskterior.providers.openai_client import PROVIDER
from deskterior.providers.outside_text import one_line
from deskterior.providers.pictures import NotAPicture, from_base64, nearest_size, shape_of

# How much each word asks for. Families use different words; IMAGE_MODEL can be changed alone all the same.
_LEVELS = {"low": 0, "standard": 1, "medium": 1, "auto": 1, "high": 2, "hd": 2, "xhigh": 3, "max": 4}
_SIZE = re.compile(r"[1-9]\d{2,3}x[1-9]\d{2,3}")
_STEP = 16
REVISED_LENGTH = 4_000
"""Characters of the prompt that the model says it drew by."""


class OpenAIPictures:
    """What an adapter draws with.

    Raises:
        SettingsError: the model knows no such size or quality.
    """

    def __init__(self, client: AsyncOpenAI, model: ImageEntry, *, size: str, quality: str, timeout_s: float) -> None:
        self._client = client
        self._model = model
        self._sizes = sizes_for(model, size)
        self._quality = quality_for(model, quality)
        self._timeout_s = timeout_s


def quality_for(model: ImageEntry, wanted: str) -> str:
    """The wanted quality in the model's own words; `auto` is the middle one, so that the price is known before.

    Raises:
        SettingsError: no model has such a quality.
    """
    if wanted in model.qualities:
        return wanted
    if wanted not in _LEVELS:
        raise SettingsError(f"IMAGE_QUALITY: {model.name} knows {', '.join(model.qualities)} and auto")
    return min(model.qualities, key=lambda quality: abs(_LEVELS.get(quality, 1) - _LEVELS[wanted]))


def sizes_for(model: ImageEntry, wanted: str) -> list[str]:
    """The sizes to choose from for a photo: all for `auto`, else the wanted one or one of nearly its shape and area.

    Raises:
        SettingsError: the model draws no such size.
    """
    if wanted == "auto":
        return model.sizes
    if wanted in model.sizes:
        return [wanted]
    if _SIZE.fullmatch(wanted):
        if model.any_size and 1 / 3 <= shape_of(wanted) <= 3 and all(int(s) % _STEP == 0 for s in wanted.split("x")):
            return [wanted]
        nearest = min(model.sizes, key=lambda size: abs(shape_of(size) / shape_of(wanted) - 1))
        if 0.8 <= shape_of(nearest) / shape_of(wanted) <= 1.25 and 0.8 <= _area(nearest) / _area(wanted) <= 1.25:
            return [nearest]
    raise SettingsError(f"IMAGE_SIZE: {model.name} draws {', '.join(model.sizes)} and auto")


async def size_for(photo: bytes, sizes: list[str]) -> str:
    """Of the sizes, the one of the photo's shape: the desk keeps its geometry."""
    return sizes[0] if len(sizes) == 1 else await asyncio.to_thread(nearest_size, photo, sizes)


async def drawn(answer: ImagesResponse, model: ImageEntry, *, quality: str, size: str) -> Drawn:
    """The picture out of an answer that was paid for.

    Raises:
        ProviderFailed: there is no whole picture in it; its cost is told all the same.
    """
    cost = model.cost(quality, size, getattr(answer, "usage", None))
    pictures = getattr(answer, "data", None)
    first = pictures[0] if isinstance(pictures, list) and pictures else None
    try:
        picture = await from_base64(getattr(first, "b64_json", None))
    except NotAPicture as error:
        raise ProviderFailed(
            f"The image model's answer cannot be used: {error}", provider=PROVIDER, cost=cost
        ) from error
    # The picture is paid for: whatever is wrong with the words beside it must not lose it.
    revised = one_line(getattr(first, "revised_prompt", None), REVISED_LENGTH)
    return Drawn(picture.image, picture.content_type, cost, revised or None)


def _area(size: str) -> int:
    width, height = size.split("x")
    return int(width) * int(height)
