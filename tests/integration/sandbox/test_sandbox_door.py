"""What every request must bring, and what every answer carries."""

from __future__ import annotations

import json

import openai
import pytest
from openai import OpenAI
from openai.types import Model

from sandbox.app import create_app
from sandbox.serving import in_thread
from sandbox.state import Latency, Options
from tests.integration.sandbox.stand import NEW, SEARCH, Stand, exact, look


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "sk-test"])
def test_without_a_bearer_key_nothing_is_answered(stand: Stand, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("POST", "chat/completions"), ("POST", "images/edits"), ("GET", "models")):
        answer = stand.http.request(method, f"/openai/v1/{path}", headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_wrong_key_is_refused_when_the_sandbox_knows_the_right_one() -> None:
    app = create_app(Options(latency=Latency.parse("0"), openai_key="sk-right"))
    with in_thread(app) as url, OpenAI(api_key="sk-wrong", base_url=f"{url}/openai/v1", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.code == "invalid_api_key"
        assert client.with_options(api_key="sk-right").models.list().data


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 100_000]
)
@pytest.mark.parametrize("path", ["chat/completions", "images/generations"])
def test_a_body_that_is_no_json_object_is_refused(stand: Stand, path: str, body: bytes) -> None:
    headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
    answer = stand.http.post(f"/openai/v1/{path}", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_json_in_another_media_type_is_refused(stand: Stand) -> None:
    body = json.dumps({"model": "gpt-4o", "messages": look()})
    headers = {"Authorization": "Bearer k", "Content-Type": "text/plain"}
    assert stand.http.post("/openai/v1/chat/completions", content=body, headers=headers).status_code == 400


def test_unknown_paths_and_methods_answer_in_openais_shape(stand: Stand) -> None:
    answer = stand.http.get("/openai/v1/responses")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")
    answer = stand.http.get("/openai/v1/chat/completions")
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "invalid_request_error")


def test_every_answer_says_whose_it_is_and_carries_openais_headers(stand: Stand) -> None:
    good = stand.openai.chat.completions.with_raw_response.create(model="gpt-4o", messages=look())
    bad = stand.http.get("/openai/v1/models")
    for headers in (good.headers, bad.headers):
        assert headers["x-sandbox"] == "deskterior"
        assert headers["x-request-id"].startswith("req_")
        assert int(headers["openai-processing-ms"]) >= 0
        assert int(headers["x-ratelimit-remaining-requests"]) > 0
    for path in ("/healthz", SEARCH, "/ledger", "/nowhere"):
        assert stand.http.get(path).headers["x-sandbox"] == "deskterior"


def test_models_are_listed_with_the_day_they_end(stand: Stand) -> None:
    models = {model.id: model for model in stand.openai.models.list()}
    assert models["gpt-4o"].shutdown_date == "2027-01-14"
    assert models[NEW].shutdown_date is None
    exact(Model, stand.http.get("/openai/v1/models/gpt-4o", headers={"Authorization": "Bearer k"}).json())
    with pytest.raises(openai.NotFoundError):
        stand.openai.models.retrieve("gpt-0")
