"""The vision model: what it is asked, what comes out of its answer, and every way in which it may fail."""

from __future__ import annotations

import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deskterior.errors import ProviderError, ProviderFailed, ProviderRefused, ProviderTimeout
from deskterior.providers import Described
from deskterior.providers.models import known_models
from deskterior.providers.openai_client import openai_client
from deskterior.providers.openai_vision import DeskDescription, OpenAIVision, cleaned
from deskterior.schemas import Concept

from .stand_in import Clock, Reply, closed_port, reply, script, standing_in

KEY = "sk-test-0123456789"
ANSWER = {"prompt": "A desk.", "keywords": ["마우스", "기계식 키보드"], "tags": ["화이트"], "mood": "차분함"}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
PHOTO = b"\xff\xd8\xff photo"


class Questions:
    def describe(self, concept: Concept) -> tuple[str, str]:
        return "You are a stylist.", f"Style: {concept}"


def completion(content: str | None, *, finish: str = "stop", refusal: str | None = None, usage: Any = USAGE) -> Reply:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "finish_reason": finish, "message": message, "logprobs": None}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]}
    return reply(body if usage is None else body | {"usage": usage})


def good() -> Reply:
    return completion(json.dumps(ANSWER))


async def look(url: str, *, timeout_s: float = 20.0, clock: Clock | None = None) -> Described:
    client = openai_client(api_key=KEY, base_url=url, timeout_s=timeout_s)
    sleep: Callable[[float], Awaitable[None]] = (clock or Clock()).sleep
    entry, _ = known_models().vision_model("gpt-4o")
    try:
        return await OpenAIVision(client, entry, Questions(), timeout_s=timeout_s, sleep=sleep).describe(
            PHOTO, Concept.OIL
        )
    finally:
        await client.close()


async def failing(answer: Reply, *, calls: int = 1, timeout_s: float = 20.0) -> ProviderError:
    async with standing_in(script(answer)) as openai:
        with pytest.raises(ProviderError) as caught:
            await look(openai.url, timeout_s=timeout_s)
        assert len(openai.heard) == calls
    error = caught.value
    assert error.provider == "openai"
    assert KEY not in f"{error.detail} {error.internal}"
    assert "UPSTREAM" not in f"{error.detail} {error.internal}"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  as a durable job does
    assert (again.detail, again.cost, again.safe_to_retry) == (error.detail, error.cost, error.safe_to_retry)
    return error


async def test_the_photo_and_the_style_go_out_and_the_description_and_cost_come_back() -> None:
    async with standing_in(script(good())) as openai:
        described = await look(openai.url)
    asked = openai.heard[0].json()
    assert openai.heard[0].path == "/chat/completions"
    assert asked["model"] == "gpt-4o"
    assert asked["messages"][0]["role"] == "system"
    text, image = asked["messages"][1]["content"]
    assert text["text"] == "Style: OIL"
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert described.description.model_dump() == ANSWER
    assert described.cost.usd == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert described.cost.what == "describe"


async def test_the_schema_holds_nothing_that_structured_outputs_refuse() -> None:
    async with standing_in(script(good())) as openai:
        await look(openai.url)
    schema = openai.heard[0].json()["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == ["keywords", "mood", "prompt", "tags"]
    refused = {"minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "uniqueItems", "default"}
    assert not refused & {key for field in schema["properties"].values() for key in field}


async def test_cached_tokens_are_cheaper() -> None:
    usage = USAGE | {"prompt_tokens_details": {"cached_tokens": 600}}
    async with standing_in(script(completion(json.dumps(ANSWER), usage=usage))) as openai:
        described = await look(openai.url)
    assert described.cost.usd == pytest.approx(400 * 2.5e-6 + 600 * 1.25e-6 + 100 * 10e-6)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, {"prompt_tokens": -5, "completion_tokens": 1}])
async def test_an_answer_without_usage_still_counts_for_the_days_spending(usage: Any) -> None:
    async with standing_in(script(completion(json.dumps(ANSWER), usage=usage))) as openai:
        described = await look(openai.url)
    assert described.cost.usd > 0
    assert described.cost.units["assumed"] == 1


