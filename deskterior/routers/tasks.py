"""`/tasks`: what became of a generate, and what can be done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from deskterior.routers.files import remember_base
from deskterior.schemas import Task, TaskPage, TaskState
from deskterior.services import Services, services

router = APIRouter(prefix="/tasks", tags=["tasks"], dependencies=[Depends(remember_base)])

PING_S = 15
"""A comment is sent so often, so that proxies keep a quiet stream open."""

To = Annotated[Services, Depends(services)]


@router.get("", summary="The tasks, newest first")
async def page(
    to: To,
    status: Annotated[TaskState | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=200)] = None,
) -> TaskPage:
    """One page; `next_cursor` is null on the last one."""
    return await to.makeovers.page(status=status, limit=limit, cursor=cursor)


@router.get("/{task_id}", summary="A task")
async def task(task_id: str, to: To) -> Task:
    """How far it is, what it has brought and cost, and whether the backend has been told."""
    return await to.makeovers.get(task_id)


@router.get(
    "/{task_id}/events",
    summary="A task as it goes on",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events `stage`, and at last `done`."}},
)
async def events(task_id: str, to: To) -> EventSourceResponse:
    """Server-sent events: `stage` as each stage starts and ends, those of the past first; then `done` with the task."""
    await to.makeovers.get(task_id)  # a missing task is 404, not an empty stream

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for event in to.makeovers.events(task_id):
            kind = "done" if isinstance(event, Task) else "stage"
            yield ServerSentEvent(event.model_dump_json(), event=kind)

    return EventSourceResponse(stream(), ping=PING_S, headers={"Cache-Control": "no-store"})


@router.post("/{task_id}/cancel", status_code=202, summary="Cancel a task")
async def cancel(task_id: str, to: To) -> Task:
    """A queued task never runs; a running one stops before its next stage. What was spent stays in its cost."""
    return await to.makeovers.cancel(task_id)


@router.post("/{task_id}/retry", status_code=202, summary="Go on with a failed or cancelled task")
async def retry(task_id: str, to: To) -> Task:
    """From the stage where it stopped; what was paid for and came through is not bought again."""
    return await to.makeovers.retry(task_id)


@router.delete("/{task_id}", status_code=204, summary="Delete a finished task, pictures too", response_class=Response)
async def delete(task_id: str, to: To) -> None:
    """What its calls cost stays counted for the day."""
    await to.makeovers.delete(task_id)
