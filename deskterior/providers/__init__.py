"""The outside services, behind three small protocols; which class serves is decided by configuration alone.

An implementation raises only `deskterior.errors.ProviderError`s and never makes a call again that may have been paid.
It tells what each call cost: in its answer, or in the error's `cost` when what was paid is of no use. An error's
`safe_to_retry` says that another try is free and may help. `selection.py` chooses and opens the implementations; one
that lacks its key raises `ProviderNotConfigured`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from deskterior.schemas import Concept, CostItem, Description, Product


@dataclass(frozen=True)
class Described:
    description: Description
    cost: CostItem


@dataclass(frozen=True)
class Drawn:
    """A picture as it came from the image model."""

    image: bytes
    content_type: str
    cost: CostItem
    revised_prompt: str | None = None


@dataclass(frozen=True)
class Found:
    """Products in the order of their keywords; a keyword that found nothing is absent. `problems` says what failed."""

    products: list[Product]
    problems: list[str] = field(default_factory=list)


class VisionModel(Protocol):
    async def describe(self, photo: bytes, concept: Concept) -> Described:
        """Look at a JPEG and tell how to restyle it and what to shop for."""
        ...


class ImageModel(Protocol):
    async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:
        """Make the picture. `photo` is a JPEG; an image model that takes no picture ignores it."""
        ...


class ProductSearch(Protocol):
    async def find(self, keywords: list[str]) -> Found:
        """Search all keywords at once. A keyword that fails is a line in `problems`, not an exception."""
        ...
