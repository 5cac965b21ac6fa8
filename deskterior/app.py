"""The HTTP surface as one FastAPI application: routes, errors, and the documentation at /docs and /openapi.json."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from deskterior import version
from deskterior.errors import DeskteriorError, Invalid, ServerError
from deskterior.front import of_status, problem_response
from deskterior.routers import classify, files, generate, healthcheck, info, tasks, uploads
from deskterior.schemas import Problem

log = structlog.get_logger(__name__)

ABOUT = """
Tells whether a photo shows a desk and, for a desk, makes a restyled picture of it and a list of products to buy.

Every path also answers under the prefix `/app/routers`. Every error is an RFC 9457 problem
(`application/problem+json`), and every answer carries `X-Request-ID`.
"""


def create_app() -> FastAPI:
    """The application. Whoever runs it sets `app.state.services` before the first request."""
    app = FastAPI(
        title="Deskterior",
        version=version(),
        description=ABOUT,
        responses={
            "4XX": {"model": Problem, "description": "The request, or the photo, is at fault."},
            "5XX": {"model": Problem, "description": "The service, or one that it calls, is at fault."},
        },
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for module in (classify, generate, tasks, uploads, files, healthcheck, info):
        app.include_router(module.router)
    app.add_exception_handler(DeskteriorError, _deskterior_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    _document_problems(app)
    _serve_docs(app)
    return app


def _answer(request: Request, error: DeskteriorError) -> Response:
    headers, body = problem_response(error, getattr(request.state, "request_id", None))
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


async def _deskterior_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DeskteriorError)
    say = log.error if isinstance(error, ServerError) else log.info
    say("request.failed", slug=error.slug, detail=error.detail, internal=error.internal or None)
    return _answer(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [{"field": _field(item["loc"]), "message": str(item["msg"])} for item in error.errors()]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:5])
    return _answer(request, Invalid(named or "The request does not fit the schema", errors=fields))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _answer(request, of_status(error.status_code, str(error.detail)))
    response.headers.update({name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"})
    return response


def _field(where: tuple[int | str, ...]) -> str:
    """`("body", "image_url")` is the field `image_url`; a body as a whole is `body`."""
    parts = [str(part) for part in where if not isinstance(part, int) or len(where) > 2]
    return ".".join(parts[1:]) or ".".join(parts)


def _serve_docs(app: FastAPI) -> None:
    """`/docs` with the Swagger UI that BentoML carries, so that it works where no other network is reached."""
    package = Path(str(find_spec("bentoml").origin)).parent  # type: ignore[union-attr]
    app.mount("/docs/assets", StaticFiles(directory=package / "_internal" / "server" / "static_content"))

    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-light-32x32.png",
        )

    app.add_api_route("/docs", docs, include_in_schema=False)


def _document_problems(app: FastAPI) -> None:
    """Say in the OpenAPI document what is true: problems have their own media type, and 422 is one of them."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        schema = made()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                for status, response in operation["responses"].items():
                    if status[0] in "45" and (content := response.get("content", {})).get("application/json"):
                        content["application/problem+json"] = content.pop("application/json")
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
