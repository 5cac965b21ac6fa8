"""`POST /classify`: does the photo show a desk?"""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Response

from deskterior.schemas import ClassifyRequest, TaskStatus
from deskterior.services import Services, services

router = APIRouter(tags=["classify"])
log = structlog.get_logger(__name__)

SCORE_HEADER = "X-Desk-Score"


@router.post(
    "/classify",
    summary="Tell whether a photo shows a desk",
    responses={200: {"headers": {SCORE_HEADER: {"description": "0 to 1", "schema": {"type": "number"}}}}},
)
async def classify(
    request: ClassifyRequest, response: Response, to: Annotated[Services, Depends(services)]
) -> TaskStatus:
    """Fetch the photo, look at it, and tell. What a found desk starts beyond the answer is the setting `ON_DESK`."""
    status, score = await look(request, to)
    response.headers[SCORE_HEADER] = f"{score:.4f}"
    return status


async def look(request: ClassifyRequest, to: Services) -> tuple[TaskStatus, float]:
    """The verdict on a photo, and its score from 0 to 1.

    Raises:
        PhotoError: the photo cannot be fetched or decoded.
        Overloaded, RunnerFailed: the model did not answer.
    """
    score = await to.desk.score(await to.photos.fetch_square(request.initial_image_url))
    status = TaskStatus(initial_image_url=request.initial_image_url, classify=score >= to.desk_threshold)
    log.info("classified", desk=status.classify, score=round(score, 4))
    return status, score
