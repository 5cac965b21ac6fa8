"""`POST /v1/prompt`, `/v1/generate` and `/v2/generate`: what to do to a desk, and doing it.

A generate is a task, always. How long the answer is held for it is the client's preference (`Prefer`, RFC 7240).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse

from deskterior.config import Settings
from deskterior.errors import DeskteriorError, InternalError, TaskCancelled, TaskNotFinished
from deskterior.gateway.caller import caller_of
from deskterior.gateway.limits import allowance
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.outfit import Kind
from deskterior.makeover.register import Origin
from deskterior.routers.files import remember_base
from deskterior.schemas import Description, GenerateRequest, Problem, PromptResponse, Task
from deskterior.services import Services, services, services_of
from deskterior.storage import request_base

router = APIRouter(tags=["generate"], dependencies=[Depends(remember_base)])

TRY_AGAIN_S = 5.0
"""For a task that failed because something was busy or missing for the moment."""

_PREFERENCE = re.compile(r"""\s*([^\s=;,]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,]*))?""")
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": PromptResponse, "description": "The makeover, where it is ready within the wait."},
    202: {
        "model": Task,
        "description": "The task; it goes on. Look at Location.",
        "headers": {"Location": {"description": "`/tasks/{id}`", "schema": {"type": "string"}}},
    },
}


@dataclass(frozen=True)
class Preferences:
    """What `Prefer` asks for. `wait_s` None: nothing was said of it."""

    respond_async: bool = False
    wait_s: float | None = None

    @classmethod
    def of(cls, headers: list[str]) -> Self:
        """Read all `Prefer` headers of a request; what cannot be understood is no preference (RFC 7240, 2)."""
        found: dict[str, str] = {}
        for part in ",".join(headers).split(","):
            if match := _PREFERENCE.match(part):
                found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
        wait = found.get("wait", "")
        return cls("respond-async" in found, float(wait) if re.fullmatch("[0-9]{1,9}", wait) else None)

    def seconds(self, settings: Settings) -> float:
        """How long to hold the answer."""
        if self.wait_s is not None:
            return min(self.wait_s, settings.wait_max_s)
        return 0.0 if self.respond_async else min(settings.wait_default_s, settings.wait_max_s)

    def applied(self, settings: Settings) -> str:
        """The value of `Preference-Applied`; empty when nothing was preferred."""
        parts = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            parts.append(f"wait={self.seconds(settings):.0f}")
        return ", ".join(parts)


Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The same key with the same body is the same task, not another one."),
]
Prefer = Annotated[
    list[str] | None,
    Header(description="`respond-async`: answer 202 at once. `wait=N`: hold the answer for N seconds at most."),
]
To = Annotated[Services, Depends(services)]


@router.post("/v1/prompt", summary="Tell how to make a desk over, without drawing it")
async def prompt(body: GenerateRequest, request: Request, to: To) -> Description:
    """Ask the vision model for a prompt, keywords to shop for, tags and a mood."""
    to.providers.check(drawing=False)
    return await to.makeovers.suggest(body, origin(request, None))


@router.post("/v1/generate", summary="Make a desk over", response_model=PromptResponse, responses=_ANSWERS)
async def generate(
    body: GenerateRequest, request: Request, to: To, idempotency_key: Key = None, prefer: Prefer = None
) -> Response:
    """Draw the desk restyled and find products to buy. The task goes on when the client hangs up."""
    return await _generate("v1", body, request, to, idempotency_key, prefer)


@router.post(
    "/v2/generate",
    summary="Make a desk over with our own model",
    response_model=PromptResponse,
    responses=_ANSWERS,
)
async def generate_by_ourselves(
    body: GenerateRequest, request: Request, to: To, idempotency_key: Key = None, prefer: Prefer = None
) -> Response:
    """The same as `/v1/generate`, drawn by our own model; 503 where none is installed."""
    return await _generate("v2", body, request, to, idempotency_key, prefer)


async def _generate(
    kind: Kind, body: GenerateRequest, request: Request, to: Services, key: str | None, prefer: list[str] | None
) -> Response:
    preferences = Preferences.of(prefer or [])
    task = await start(body, kind, to, origin(request, key))
    if (seconds := preferences.seconds(to.settings)) > 0:
        with suppress(DatabaseAway):  # it is ordered: who is told otherwise orders it again
            task = await to.makeovers.wait(task.id, seconds)
    headers = {"Preference-Applied": applied} if (applied := preferences.applied(to.settings)) else {}
    if seconds > 0 and task.result is not None:
        return JSONResponse(task.result.model_dump(mode="json"), 200, headers)
    if seconds > 0 and task.error is not None:
        raise of_problem(task.error)
    if seconds > 0 and task.status == "cancelled":
        raise TaskCancelled(f"The task {task.id} was cancelled; POST /tasks/{task.id}/retry goes on with it")
    headers["Location"] = f"/tasks/{task.id}"
    return JSONResponse(task.model_dump(mode="json"), 202, headers)


async def start(body: GenerateRequest, kind: Kind, to: Services, by: Origin) -> Task:
    """Start a makeover, unless an outside service that it needs is not configured. Raises as `Makeovers.start`."""
    if kind in to.makeovers.kinds:
        to.providers.check(drawing=kind == "v1")
    return await to.makeovers.start(body, kind, by)


async def make(body: GenerateRequest, kind: Kind, to: Services) -> PromptResponse:
    """A makeover for a caller in this process, waited for as long as `WAIT_DEFAULT_S`.

    Raises:
        DeskteriorError: what the task failed of; TaskNotFinished names a task that goes on.
    """
    task = await start(body, kind, to, Origin())
    task = await to.makeovers.wait(task.id, to.settings.wait_default_s)
    if task.result is not None:
        return task.result
    raise of_problem(task.error) if task.error else TaskNotFinished(f"The task {task.id} is {task.status}")


def origin(request: Request, idempotency_key: str | None) -> Origin:
    """Who asks, for the register."""
    return Origin(
        owner=(by := caller_of(request)).name,
        idempotency_key=idempotency_key,
        request_id=getattr(request.state, "request_id", None),
        link_base=request_base.get(),
        allowance=allowance(by, services_of(request).settings),
    )


def of_problem(problem: Problem) -> DeskteriorError:
    """The error that a task failed of, to be raised again."""
    error = _kinds(DeskteriorError).get(problem.type.removeprefix("/problems/"), InternalError)(problem.detail)
    if error.status in {429, 503}:
        error.retry_after = TRY_AGAIN_S
    return error


def _kinds(root: type[DeskteriorError]) -> dict[str, type[DeskteriorError]]:
    found = {root.slug: root}
    for kind in root.__subclasses__():
        found = _kinds(kind) | found
    return found
