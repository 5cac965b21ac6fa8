"""What the routers work with: one object of each kind, opened when the service starts and closed when it stops."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import structlog
from fastapi import Request
from runners.placement import DeskClient, connect_desk_classifier

from deskterior.config import Settings
from deskterior.photos import Photos

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Services:
    """Everything that answers a request. Made by `open`, in the order in which one needs the other."""

    settings: Settings
    photos: Photos
    desk: DeskClient
    _open: AsyncExitStack

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        async with AsyncExitStack() as stack:
            photos = Photos(settings)
            stack.push_async_callback(photos.aclose)
            desk = await connect_desk_classifier(settings)
            stack.push_async_callback(desk.aclose)
            return cls(settings=settings, photos=photos, desk=desk, _open=stack.pop_all())
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        await self._open.aclose()

    @property
    def desk_threshold(self) -> float:
        """Score from which a photo is a desk."""
        if self.settings.desk_threshold is not None:
            return self.settings.desk_threshold
        return self.desk.info.threshold


def services(request: Request) -> Services:
    """The services of the application that a request reached (a FastAPI dependency)."""
    found: Services = request.app.state.services
    return found
