"""`GET /info`: what runs here, with no secrets."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends

from deskterior import version
from deskterior.schemas import Info, Limits, ModelCard, Provider
from deskterior.services import Services, services

router = APIRouter(tags=["health"])


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
            max_concurrency=settings.max_concurrency,
        ),
    )


def _host(address: str) -> str:
    # The host alone: an address may carry a user and a password.
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
