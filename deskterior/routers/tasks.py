"""`/tasks`: what became of a generate, and what can be done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from deskterior.gateway.caller import Caller, caller
from deskterior.makeover.events import ProgressEvent, StageEvent
from deskterior.routers.files import remember_base
from deskterior.routers.generate import origin
from deskterior.schemas import Task, TaskPage, TaskState
from deskterior.services import Services, services

router = APIRouter(prefix="/tasks", tags=["tasks"], dependencies=[Depends(remember_base)])

PING_S = 15
"""A comment is sent so often, so that proxies keep a quiet stream open."""

To = Annotated[Services, Depends(services)]
By = Annotated[Caller, Depends(caller)]
"""A task of somebody else is not there."""


@router.get("", summary="The tasks, newest first")
async def page(
    to: To,
    by: By,
    status: Annotated[TaskState | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=200)] = None,
) -> TaskPage:
    """One page; `next_cursor` is null on the last one."""
    return await to.makeovers.page(status=status, limit=limit, cursor=cursor, owner=by.sees)


@router.get("/{task_id}", summary="A task")
async def task(task_id: str, to: To, by: By) -> Task:
    """How far it is, what it has brought and cost, and whether the backend has been told."""
    return await to.makeovers.get(task_id, by.sees)


@router.get(
    "/{task_id}/events",
    summary="A task as it goes on",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events `stage` and `progress`, and at last `done`."}
    },
)
async def events(task_id: str, to: To, by: By) -> EventSourceResponse:
    """Server-sent events: `stage` as each stage starts and ends, those of the past first; `progress` with the steps of
    a drawing by our own model, `{"stage": "render", "step": 3, "of": 20, "progress": 0.27, "at": …}`, the newest alone
    if they come fast; then `done` with the task. Let events of other names pass: more may come.
    """
    await to.makeovers.get(task_id, by.sees)  # a missing task is 404, not an empty stream

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for event in to.makeovers.events(task_id, by.sees):
            yield ServerSentEvent(event.model_dump_json(), event=_name(event))

    return EventSourceResponse(stream(), ping=PING_S, headers={"Cache-Control": "no-store"})


def _name(event: StageEvent | ProgressEvent | Task) -> str:
    if isinstance(event, Task):
        return "done"
    return "progress" if isinstance(event, ProgressEvent) else "stage"


@router.post("/{task_id}/cancel", status_code=202, summary="Cancel a task")
async def cancel(task_id: str, to: To, by: By) -> Task:
    """A queued task never runs; a running one stops before its next stage, or at once where our own model draws.

    What was spent stays in its cost.
    """
    return await to.makeovers.cancel(task_id, by.sees)


@router.post("/{task_id}/retry", status_code=202, summary="Go on with a failed or cancelled task")
async def retry(task_id: str, request: Request, to: To, by: By) -> Task:
    """From the stage where it stopped; what was paid for and came through is not bought again."""
    return await to.makeovers.retry(task_id, by.sees, origin(request, None))


@router.delete("/{task_id}", status_code=204, summary="Delete a finished task, pictures too", response_class=Response)
async def delete(task_id: str, to: To, by: By) -> None:
    """What its calls cost stays counted for the day."""
    await to.makeovers.delete(task_id, by.sees)