async def test_a_refusal_is_named_and_what_it_cost_is_told() -> None:
    error = await failing(completion(None, refusal="UPSTREAM I cannot help with that"))
    assert isinstance(error, ProviderRefused)
    assert error.cost is not None
    assert error.cost.usd > 0


async def test_the_content_filter_is_a_refusal() -> None:
    assert isinstance(await failing(completion('{"prompt"', finish="content_filter")), ProviderRefused)


async def test_an_answer_cut_off_at_its_length_says_so_and_what_it_cost() -> None:
    error = await failing(completion('{"prompt": "UPSTREAM', finish="length"))
    assert isinstance(error, ProviderFailed)
    assert "cut off" in error.detail
    assert error.cost is not None
    assert error.cost.usd == pytest.approx(0.0035)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"prompt": "UPSTREAM"', "schema"),
        ('{"prompt": "UPSTREAM", "keywords": "마우스", "tags": [], "mood": ""}', "schema"),
        ('{"prompt": "a desk", "keywords": [null], "tags": [], "mood": ""}', "schema"),
        ("[]", "schema"),
        ("UPSTREAM sorry", "schema"),
        ("", "empty"),
        (None, "empty"),
        (json.dumps(ANSWER | {"prompt": " \n "}), "prompt is empty"),
        (json.dumps(ANSWER | {"keywords": []}), "no product"),
        (json.dumps(ANSWER | {"keywords": ["mouse", "  ", "!!!"]}), "no product"),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error_with_a_name(content: str | None, why: str) -> None:
    error = await failing(completion(content))
    assert isinstance(error, ProviderFailed)
    assert why in error.detail
    assert error.cost is not None


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": None},
        {},
        [],
        "text",
        {"choices": [{}]},
        {"choices": [{"finish_reason": "stop", "message": None}]},
        {"choices": [{"finish_reason": "stop", "message": "UPSTREAM"}]},
        {"choices": "UPSTREAM"},
        None,
    ],
)
async def test_an_answer_of_another_shape_is_a_failure_not_a_crash(body: object) -> None:
    assert isinstance(await failing(reply(body)), ProviderFailed)


@pytest.mark.parametrize("body", [b"", b"<html>UPSTREAM</html>", b'{"choices": [', b"\xff\xfe", b"[" * 200_000])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_body_that_is_not_json_is_a_failure_not_a_crash(body: bytes, kind: str) -> None:
    assert isinstance(await failing(Reply(200, body, {"content-type": kind})), ProviderFailed)


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (401, "invalid_api_key", ProviderFailed, "OPENAI_API_KEY"),
        (403, "unsupported_country_region_territory", ProviderFailed, "does not let this key"),
        (404, "model_not_found", ProviderFailed, "VISION_MODEL"),
        (400, "invalid_image_format", ProviderFailed, "photo"),
        (400, "content_policy_violation", ProviderRefused, "content policy"),
        (400, "unknown_parameter", ProviderFailed, "did not accept"),
        (413, "too_large", ProviderFailed, "too large"),
        (429, "insufficient_quota", ProviderFailed, "credit"),
        (500, "server_error", ProviderFailed, "500"),
        (302, "", ProviderFailed, "redirect"),
        (504, "", ProviderTimeout, "in time"),
    ],
)
async def test_each_status_has_its_sentence_and_is_not_tried_again(
    status: int, code: str, kind: type[ProviderError], says: str
) -> None:
    body = {"error": {"message": f"UPSTREAM {KEY}", "type": "x", "code": code, "param": None}}
    error = await failing(reply(body, status, location="http://127.0.0.1:1/"))
    assert isinstance(error, kind)
    assert says in error.detail


