"""Looking at the photo: GPT-4o, or any model of OpenAI's chat completions, tells how to restyle a desk and what to buy.

The photo is hostile input and the answer is data: whatever is written in the picture, only cleaned text, product nouns
and tags come out. What to ask comes from the makeover's prompts, through `Instructions`.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from openai import AsyncOpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field, ValidationError

from deskterior.errors import ProviderError, ProviderFailed, ProviderRefused
from deskterior.providers import Described
from deskterior.providers.models import VisionEntry
from deskterior.providers.openai_client import PROVIDER, openai_call
from deskterior.providers.outside_text import one_line, without_markup
from deskterior.schemas import Concept, Description

MAX_KEYWORDS = 8
MAX_TAGS = 10
_LOOKED_AT = 50
"""Keywords and tags of one answer: a model that repeats itself for ever is not read to its end."""
# Enough for a model that reasons first; a full answer alone is about 600 tokens.
MAX_TOKENS = 6_000
TRIES = 3
MAX_WAIT_S = 10.0

_PROMPT_LENGTH, _KEYWORD_LENGTH, _TAG_LENGTH, _MOOD_LENGTH = 3_000, 30, 30, 200
_HANGUL = re.compile(r"[가-힣]")
_NOUN = re.compile(r"[0-9A-Za-z가-힣][0-9A-Za-z가-힣 .+&/()-]*")
_WRAPPING = " \t#\"'`“”‘’·•*,.;:-"


class Instructions(Protocol):
    """What to ask of a vision model; implemented by the makeover's prompts."""

    def describe(self, concept: Concept) -> tuple[str, str]:
        """The system's and the user's text for a concept."""
        ...


class DeskDescription(BaseModel):
    """The answer's schema. Structured outputs refuse length and pattern keywords, so limits are checked afterwards."""

    prompt: str = Field(description="English. What an illustrator needs to redraw this very desk in the style.")
    keywords: list[str] = Field(description="Korean product nouns to search in a shop, most fitting first.")
    tags: list[str] = Field(description="Short style tags in Korean.")
    mood: str = Field(description="The mood in one short Korean phrase.")


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message


class _Completion(BaseModel):
    """The answer, as far as it is used. Read from the raw body: the SDK builds its own objects unchecked."""

    choices: list[_Choice]


class _Paid(BaseModel):
    """Its usage, apart: an answer that cannot be used was paid for all the same."""

    usage: CompletionUsage | None = None


class OpenAIVision:
    """A `VisionModel`. Calls `TRIES` times at most, within `timeout_s` in all, and again only where none was billed."""

    def __init__(
        self,
        client: AsyncOpenAI,
        model: VisionEntry,
        instructions: Instructions,
        *,
        timeout_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._model = model
        self._instructions = instructions
        self._timeout_s = timeout_s
        self._sleep = sleep

    async def describe(self, photo: bytes, concept: Concept) -> Described:
        """Look at a JPEG, scaled down by the caller.

        Raises:
            ProviderRefused: by the model itself or by a content filter.
            ProviderTimeout: not answered within the limit, tries included.
            ProviderFailed: any other failure, an answer cut off or not of the schema among them; says which.
        """
        messages = self._messages(photo, concept)
        unknown = self._model.cost(None)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        for attempt in range(1, TRIES + 1):
            left = max(0.0, deadline - loop.time())
            try:
                async with openai_call(left, setting="VISION_MODEL", unknown_cost=unknown):
                    raw = await self._client.chat.completions.with_raw_response.parse(
                        model=self._model.name,
                        messages=messages,
                        response_format=DeskDescription,
                        max_completion_tokens=MAX_TOKENS,
                    )
                    return self._read(raw.text)
            except ProviderError as error:
                wait = error.retry_after if error.retry_after is not None else 2.0 ** (attempt - 1) * random.random()
                if not error.safe_to_retry or attempt == TRIES or wait > min(MAX_WAIT_S, deadline - loop.time()):
                    raise
            await self._sleep(wait)
        raise AssertionError("unreachable")

    def _messages(self, photo: bytes, concept: Concept) -> list[ChatCompletionMessageParam]:
        system, user = self._instructions.describe(concept)
        data_url = "data:image/jpeg;base64," + base64.b64encode(photo).decode("ascii")
        return [
            {"role": "system", "content": system},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": user},
                    {"type": "image_url", "image_url": {"url": data_url, "detail": "high"}},
                ],
            },
        ]

    def _read(self, body: str) -> Described:
        """The description out of the answer; every way in which it may be useless has its own sentence."""
        cost = self._model.cost(_usage(body))

        def failed(why: str) -> ProviderFailed:
            return ProviderFailed(f"The vision model's answer cannot be used: {why}", provider=PROVIDER, cost=cost)

        try:
            completion = _Completion.model_validate_json(body)
        except ValidationError as error:
            raise failed("it is not a chat completion") from error
        if not completion.choices:
            raise failed("it holds no choice")
        choice = completion.choices[0]
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise ProviderRefused("The vision model refused this photo", provider=PROVIDER, cost=cost)
        if choice.finish_reason == "length":
            raise failed("it was cut off at its length limit")
        if not choice.message.content:
            raise failed("it is empty")
        try:
            description = cleaned(DeskDescription.model_validate_json(choice.message.content))
        except ValidationError as error:
            raise failed("it does not fit the schema") from error
        if not description.prompt:
            raise failed("its prompt is empty")
        if not description.keywords:
            raise failed("it names no product in Korean")
        return Described(description, cost)


def cleaned(answer: DeskDescription) -> Description:
    """The answer with clean, bounded texts: at most 8 Korean product nouns and 10 tags, none twice."""
    return Description(
        prompt=one_line(answer.prompt, _PROMPT_LENGTH),
        keywords=_keywords(answer.keywords),
        tags=_tags(answer.tags),
        mood=without_markup(answer.mood, _MOOD_LENGTH),
    )


def _keywords(given: list[str]) -> list[str]:
    lines = (one_line(keyword, _KEYWORD_LENGTH * 4).strip(_WRAPPING) for keyword in given[:_LOOKED_AT])
    nouns = (line for line in lines if len(line) <= _KEYWORD_LENGTH and _NOUN.fullmatch(line) and _HANGUL.search(line))
    return _distinct(nouns)[:MAX_KEYWORDS]


def _tags(given: list[str]) -> list[str]:
    return _distinct(without_markup(tag, _TAG_LENGTH * 2).strip(_WRAPPING) for tag in given[:_LOOKED_AT])[:MAX_TAGS]


def _distinct(texts: Iterable[str]) -> list[str]:
    """Without the empty ones and those that differ in case or spaces alone."""
    kept: dict[str, str] = {}
    for text in texts:
        if text and len(text) <= max(_TAG_LENGTH, _KEYWORD_LENGTH):
            kept.setdefault(text.casefold().replace(" ", ""), text)
    return list(kept.values())


def _usage(body: str) -> CompletionUsage | None:
    try:
        return _Paid.model_validate_json(body).usage
    except ValidationError:
        return None
