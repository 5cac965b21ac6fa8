"""The sandbox's own routes: faults to come, the ledger, what was asked, what the backend received."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.faults import Fault
from sandbox.ledger import Entry, Ledger
from sandbox.state import Sandbox

ABOUT = "Deskterior's sandbox: stand-ins for OpenAI, Naver Shopping and a backend. Nothing here is real or billed."
_MAX_WAIT_S = 60.0
_POLL_S = 0.02
T = TypeVar("T")


class Control:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.routes = [
            Route("/", self._about, methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
            Route("/faults", self._faults, methods=["GET", "POST", "DELETE"]),
            Route("/faults/{fault_id:int}", self._fault, methods=["DELETE"]),
            Route("/ledger", self._ledger, methods=["GET", "DELETE"]),
            Route("/requests", self._requests, methods=["GET", "DELETE"]),
            Route("/backend/callbacks", self._callbacks, methods=["GET", "DELETE"]),
        ]

    async def _about(self, _request: Request) -> Response:
        paths = ["/openai/v1", "/naver/v1/search/shop.json", "/backend/callback"]
        own = ["/faults", "/ledger", "/requests", "/backend/callbacks", "/healthz"]
        return JSONResponse({"about": ABOUT, "stand_ins": paths, "own": own})

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def _faults(self, request: Request) -> Response:
        faults = self._sandbox.faults
        if request.method == "GET":
            return JSONResponse(faults.listing())
        if request.method == "DELETE":
            return JSONResponse({"removed": faults.clear()})
        try:
            asked = json.loads(await request.body())
            planned = [Fault.model_validate(one) for one in (asked if isinstance(asked, list) else [asked])]
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            return JSONResponse({"error": [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found]}, 422)
        except ValueError:
            return JSONResponse({"error": ["the body is no JSON"]}, 422)
        return JSONResponse({"ids": [faults.add(fault) for fault in planned]}, 201)

    async def _fault(self, request: Request) -> Response:
        removed = self._sandbox.faults.clear(request.path_params["fault_id"])
        return JSONResponse({"removed": removed}, 200 if removed else 404)

    async def _ledger(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._sandbox.ledger.clear()
            return JSONResponse([])
        ended = request.query_params.get("ended") == "true"
        entries = await _at_least(request, lambda: _told(self._sandbox.ledger, ended=ended))
        return JSONResponse([asdict(entry) for entry in entries])

    async def _requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._sandbox.requests.clear()
        return JSONResponse(list(self._sandbox.requests))

    async def _callbacks(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._sandbox.callbacks.clear()
        callbacks = await _at_least(request, lambda: list(self._sandbox.callbacks))
        return JSONResponse([asdict(received) for received in callbacks])


def _told(ledger: Ledger, *, ended: bool) -> list[Entry]:
    """The ledger's entries; with `?ended=true` only of calls that are over."""
    return [entry for entry in ledger.entries() if entry.ended or not ended]


async def _at_least(request: Request, read: Callable[[], Sequence[T]]) -> Sequence[T]:
    """With `?at_least=N&timeout=S`: what `read` gives once there are N, or what there is after S seconds (10)."""
    try:
        wanted = int(request.query_params.get("at_least", 0))
        until = time.monotonic() + min(_MAX_WAIT_S, float(request.query_params.get("timeout", 10)))
    except ValueError:
        return read()
    # Polled, not awaited: what it waits for comes from tests' threads, too.
    while len(found := read()) < wanted and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    return found
