"""Faults on demand, as the SDK meets them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.integration.sandbox.stand import NAVER, SEARCH, Desk, Stand, draw, exact, look, opened


def test_a_cut_connection_breaks_off_in_the_middle_of_the_body(stand: Stand) -> None:
    stand.fails("openai.images.edits", "cut")
    with pytest.raises(openai.APIConnectionError) as broken:
        draw(stand)
    assert "incomplete" in str(broken.value.__cause__) or "without sending complete" in str(broken.value.__cause__)
    (entry,) = stand.state.ledger.entries()
    assert (entry.answered, entry.client_gone, entry.fault) == (False, False, "cut")
    assert entry.usd is not None
    assert draw(stand).data


def test_a_reset_connection_gives_no_byte(stand: Stand) -> None:
    stand.fails("openai.images.edits", "reset")
    with pytest.raises(openai.APIConnectionError):
        draw(stand)
    stand.fails("naver", "reset")
    with pytest.raises(httpx.RemoteProtocolError, match=r"without sending a response|reset"):
        stand.http.get(SEARCH, params={"query": "마우스"}, headers=NAVER)


def test_a_client_that_gives_up_on_a_hanging_call_has_paid_for_it(stand: Stand) -> None:
    stand.fails("openai.images.edits", "hang")
    with pytest.raises(openai.APITimeoutError):
        draw(stand, timeout=1.0)
    (entry,) = stand.http.get("/ledger", params={"at_least": 1, "ended": "true"}).json()
    assert entry["usd"] > 0
    assert (entry["answered"], entry["client_gone"]) == (False, True)


def test_a_rate_limit_says_how_long_to_wait_and_is_not_billed(stand: Stand) -> None:
    stand.fails("openai", "rate-limit", retry_after=1.5, times=2)
    with pytest.raises(openai.RateLimitError) as limited:
        draw(stand)
    assert limited.value.response.headers["retry-after"] == "2"
    assert limited.value.response.headers["retry-after-ms"] == "1500"
    with pytest.raises(openai.RateLimitError):
        stand.openai.chat.completions.create(model="gpt-4o", messages=look())
    assert stand.state.ledger.entries() == []
    assert draw(stand).data


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ({"kind": "status", "status": 500}, openai.InternalServerError, None),
        ({"kind": "status", "status": 503, "retry_after": 3}, openai.InternalServerError, None),
        ({"kind": "status", "status": 403, "code": "x"}, openai.PermissionDeniedError, "x"),
        ({"kind": "quota"}, openai.RateLimitError, "insufficient_quota"),
        ({"kind": "html"}, openai.InternalServerError, None),
        ({"kind": "content-policy"}, openai.BadRequestError, "moderation_blocked"),
    ],
)
def test_a_refusal_on_demand_comes_in_openais_shape(
    stand: Stand, fault: dict[str, Any], error: type[openai.APIStatusError], code: str | None
) -> None:
    stand.fails("openai.images", **fault)
    with pytest.raises(error) as refused:
        draw(stand)
    assert refused.value.code == code
    assert stand.state.ledger.entries() == []


def test_dalle3_refuses_by_content_policy_in_its_own_words(stand: Stand) -> None:
    stand.fails("openai.images.generations", "content-policy", match="forbidden")
    assert stand.openai.images.generate(model="dall-e-3", prompt="a desk").data
    with pytest.raises(openai.BadRequestError) as refused:
        stand.openai.images.generate(model="dall-e-3", prompt="a forbidden desk")
    assert (refused.value.code, refused.value.type) == ("content_policy_violation", "invalid_request_error")


def test_broken_json_is_broken_json(stand: Stand) -> None:
    for path, body in (
        ("/chat/completions", {"model": "gpt-4o", "messages": look()}),
        ("/images/generations", {"model": "dall-e-3", "prompt": "x"}),
    ):
        stand.fails("openai", "malformed-json")
        answer = stand.post(path, body)
        assert answer.status_code == 200
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            answer.json()


def test_a_slow_drip_arrives_whole_in_small_pieces(stand: Stand) -> None:
    stand.fails("openai.chat", "slow-drip", seconds=0.05)
    headers = {"Authorization": "Bearer k"}
    body = {"model": "gpt-4o", "messages": look()}
    with stand.http.stream("POST", "/openai/v1/chat/completions", json=body, headers=headers) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 3
    exact(ChatCompletion, json.loads(b"".join(pieces)))
    assert stand.state.ledger.entries()[0].answered


@pytest.mark.parametrize("kind", ["refusal", "empty"])
def test_a_model_that_will_not_speak_leaves_nothing_to_parse(stand: Stand, kind: str) -> None:
    stand.fails("openai.chat", kind)
    message = (
        stand.openai.chat.completions.parse(model="gpt-4o", messages=look(), response_format=Desk).choices[0].message
    )
    assert message.parsed is None
    assert bool(message.refusal) == (kind == "refusal")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("length", openai.LengthFinishReasonError),
        ("content-filter", openai.ContentFilterFinishReasonError),
        ("schema-violation", ValueError),
        ("malformed-content", ValueError),
    ],
)
def test_a_spoilt_answer_is_what_the_sdk_takes_it_for(stand: Stand, kind: str, error: type[Exception]) -> None:
    stand.fails("openai.chat", kind)
    with pytest.raises(error):
        stand.openai.chat.completions.parse(model="gpt-4o", messages=look(), response_format=Desk)
    assert stand.state.ledger.entries()[0].usd


def test_a_picture_may_be_missing_or_broken(stand: Stand) -> None:
    stand.fails("openai.images", "empty")
    assert draw(stand).data == []
    stand.fails("openai.images", "bad-image")
    data = draw(stand).data
    assert data is not None
    with pytest.raises((OSError, SyntaxError)):
        opened(data[0].b64_json)


def test_the_body_of_a_delayed_call_is_sound(stand: Stand) -> None:
    stand.fails("openai.images", "delay", seconds=0.01)
    assert draw(stand).data


def test_faults_are_listed_counted_and_cleared(stand: Stand) -> None:
    asked = [{"where": "naver", "kind": "status"}, {"where": "backend", "kind": "cut", "times": None}]
    ids = stand.http.post("/faults", json=asked).json()["ids"]
    stand.http.get(SEARCH, params={"query": "마우스"}, headers=NAVER)
    assert [fault["hits"] for fault in stand.http.get("/faults").json()] == [1, 0]
    assert stand.http.delete(f"/faults/{ids[0]}").status_code == 200
    assert stand.http.delete(f"/faults/{ids[0]}").status_code == 404
    assert stand.http.delete("/faults").json() == {"removed": 1}


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'{"where": "naver", "kind": "refusal"}', b"[1]"])
def test_a_fault_that_makes_no_sense_is_told(stand: Stand, body: bytes) -> None:
    answer = stand.http.post("/faults", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert stand.http.get("/faults").json() == []
