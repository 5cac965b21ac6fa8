"""`POST /classify`: does the photo show a desk?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request, Response

from deskterior.errors import DeskteriorError, Forbidden, RateLimited, ServerError
from deskterior.gateway.caller import caller_of
from deskterior.makeover.register import Origin
from deskterior.routers.files import remember_base
from deskterior.routers.generate import Key, origin, start
from deskterior.schemas import ClassifyRequest, Concept, GenerateRequest, Task, TaskStatus
from deskterior.services import Services, services
from deskterior.telemetry import metrics

router = APIRouter(tags=["classify"], dependencies=[Depends(remember_base)])
log = structlog.get_logger(__name__)

SCORE_HEADER = "X-Desk-Score"
TASK_HEADER = "X-Task-ID"
REFUSED_HEADER = "X-Makeover-Refused"
_HEADERS = {
    SCORE_HEADER: {"description": "0 to 1", "schema": {"type": "number"}},
    TASK_HEADER: {
        "description": "The makeover that the desk started (`ON_DESK=generate`)",
        "schema": {"type": "string"},
    },
    REFUSED_HEADER: {"description": "The problem for which none could be started", "schema": {"type": "string"}},
}


@dataclass(frozen=True)
class Look:
    """What one look at a photo gave. `task` is the makeover it started, `refused` why none could be."""

    status: TaskStatus
    score: float
    task: Task | None = None
    refused: DeskteriorError | None = None


@router.post("/classify", summary="Tell whether a photo shows a desk", responses={200: {"headers": _HEADERS}})
async def classify(
    body: ClassifyRequest,
    request: Request,
    response: Response,
    to: Annotated[Services, Depends(services)],
    idempotency_key: Key = None,
) -> TaskStatus:
    """Fetch the photo, look at it, and tell. What a found desk starts beyond the answer is the setting `ON_DESK`."""

    async def admit() -> None:
        await to.gateway.admit_order(caller_of(request), request.scope)

    seen = await look(body, to, origin(request, idempotency_key), admit)
    response.headers[SCORE_HEADER] = f"{seen.score:.4f}"
    if seen.task:
        response.headers[TASK_HEADER] = seen.task.id
    if seen.refused:
        response.headers[REFUSED_HEADER] = f"/problems/{seen.refused.slug}"
    return seen.status


async def look(
    asked: ClassifyRequest, to: Services, by: Origin, admit: Callable[[], Awaitable[None]] | None = None
) -> Look:
    """Tell whether the photo shows a desk, and start what `ON_DESK` says.

    Args:
        admit: raises where this caller may not start a makeover, as `Gateway.admit_order` does. None: it may.

    Raises:
        PhotoError: the photo cannot be fetched or decoded.
        Overloaded, RunnerFailed: the model did not answer.
        IdempotencyConflict: the key was used with another body.
    """
    score = await to.desk.score(await to.photos.fetch_square(asked.initial_image_url))
    status = TaskStatus(initial_image_url=asked.initial_image_url, classify=score >= to.desk_threshold)
    metrics.VERDICTS.labels("desk" if status.classify else "not_desk").inc()
    metrics.SCORE.labels(to.desk.info.label).observe(score)
    log.info("classified", desk=status.classify, score=round(score, 4))
    if not status.classify or to.settings.on_desk == "none":
        return Look(status, score)
    if to.settings.on_desk == "callback":
        await to.makeovers.notify_classified(status)
        return Look(status, score)
    try:
        if admit is not None:  # a key that may only classify spends no money
            await admit()
        wanted = GenerateRequest(image_url=asked.initial_image_url, concept=asked.concept or Concept.BASIC)
        return Look(status, score, task=await start(wanted, "v1", to, by))
    except (ServerError, RateLimited, Forbidden) as error:
        # The verdict stands whatever becomes of the makeover: a spent budget must not take classifying away.
        log.warning("makeover.refused", caller=by.owner, slug=error.slug, detail=error.detail)
        return Look(status, score, refused=error)
