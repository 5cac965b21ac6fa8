"""Every parameter that the SDK can send is known, and each model's own rules hold."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from openai.types import image_edit_params, image_generate_params
from openai.types.chat import completion_create_params
from pydantic import ValidationError

from sandbox.openai.chat_request import ChatRequest
from sandbox.openai.chat_request import check as check_chat
from sandbox.openai.errors import ApiError, from_validation
from sandbox.openai.image_request import EditRequest, GenerationRequest, check
from sandbox.openai.models import CHAT_MODELS, IMAGE_MODELS, chat_traits, image_model

NEW = "gpt-image-2.6-sunburst"
USER = [{"role": "user", "content": "hi"}]


def parameters(params: Any) -> set[str]:
    return set(typing.get_type_hints(params))


def test_the_parameters_are_the_sdks_own() -> None:
    chat = parameters(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(ChatRequest.model_fields) == chat
    generation = parameters(image_generate_params.ImageGenerateParamsNonStreaming)
    assert set(GenerationRequest.model_fields) == generation
    edit = parameters(image_edit_params.ImageEditParamsNonStreaming)
    assert set(EditRequest.model_fields) | {"image", "mask", "markup"} == edit


@pytest.mark.parametrize(
    ("model", "asked", "param"),
    [
        ("dall-e-3", {"n": 2}, "n"),
        ("dall-e-3", {"size": "512x512"}, "size"),
        ("dall-e-3", {"size": "auto"}, "size"),
        ("dall-e-3", {"size": "1536x1024"}, "size"),
        ("dall-e-3", {"quality": "high"}, "quality"),
        ("dall-e-3", {"output_format": "png"}, "output_format"),
        ("dall-e-3", {"background": "auto"}, "background"),
        ("dall-e-3", {"moderation": "low"}, "moderation"),
        ("dall-e-3", {"prompt": "x" * 4001}, "prompt"),
        (NEW, {"prompt": "x" * 32_001}, "prompt"),
        (NEW, {"response_format": "b64_json"}, "response_format"),
        (NEW, {"style": "vivid"}, "style"),
        (NEW, {"quality": "standard"}, "quality"),
        ("gpt-image-2", {"quality": "max"}, "quality"),
        (NEW, {"size": "1000x1000"}, "size"),
        (NEW, {"size": "3072x1008"}, "size"),
        (NEW, {"size": "4096x2048"}, "size"),
        (NEW, {"size": "64x64"}, "size"),
        (NEW, {"size": "big"}, "size"),
        ("gpt-image-1.5", {"size": "1024x768"}, "size"),
        (NEW, {"output_format": "svg"}, "output_format"),
        (NEW, {"output_format": "jpeg", "background": "transparent"}, "background"),
        (NEW, {"output_compression": 50}, "output_compression"),
        (NEW, {"stream": True}, "stream"),
        (NEW, {"partial_images": 1}, "partial_images"),
        ("gpt-image-1.5", {"complexity": "low"}, "complexity"),
    ],
)
def test_a_value_that_the_model_does_not_take_is_refused_by_name(model: str, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        check(GenerationRequest.model_validate({"prompt": "a desk", **asked}), model)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("dall-e-3", {"size": "1792x1024", "quality": "hd", "style": "natural", "response_format": "url", "n": 1}),
        ("dall-e-3", {"prompt": "x" * 4000}),
        (NEW, {"size": "1536x864", "quality": "max", "output_format": "webp", "output_compression": 50, "n": 10}),
        (NEW, {"size": "3840x2160", "background": "transparent", "moderation": "low"}),
        ("gpt-image-1.5", {"size": "auto", "quality": "auto"}),
    ],
)
def test_the_documented_values_are_taken(model: str, asked: dict[str, Any]) -> None:
    check(GenerationRequest.model_validate({"prompt": "a desk", **asked}), model)


@pytest.mark.parametrize(("model", "fidelity"), [("gpt-image-2", "low"), (NEW, "high"), ("gpt-image-1-mini", "high")])
def test_input_fidelity_is_refused_where_the_model_has_none(model: str, fidelity: str) -> None:
    with pytest.raises(ApiError, match=r"input_fidelity|Invalid value"):
        check(EditRequest.model_validate({"prompt": "x", "input_fidelity": fidelity}), model)


def chat(**asked: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "gpt-4o", "messages": USER, **asked})


@pytest.mark.parametrize(
    ("model", "asked", "param"),
    [
        ("gpt-4o", {"tools": []}, "tools"),
        ("gpt-4o", {"stream": True}, "stream"),
        ("gpt-4o", {"stream_options": {}}, "stream_options"),
        ("gpt-4o", {"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ("gpt-4o", {"max_tokens": 16_385}, "max_tokens"),
        ("gpt-4o", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("gpt-6-luna", {"max_tokens": 5}, "max_tokens"),
        ("gpt-6-luna", {"temperature": 0.2}, "temperature"),
        ("gpt-4o", {"response_format": {"type": "json_object"}}, "messages"),
        (
            "gpt-3.5-turbo",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
            "response_format",
        ),
        (
            "gpt-4o",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        (
            "gpt-3.5-turbo",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
    ],
)
def test_what_a_chat_model_does_not_take_is_refused_by_name(model: str, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        check_chat(chat(**asked), chat_traits(model, retired="serve"))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": USER}, "missing_required_parameter", "model"),
        ({"model": "gpt-4o"}, "missing_required_parameter", "messages"),
        ({"model": "gpt-4o", "messages": []}, "array_below_min_length", "messages"),
        ({"model": "gpt-4o", "messages": "hi"}, "invalid_type", "messages"),
        ({"model": "gpt-4o", "messages": USER, "temprature": 1}, "unknown_parameter", "temprature"),
        ({"model": "gpt-4o", "messages": USER, "temperature": "1"}, "invalid_type", "temperature"),
        ({"model": "gpt-4o", "messages": USER, "temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"model": "gpt-4o", "messages": USER, "seed": True}, "invalid_type", "seed"),
        ({"model": "gpt-4o", "messages": [{"role": "bot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"model": "gpt-4o", "messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        (
            {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        (
            {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]},
            "invalid_type",
            "messages[0].content[0].image_url",
        ),
        (
            {
                "model": "gpt-4o",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "image_url", "image_url": {"url": "u", "detail": "ultra"}},
                        ],
                    }
                ],
            },
            "invalid_value",
            "messages[0].content[1].image_url.detail",
        ),
        (
            {
                "model": "gpt-4o",
                "messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
            },
            "invalid_value",
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_path_and_code(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ValidationError) as invalid:
        ChatRequest.model_validate(body)
    error = from_validation(invalid.value, body)
    assert (error.code, error.param) == (code, param)


def test_models_that_were_shut_down_are_served_or_refused_as_the_sandbox_is_told() -> None:
    assert image_model("dall-e-3", retired="serve") == "dall-e-3"
    for model in ("dall-e-3", "gpt-image-1"):
        with pytest.raises(ApiError) as refused:
            image_model(model, retired="refuse")
        assert (refused.value.status, refused.value.code) == (404, "model_not_found")
    assert image_model(NEW, retired="refuse") == NEW


@pytest.mark.parametrize("model", ["gpt-image-9", "dall-e-2", "", "GPT-4o"])
def test_an_unknown_model_is_not_found(model: str) -> None:
    for find in (image_model, chat_traits):
        with pytest.raises(ApiError) as refused:
            find(model, retired="serve")
        assert (refused.value.status, refused.value.code) == (404, "model_not_found")


def test_every_model_of_the_sdk_has_its_traits() -> None:
    assert {chat_traits(model, retired="serve").model for model in CHAT_MODELS} == CHAT_MODELS
    assert NEW in IMAGE_MODELS
    with pytest.raises(ApiError, match="not a chat model"):
        chat_traits(NEW, retired="serve")
    with pytest.raises(ApiError, match="Invalid value"):
        image_model("gpt-4o", retired="serve")
