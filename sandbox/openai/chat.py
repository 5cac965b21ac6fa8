"""`POST /chat/completions`: reads the pictures, answers in the schema asked for, counts tokens, cuts at the limit."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from sandbox.exchange import Outcome, Paid, exchange, json_reply
from sandbox.faults import Fault
from sandbox.openai.chat_request import ChatRequest, JsonObjectFormat, JsonSchemaFormat, check
from sandbox.openai.composing import Description, describe, fill
from sandbox.openai.errors import ApiError, from_validation, refusal
from sandbox.openai.models import ChatTraits, chat_traits
from sandbox.openai.reading import Picture, check_key, picture_in, read_json
from sandbox.openai.strict_schema import check_strict
from sandbox.openai.tokens import count, pieces, vision_tokens
from sandbox.state import Sandbox

_REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True)
class _Seen:
    """A sound request, with its pictures decoded."""

    asked: ChatRequest
    traits: ChatTraits
    pictures: list[Picture]
    prompt_tokens: int

    @property
    def digest(self) -> str:
        sha = hashlib.sha256(self.asked.text.encode())
        for picture in self.pictures:
            sha.update(picture.data)
        return sha.hexdigest()[:16]


async def chat_completions(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    check_key(request, sandbox.options.openai_key)
    body = await read_json(request)
    seen = await asyncio.to_thread(_see, body, sandbox.options.retired)

    async def work(fault: Fault | None) -> Outcome:
        return await asyncio.to_thread(_answer, seen, fault)

    return await exchange(
        request,
        sandbox,
        where="openai.chat",
        text=seen.asked.text,
        latency=sandbox.options.latency.chat,
        work=work,
        refuse=refusal,
        paid=Paid("chat", seen.asked.model, seen.digest),
    )


def _see(body: object, retired: str) -> _Seen:
    try:
        asked = ChatRequest.model_validate(body)
    except ValidationError as error:
        raise from_validation(error, body) from None
    traits = chat_traits(asked.model, retired=retired)
    check(asked, traits)
    if isinstance(asked.response_format, JsonSchemaFormat) and asked.response_format.json_schema.strict:
        wanted = asked.response_format.json_schema
        check_strict(wanted.name, wanted.schema_ or {})
    tokens = sum(3 for _ in asked.messages) + 3 + count(asked.text)
    if isinstance(asked.response_format, JsonSchemaFormat):
        tokens += count(json.dumps(asked.response_format.json_schema.schema_))
    pictures = []
    for param, address in asked.images:
        picture = picture_in(address.url, param)
        if picture is not None:
            pictures.append(picture)
            tokens += vision_tokens(picture.width, picture.height, address.detail)
    if tokens > traits.context_tokens:
        raise ApiError(
            f"The messages come to {tokens} tokens; the model's context holds {traits.context_tokens}.",
            param="messages",
            code="context_length_exceeded",
        )
    return _Seen(asked, traits, pictures, tokens)


def _answer(seen: _Seen, fault: Fault | None) -> Outcome:
    kind = fault.kind if fault else None
    content, finish = _content(seen, kind)
    refused = _REFUSAL if kind == "refusal" else None
    said = refused if content is None else content
    tokens = count(said or "")
    n = seen.asked.n or 1
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refused, "annotations": []}
    usage = _usage(seen.prompt_tokens, tokens * n)
    completion = {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": seen.traits.snapshot,
        "choices": [{"index": i, "message": message, "logprobs": None, "finish_reason": finish} for i in range(n)],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": f"fp_{hashlib.sha256(seen.traits.snapshot.encode()).hexdigest()[:10]}",
    }
    if seen.asked.store and seen.asked.metadata is not None:
        completion["metadata"] = seen.asked.metadata
    usd = (seen.prompt_tokens * seen.traits.usd_in + tokens * n * seen.traits.usd_out) / 1e6
    counts = {"prompt_tokens": seen.prompt_tokens, "completion_tokens": tokens * n}
    return Outcome(json_reply(completion), round(usd, 6), counts)


def _content(seen: _Seen, kind: str | None) -> tuple[str | None, str]:
    """What the model says, and why it stopped."""
    if kind in {"refusal", "empty"}:
        return None, "stop"
    if kind == "content-filter":
        return "", "content_filter"
    content = _say(seen, broken=kind == "schema-violation")
    if kind == "malformed-content":
        return content[: max(1, len(content) * 2 // 3)], "stop"
    for stop in _stops(seen.asked):
        content = content.partition(stop)[0]
    said = pieces(content)
    limit = max(1, len(said) // 2) if kind == "length" else seen.asked.limit
    if limit is not None and len(said) > limit:
        return "".join(said[:limit]), "length"
    return content, "stop"


def _say(seen: _Seen, *, broken: bool) -> str:
    # A picture by a public address is not fetched: its address stands for it.
    pictures = [p.data for p in seen.pictures] or [a.url.encode() for _, a in seen.asked.images]
    description = describe(seen.asked.text, pictures)
    match seen.asked.response_format:
        case JsonSchemaFormat(json_schema=wanted):
            value = fill(wanted.schema_ or {}, description)
            return json.dumps(_break(value) if broken else value, ensure_ascii=False)
        case JsonObjectFormat():
            value = _as_object(description)
            return json.dumps(_break(value) if broken else value, ensure_ascii=False)
    return description.sentence()


def _as_object(description: Description) -> dict[str, Any]:
    return {
        "prompt": description.prompt,
        "keywords": list(description.keywords),
        "tags": list(description.tags),
        "mood": description.mood,
    }


def _break(value: Any) -> Any:
    """Good JSON that is not in the schema: the first field is gone and the second has another type."""
    if not isinstance(value, dict) or not value:
        return {"unexpected": value}
    _, *rest = value
    return {key: ({"unexpected": True} if i == 0 else value[key]) for i, key in enumerate(rest)}


def _stops(asked: ChatRequest) -> list[str]:
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return [stop for stop in stops if stop]


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
