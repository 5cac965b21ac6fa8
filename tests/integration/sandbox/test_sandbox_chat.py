"""Chat completions as the SDK asks for them."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.integration.sandbox.stand import Desk, Stand, exact, look
from tests.photographs import encoded, noise


def test_a_photo_is_described_in_the_schema_asked_for(stand: Stand) -> None:
    answer = stand.openai.chat.completions.parse(model="gpt-4o", messages=look(), response_format=Desk)
    desk = answer.choices[0].message.parsed
    assert desk is not None
    assert len(desk.keywords) >= 3
    assert "artoon" in desk.prompt
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens > 255  # the picture alone


def test_the_same_photo_and_words_give_the_same_description(stand: Stand) -> None:
    answers = [
        stand.openai.chat.completions.create(model="gpt-4o", messages=look()).choices[0].message.content
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("extra", [{}, {"response_format": {"type": "json_object"}}, {"n": 3}, {"store": True}])
def test_a_completion_has_exactly_the_sdks_fields(stand: Stand, extra: dict[str, Any]) -> None:
    answer = stand.post("/chat/completions", {"model": "gpt-4o", "messages": look("as json, please"), **extra})
    assert answer.status_code == 200
    exact(ChatCompletion, answer.json())
    assert len(answer.json()["choices"]) == extra.get("n", 1)


def test_a_limit_of_tokens_cuts_the_answer_and_says_so(stand: Stand) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        stand.openai.chat.completions.parse(
            model="gpt-4o", messages=look(), response_format=Desk, max_completion_tokens=10
        )
    raw = stand.post("/chat/completions", {"model": "gpt-4o", "messages": look(), "max_tokens": 10}).json()
    assert raw["choices"][0]["finish_reason"] == "length"
    assert raw["usage"]["completion_tokens"] == 10


def test_a_stop_sequence_ends_the_answer(stand: Stand) -> None:
    whole = stand.openai.chat.completions.create(model="gpt-4o", messages=look()).choices[0].message.content or ""
    word = whole.split()[3]
    cut = stand.openai.chat.completions.create(model="gpt-4o", messages=look(), stop=[word])
    assert cut.choices[0].message.content == whole.partition(word)[0]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/jpeg;base64,AAAA", "image_parse_error"),
        ("data:image/jpeg;base64,%%%", "invalid_base64_image"),
        ("data:image/jpeg," + "AAAA", "invalid_image_url"),
        ("data:text/plain;base64,AAAA", "invalid_image_url"),
        ("data:image/jpeg;base64," + base64.b64encode(encoded(noise())[:9000]).decode(), "image_parse_error"),
        ("data:image/tiff;base64," + base64.b64encode(encoded(noise(9, 9), "TIFF")).decode(), "invalid_image_format"),
        ("ftp://example.com/a.jpg", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("http://127.0.0.1/a.jpg", "invalid_image_url"),
        ("http://localhost/a.jpg", "invalid_image_url"),
        ("http://169.254.169.254/latest", "invalid_image_url"),
        ("http://[::1]/a.jpg", "invalid_image_url"),
        ("http://[bad/a.jpg", "invalid_image_url"),
        ("", "invalid_image_url"),
    ],
)
def test_a_picture_that_openai_could_not_see_is_refused(stand: Stand, url: str, code: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = stand.post("/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["param"] == "messages[0].content[0].image_url.url"
    assert stand.state.ledger.entries() == []


def test_a_schema_with_a_keyword_that_is_not_supported_is_refused(stand: Stand) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    answer = stand.post("/chat/completions", {"model": "gpt-4o", "messages": look(), "response_format": wanted})
    assert answer.status_code == 400
    assert "'minLength' is not permitted" in answer.json()["error"]["message"]


def test_more_text_than_the_context_holds_is_refused(stand: Stand) -> None:
    message = {"role": "user", "content": "책상 " * 140_000}
    answer = stand.post("/chat/completions", {"model": "gpt-4o", "messages": [message]})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
