"""Puts the sandbox together: one ASGI application with all stand-ins; a header says what it is, a log who asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.backend import Backend
from sandbox.control import Control
from sandbox.faults import Fault, FaultPlan
from sandbox.ledger import Ledger
from sandbox.naver.app import naver_app
from sandbox.openai.app import openai_app, picture_file
from sandbox.state import Options, Sandbox

NAME = "deskterior"
_STAND_INS = ("/openai/", "/naver/", "/backend/callback")


def create_app(options: Options | None = None, faults: Iterable[Fault] = ()) -> Starlette:
    """The application. `app.state.sandbox` is its live state: faults, ledger, callbacks; safe to read from any thread.

    Raises:
        ValueError: the callback secret is no Standard Webhooks secret.
    """
    options = options or Options()
    sandbox = Sandbox(options, FaultPlan(faults), Ledger(options.ledger_file))
    app = Starlette(
        routes=[
            *Control(sandbox).routes,
            Mount("/openai/v1", openai_app(sandbox)),
            Route("/openai/files/{name}", picture_file, methods=["GET"]),
            Mount("/naver", naver_app(sandbox)),
            Mount("/backend", routes=Backend(sandbox).routes),
        ],
        middleware=[Middleware(_Sign, sandbox=sandbox)],
    )
    app.state.sandbox = sandbox
    return app


class _Sign:
    """Says on each answer that it is the sandbox's, and logs what the stand-ins were asked."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        row: dict[str, object] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope["method"],
            "path": scope["path"],
            "status": None,  # stays so when the answer never started
        }

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                row["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-sandbox", NAME.encode())]
            await send(message)

        if scope["path"].startswith(_STAND_INS) and scope["path"] != "/backend/callbacks":
            self._sandbox.requests.append(row)
        await self._app(scope, receive, signed)
