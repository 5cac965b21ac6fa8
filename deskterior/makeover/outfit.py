"""What a makeover is made with, handed over when the service opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deskterior.callback_messages import OwnCode, no_code
from deskterior.makeover.delivery import Sender
from deskterior.makeover.photo import Desk, Photos
from deskterior.makeover.prompts import Prompts
from deskterior.providers import ImageModel, ProductSearch, VisionModel
from deskterior.providers.custom import OwnModel
from deskterior.storage import Storage

Kind = Literal["v1", "v2"]


@dataclass(frozen=True)
class Outfit:
    """What a makeover is made with."""

    photos: Photos
    storage: Storage
    desk: Desk
    desk_threshold: float
    vision: VisionModel
    images: Mapping[Kind, ImageModel]
    """The model that draws each kind for money; a kind without one cannot be made here."""
    search: ProductSearch
    sender: Sender
    prompts: Prompts
    own_code: OwnCode = no_code
    own_model: OwnModel | None = None
    """What draws v2."""

    @property
    def kinds(self) -> frozenset[str]:
        """What can be made."""
        return frozenset({*self.images, *(["v2"] if self.own_model is not None else [])})