async def test_a_status_without_a_body_has_its_sentence_too() -> None:
    assert "401" not in (await failing(Reply(401, b""))).detail
    assert "OPENAI_API_KEY" in (await failing(Reply(401, b"UPSTREAM"))).detail


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": "1", "retry_after_ms": "250"}, 0.25),
        ({"retry_after": "3", "retry_after_ms": "soon"}, 3.0),
    ],
)
async def test_a_busy_provider_is_asked_again_after_the_time_it_names(
    status: int, headers: dict[str, str], waited: float
) -> None:
    clock = Clock()
    async with standing_in(script(reply({}, status, **headers), good())) as openai:
        described = await look(openai.url, clock=clock)
    assert described.description.keywords == ["마우스", "기계식 키보드"]
    assert clock.slept == [waited]
    assert len(openai.heard) == 2


async def test_a_busy_provider_is_not_asked_for_ever() -> None:
    error = await failing(reply({}, 429, retry_after="0"), calls=3)
    assert error.safe_to_retry


@pytest.mark.parametrize("after", ["3600", "inf", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_a_wait_longer_than_anybody_has_is_told_to_the_client_instead(after: str) -> None:
    error = await failing(reply({}, 429, retry_after=after))
    assert error.retry_after is None or error.retry_after > 60


@pytest.mark.parametrize("after", ["soon", "-5", "nan", ""])
async def test_a_senseless_retry_after_does_no_harm(after: str) -> None:
    await failing(reply({}, 429, retry_after=after), calls=3)


async def test_a_call_that_hangs_is_a_timeout_and_is_not_made_again() -> None:
    error = await failing(Reply(hang=True), timeout_s=0.3)
    assert isinstance(error, ProviderTimeout)
    assert not error.safe_to_retry
    assert error.cost is not None


async def test_an_answer_that_drips_is_a_timeout_too() -> None:
    assert isinstance(await failing(Reply(drip=True), timeout_s=0.3), ProviderTimeout)


@pytest.mark.parametrize("cut_after", [0, 20])
async def test_a_cut_connection_is_not_tried_again_because_it_may_have_been_paid(cut_after: int) -> None:
    whole = good()
    error = await failing(Reply(200, whole.body, whole.headers, cut_after=cut_after))
    assert isinstance(error, ProviderFailed)
    assert not error.safe_to_retry
    assert error.cost is not None


async def test_a_provider_that_cannot_be_reached_is_tried_again_because_nothing_was_sent() -> None:
    clock = Clock()
    with pytest.raises(ProviderFailed, match="could not be reached") as caught:
        await look(await closed_port(), clock=clock)
    assert len(clock.slept) == 2
    assert caught.value.safe_to_retry
    assert caught.value.cost is None


def test_keywords_are_clean_korean_nouns_and_few() -> None:
    given = DeskDescription(
        prompt="  A\n desk\x00 \ud800 ",
        keywords=[
            " 마우스 ", "마우스", "마 우 스", "#키보드", "mouse", "", "\u200b모니터\u202e", "LED 스탠드", "각" * 31,
            "'책상'", "<b>램프</b>", "https://example.com 의자", "의자\n받침", "데스크 매트", "화분", "연필꽂이",
        ],
        tags=["#미니멀", "<i>미니멀</i>", "", "x" * 90, "<img src=x onerror=alert(1)>"],
        mood=" 차분한\t<script>오후 ",
    )  # fmt: skip
    kept = cleaned(given)
    assert kept.prompt == "A desk"
    assert kept.keywords == [
        "마우스", "키보드", "모니터", "LED 스탠드", "책상", "의자 받침", "데스크 매트", "화분",
    ]  # fmt: skip
    assert kept.tags == ["미니멀"]
    assert kept.mood == "차분한 오후"


def test_decomposed_hangul_is_composed() -> None:
    assert cleaned(DeskDescription(prompt="x", keywords=["마우스"], tags=[], mood="")).keywords == ["마우스"]


def test_an_endless_prompt_is_cut_at_a_word() -> None:
    prompt = cleaned(DeskDescription(prompt="desk " * 5000, keywords=["책"], tags=[], mood="")).prompt
    assert len(prompt) <= 3000
    assert prompt.endswith("desk")
