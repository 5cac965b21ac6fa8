"""The smallest API that uses the desk classifier as ours does, for tests that start, stop and kill `bentoml serve`."""

from __future__ import annotations

import os

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deskterior.config import settings
from deskterior.errors import DeskteriorError
from runners.launcher import start_beside
from runners.placement import DeskClient, connect_desk_classifier
from tests import tiny_desk


async def score(request: Request) -> Response:
    """The score of a photo all of one value."""
    desk: DeskClient = request.app.state.desk
    try:
        return JSONResponse({"score": await desk.score(tiny_desk.photo(int(request.query_params["value"])))})
    except DeskteriorError as error:
        return JSONResponse(error.problem(), error.status)


async def about(request: Request) -> Response:
    return JSONResponse({"runner": os.environ["DESK_RUNNER"], "pid": os.getpid()})


APP = Starlette(routes=[Route("/score", score), Route("/about", about)])


@bentoml.asgi_app(APP)
@bentoml.service(workers=2)
class Api:
    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def beside() -> None:
        start_beside(settings())

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def open(self) -> None:
        APP.state.desk = await connect_desk_classifier(settings())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        await APP.state.desk.aclose()
