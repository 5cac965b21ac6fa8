"""The application's own answers: what it says of requests that do not fit, and of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from deskterior.app import create_app
from deskterior.config import Settings
from deskterior.errors import RunnerFailed
from runners.desk_engine import ModelInfo
from tests.painters import Painter


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app()
    app.state.services = None  # no test here gets as far as to need them
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


@pytest.fixture
def document() -> dict[str, Any]:
    return create_app().openapi()


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_does_not_say_that_it_is_json_is_told_to(http: httpx.AsyncClient, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await http.post("/classify", content=b'{"initial_image_url": "https://a.example/b"}', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "content-type", "message": "must be application/json"}]
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1,}', "is not JSON: "),
        (b'{"a": 1} {', "(at character 9)"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        ('{"initial_image_url": "책상"}'.encode("euc-kr"), "cannot be read as JSON in UTF-8"),
        (b"[" * 60_000, "cannot be read as JSON in UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON in UTF-8"),
        (b"", "Field required"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_words(http: httpx.AsyncClient, body: bytes, said: str) -> None:
    answer = await http.post("/classify", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "body"
    assert said in error["message"]
    assert error["message"] in answer.json()["detail"]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_the_document_shows_the_whole_surface(document: dict[str, Any]) -> None:
    assert {
        *("/classify", "/v1/prompt", "/v1/generate", "/v2/generate", "/tasks", "/tasks/{task_id}", "/uploads"),
        *("/tasks/{task_id}/events", "/tasks/{task_id}/cancel", "/tasks/{task_id}/retry"),
        *("/healthcheck", "/health", "/health/machine", "/info", "/livez", "/readyz", "/metrics"),
    } <= set(document["paths"])


def test_the_document_says_which_errors_are_problems(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    own = path.startswith("/health") and status == "503"
                    assert list(response["content"]) == ["application/json" if own else "application/problem+json"]


@pytest.mark.parametrize("name", ["ClassifyRequest", "GenerateRequest", "TaskStatus", "PromptResponse", "Problem"])
def test_the_document_has_examples(document: dict[str, Any], name: str) -> None:
    assert document["components"]["schemas"][name]["examples"]


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json"])
async def test_who_asks_whether_a_page_is_there_is_told_without_it(http: httpx.AsyncClient, path: str) -> None:
    head, got = await http.head(path), await http.get(path)
    assert (head.status_code, head.headers.get("content-type")) == (got.status_code, got.headers.get("content-type"))


@pytest.mark.parametrize("path", ["/docs", "/"])
async def test_pages_lead_to_nowhere_outside_their_prefix(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert '"/' not in answer.text
    assert not answer.headers.get("location", "").startswith("/")


async def test_info_shows_the_figures_of_the_models_in_whatever_shape_their_training_gives_them() -> None:
    metrics = {"all photos": {"roc_auc": {"value": 0.994, "low": 0.99, "high": 0.998}}, "epochs": 3}
    model = ModelInfo(
        name="desk_classifier",
        version="1",
        digest="sha256:0",
        classes=("not_desk", "desk"),
        size=224,
        threshold=0.5,
        temperature=1.0,
        device="cpu",
        metrics=metrics,
    )
    app = create_app()
    settings = Settings(openai_base_url="https://user:secret@openai.example/v1", _env_file=None)
    painter = Painter()
    app.state.services = SimpleNamespace(
        settings=settings, desk=SimpleNamespace(info=model), desk_threshold=0.5, drawing=painter
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.get("/info")
        painter.info_error = RunnerFailed("The runner is none")
        without = await http.get("/info")
    assert answer.status_code == without.status_code == 200
    assert answer.json()["model"]["metrics"] == metrics
    assert answer.json()["drawing"]["versions"][0]["active"] is True
    assert without.json()["drawing"] == {"device": "", "versions": [], "problem": "The runner is none"}
    assert answer.json()["providers"]["vision"]["address"] == "openai.example"
    assert "secret" not in answer.text
