"""`POST /classify`: does the photo show a desk?"""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request, Response

from deskterior.makeover.register import Origin
from deskterior.routers.files import remember_base
from deskterior.routers.generate import Key, origin
from deskterior.schemas import ClassifyRequest, Concept, GenerateRequest, TaskStatus
from deskterior.services import Services, services

router = APIRouter(tags=["classify"], dependencies=[Depends(remember_base)])
log = structlog.get_logger(__name__)

SCORE_HEADER = "X-Desk-Score"


@router.post(
    "/classify",
    summary="Tell whether a photo shows a desk",
    responses={200: {"headers": {SCORE_HEADER: {"description": "0 to 1", "schema": {"type": "number"}}}}},
)
async def classify(
    body: ClassifyRequest,
    request: Request,
    response: Response,
    to: Annotated[Services, Depends(services)],
    idempotency_key: Key = None,
) -> TaskStatus:
    """Fetch the photo, look at it, and tell. What a found desk starts beyond the answer is the setting `ON_DESK`."""
    status, score = await look(body, to, origin(request, idempotency_key))
    response.headers[SCORE_HEADER] = f"{score:.4f}"
    return status


async def look(asked: ClassifyRequest, to: Services, by: Origin) -> tuple[TaskStatus, float]:
    """The verdict on a photo, and its score from 0 to 1. A desk starts what `ON_DESK` says.

    Raises:
        PhotoError: the photo cannot be fetched or decoded.
        Overloaded, RunnerFailed: the model did not answer.
        SpendingCapReached, IdempotencyConflict: the makeover that a desk would start was refused.
    """
    score = await to.desk.score(await to.photos.fetch_square(asked.initial_image_url))
    status = TaskStatus(initial_image_url=asked.initial_image_url, classify=score >= to.desk_threshold)
    log.info("classified", desk=status.classify, score=round(score, 4))
    if status.classify and to.settings.on_desk == "callback":
        await to.makeovers.notify_classified(status)
    elif status.classify and to.settings.on_desk == "generate":
        concept = asked.concept or Concept.BASIC
        await to.makeovers.start(GenerateRequest(image_url=asked.initial_image_url, concept=concept), origin=by)
    return status, score
