"""The HTTP surface as one FastAPI application: routes, errors, and the documentation at /docs and /openapi.json."""

from __future__ import annotations

import warnings
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from deskterior import version
from deskterior.docs_page import serve_docs
from deskterior.errors import DeskteriorError, Invalid, ServerError
from deskterior.gateway.access import Access
from deskterior.gateway.documented import document
from deskterior.problems import of_status, problem_response
from deskterior.routers import classify, files, generate, healthcheck, info, studio, tasks, uploads
from deskterior.schemas import Problem
from deskterior.telemetry import metrics

log = structlog.get_logger(__name__)

ABOUT = """
Tells whether a photo shows a desk and, for a desk, makes a restyled picture of it and a list of products to buy.

Every path also answers under the prefix `/app/routers`. Every error is an RFC 9457 problem
(`application/problem+json`), and every answer carries `X-Request-ID`.
"""


def create_app(access: Access | None = None) -> FastAPI:
    """The application. Whoever runs it sets `app.state.services` before the first request.

    `access` is what the document says of keys; the gateway holds to it, before a request comes here.
    """
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
        generate_unique_id_function=lambda route: route.name,
    )
    for module in (classify, generate, tasks, uploads, files, healthcheck, info, studio):
        app.include_router(module.router)
    app.add_exception_handler(DeskteriorError, _deskterior_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_api_route("/", lambda: RedirectResponse("docs"), methods=["GET", "HEAD"], include_in_schema=False)
    _document_truly(app, access or Access())
    serve_docs(app)
    return app


def _answer(request: Request, error: DeskteriorError) -> Response:
    metrics.PROBLEMS.labels(error.slug).inc()
    headers, body = problem_response(error, getattr(request.state, "request_id", None))
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


async def _deskterior_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DeskteriorError)
    say = log.error if isinstance(error, ServerError) else log.info
    say("request.failed", slug=error.slug, detail=error.detail, internal=error.internal or None)
    return _answer(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_wrong_field(item) for item in error.errors()]
    if isinstance(error.body, bytes) and error.body:  # FastAPI parses what says that it is JSON, and nothing else
        fields = [{"field": "content-type", "message": "must be application/json"}]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:5])
    return _answer(request, Invalid(named or "The request does not fit the schema", errors=fields))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # 400 is what FastAPI says of a body that is no text, or nests too deep, or has numbers of thousands of digits.
    detail = "The body cannot be read as JSON in UTF-8" if error.status_code == 400 else str(error.detail)
    response = _answer(request, of_status(error.status_code, detail))
    response.headers.update({name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"})
    return response


def _wrong_field(item: dict[str, Any]) -> dict[str, str]:
    """What pydantic says of a field, in words for somebody who sees neither the code nor its types."""
    match item["type"]:
        case "json_invalid":
            message = f"is not JSON: {item['ctx']['error']} (at character {item['loc'][-1]})"
        case "model_attributes_type" | "dict_type":
            message = "must be a JSON object"
        case _:
            message = str(item["msg"])
    return {"field": _field(item["loc"]), "message": message}


def _field(where: tuple[int | str, ...]) -> str:
    """`("body", "image_url")` is the field `image_url`; a body as a whole is `body`."""
    parts = [str(part) for part in where if not isinstance(part, int) or len(where) > 2]
    return ".".join(parts[1:]) or ".".join(parts)


def _document_truly(app: FastAPI, access: Access) -> None:
    """Say in the OpenAPI document what is true, where FastAPI does not.

    Problems have their own media type, and 422 is one of them; the 503 of the health check is none. What HEAD answers
    follows from GET, and BentoML's own paths are there too.
    """
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate Operation ID")  # of the HEADs that are dropped here
            schema = made()
        for path in schema["paths"].values():
            path.pop("head", None)
            for operation in path.values():
                operation["responses"].pop("422", None)
                for response in operation["responses"].values():
                    content = response.get("content", {})
                    if content.get("application/json", {}).get("schema") == _PROBLEM:
                        content["application/problem+json"] = content.pop("application/json")
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        for component in schema["components"]["schemas"].values():
            if "example" in component:
                component["examples"] = [component.pop("example")]
        schema["paths"] |= {path: _bentoml_path(path, summary) for path, summary in _BENTOML.items()}
        document(schema, access)
        app.openapi_schema = schema
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_BENTOML = {"/livez": "Is the process alive?", "/readyz": "Has it started?", "/metrics": "Figures for Prometheus"}


def _bentoml_path(path: str, summary: str) -> dict[str, Any]:
    problem = {"description": "Not so.", "content": {"application/problem+json": {"schema": _PROBLEM}}}
    fine = {"description": "It is so.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    operation = {"operationId": path.strip("/"), "tags": ["health"], "summary": summary}
    return {"get": operation | {"responses": {"200": fine, "5XX": problem}}}
