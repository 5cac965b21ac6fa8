"""`GET /healthcheck` and `/health`: 200 while the service can do its work, 503 with the reason when not.

`/health/machine` is the part of it that another machine would mend, for whoever replaces machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Response

from deskterior.errors import DeskteriorError, Overloaded
from deskterior.gpu import check_gpu
from deskterior.schemas import Health
from deskterior.services import Services, services

router = APIRouter(tags=["health"])

CHECK_TIMEOUT_S = 3.0
"""The load balancer gives up after 5 s."""
DRAWING_TIMEOUT_S = 1.0

Checks = dict[str, Callable[[], Awaitable[str]]]
"""By name; each says a word when it passes, and raises when not."""
_UNHEALTHY: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "It cannot; `checks` says why."}}


@router.api_route("/health", methods=["GET", "HEAD"], summary="Can the service do its work?", responses=_UNHEALTHY)
@router.api_route("/healthcheck", methods=["GET", "HEAD"], summary="The same", name="healthcheck", responses=_UNHEALTHY)
async def health(response: Response, to: Annotated[Services, Depends(services)]) -> Health:
    """Run the model, ask the GPU where there is one, and the job store. Of job workers and our own drawing
    model it only tells: without them the rest works, and tasks wait."""
    checks: Checks = {
        "desk_classifier": lambda: _desk(to),
        "gpu": _gpu,
        "job_store": to.makeovers.check,
        "job_workers": to.makeovers.check_workers,
        "drawing_model": lambda: _drawing(to),
    }
    return await _found(checks, response)


@router.api_route("/health/machine", methods=["GET", "HEAD"], summary="Does this machine work?", responses=_UNHEALTHY)
async def machine_health(response: Response, to: Annotated[Services, Depends(services)]) -> Health:
    """The GPU, and the model where it runs on this machine. A job store that is away leaves every machine healthy:
    to replace them would not bring it back."""
    checks: Checks = {"gpu": _gpu}
    if _is_here(to.settings.desk_placement):
        checks["desk_classifier"] = lambda: _desk(to)
    return await _found(checks, response)


def _is_here(placement: str) -> bool:
    """A runner beside the API is, to its workers, an address on loopback."""
    return placement in {"embedded", "process"} or urlsplit(placement).hostname in {"127.0.0.1", "localhost", "::1"}


async def _found(checks: Checks, response: Response) -> Health:
    outcomes = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    healthy = all(ok for ok, _ in outcomes)
    if not healthy:
        response.status_code = 503
    return Health(
        status="healthy" if healthy else "unhealthy",
        checks={name: text for name, (_, text) in zip(checks, outcomes, strict=True)},
    )


async def _gpu() -> str:
    return await asyncio.to_thread(check_gpu)


async def _desk(to: Services) -> str:
    """A busy model is alive: overload must not take the machine away. `DatabaseAway` is another `Overloaded`."""
    try:
        return await to.desk.check()
    except Overloaded:
        return "busy"


async def _drawing(to: Services) -> str:
    """Never unhealthy: without it all but `/v2/generate` works, and this machine is not to be taken away."""
    try:
        async with asyncio.timeout(DRAWING_TIMEOUT_S):
            return await to.drawing.check()
    except TimeoutError:
        return "no answer yet"
    except DeskteriorError as error:
        return error.detail


async def _outcome(check: Callable[[], Awaitable[str]]) -> tuple[bool, str]:
    """Whether a check passed, and a public sentence."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return True, await check()
    except TimeoutError:
        return False, f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    except DeskteriorError as error:
        return False, error.detail
    except Exception as error:  # noqa: BLE001 - whatever a check dies of, the answer is 503 with its kind
        return False, type(error).__name__
