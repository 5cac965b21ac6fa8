"""`GET /info`: what runs here, with no secrets."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends

from deskterior import version
from deskterior.errors import DeskteriorError
from deskterior.gateway.limits_json import MAX_DEPTH
from deskterior.providers.outside_text import one_line
from deskterior.schemas import DrawingModel, DrawingVersion, Info, Limits, ModelCard, Provider
from deskterior.services import Services, services
from runners.drawing import DrawingClient

router = APIRouter(tags=["health"])

DRAWING_WITHIN_S = 3.0
LINE, LONG, MANY = 200, 500, 100
"""Characters and entries of what a runner, perhaps somebody else's, tells of itself."""


@router.get("/info", summary="What runs here")
async def info(to: Annotated[Services, Depends(services)]) -> Info:
    """Versions, the model and its figures, the outside services by host, and the limits."""
    settings, model = to.settings, to.desk.info
    return Info(
        version=version(),
        env=settings.env,
        device=model.device,
        model=ModelCard(
            name=model.name,
            version=model.version,
            digest=model.digest,
            resolution=model.size,
            threshold=to.desk_threshold,
            metrics=model.metrics,
        ),
        drawing=await _drawing(to.drawing),
        providers={
            "vision": Provider(
                address=_host(settings.openai_url), model=settings.vision_model, sandbox=settings.openai_is_sandbox
            ),
            "image": Provider(
                address=_host(settings.openai_url), model=settings.image_model, sandbox=settings.openai_is_sandbox
            ),
            "shopping": Provider(address=_host(settings.naver_url), sandbox=settings.naver_is_sandbox),
        },
        limits=Limits(
            photo_max_bytes=settings.photo_max_bytes,
            photo_max_pixels=settings.photo_max_pixels,
            body_max_bytes=settings.body_max_bytes,
            body_max_depth=MAX_DEPTH,
            header_max_bytes=settings.header_max_bytes,
            max_concurrency=settings.max_concurrency,
            key_requests_per_minute=settings.rate("key_requests_per_minute"),
            key_generates_per_minute=settings.rate("key_generates_per_minute"),
            address_requests_per_minute=settings.rate("address_requests_per_minute"),
            key_tasks_waiting=settings.key_tasks_waiting,
        ),
    )


async def _drawing(client: DrawingClient) -> DrawingModel:
    """What draws, in words that hold no path of the machine."""
    try:
        async with asyncio.timeout(DRAWING_WITHIN_S):
            found = await client.info()
    except TimeoutError:
        return DrawingModel(device="", versions=[], problem="It does not answer yet; it may be loading")
    except DeskteriorError as error:
        return DrawingModel(device="", versions=[], problem=error.detail)
    versions = [
        DrawingVersion(
            version=one_line(one.version, LINE),
            active=one.active,
            digest=one_line(one.digest, LINE),
            family=one_line(one.family, LINE),
            loras=[one_line(lora, LINE) for lora in one.loras[:MANY]],
            problem=one_line(one.problem, LONG),
        )
        for one in found.versions[:MANY]
    ]
    return DrawingModel(device=one_line(found.device, LINE), versions=versions, problem=one_line(found.problem, LONG))


def _host(address: str) -> str:
    # The host alone: an address may carry a user and a password.
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
